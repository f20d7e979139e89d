//! What the sandbox saw: every call with its times, and counters that say whether "exactly once" held.

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// One call. Tokens appear only as numbers: a refresh token as its generation in the grant (from 1), an access token
/// as its place among all that the grant ever had (from 1).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallRecord {
    /// Counts calls, from 1.
    pub seq: u64,
    /// `token`, `app_token`, `api`, `revoke`, `introspect`.
    pub endpoint: String,
    /// At the token endpoint.
    pub grant_type: Option<String>,
    /// The grant or key that was presented, where it is known.
    pub grant: Option<String>,
    /// Generation of the refresh token that was presented.
    pub presented: Option<u64>,
    /// Generation of the refresh token in the answer.
    pub minted: Option<u64>,
    /// Number of the access token that was presented (API) or minted (token endpoint).
    pub access: Option<u64>,
    /// Scope of the access token that was minted (token endpoint).
    pub scope: Option<String>,
    /// When the request was read.
    pub arrived: Timestamp,
    /// When the provider acted, if it did.
    pub committed: Option<Timestamp>,
    /// When the last byte of the reply was handed over, if it was.
    pub replied: Option<Timestamp>,
    /// Status of the reply, if there was one.
    pub status: Option<u16>,
    /// `rotated`, `kept`, `issued`, `good`, or why not (`reuse`, `revoked`, `expired`, `unknown_token`, …).
    pub outcome: String,
    /// The faults that met it.
    pub faults: Vec<String>,
    /// Another refresh of the same grant was under way when it came.
    pub overlapped: bool,
}

/// What was counted, of one grant or of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Calls of the token endpoint, of any kind.
    pub token_calls: u64,
    /// Of these, with a refresh token.
    pub refresh_calls: u64,
    /// Refresh calls that came while another of the same grant was under way.
    pub overlaps: u64,
    /// Refresh calls under way now.
    pub in_flight: u64,
    /// Calls of the token endpoint that were acted upon, whether or not the reply arrived.
    pub commits: u64,
    /// Refresh tokens minted, the first of each grant not counted.
    pub refresh_tokens_minted: u64,
    /// Access tokens minted, the first of each grant not counted.
    pub access_tokens_minted: u64,
    /// A refresh token was presented that had been used before and was replaced.
    pub reuse_seen: u64,
    /// Of these, refused.
    pub reuse_refused: u64,
    /// Calls of the API.
    pub api_calls: u64,
    /// Of these, refused for their credential.
    pub api_refused: u64,
}

/// Counters of all, and of each grant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Of all together.
    pub total: Counters,
    /// By grant, key or `client:ID`.
    pub grants: BTreeMap<String, Counters>,
}

impl Totals {
    /// Of one grant; zeros where nobody has called yet.
    pub fn of(&self, grant: &str) -> Counters {
        self.grants.get(grant).copied().unwrap_or_default()
    }

    pub(super) fn count(&mut self, grant: Option<&str>, mut add: impl FnMut(&mut Counters)) {
        add(&mut self.total);
        if let Some(grant) = grant {
            match self.grants.get_mut(grant) {
                Some(counters) => add(counters),
                None => add(self.grants.entry(grant.to_owned()).or_default()),
            }
        }
    }
}

/// The newest calls, and counters of all that ever were.
#[derive(Debug)]
pub(super) struct Log {
    calls: VecDeque<CallRecord>,
    limit: usize,
    next: u64,
    pub(super) totals: Totals,
}

impl Log {
    pub(super) fn new(limit: usize) -> Self {
        Self { calls: VecDeque::new(), limit: limit.max(1), next: 1, totals: Totals::default() }
    }

    /// A call has arrived and was read.
    pub(super) fn open(&mut self, endpoint: &'static str, grant: Option<&str>, refresh: bool, now: Timestamp) -> u64 {
        let busy = refresh && grant.is_some_and(|grant| self.totals.of(grant).in_flight > 0);
        self.totals.count(grant, |counters| match endpoint {
            "token" | "app_token" => {
                counters.token_calls += 1;
                counters.refresh_calls += u64::from(refresh);
                counters.in_flight += u64::from(refresh);
                counters.overlaps += u64::from(busy);
            }
            "api" => counters.api_calls += 1,
            _ => {}
        });
        if self.calls.len() == self.limit {
            self.calls.pop_front();
        }
        let seq = self.next;
        self.next += 1;
        self.calls.push_back(CallRecord {
            seq,
            endpoint: endpoint.to_owned(),
            grant_type: None,
            grant: grant.map(str::to_owned),
            presented: None,
            minted: None,
            access: None,
            scope: None,
            arrived: now,
            committed: None,
            replied: None,
            status: None,
            outcome: "open".into(),
            faults: Vec::new(),
            overlapped: busy,
        });
        seq
    }

    /// Writes into a call's record, if it has not been pushed out by newer ones.
    pub(super) fn note(&mut self, seq: u64, write: impl FnOnce(&mut CallRecord)) {
        let first = self.calls.front().map_or(0, |call| call.seq);
        let index = seq.checked_sub(first).and_then(|index| usize::try_from(index).ok());
        if let Some(call) = index.and_then(|index| self.calls.get_mut(index)) {
            write(call);
        }
    }

    /// A call is over: its reply was handed over whole, or it never will be.
    pub(super) fn close(&mut self, seq: u64, grant: Option<&str>, refresh: bool, replied: Option<Timestamp>) {
        if refresh {
            self.totals.count(grant, |counters| counters.in_flight -= 1);
        }
        self.note(seq, |call| call.replied = replied);
    }

    pub(super) fn calls(&self) -> impl Iterator<Item = &CallRecord> {
        self.calls.iter()
    }
}

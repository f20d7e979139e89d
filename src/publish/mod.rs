//! What is published: the current generation of each credential and what may be known of it.

mod ask;
mod board;
mod readers;
mod ready;
mod services;
mod uses;

pub use ask::{Answer, Ask, Asks, Stopping};
pub use board::{Publisher, Seen, Slot, Subscriber, Watch, channel};
pub use readers::{Peer, Usage, Used, granted};
pub use ready::{Edition, Ready};
pub use uses::{Breadth, Offer, Uses};

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

use crate::{
    credential::{CredentialId, ExpirySource, Failure, Generation, Kind, Narrow, Value},
    lifecycle::State,
};

/// What a reader gets: rendered to ready bytes once, when it is published.
#[derive(Clone, Debug)]
pub struct Token {
    /// The value itself.
    pub value: Value,
    /// `Bearer` and the like.
    pub token_type: String,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// As the provider spells it.
    pub scope: Option<String>,
    /// Which value this is.
    pub generation: Generation,
    /// Served before it was durable, because the ledger refused to write for more than 2 s.
    pub unsaved: bool,
}

/// What may be known of a credential by health, metrics, status and its readers. Holds no secret.
#[derive(Clone, Debug, Serialize)]
pub struct View {
    /// Which.
    pub name: CredentialId,
    /// How it comes to a value.
    pub kind: Kind,
    /// Who issued it.
    pub provider: String,
    /// The name of its home store.
    pub store: String,
    /// Whether its failing makes `/health` fail.
    pub criticality: Criticality,
    /// The user's word.
    pub state: State,
    /// Since when in this state.
    pub since: Timestamp,
    /// Of the served value.
    pub generation: Generation,
    /// When the served value was issued.
    pub issued_at: Option<Timestamp>,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// How that is known.
    pub expiry_source: ExpirySource,
    /// When the refresh token ends.
    pub refresh_expires_at: Option<Timestamp>,
    /// How that is known.
    pub refresh_expiry_source: Option<ExpirySource>,
    /// When the OAuth client's secret ends, if its home store says so.
    pub client_secret_expires_at: Option<Timestamp>,
    /// When the next refresh is planned.
    pub refresh_at: Option<Timestamp>,
    /// When the next probe is planned.
    pub probe_at: Option<Timestamp>,
    /// The last finished probe, whatever it said.
    pub last_probe_at: Option<Timestamp>,
    /// The last probe or refresh that proved the value good.
    pub last_success_at: Option<Timestamp>,
    /// The last change of the value.
    pub last_rotation_at: Option<Timestamp>,
    /// Below this time left it is `degraded`; seconds.
    pub ttl_warn_seconds: Option<u64>,
    /// Below this time left a required one turns `/health` red; seconds.
    pub ttl_fail_seconds: Option<u64>,
    /// What is wrong, if something is.
    pub problem: Option<Problem>,
    /// What its home store holds instead of a usable secret, or why it gave none; the value before is served.
    pub store_error: Option<String>,
    /// `rate_limited`, `store_stale`, `writeback_pending`, `unsaved`, `scope_reduced`, `clock_untrusted`.
    pub flags: Vec<&'static str>,
}

impl View {
    /// Time left by the date; negative once it has ended, `None` when no end is known.
    pub fn left(&self, now: Timestamp) -> Option<SignedDuration> {
        Some(self.expires_at?.duration_since(now))
    }

    /// The state, with a look at the clock: it was published some time ago.
    pub fn state_at(&self, now: Timestamp) -> State {
        match self.state {
            State::Uninitialised | State::Revoked => self.state,
            _ if self.left(now).is_some_and(|left| left <= SignedDuration::ZERO) => State::Expired,
            state => state,
        }
    }
}

/// The word of what is wrong: what an upstream's no means, or that there is nothing yet that anybody could refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subtype {
    /// One of the nine.
    Failure(Failure),
    /// Its home store has given no usable secret yet.
    NotReady,
}

impl Subtype {
    /// The word: one of the nine, or `not_ready`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failure(failure) => failure.as_str(),
            Self::NotReady => "not_ready",
        }
    }

    /// What an upstream's no means, if one said no.
    pub fn failure(self) -> Option<Failure> {
        match self {
            Self::Failure(failure) => Some(failure),
            Self::NotReady => None,
        }
    }
}

impl Serialize for Subtype {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// What is wrong with a credential.
#[derive(Clone, Debug, Serialize)]
pub struct Problem {
    /// One of the nine words, or `not_ready`.
    pub failure: Subtype,
    /// A finer word.
    pub cause: Option<String>,
    /// For a person: the evidence, redacted, and the rule.
    pub detail: String,
    /// Since when.
    pub since: Timestamp,
    /// When the daemon tries again by itself, if it does.
    pub retry_at: Option<Timestamp>,
    /// The one command that mends it, where a person must act.
    pub remedy: Option<String>,
}

/// How much a credential's failing matters to `/health`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Criticality {
    /// Its failing makes `/health` fail (503).
    #[default]
    Required,
    /// Its failing makes `/health` warn (200).
    Optional,
    /// `/health` does not look at it.
    Ignore,
}

/// Who may read a credential over the socket. All conditions of one rule must hold; one rule is enough.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Reader {
    /// The peer's user id.
    pub uid: Option<u32>,
    /// The peer's group id.
    pub gid: Option<u32>,
    /// A name for people: health and dashboards call it the consumer.
    pub name: Option<String>,
    /// It gets a token of its own that may do less, in the words of the provider: `{ repositories = ["web"] }`.
    pub narrow: Option<Narrow>,
    /// Which credential that is, once the settings are resolved.
    #[serde(skip)]
    pub cut: Option<CredentialId>,
}

/// One credential as published.
#[derive(Clone, Debug)]
pub struct Published {
    /// What may be known.
    pub view: View,
    /// The value, unless there is none to serve (uninitialised, revoked).
    pub token: Option<Token>,
    /// Who may read it.
    pub readers: Arc<[Reader]>,
    /// What it is offered for to those who ask for a service; `None` for one that is had by its name alone.
    pub offer: Option<Arc<Offer>>,
}

//! The words a user sees for where a credential stands. They are derived, never stored.

use std::fmt;

use jiff::SignedDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    machine::{Flight, Standing},
    plan::{Policy, signed},
};
use crate::clock::Now;

/// Where a credential stands, in the user's words; also the values of the metric label `state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// No material loaded yet.
    Uninitialised,
    /// Usable, and its planned refresh is still ahead.
    Fresh,
    /// Usable, and the planned moment has passed.
    RefreshDue,
    /// One request may be out.
    Refreshing,
    /// Usable, but the last refresh or probe failed, or little time is left.
    Degraded,
    /// One authoritative rejection seen; the confirmation is out.
    Suspect,
    /// A request was sent and no reply is durable: the provider may have rotated.
    OutcomeUnknown,
    /// Over; a refresh may still help.
    Expired,
    /// Our client, secret, scope or endpoint is wrong.
    Misconfigured,
    /// The grant or key is dead; only new material helps.
    Revoked,
    /// An operator's hold: no upstream calls.
    Held,
}

impl State {
    /// All eleven, in the order of the documentation.
    pub const ALL: [Self; 11] = [
        Self::Uninitialised,
        Self::Fresh,
        Self::RefreshDue,
        Self::Refreshing,
        Self::Degraded,
        Self::Suspect,
        Self::OutcomeUnknown,
        Self::Expired,
        Self::Misconfigured,
        Self::Revoked,
        Self::Held,
    ];

    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Uninitialised => "uninitialised",
            Self::Fresh => "fresh",
            Self::RefreshDue => "refresh_due",
            Self::Refreshing => "refreshing",
            Self::Degraded => "degraded",
            Self::Suspect => "suspect",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::Expired => "expired",
            Self::Misconfigured => "misconfigured",
            Self::Revoked => "revoked",
            Self::Held => "held",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl super::machine::Lifecycle {
    /// The user's word, now. When several hold, the first of: uninitialised, revoked, expired, held, misconfigured,
    /// outcome_unknown, suspect, refreshing, degraded, refresh_due, fresh.
    pub fn state(&self, now: Now, policy: &Policy) -> State {
        let left = self.left(now);
        match &self.standing {
            Standing::Uninitialised => return State::Uninitialised,
            Standing::Revoked { .. } => return State::Revoked,
            Standing::Usable if self.validity.is_none() => return State::Uninitialised,
            _ => {}
        }
        if left.is_some_and(|left| left <= SignedDuration::ZERO) {
            return State::Expired;
        }
        if self.is_held() {
            return State::Held;
        }
        if self.standing == Standing::Misconfigured {
            return State::Misconfigured;
        }
        if matches!(self.flight, Flight::Lost { .. }) || self.doubt.is_some() {
            return State::OutcomeUnknown;
        }
        if matches!(self.standing, Standing::Suspect(_)) {
            return State::Suspect;
        }
        if self.is_in_flight() {
            return State::Refreshing;
        }
        let Some(validity) = &self.validity else { return State::Uninitialised };
        if self.trouble.is_some() || left.is_some_and(|left| left <= signed(policy.warn_below(validity.life))) {
            return State::Degraded;
        }
        if validity.refresh_at.is_some_and(|at| at <= now.wall) { State::RefreshDue } else { State::Fresh }
    }

    /// Whether the current value may be handed to a reader. Expiry is looked at again at each read.
    pub fn is_servable(&self, now: Now) -> bool {
        !matches!(self.standing, Standing::Uninitialised | Standing::Revoked { .. })
            && self.validity.as_ref().is_some_and(|v| v.left(now).is_none_or(|left| left > SignedDuration::ZERO))
    }
}

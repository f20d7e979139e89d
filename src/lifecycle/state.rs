//! The words a user sees for where a credential stands. They are derived, never stored.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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

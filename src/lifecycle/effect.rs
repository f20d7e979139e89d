//! What is to be done, and why.

use serde::{Deserialize, Serialize};

/// Why something is done; a word of logs and the audit trail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// Its planned time came.
    Schedule,
    /// A reader needs it.
    Reader,
    /// A reader's call was refused.
    Refusal,
    /// Something outside gave a hint.
    Hint,
    /// The home store changed.
    StoreChange,
    /// An operator asked.
    Operator,
    /// A flight found in the ledger.
    Recovery,
}

impl Trigger {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Schedule => "schedule",
            Self::Reader => "reader",
            Self::Refusal => "refusal",
            Self::Hint => "hint",
            Self::StoreChange => "store_change",
            Self::Operator => "operator",
            Self::Recovery => "recovery",
        }
    }
}

/// What is to be done. The shard's task carries it out and reports back with an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Take off: preflight, intent, send. Reports `Prepared`, `Sent`, then `Received` or `Failed`, or `Aborted`.
    Prepare(Trigger),
    /// Send a probe. Reports `Probed`.
    Probe(Trigger),
    /// Ask the home store for a newer value. Reports `Loaded`, or `Unchanged`.
    Reload,
    /// What is published changed: state, generation, or whether the value may be served.
    Publish,
    /// An incident begins.
    Raise(Incident),
    /// It ends.
    Clear(Incident),
}

/// What on-call is told about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Incident {
    /// The grant or key is dead.
    CredentialRevoked,
    /// A request was lost and the provider may have rotated.
    RotationOutcomeUnknown,
    /// It is over, and no refresh has helped yet.
    CredentialExpired,
    /// Our client, secret, scope or endpoint is wrong.
    ClientMisconfigured,
    /// Tokens end sooner than they may be refreshed: the provider's lifetimes are malformed or absurd.
    RefreshThrottled,
    /// The ledger is older than what it had reached, and nothing newer was found.
    LedgerRolledBack,
    /// Another daemon may own the same grant.
    DuplicateOwner,
    /// A reply that had come too late was taken over, because the grant in its place was refused.
    OrphanPromoted,
}

/// Some of them: a set that is copied with every step, so it takes no memory of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<Incident>", into = "Vec<Incident>")]
pub(super) struct Incidents(u16);

impl Incidents {
    pub fn insert(&mut self, incident: Incident) {
        self.0 |= 1 << incident as u8;
    }

    pub fn contains(self, incident: Incident) -> bool {
        self.0 & (1 << incident as u8) != 0
    }

    /// Those of this set that the other lacks, in the order of their words.
    pub fn without(self, other: Self) -> impl Iterator<Item = Incident> {
        Incident::ALL.into_iter().filter(move |incident| self.contains(*incident) && !other.contains(*incident))
    }
}

impl From<Vec<Incident>> for Incidents {
    fn from(list: Vec<Incident>) -> Self {
        let mut all = Self::default();
        list.into_iter().for_each(|incident| all.insert(incident));
        all
    }
}

impl From<Incidents> for Vec<Incident> {
    fn from(all: Incidents) -> Self {
        all.without(Incidents::default()).collect()
    }
}

impl Incident {
    const ALL: [Self; 8] = [
        Self::CredentialRevoked,
        Self::RotationOutcomeUnknown,
        Self::CredentialExpired,
        Self::ClientMisconfigured,
        Self::RefreshThrottled,
        Self::LedgerRolledBack,
        Self::DuplicateOwner,
        Self::OrphanPromoted,
    ];

    /// The word: the kind of the page.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CredentialRevoked => "credential_revoked",
            Self::RotationOutcomeUnknown => "rotation_outcome_unknown",
            Self::CredentialExpired => "credential_expired",
            Self::ClientMisconfigured => "client_misconfigured",
            Self::RefreshThrottled => "refresh_throttled",
            Self::LedgerRolledBack => "ledger_rolled_back",
            Self::DuplicateOwner => "duplicate_owner",
            Self::OrphanPromoted => "orphan_promoted",
        }
    }
}

//! What reaches a shard.

use std::{sync::Arc, time::Duration};

use tokio::sync::oneshot;
use uuid::Uuid;

use super::{Assignment, flight, probe};
use crate::{
    credential::{CredentialId, Generation},
    ledger::Record,
    lifecycle::Trigger,
    store::{Loaded, StoreError},
};

/// What reaches a shard beside asks.
pub(super) enum Message {
    /// Watch this credential, from what the ledger knows of it.
    Watch {
        assignment: Arc<Assignment>,
        record: Option<Box<Record>>,
        /// Told when it is published.
        shown: Option<oneshot::Sender<()>>,
        first_look: Option<oneshot::Sender<()>>,
    },
    /// All are shown: take up what the ledger had not finished of it, and say when that is begun or, for a reply that is
    /// there, done.
    TakeUp(CredentialId, Option<oneshot::Sender<()>>),
    /// Its settings changed.
    Change(Arc<Assignment>),
    /// Its settings are gone.
    Forget(CredentialId),
    /// The home store has another version of it.
    StoreChanged(CredentialId),
    /// The home store stopped answering for it, or answers again and nothing has changed.
    StoreStale(CredentialId, bool),
    /// The clock stepped, or is doubted, or no longer.
    Time,
    /// The home store has not answered for so long that nobody waits for it any more.
    StoreSilent(CredentialId),
    /// The home store said why it can never be written, or that it can; nothing where it did not answer.
    MayWrite { id: CredentialId, read_only: Option<Option<String>> },
    /// A load ended, so long after it was asked for.
    Loaded { id: CredentialId, why: LoadReason, result: Result<Box<FromStore>, StoreError>, took: Duration },
    /// A flight ended.
    Flown { id: CredentialId, landing: Box<flight::Landing> },
    /// The ledger has a new value that it had not taken in time, or another grant has its place there.
    Saved { id: CredentialId, saved: bool },
    /// A probe ended.
    Probed { id: CredentialId, look: Box<probe::Look> },
    /// A probe of a kept reply's token ended; those were refused before.
    OrphanProbed { id: CredentialId, attempt: Uuid, refused: Vec<Uuid>, look: Box<probe::Look> },
    /// A beat of a policy, and how far its probes may spread.
    Beat { cron: Arc<str>, spread: Duration },
    /// A write-back ended; the home store now holds that version.
    WrittenBack { id: CredentialId, generation: Generation, version: String },
    /// A write-back was refused for good, or still waits.
    WriteBackWaits { id: CredentialId },
}

impl Message {
    /// Whose news it is, where it may have to wait for the ledger.
    pub fn whose(&self) -> Option<&CredentialId> {
        match self {
            Self::Watch { assignment, .. } | Self::Change(assignment) => Some(&assignment.id),
            Self::TakeUp(id, _)
            | Self::Forget(id)
            | Self::StoreChanged(id)
            | Self::StoreStale(id, _)
            | Self::StoreSilent(id)
            | Self::MayWrite { id, .. }
            | Self::Loaded { id, .. }
            | Self::Flown { id, .. }
            | Self::Probed { id, .. }
            | Self::OrphanProbed { id, .. }
            | Self::WrittenBack { id, .. }
            | Self::WriteBackWaits { id } => Some(id),
            Self::Saved { .. } | Self::Time | Self::Beat { .. } => None,
        }
    }

    /// Whether it tells of a life that has ended, where a shard begins anew.
    pub fn is_history(&self) -> bool {
        matches!(self, Self::Flown { .. } | Self::Probed { .. } | Self::Saved { .. })
    }
}

/// What a home store gave, and why it could never take anything back, if so.
pub(super) struct FromStore {
    pub loaded: Loaded,
    pub read_only: Option<String>,
}

/// Why the home store was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LoadReason {
    /// The credential is new here.
    Start,
    /// The store told of a change.
    Changed,
    /// The provider refused the grant: does a sibling's newer one lie there? (RF-15)
    Sibling,
}

impl LoadReason {
    pub fn trigger(self) -> Trigger {
        match self {
            Self::Start => Trigger::Schedule,
            Self::Changed => Trigger::StoreChange,
            Self::Sibling => Trigger::Refusal,
        }
    }
}

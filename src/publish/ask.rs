//! The way back: what a face wants of the shard that owns a credential.

use std::{sync::Arc, time::Duration};

use tokio::sync::{mpsc, oneshot};

use crate::{
    catalogue::Surface,
    credential::{CredentialId, Generation, Reply, Verdict},
};

/// What a face wants of a shard.
#[derive(Debug)]
pub enum Ask {
    /// A reader's call was refused while it used that generation.
    Refused {
        /// Which credential.
        id: CredentialId,
        /// The generation that was used.
        generation: Generation,
        /// Where it was refused.
        surface: Surface,
        /// What the upstream answered.
        reply: Reply,
        /// Who reports it (`uid 1000`).
        actor: String,
        /// The verdict, once it is known whether refreshing helped.
        answer: oneshot::Sender<Answer>,
    },
    /// A reader needs a token that lives at least that long: joins the flight or starts one.
    Wanted {
        /// Which credential.
        id: CredentialId,
        /// Time left that the reader needs.
        min_ttl: Duration,
        /// Who asks.
        actor: String,
        /// Answered when the flight ended, or at once when none helps.
        answer: oneshot::Sender<Answer>,
    },
    /// An operator wants a refresh now.
    Refresh {
        /// Which credential.
        id: CredentialId,
        /// Who asks.
        actor: String,
        /// Answered when the flight ended.
        answer: oneshot::Sender<Answer>,
    },
    /// A probe, soon: an operator's wish or a hint from outside.
    Probe {
        /// Which credential.
        id: CredentialId,
        /// Who asks.
        actor: String,
        /// Answered when the probe ended.
        answer: oneshot::Sender<Answer>,
    },
    /// No upstream calls until released.
    Hold {
        /// Which credential.
        id: CredentialId,
        /// Who asks.
        actor: String,
        /// Answered when it is durable.
        answer: oneshot::Sender<Answer>,
    },
    /// Ends a hold; also lets a revoked credential be tried once more.
    Release {
        /// Which credential.
        id: CredentialId,
        /// Who asks.
        actor: String,
        /// Answered when it is durable.
        answer: oneshot::Sender<Answer>,
    },
}

impl Ask {
    /// Whose shard it goes to.
    pub fn credential(&self) -> &CredentialId {
        match self {
            Self::Refused { id, .. }
            | Self::Wanted { id, .. }
            | Self::Refresh { id, .. }
            | Self::Probe { id, .. }
            | Self::Hold { id, .. }
            | Self::Release { id, .. } => id,
        }
    }
}

/// How an ask ended.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Done, under way no longer, or already so.
    pub done: bool,
    /// The generation that is published now.
    pub generation: Generation,
    /// What the refusal, probe or flight meant, where it was a no.
    pub verdict: Option<Verdict>,
    /// For a person: what happened.
    pub message: String,
}

/// The shards' doors. A closed door means that the daemon is stopping.
#[derive(Clone, Debug)]
pub struct Asks {
    doors: Arc<[mpsc::Sender<Ask>]>,
    route: fn(&CredentialId, usize) -> usize,
}

impl Asks {
    /// From one door for each shard, and the function that says which shard owns a credential.
    pub fn new(doors: Vec<mpsc::Sender<Ask>>, route: fn(&CredentialId, usize) -> usize) -> Self {
        Self { doors: doors.into(), route }
    }

    /// Puts an ask to the shard that owns its credential; waits while that shard's queue is full. `Err` when stopping.
    pub async fn put(&self, ask: Ask) -> Result<(), Stopping> {
        let shard = (self.route)(ask.credential(), self.doors.len());
        self.doors[shard].send(ask).await.map_err(|_| Stopping)
    }
}

/// The daemon is stopping; nobody will answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("credd is stopping")]
pub struct Stopping;

//! What all shards of a daemon share.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use tokio_util::task::TaskTracker;

use super::{
    endpoint::{Admission, Endpoints},
    owners, specimens, stores, told, untold,
};
use crate::{
    clock::Clock,
    credential::{CredentialId, Material, Secret},
    ledger::{Ledger, LedgerError},
    metrics::Metrics,
    publish::Publisher,
    upstream::Upstream,
};

/// What all shards share.
pub(super) struct House {
    pub clock: Arc<dyn Clock>,
    pub ledger: Ledger,
    pub publisher: Publisher,
    pub upstream: Arc<dyn Upstream>,
    pub metrics: Metrics,
    pub endpoints: Mutex<Endpoints>,
    pub stores: stores::Stores,
    pub owners: owners::Owners,
    pub told: told::Told,
    pub untold: untold::Untold,
    pub unclassified: specimens::Noted,
    /// Throws of 0 to 1; a source of its own, so that a simulation repeats itself.
    pub dice: Arc<dyn Fn() -> f64 + Send + Sync>,
    pub boot_id: String,
    /// A fingerprint of this machine's name; empty where it has none, or where the ledger is not a file of it.
    pub machine: String,
    /// Requests and captures: a stop waits for them.
    pub flights: TaskTracker,
    /// Writes for which nobody waits any more, and to which the ledger has not answered yet.
    pub unanswered: Arc<AtomicUsize>,
    /// Told by each shard that it makes progress.
    pub alive: Arc<dyn Fn(u16) + Send + Sync>,
    /// Told of each secret that is served or presented.
    pub secrets: Arc<dyn Fn(&Secret) + Send + Sync>,
}

/// A shard waits so long for a write that it can do without: the others of the shard have waited with it.
const PATIENCE: Duration = Duration::from_secs(2);

/// The same for a ledger that is known to hang, where a no has consequences: it may just have come back.
const PERHAPS_BACK: Duration = Duration::from_millis(250);

/// What hangs on the answer to a write.
#[derive(Clone, Copy, Debug)]
pub(super) enum Patience {
    /// Nothing: what is in memory holds whatever the ledger says.
    Quiet,
    /// Whether a refresh may be sent.
    Decisive,
}

impl House {
    /// Has something written, and waits for it as long as the ledger may be thought to be well. It is written all the
    /// same if the ledger answers later, before everything that is asked of it from now on.
    pub(super) async fn patiently(
        &self,
        write: impl Future<Output = Result<(), LedgerError>> + Send + 'static,
        patience: Patience,
    ) -> Result<(), LedgerError> {
        let hangs = self.unanswered.load(Ordering::Relaxed) > 0;
        let patience = match patience {
            Patience::Quiet if hangs => Duration::ZERO,
            Patience::Decisive if hangs => PERHAPS_BACK,
            _ => PATIENCE,
        };
        let mut write = Box::pin(write);
        tokio::select! {
            biased;
            outcome = &mut write => return outcome,
            () = self.clock.sleep(patience) => {}
        }
        let unanswered = self.unanswered.clone();
        unanswered.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move {
            if let Err(error) = write.await {
                tracing::error!(%error, "the ledger did not take what nobody waited for any more");
            }
            unanswered.fetch_sub(1, Ordering::Relaxed);
        });
        let words =
            format!("it has not answered for {} s; what it was asked is written if it does", PATIENCE.as_secs());
        Err(LedgerError::Unwritable(words))
    }

    pub(super) fn endpoints(&self) -> std::sync::MutexGuard<'_, Endpoints> {
        let mut endpoints = self.endpoints.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        endpoints.follow(self.clock.stepped());
        endpoints
    }

    pub(super) fn admit(&self, endpoint: &str, id: &CredentialId, now: Timestamp) -> Admission {
        self.endpoints().admit(endpoint, id, now)
    }

    pub(super) fn join(&self, endpoint: &str, id: &CredentialId, life: Option<Duration>, now: Timestamp) {
        self.endpoints().join(endpoint, id, life, now);
    }

    pub(super) fn leave(&self, endpoint: &str, id: &CredentialId) {
        self.endpoints().leave(endpoint, id);
    }

    pub(super) fn learn(&self, material: &Material) {
        material.secrets().for_each(|secret| (self.secrets)(secret));
    }

    pub(super) fn note_answer(&self, endpoint: &str, id: &CredentialId, now: Timestamp, answered: bool) {
        let mut endpoints = self.endpoints();
        if answered { endpoints.answered(endpoint, id, now) } else { endpoints.failed(endpoint, id, now) }
    }

    pub(super) fn came_to_nothing(&self, endpoint: &str, id: &CredentialId) {
        self.endpoints().came_to_nothing(endpoint, id);
    }
}

//! The ledger behind the ports of parts that may not know it.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{broadcast, mpsc, watch};
use uuid::Uuid;

use crate::{
    clock::Clock,
    credential::Secret,
    incident::Announcement,
    ledger::{Due, Entry, HOUSE, Ledger, Notice, Put},
    oncall,
    server::socket::{Occurrence, Witness},
    store::embedded::Documents,
};

/// The embedded home store's documents, in the ledger.
#[derive(Clone, Debug)]
pub struct LedgerDocuments(pub Ledger);

impl Documents for LedgerDocuments {
    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<(Secret, i64)>, String>> {
        Box::pin(async move { self.0.embedded().get(name).await.map_err(|error| error.to_string()) })
    }

    fn put<'a>(
        &'a self,
        name: &'a str,
        document: &'a Secret,
        expected: i64,
    ) -> BoxFuture<'a, Result<Option<i64>, String>> {
        Box::pin(async move {
            match self.0.embedded().put(name, document.clone(), Some(expected)).await {
                Ok(Put::Written(version)) => Ok(Some(version)),
                Ok(Put::Conflict(_)) => Ok(None),
                Err(error) => Err(error.to_string()),
            }
        })
    }

    fn versions(&self) -> BoxFuture<'_, Result<BTreeMap<String, i64>, String>> {
        Box::pin(async move {
            self.0.embedded().list().await.map(|list| list.into_iter().collect()).map_err(|error| error.to_string())
        })
    }

    fn changed(&self) -> broadcast::Receiver<String> {
        self.0.embedded().changed()
    }
}

/// Writes what the faces see into the audit log, without making a request wait.
#[derive(Clone)]
pub(super) struct Chronicle {
    entries: mpsc::Sender<Entry>,
    clock: Arc<dyn Clock>,
    /// Who was denied what, and when it was last written: one that asks on and on fills no disk.
    denied: Arc<Mutex<HashMap<(u32, String), Timestamp>>>,
}

/// The same denial is written once in this time.
const AGAIN: SignedDuration = SignedDuration::from_mins(1);
/// Different denials that are remembered; more of them are in the log alone until the minute is over.
const MOST_DENIED: usize = 1024;

impl Chronicle {
    pub fn new(ledger: Ledger, clock: Arc<dyn Clock>) -> Self {
        // A flood of denials must neither grow memory nor hold up a request; what does not fit is in the log.
        let (entries, mut inbox) = mpsc::channel::<Entry>(1024);
        tokio::spawn(async move {
            while let Some(entry) = inbox.recv().await {
                if let Err(error) = ledger.audit().append(HOUSE, entry).await {
                    tracing::error!(%error, "the audit log did not take an entry of the house");
                }
            }
        });
        Self { entries, clock, denied: Arc::default() }
    }

    pub fn rebound(&self, path: &Path) {
        self.note("socket_rebound", String::new(), Some(path.display().to_string()), "ok");
    }

    pub fn witness(&self) -> Witness {
        let this = self.clone();
        Arc::new(move |occurrence| match occurrence {
            Occurrence::Denied { peer, name } => {
                let name = name.map(|name| name.to_string()).unwrap_or_default();
                if !this.is_new(peer.uid, &name) {
                    return;
                }
                this.note("read_denied", name, Some(format!("uid {}", peer.uid)), "denied");
            }
        })
    }

    fn is_new(&self, uid: u32, name: &str) -> bool {
        let now = self.clock.now().wall;
        let mut denied = self.denied.lock().unwrap_or_else(PoisonError::into_inner);
        denied.retain(|_, at| now.duration_since(*at).abs() < AGAIN);
        let key = (uid, name.to_owned());
        if denied.len() >= MOST_DENIED || denied.contains_key(&key) {
            tracing::debug!(uid, credential = name, "denied again");
            return false;
        }
        denied.insert(key, now);
        true
    }

    fn note(&self, event: &str, credential: String, actor: Option<String>, outcome: &str) {
        let entry = Entry {
            at: self.clock.now().wall,
            credential,
            event: event.to_owned(),
            trigger: "reader".to_owned(),
            actor,
            outcome: outcome.to_owned(),
            ..Entry::default()
        };
        if let Err(error) = self.entries.try_send(entry) {
            let entry = match error {
                mpsc::error::TrySendError::Full(entry) | mpsc::error::TrySendError::Closed(entry) => entry,
            };
            tracing::warn!(
                event = entry.event,
                credential = entry.credential,
                actor = entry.actor,
                "not in the audit log: too many at once"
            );
        }
    }
}

/// On-call's outbox, in the ledger.
pub struct LedgerOutbox {
    ledger: Ledger,
    changes: watch::Receiver<()>,
}

impl LedgerOutbox {
    /// Follows the ledger's changes from now on.
    pub fn new(ledger: Ledger) -> Self {
        let (tell, changes) = watch::channel(());
        let mut changed = ledger.incidents().changed();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = tell.closed() => return,
                    change = changed.changed() => match change {
                        Ok(()) => _ = tell.send(()),
                        Err(_) => return,
                    },
                }
            }
        });
        Self { ledger, changes }
    }
}

fn words(error: crate::ledger::LedgerError) -> String {
    error.to_string()
}

impl oncall::Outbox for LedgerOutbox {
    fn unannounced(&self) -> BoxFuture<'_, Result<oncall::Unannounced, String>> {
        Box::pin(async move {
            let notices = self.ledger.notices();
            let conditions = notices.conditions().await.map_err(words)?;
            Ok(oncall::Unannounced { conditions, backlog: notices.backlog().await.map_err(words)? })
        })
    }

    fn announce<'a>(
        &'a self,
        id: Uuid,
        announcement: &'a Announcement,
        channels: &'a [String],
    ) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move { self.ledger.notices().announce(id, announcement, channels).await.map_err(words) })
    }

    fn due_pages<'a>(&'a self, channel: &'a str, now: Timestamp) -> BoxFuture<'a, Result<oncall::Due, String>> {
        Box::pin(async move {
            let Due { notices, waiting, oldest, next } =
                self.ledger.notices().due(channel, now).await.map_err(words)?;
            let page =
                |notice: Notice| oncall::Page { id: notice.id, message: notice.message, attempts: notice.attempts };
            Ok(oncall::Due { pages: notices.into_iter().map(page).collect(), waiting, oldest, next })
        })
    }

    fn page_done<'a>(&'a self, id: Uuid, channel: &'a str) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move { self.ledger.notices().done(id, channel).await.map_err(words) })
    }

    fn page_later<'a>(&'a self, id: Uuid, channel: &'a str, due: Timestamp) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move { self.ledger.notices().later(id, channel, due).await.map_err(words) })
    }

    fn page_also<'a>(
        &'a self,
        id: Uuid,
        channel: &'a str,
        also: &'a str,
        done: bool,
    ) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move { self.ledger.notices().also(id, channel, also, done).await.map_err(words) })
    }

    fn adopt<'a>(&'a self, channels: &'a [String]) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move { self.ledger.notices().adopt(channels).await.map_err(words) })
    }

    fn changes(&self) -> watch::Receiver<()> {
        self.changes.clone()
    }
}

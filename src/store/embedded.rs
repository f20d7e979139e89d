//! The embedded home store: documents sealed in credd's own database, so that nothing else need run.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Loaded, Location, SecretStore, StoreError, StoreHealth, Version, document, each};
use crate::credential::{Material, Secret};

/// Where the documents lie. Errors are sentences for a person; they hold no value.
pub trait Documents: Send + Sync + fmt::Debug {
    /// A document with its version, if there is one.
    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<(Secret, i64)>, String>>;
    /// Replaces a document whose version is `expected` and answers the new version; `None` if it has another, or is gone.
    fn put<'a>(
        &'a self,
        name: &'a str,
        document: &'a Secret,
        expected: i64,
    ) -> BoxFuture<'a, Result<Option<i64>, String>>;
    /// The versions of all documents.
    fn versions(&self) -> BoxFuture<'_, Result<BTreeMap<String, i64>, String>>;
    /// Names of documents, as they change.
    fn changed(&self) -> broadcast::Receiver<String>;
}

/// The embedded home store over its documents.
#[derive(Debug)]
pub struct Embedded {
    documents: Arc<dyn Documents>,
    /// Locations that were asked for: a changed document is reported as these.
    asked: Mutex<BTreeSet<Location>>,
}

impl Embedded {
    /// Over documents that the ledger keeps.
    pub fn new(documents: Arc<dyn Documents>) -> Self {
        Self { documents, asked: Mutex::default() }
    }

    /// The locations in that document which somebody has asked for.
    fn locations(&self, name: String) -> Vec<Location> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let found: Vec<_> = asked.iter().filter(|at| at.split().0 == name).cloned().collect();
        if found.is_empty() { vec![Location(name)] } else { found }
    }

    async fn document(&self, at: &Location) -> Result<(Secret, i64), StoreError> {
        let (name, _) = at.split();
        let found = self.documents.get(name).await;
        found
            .map_err(|reason| StoreError::Unreachable { path: at.0.clone(), reason })?
            .ok_or_else(|| StoreError::NotFound { path: at.0.clone() })
    }
}

fn version(number: i64) -> Version {
    Version(number.to_string())
}

impl SecretStore for Embedded {
    fn kind(&self) -> &'static str {
        "embedded"
    }

    #[expect(clippy::disallowed_methods, reason = "the document is read")]
    fn load<'a>(&'a self, at: &'a Location) -> BoxFuture<'a, Result<Loaded, StoreError>> {
        Box::pin(async move {
            self.asked.lock().unwrap_or_else(PoisonError::into_inner).insert(at.clone());
            let (text, number) = self.document(at).await?;
            Ok(Loaded { material: document::read(text.expose().as_bytes(), at)?, version: version(number) })
        })
    }

    fn versions<'a>(&'a self, at: &'a [Location]) -> BoxFuture<'a, Vec<Result<Version, StoreError>>> {
        Box::pin(async move {
            let all = self.documents.versions().await;
            let all = all.map(|all| all.into_iter().map(|(name, number)| (name, Ok(version(number)))).collect());
            let all = all.map_err(|reason| StoreError::Unreachable { path: "ledger".into(), reason });
            each::versions(at, all, |at| async { Err(StoreError::NotFound { path: at.0.clone() }) }).await
        })
    }

    #[expect(clippy::disallowed_methods, reason = "a secret goes back into the document around it")]
    fn write<'a>(
        &'a self,
        at: &'a Location,
        material: &'a Material,
        expected: &'a Version,
        attempt: Uuid,
    ) -> BoxFuture<'a, Result<Version, StoreError>> {
        Box::pin(async move {
            let material = document::stamped(material, attempt);
            let (present, number) = self.document(at).await?;
            if version(number) == *expected {
                let text = document::write(present.expose().as_bytes(), at, &material)?;
                let put = self.documents.put(at.split().0, &text, number).await;
                let put = put.map_err(|reason| StoreError::Unreachable { path: at.0.clone(), reason })?;
                if let Some(new) = put {
                    return Ok(version(new));
                }
            }
            each::written_before(self.load(at).await?, &material, at)
        })
    }

    fn read_only<'a>(&'a self, _: &'a Location) -> BoxFuture<'a, Option<String>> {
        Box::pin(async { None })
    }

    fn check(&self) -> BoxFuture<'_, Result<StoreHealth, StoreError>> {
        Box::pin(async move {
            match self.documents.versions().await {
                Ok(all) => Ok(StoreHealth {
                    description: format!("{} secrets in credd's own ledger", all.len()),
                    auth_expires_at: None,
                }),
                Err(reason) => Err(StoreError::Unreachable { path: "ledger".into(), reason }),
            }
        })
    }

    fn run(&self, changed: mpsc::Sender<Location>, stop: CancellationToken) -> BoxFuture<'_, ()> {
        let mut names = self.documents.changed();
        Box::pin(async move {
            loop {
                let told = tokio::select! {
                    () = stop.cancelled() => return,
                    told = names.recv() => told,
                };
                let names = match told {
                    Ok(name) => vec![name],
                    Err(broadcast::error::RecvError::Closed) => return,
                    // Too many at once: name them all, an unchanged version costs its owner nothing.
                    Err(broadcast::error::RecvError::Lagged(_)) => {
                        self.documents.versions().await.unwrap_or_default().into_keys().collect()
                    }
                };
                for at in names.into_iter().flat_map(|name| self.locations(name)) {
                    if changed.send(at).await.is_err() {
                        return;
                    }
                }
            }
        })
    }

    fn poll_interval(&self) -> Option<Duration> {
        None
    }
}

//! Watched files: one secret each, mode 0600 or tighter.

mod disk;
mod watch;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::future::BoxFuture;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Loaded, Location, SecretStore, StoreError, StoreHealth, Version, document, each};
use crate::{clock::Clock, credential::Material};

/// `[stores.NAME] kind = "file"`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Folder; locations are paths below it and may not leave it.
    pub folder: PathBuf,
    /// Whether credd may write refreshed values back (write beside, then rename).
    #[serde(default)]
    pub writable: bool,
}

/// Then a file is given up: its file system hangs.
const PATIENCE: Duration = Duration::from_secs(10);

/// A folder of secrets.
#[derive(Debug)]
pub struct Files {
    folder: Arc<Folder>,
    clock: Arc<dyn Clock>,
}

#[derive(Debug)]
struct Folder {
    settings: Settings,
    /// What each location that was asked for held last (`None`: nothing usable); the watch compares with it.
    seen: Mutex<HashMap<Location, Option<Version>>>,
    /// Our own writers take turns; the lock on the folder is for those of other processes.
    writing: Mutex<()>,
}

impl Files {
    /// Nothing is opened yet: the folder may be mounted later.
    pub fn new(settings: &Settings, clock: Arc<dyn Clock>) -> Self {
        Self {
            folder: Arc::new(Folder { settings: settings.clone(), seen: Mutex::default(), writing: Mutex::default() }),
            clock,
        }
    }

    /// Works on the disk in a thread that may hang, so that nobody else does.
    async fn on_disk<T: Send + 'static>(
        &self,
        path: &str,
        work: impl FnOnce(&Folder) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let folder = Arc::clone(&self.folder);
        let unreachable = |reason: &str| StoreError::Unreachable { path: path.into(), reason: reason.into() };
        tokio::select! {
            done = tokio::task::spawn_blocking(move || work(&folder)) => {
                done.unwrap_or_else(|_| Err(unreachable("the thread that read it ended early")))
            }
            () = self.clock.sleep(PATIENCE) => Err(unreachable("the file system does not answer within 10 s")),
        }
    }
}

impl Folder {
    fn now(&self, at: &Location) -> Result<(zeroize::Zeroizing<Vec<u8>>, Version), StoreError> {
        let (path, _) = at.split();
        let bytes = disk::read(&self.settings.folder, path)?;
        let version = document::version_of(&bytes, path);
        Ok((bytes, version))
    }

    fn remember(&self, at: &Location, version: Option<Version>) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(at.clone(), version);
    }

    /// The locations whose file is not what it was.
    fn changes(&self) -> Vec<Location> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut changed = Vec::new();
        for (at, before) in seen {
            let now = self.now(&at).ok().map(|(_, version)| version);
            if now != before {
                self.remember(&at, now);
                changed.push(at);
            }
        }
        changed
    }

    fn load(&self, at: &Location) -> Result<Loaded, StoreError> {
        let found = self.now(at);
        self.remember(at, found.as_ref().ok().map(|(_, version)| version.clone()));
        let (bytes, version) = found?;
        Ok(Loaded { material: document::read(&bytes, at)?, version })
    }

    fn read_only(&self, at: &Location) -> Option<String> {
        if !self.settings.writable {
            return Some("set `writable = true` for this store".into());
        }
        disk::unwritable(&self.settings.folder, at.split().0)
    }

    #[expect(clippy::disallowed_methods, reason = "named by its digest, to see a change of it")]
    fn write(
        &self,
        at: &Location,
        material: &Material,
        expected: &Version,
        attempt: Uuid,
    ) -> Result<Version, StoreError> {
        if let Some(reason) = self.read_only(at) {
            return Err(StoreError::ReadOnly { path: at.0.clone(), reason });
        }
        let (path, _) = at.split();
        let _turn = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let _lock = disk::lock(&self.settings.folder, path)?;
        let (present, version) = self.now(at)?;
        if version != *expected {
            return each::written_before(Loaded { material: document::read(&present, at)?, version }, material, at);
        }
        let text = document::write(&present, at, material)?;
        disk::replace(&self.settings.folder, path, &text, attempt)?;
        let version = document::version_of(text.expose().as_bytes(), path);
        self.remember(at, Some(version.clone()));
        Ok(version)
    }
}

impl SecretStore for Files {
    fn kind(&self) -> &'static str {
        "file"
    }

    fn load<'a>(&'a self, at: &'a Location) -> BoxFuture<'a, Result<Loaded, StoreError>> {
        let place = at.clone();
        Box::pin(self.on_disk(&at.0, move |folder| folder.load(&place)))
    }

    fn versions<'a>(&'a self, at: &'a [Location]) -> BoxFuture<'a, Vec<Result<Version, StoreError>>> {
        let places = at.to_vec();
        let look = move |folder: &Folder| {
            let version = |at: &Location| (at.split().0.to_owned(), folder.now(at).map(|(_, version)| version));
            Ok(places.iter().map(version).collect())
        };
        Box::pin(async move {
            let found = self.on_disk("the folder", look).await;
            each::versions(at, found, |at| async { Err(StoreError::NotFound { path: at.0.clone() }) }).await
        })
    }

    fn write<'a>(
        &'a self,
        at: &'a Location,
        material: &'a Material,
        expected: &'a Version,
        attempt: Uuid,
    ) -> BoxFuture<'a, Result<Version, StoreError>> {
        let (place, material, expected) = (at.clone(), document::stamped(material, attempt), expected.clone());
        Box::pin(self.on_disk(&at.0, move |folder| folder.write(&place, &material, &expected, attempt)))
    }

    fn read_only<'a>(&'a self, at: &'a Location) -> BoxFuture<'a, Option<String>> {
        let place = at.clone();
        Box::pin(async move { self.on_disk(&at.0, move |folder| Ok(folder.read_only(&place))).await.ok()? })
    }

    fn check(&self) -> BoxFuture<'_, Result<StoreHealth, StoreError>> {
        Box::pin(async move {
            let settings = &self.folder.settings;
            let path = settings.folder.display().to_string();
            self.on_disk(&path, |folder| disk::open_folder(&folder.settings.folder)).await?;
            let writable = if settings.writable { "writable" } else { "read-only" };
            Ok(StoreHealth { description: format!("folder {path}, {writable}"), auth_expires_at: None })
        })
    }

    fn run(&self, changed: mpsc::Sender<Location>, stop: CancellationToken) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = watch::run(self, changed) => {}
            }
        })
    }

    fn poll_interval(&self) -> Option<Duration> {
        None
    }
}

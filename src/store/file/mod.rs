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

use super::{Loaded, Location, SecretStore, StoreError, StoreHealth, Version, document};
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

/// A folder of secrets.
#[derive(Debug)]
pub struct Files {
    settings: Settings,
    clock: Arc<dyn Clock>,
    /// What each location that was asked for held last (`None`: nothing usable); the watch compares with it.
    seen: Mutex<HashMap<Location, Option<Version>>>,
}

impl Files {
    /// Nothing is opened yet: the folder may be mounted later.
    pub fn new(settings: &Settings, clock: Arc<dyn Clock>) -> Self {
        Self { settings: settings.clone(), clock, seen: Mutex::default() }
    }

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
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = Vec::new();
        for (at, before) in seen.iter_mut() {
            let now = self.now(at).ok().map(|(_, version)| version);
            if now != *before {
                *before = now;
                changed.push(at.clone());
            }
        }
        changed
    }
}

impl SecretStore for Files {
    fn kind(&self) -> &'static str {
        "file"
    }

    fn load<'a>(&'a self, at: &'a Location) -> BoxFuture<'a, Result<Loaded, StoreError>> {
        Box::pin(async move {
            let found = self.now(at);
            self.remember(at, found.as_ref().ok().map(|(_, version)| version.clone()));
            let (bytes, version) = found?;
            Ok(Loaded { material: document::read(&bytes, at)?, version })
        })
    }

    fn versions<'a>(&'a self, at: &'a [Location]) -> BoxFuture<'a, Vec<Result<Version, StoreError>>> {
        Box::pin(async move { at.iter().map(|at| self.now(at).map(|(_, version)| version)).collect() })
    }

    fn write<'a>(
        &'a self,
        at: &'a Location,
        material: &'a Material,
        expected: &'a Version,
        attempt: Uuid,
    ) -> BoxFuture<'a, Result<Version, StoreError>> {
        Box::pin(async move {
            if let Some(reason) = self.read_only(at).await {
                return Err(StoreError::ReadOnly { path: at.0.clone(), reason });
            }
            let material = document::stamped(material, attempt);
            let (path, _) = at.split();
            let _lock = disk::lock(&self.settings.folder, path)?;
            let (present, version) = self.now(at)?;
            if version != *expected {
                return match document::read(&present, at)? {
                    now if now == material => Ok(version),
                    _ => Err(StoreError::Conflict { path: at.0.clone() }),
                };
            }
            let text = document::write(&present, at, &material)?;
            disk::replace(&self.settings.folder, path, &text, attempt)?;
            let version = document::version_of(text.expose().as_bytes(), path);
            self.remember(at, Some(version.clone()));
            Ok(version)
        })
    }

    fn read_only<'a>(&'a self, at: &'a Location) -> BoxFuture<'a, Option<String>> {
        Box::pin(async move {
            if !self.settings.writable {
                return Some("`writable` is not set for this store".into());
            }
            disk::unwritable(&self.settings.folder, at.split().0)
        })
    }

    fn check(&self) -> BoxFuture<'_, Result<StoreHealth, StoreError>> {
        Box::pin(async move {
            disk::open_folder(&self.settings.folder)?;
            let writable = if self.settings.writable { "writable" } else { "read-only" };
            let description = format!("folder {}, {writable}", self.settings.folder.display());
            Ok(StoreHealth { description, auth_expires_at: None })
        })
    }

    fn run(&self, changed: mpsc::Sender<Location>, stop: CancellationToken) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = watch::run(&self.settings.folder, self.clock.as_ref(), || self.changes(), changed) => {}
            }
        })
    }

    fn poll_interval(&self) -> Option<Duration> {
        None
    }
}

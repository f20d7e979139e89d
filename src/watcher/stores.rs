//! The home stores as the watcher sees them: which credential lies where, what version of it was seen, and the tasks
//! that look for changes.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::Message;
use crate::{
    clock::Clock,
    credential::CredentialId,
    metrics::Metrics,
    store::{Location, LoginTrouble, SecretStore, Version},
};

/// What health and status say of a home store.
#[derive(Clone, Debug, Serialize)]
pub struct StoreReport {
    /// Its name in the settings.
    pub name: String,
    /// `vault`, `aws`, `embedded`, `exec`, `file`.
    pub kind: &'static str,
    /// Whether it answered last time; `None` before the first time.
    pub up: Option<bool>,
    /// Since when it has not answered, while it does not.
    pub down_since: Option<Timestamp>,
    /// When it last answered completely.
    pub last_sync_at: Option<Timestamp>,
    /// What it last said when it did not.
    pub error: Option<String>,
    /// How long it last took to answer, or to fail to.
    pub response_ms: Option<u64>,
    /// When our own login there ends, where it does.
    pub auth_expires_at: Option<Timestamp>,
    /// Why that login cannot go on, if so.
    pub login_trouble: Option<LoginTrouble>,
}

/// Where a credential lives.
#[derive(Clone, Debug)]
pub(super) struct Home {
    pub store_name: String,
    pub store: Arc<dyn SecretStore>,
    pub at: Location,
    /// Its shard's inbox.
    pub inbox: mpsc::UnboundedSender<Message>,
}

/// Shared by shards, pollers and the carrier of write-backs.
#[derive(Clone, Default)]
pub(super) struct Stores(Arc<Inner>);

#[derive(Default)]
struct Inner {
    homes: Mutex<HashMap<CredentialId, Home>>,
    seen: Mutex<HashMap<CredentialId, Version>>,
    /// Those whose home store did not answer when it was last asked.
    stale: Mutex<HashSet<CredentialId>>,
    /// Held while a secret is read, and while it is written: what a read tells is never older than the last write told.
    turns: Mutex<HashMap<CredentialId, Arc<tokio::sync::Mutex<()>>>>,
    reports: Mutex<HashMap<String, StoreReport>>,
    write_back: Notify,
    returned: AtomicBool,
}

const NEVER_POISONED: &str = "nothing panics while it is held";

impl Stores {
    pub fn settle(&self, id: &CredentialId, home: Home, known: Option<Version>) {
        // Known from now on, if only as one that was not asked yet.
        let (name, kind) = (home.store_name.clone(), home.store.kind());
        let unasked = || StoreReport {
            name: name.clone(),
            kind,
            up: None,
            down_since: None,
            last_sync_at: None,
            error: None,
            response_ms: None,
            auth_expires_at: None,
            login_trouble: None,
        };
        self.0.reports.lock().expect(NEVER_POISONED).entry(name.clone()).or_insert_with(unasked);
        self.0.homes.lock().expect(NEVER_POISONED).insert(id.clone(), home);
        let mut seen = self.0.seen.lock().expect(NEVER_POISONED);
        match known {
            Some(version) => seen.insert(id.clone(), version),
            None => seen.remove(id),
        };
    }

    pub fn leave(&self, id: &CredentialId) {
        self.0.homes.lock().expect(NEVER_POISONED).remove(id);
        self.0.seen.lock().expect(NEVER_POISONED).remove(id);
        self.0.stale.lock().expect(NEVER_POISONED).remove(id);
        self.0.turns.lock().expect(NEVER_POISONED).remove(id);
    }

    /// Reading and writing one secret take turns.
    pub fn turn(&self, id: &CredentialId) -> Arc<tokio::sync::Mutex<()>> {
        self.0.turns.lock().expect(NEVER_POISONED).entry(id.clone()).or_default().clone()
    }

    /// Notes whether the store answered for this credential; true where that is new.
    pub fn is_stale(&self, id: &CredentialId, stale: bool) -> bool {
        let mut all = self.0.stale.lock().expect(NEVER_POISONED);
        if stale { all.insert(id.clone()) } else { all.remove(id) }
    }

    pub fn home(&self, id: &CredentialId) -> Option<Home> {
        self.0.homes.lock().expect(NEVER_POISONED).get(id).cloned()
    }

    /// A version was read or written by us: no news to the poller.
    pub fn seen(&self, id: &CredentialId, version: &Version) {
        self.0.seen.lock().expect(NEVER_POISONED).insert(id.clone(), version.clone());
    }

    /// What was seen could not be taken over: the next poll tells of it again.
    pub fn unseen(&self, id: &CredentialId) {
        self.0.seen.lock().expect(NEVER_POISONED).remove(id);
    }

    /// The outbox has something to carry.
    pub fn write_back_soon(&self) {
        self.0.write_back.notify_one();
    }

    /// Whether a home store came back since this was last asked.
    pub fn has_returned(&self) -> bool {
        self.0.returned.swap(false, Ordering::SeqCst)
    }

    pub async fn write_back_wanted(&self) {
        self.0.write_back.notified().await;
    }

    pub fn reports(&self) -> Vec<StoreReport> {
        let stores: HashMap<String, Arc<dyn SecretStore>> = {
            let homes = self.0.homes.lock().expect(NEVER_POISONED);
            homes.values().map(|home| (home.store_name.clone(), home.store.clone())).collect()
        };
        let mut reports: Vec<_> = self.0.reports.lock().expect(NEVER_POISONED).values().cloned().collect();
        for report in &mut reports {
            if let Some(store) = stores.get(&report.name) {
                // Whatever the last question was: a login is renewed between two of them.
                (report.auth_expires_at, report.login_trouble) = (store.auth_expires_at(), store.login_trouble());
            }
        }
        reports.sort_by(|a, b| a.name.cmp(&b.name));
        reports
    }

    /// Nobody lives there any more.
    pub fn forget(&self, name: &str, metrics: &Metrics) {
        if let Some(report) = self.0.reports.lock().expect(NEVER_POISONED).remove(name) {
            let _ = metrics.credd_store_up.remove_label_values(&[name, report.kind]);
        }
        let _ = metrics.credd_store_last_sync_timestamp_seconds.remove_label_values(&[name]);
        let _ = metrics.credd_store_auth_expiration_timestamp_seconds.remove_label_values(&[name]);
    }

    fn of_store(&self, name: &str) -> Vec<(CredentialId, Home)> {
        let homes = self.0.homes.lock().expect(NEVER_POISONED);
        homes.iter().filter(|(_, home)| home.store_name == name).map(|(id, home)| (id.clone(), home.clone())).collect()
    }

    /// Looks for changes in one home store until stopped: at its interval, and at once when the store tells by itself.
    pub async fn follow(
        &self,
        name: String,
        store: Arc<dyn SecretStore>,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
        stop: CancellationToken,
    ) {
        let (tell, mut told) = mpsc::channel(256);
        let run = store.run(tell, stop.clone());
        tokio::pin!(run);
        let mut running = true;
        loop {
            let interval = store.poll_interval();
            // A tenth is left for the look itself, so that a change arrives within the interval.
            let nap = clock.sleep(interval.map_or(Duration::from_secs(24 * 3600), |interval| interval.mul_f64(0.9)));
            tokio::select! {
                () = stop.cancelled() => return,
                () = &mut run, if running => running = false,
                Some(at) = told.recv() => self.tell(&name, &at),
                () = nap, if interval.is_some() => tokio::select! {
                    () = stop.cancelled() => return,
                    () = self.poll(&name, &store, &clock, &metrics) => {}
                },
            }
        }
    }

    /// A store that tells of a change names the place; everybody who lives there looks.
    fn tell(&self, name: &str, at: &Location) {
        let place = |location: &Location| location.0.split('#').next().unwrap_or_default().to_owned();
        for (id, home) in self.of_store(name) {
            if place(&home.at) == place(at) {
                let _ = home.inbox.send(Message::StoreChanged(id));
            }
        }
    }

    async fn poll(&self, name: &str, store: &Arc<dyn SecretStore>, clock: &Arc<dyn Clock>, metrics: &Metrics) {
        let residents = self.of_store(name);
        let places: Vec<Location> = residents.iter().map(|(_, home)| home.at.clone()).collect();
        let asked = clock.now();
        let versions = store.versions(&places).await;
        let answered = clock.now();
        let took = answered.boot.saturating_sub(asked.boot);
        let mut failure = None;
        for ((id, home), version) in residents.into_iter().zip(versions) {
            match version {
                Ok(version) => {
                    let changed = self.0.seen.lock().expect(NEVER_POISONED).get(&id) != Some(&version);
                    if changed {
                        // Noted as seen only once it was really read: `seen` is told by the shard.
                        let _ = home.inbox.send(Message::StoreChanged(id));
                    } else if self.is_stale(&id, false) {
                        let _ = home.inbox.send(Message::StoreStale(id, false));
                    }
                }
                Err(
                    error @ (crate::store::StoreError::NotFound { .. } | crate::store::StoreError::Malformed { .. }),
                ) => {
                    // This one credential's trouble, not the store's: the shard reads it and says so.
                    tracing::debug!(store = name, %error, "a secret could not be found by listing");
                    let _ = home.inbox.send(Message::StoreChanged(id));
                }
                Err(error) => {
                    if self.is_stale(&id, true) {
                        let _ = home.inbox.send(Message::StoreStale(id, true));
                    }
                    failure = Some(error);
                }
            }
        }
        self.report(name, store, (answered.wall, took), failure.map(|error| error.to_string()), metrics);
    }

    /// Notes how the store answered, when, and after how long.
    pub fn report(
        &self,
        name: &str,
        store: &Arc<dyn SecretStore>,
        (now, took): (Timestamp, Duration),
        error: Option<String>,
        metrics: &Metrics,
    ) {
        let up = error.is_none();
        metrics.credd_store_up.with_label_values(&[name, store.kind()]).set(i64::from(up));
        if up {
            metrics
                .credd_store_last_sync_timestamp_seconds
                .with_label_values(&[name])
                .set(now.as_millisecond() as f64 / 1e3);
        }
        let mut reports = self.0.reports.lock().expect(NEVER_POISONED);
        let before = reports.get(name);
        if up && before.is_some_and(|before| before.up == Some(false)) {
            self.0.returned.store(true, Ordering::SeqCst);
            self.write_back_soon();
        }
        if before.is_none_or(|before| before.up != Some(up)) {
            match &error {
                None => tracing::info!(store = name, "the home store answers"),
                Some(error) => {
                    tracing::warn!(store = name, error, "the home store does not answer; known values are served")
                }
            }
        }
        let down_since = match before.and_then(|before| before.down_since) {
            _ if up => None,
            None => Some(now),
            since => since,
        };
        let last_sync_at = if up { Some(now) } else { before.and_then(|before| before.last_sync_at) };
        let (name, kind) = (name.to_owned(), store.kind());
        let (auth_expires_at, login_trouble) = (store.auth_expires_at(), store.login_trouble());
        let report = StoreReport {
            name: name.clone(),
            kind,
            up: Some(up),
            down_since,
            last_sync_at,
            error,
            response_ms: Some(u64::try_from(took.as_millis()).unwrap_or(u64::MAX)),
            auth_expires_at,
            login_trouble,
        };
        reports.insert(name, report);
    }
}

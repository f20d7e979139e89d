//! The shards of this process: credentials come, change and go, and are drained at the end.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::FutureExt;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    AFTER_A_PANIC, Assignment, Endpoints, House, Message, Metronome, Shard, StoreReport,
    begin::Turn,
    owners::Owners,
    stores::{Home, Stores},
    told::Told,
    untold,
    watched::Watched,
    write_back,
};
use crate::{
    clock::Clock,
    credential::{CredentialId, Secret},
    ledger::{Ledger, LedgerError, Record},
    metrics::Metrics,
    publish::{Asks, Publisher},
    store::{SecretStore, Version},
    upstream::Upstream,
};

/// Values that the ledger holds already hold up a start no longer than this.
const NEWER: Duration = Duration::from_secs(2);
/// The ledger is swept this often.
const SWEEP: Duration = Duration::from_secs(15 * 60);

/// What the fleet is made of.
pub struct FleetParts {
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// The durable memory.
    pub ledger: Ledger,
    /// Where values and views go.
    pub publisher: Publisher,
    /// The way to the providers.
    pub upstream: Arc<dyn Upstream>,
    /// The list.
    pub metrics: Metrics,
    /// Throws of 0 to 1.
    pub dice: Arc<dyn Fn() -> f64 + Send + Sync>,
    /// This boot.
    pub boot_id: String,
    /// This machine's name, where it has one that no other has.
    pub machine: Option<String>,
    /// How many shards; 64 by default.
    pub shards: u16,
    /// Called by each shard, by its number, at least every 15 s as long as it makes progress.
    pub alive: Arc<dyn Fn(u16) + Send + Sync>,
    /// Called with each secret that is served or presented, before anything is said about it: for the masks of the log.
    pub secrets: Arc<dyn Fn(&Secret) + Send + Sync>,
}

/// All shards, and what runs beside them.
pub struct Fleet {
    house: Arc<House>,
    inboxes: Vec<mpsc::UnboundedSender<Message>>,
    asks: Asks,
    tasks: Vec<JoinHandle<()>>,
    followers: HashMap<String, CancellationToken>,
    watched: BTreeMap<CredentialId, Arc<Assignment>>,
    records: HashMap<CredentialId, Record>,
    beats: Option<CancellationToken>,
    stop: CancellationToken,
}

/// The first looks at credentials that the ledger has never seen good: loaded, and probed or refreshed.
#[must_use = "a start waits for the first looks"]
pub struct FirstLooks {
    looks: Vec<oneshot::Receiver<()>>,
    clock: Arc<dyn Clock>,
}

impl FirstLooks {
    /// Until each has been had, or until patience ends.
    pub async fn wait(self, patience: Duration) {
        tokio::select! {
            _ = futures_util::future::join_all(self.looks) => {}
            () = self.clock.sleep(patience) => {}
        }
    }
}

/// Which shard owns a credential: a hash of its name. A cut lives with its whole, because they share a grant.
fn shard_of(id: &CredentialId, shards: usize) -> usize {
    usize::try_from(hash(id.whole().unwrap_or(id.as_str())) % shards.max(1) as u64).unwrap_or(0)
}

/// Its own place within a beat, from 0 to 1: the same each time, and spread over all credentials.
pub(super) fn place(id: &CredentialId) -> f64 {
    f64::from(u32::try_from(hash(id.as_str()) >> 32).unwrap_or(0)) / f64::from(u32::MAX)
}

fn hash(name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

/// Runs a shard until it ends. One that panics begins anew from the ledger; its door stays, so nobody else notices.
async fn tend(mut shard: Shard, stop: CancellationToken) {
    while AssertUnwindSafe(shard.run(&stop)).catch_unwind().await.is_err() {
        tracing::error!(shard = shard.number, "a shard panicked and begins anew from the ledger; this is a bug");
        if stop.is_cancelled() {
            return;
        }
        shard.deadlines.clear();
        shard.forgets_what_it_saves();
        let (leaving, lost): (Vec<_>, Vec<_>) =
            shard.watched.drain().map(|(_, watched)| *watched).partition(|watched| watched.leaving);
        shard.lost.extend(lost.into_iter().map(|watched| watched.assignment));
        for Watched { assignment, .. } in leaving {
            // What its flight still brings is captured, should it come back.
            if let Err(error) = shard.house.ledger.rotation().remove(&assignment.id).await {
                tracing::error!(credential = %assignment.id, %error, "the ledger did not take the removal of a credential");
            }
        }
        shard.house.clock.sleep(AFTER_A_PANIC).await;
    }
}

impl Fleet {
    /// Starts the shards; they watch nothing yet. Reads what the ledger knows.
    pub async fn start(parts: FleetParts) -> Result<Self, LedgerError> {
        let records = parts.ledger.rotation().load_all().await?;
        let open = parts.ledger.incidents().open().await?;
        let sealer = parts.ledger.sealer();
        let machine = parts.machine.filter(|_| parts.ledger.is_a_file());
        let machine = machine.map(|name| sealer.fingerprint(&Secret::new(name)).to_string()).unwrap_or_default();
        let house = Arc::new(House {
            clock: parts.clock,
            ledger: parts.ledger,
            publisher: parts.publisher,
            upstream: parts.upstream,
            metrics: parts.metrics,
            endpoints: Mutex::new(Endpoints::default()),
            stores: Stores::default(),
            owners: Owners::default(),
            told: Told::new(&open),
            untold: Default::default(),
            unclassified: Default::default(),
            dice: parts.dice,
            boot_id: parts.boot_id,
            machine,
            flights: TaskTracker::new(),
            unanswered: Default::default(),
            alive: parts.alive,
            secrets: parts.secrets,
        });
        let stop = CancellationToken::new();
        let (mut inboxes, mut doors, mut tasks) = (Vec::new(), Vec::new(), Vec::new());
        for number in 0..parts.shards {
            let (send, inbox) = mpsc::unbounded_channel();
            let (door, asks) = mpsc::channel(1024);
            let shard = Shard::new(number, house.clone(), (send.clone(), inbox), asks);
            tasks.push(tokio::spawn(tend(shard, stop.clone())));
            inboxes.push(send);
            doors.push(door);
        }
        tasks.push(tokio::spawn(write_back::carry(house.clone(), stop.clone())));
        tasks.push(tokio::spawn(untold::carry(house.clone(), stop.clone())));
        tasks.push(tokio::spawn(sweep(house.clone(), stop.clone())));
        let records = records.into_iter().map(|record| (record.id.clone(), record)).collect();
        let asks = Asks::new(doors, shard_of);
        Ok(Self {
            house,
            inboxes,
            asks,
            tasks,
            followers: HashMap::new(),
            watched: BTreeMap::new(),
            records,
            beats: None,
            stop,
        })
    }

    /// Credentials that the ledger has seen good.
    pub fn proven(&self) -> BTreeSet<CredentialId> {
        let proven = self.records.values().filter(|record| super::kept::was_proven(record));
        proven.map(|record| record.id.clone()).collect()
    }

    /// The doors for the faces.
    pub fn asks(&self) -> Asks {
        self.asks.clone()
    }

    /// What is known of the home stores.
    pub fn stores(&self) -> impl Fn() -> Vec<StoreReport> + Send + Sync + 'static {
        let stores = self.house.stores.clone();
        move || stores.reports()
    }

    /// Watches exactly these from now on: what is new begins, what changed goes on under its new settings, what is
    /// gone is forgotten. Answers when all are published, with what the ledger knows of them.
    pub async fn watch(&mut self, assignments: Vec<Assignment>) -> FirstLooks {
        let wanted: BTreeMap<CredentialId, Arc<Assignment>> =
            assignments.into_iter().map(|assignment| (assignment.id.clone(), Arc::new(assignment))).collect();
        let gone: Vec<CredentialId> = self.watched.keys().filter(|id| !wanted.contains_key(*id)).cloned().collect();
        // A cut is there before its whole sends readers to it, and goes when it does so no longer.
        let (gone_cuts, gone): (Vec<_>, Vec<_>) = gone.into_iter().partition(|id| id.whole().is_some());
        let (cuts, wholes): (Vec<_>, Vec<_>) = wanted.into_iter().partition(|(_, wanted)| wanted.whole.is_some());
        gone.iter().for_each(|id| self.forget(id));
        let (mut looks, mut published, mut turns) = (Vec::new(), Vec::new(), Vec::new());
        for (id, assignment) in cuts.into_iter().chain(wholes) {
            let home = Home {
                store_name: assignment.store_name.clone(),
                store: assignment.store.clone(),
                at: assignment.at.clone(),
                inbox: self.inboxes[shard_of(&id, self.inboxes.len())].clone(),
            };
            if self.watched.contains_key(&id) {
                if self.watched.get(&id).is_some_and(|watched| watched.made_from == assignment.made_from) {
                    continue;
                }
                self.house.stores.settle(&id, home, None);
                self.send(&id, Message::Change(assignment.clone()));
            } else {
                let record = self.records.remove(&id).map(Box::new);
                turns.push((Turn::of(record.as_deref()), id.clone()));
                let known = record.as_ref().and_then(|record| record.store_version.clone()).map(Version);
                self.house.stores.settle(&id, home, known);
                // What was seen good before is served at once; only the others hold up a start.
                let first_look = record.as_ref().is_none_or(|record| !super::kept::was_proven(record)).then(|| {
                    let (first_look, looked) = oneshot::channel();
                    looks.push(looked);
                    first_look
                });
                let (shown, is_shown) = oneshot::channel();
                published.push(is_shown);
                let assignment = assignment.clone();
                self.send(&id, Message::Watch { assignment, record, shown: Some(shown), first_look });
            }
            self.watched.insert(id, assignment);
        }
        gone_cuts.iter().for_each(|id| self.forget(id));
        // What was taken out leaves its room behind.
        self.records.shrink_to_fit();
        self.follow_stores();
        self.keep_time();
        self.count();
        futures_util::future::join_all(published).await;
        turns.sort();
        let mut newer = Vec::new();
        for (turn, id) in turns {
            let taken_up = turn.brings_a_value().then(|| {
                let (taken_up, done) = oneshot::channel();
                newer.push(done);
                taken_up
            });
            self.send(&id, Message::TakeUp(id.clone(), taken_up));
        }
        // Readers are served before anything is mended; but who has seen a value already should not see the one before it.
        tokio::select! {
            _ = futures_util::future::join_all(newer) => {}
            () = self.house.clock.sleep(NEWER) => {}
        }
        FirstLooks { looks, clock: self.house.clock.clone() }
    }

    fn forget(&mut self, id: &CredentialId) {
        self.send(id, Message::Forget(id.clone()));
        self.house.stores.leave(id);
        self.watched.remove(id);
    }

    fn send(&self, id: &CredentialId, message: Message) {
        // A shard's door closes only when everything stops.
        let _ = self.inboxes[shard_of(id, self.inboxes.len())].send(message);
    }

    fn follow_stores(&mut self) {
        let stores: HashMap<String, Arc<dyn SecretStore>> =
            self.watched.values().map(|a| (a.store_name.clone(), a.store.clone())).collect();
        self.followers.retain(|name, stop| {
            let keep = stores.contains_key(name);
            if !keep {
                stop.cancel();
                self.house.stores.forget(name, &self.house.metrics);
            }
            keep
        });
        for (name, store) in stores {
            if !self.followers.contains_key(&name) {
                let stop = self.stop.child_token();
                self.followers.insert(name.clone(), stop.clone());
                let (following, house) = (self.house.stores.clone(), self.house.clone());
                self.tasks.push(tokio::spawn(async move {
                    following.follow(name, store, house.clock.clone(), house.metrics.clone(), stop).await;
                }));
            }
        }
    }

    fn keep_time(&mut self) {
        if let Some(beats) = self.beats.take() {
            beats.cancel();
        }
        let stop = self.stop.child_token();
        self.beats = Some(stop.clone());
        let expressions: BTreeSet<String> = self.watched.values().map(|a| a.probe.clone()).collect();
        let (send, mut beats) = mpsc::unbounded_channel();
        let metronome = Metronome::new(self.house.clock.clone(), self.house.metrics.clone(), send);
        self.tasks.push(tokio::spawn(metronome.run(expressions, stop.clone())));
        let inboxes = self.inboxes.clone();
        self.tasks.push(tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    beat = beats.recv() => {
                        let Some(beat) = beat else { return };
                        for inbox in &inboxes {
                            let _ = inbox.send(Message::Beat { cron: beat.cron.clone(), spread: beat.spread });
                        }
                    }
                }
            }
        }));
    }

    fn count(&self) {
        let metrics = &self.house.metrics.credd_credentials;
        metrics.reset();
        for assignment in self.watched.values() {
            metrics.with_label_values(&[assignment.store_name.as_str()]).inc();
        }
    }

    /// Wakes every shard, because the clock is no longer what it was.
    pub fn tell_time(&self) -> impl Fn() + Send + Sync + 'static {
        let inboxes = self.inboxes.clone();
        move || inboxes.iter().for_each(|inbox| drop(inbox.send(Message::Time)))
    }

    /// What is watched now.
    pub fn assignments(&self) -> impl Iterator<Item = &Assignment> {
        self.watched.values().map(AsRef::as_ref)
    }

    /// Starts no new flight, brings those that are out home, and ends. Bounded by the budget of a flight.
    pub async fn drain(self) {
        self.stop.cancel();
        for task in self.tasks {
            if let Err(error) = task.await
                && error.is_panic()
            {
                tracing::error!("a task of the watcher panicked");
            }
        }
        self.house.untold.last_offer(&self.house).await;
    }
}

/// Erases what the ledger need not keep any longer: previous values, old flights, incidents that are long over.
async fn sweep(house: Arc<House>, stop: CancellationToken) {
    loop {
        // At a start first: what should have been erased while nothing ran is erased now.
        if let Err(error) = house.ledger.rotation().sweep(house.clock.now().wall).await {
            tracing::warn!(%error, "the ledger was not swept; tried again in a quarter of an hour");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = house.clock.sleep(SWEEP) => {}
        }
    }
}

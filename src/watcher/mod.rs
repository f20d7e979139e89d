//! Watches credentials: one shard, one task, many credentials, and the queue of their next deadlines.
//!
//! The shard takes events one at a time, asks the lifecycle what to do, makes the answer durable, and only then acts:
//! publishes, sends, reads. Requests run in tasks of their own and report back, so no caller owns a flight.

mod adopt;
mod asks;
mod at_home;
mod begin;
mod breadth;
mod capture;
mod cuts;
mod deadlines;
mod doubt;
mod effects;
mod endpoint;
mod fleet;
mod flight;
mod house;
mod interpret;
mod kept;
mod may_write;
mod message;
mod metronome;
mod orphans;
mod owners;
mod page;
mod probe;
mod problem;
mod promote;
mod prove;
mod recovery;
mod saving;
mod specimens;
mod stores;
mod told;
mod untold;
mod vouch;
mod watched;
mod way;
mod why_not;
mod write_back;

pub use deadlines::Deadlines;
pub use endpoint::{Admission, Endpoints};
pub use fleet::{FirstLooks, Fleet, FleetParts};
pub use metronome::{Metronome, SCHEDULER, check_cron};
pub use prove::prove;
pub use stores::StoreReport;
pub use watched::Assignment;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use jiff::SignedDuration;
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    house::House,
    message::{FromStore, LoadReason, Message},
    saving::{Knock, Saving},
    watched::Watched,
};
use crate::{
    clock::Now,
    credential::{CredentialId, Generation},
    lifecycle::{Event, Trigger},
    publish::Ask,
};

/// The longest sleep: a suspended machine or a stepped clock is noticed within this time.
const LONGEST_SLEEP: Duration = Duration::from_secs(15);

/// Between a panic and the new beginning: a bug that repeats itself must not take a processor.
const AFTER_A_PANIC: Duration = Duration::from_secs(1);

/// One shard: it owns its credentials, so nothing locks them.
struct Shard {
    number: u16,
    house: Arc<House>,
    watched: HashMap<CredentialId, Box<Watched>>,
    deadlines: Deadlines,
    /// Steps of the clock that were taken over, and whether it was doubted, when this shard last looked.
    time: (SignedDuration, bool),
    /// The cuts of each whole.
    cuts: HashMap<CredentialId, BTreeSet<CredentialId>>,
    /// Values that the ledger has not taken yet, by the name of the whole.
    saving: HashMap<String, Saving>,
    /// Those of a life that ended in a panic: they begin anew from the ledger.
    lost: Vec<Arc<Assignment>>,
    /// Refresh requests of this shard that are out.
    air: TaskTracker,
    inbox: mpsc::UnboundedReceiver<Message>,
    /// For the tasks that report back.
    back: mpsc::UnboundedSender<Message>,
    asks: mpsc::Receiver<Ask>,
}

impl Shard {
    pub fn new(
        number: u16,
        house: Arc<House>,
        inbox: (mpsc::UnboundedSender<Message>, mpsc::UnboundedReceiver<Message>),
        asks: mpsc::Receiver<Ask>,
    ) -> Self {
        let (back, inbox) = inbox;
        let (watched, deadlines, cuts) = (HashMap::new(), Deadlines::default(), HashMap::new());
        let time = (house.clock.stepped(), house.clock.is_doubted());
        let (lost, air) = (Vec::new(), TaskTracker::new());
        let saving = HashMap::new();
        Self { number, house, watched, deadlines, cuts, saving, time, lost, air, inbox, back, asks }
    }

    /// Until told to stop. Flights that are out then still report: the fleet drains them before it drops the doors.
    pub async fn run(&mut self, stop: &CancellationToken) {
        self.begin_anew().await;
        loop {
            (self.house.alive)(self.number);
            self.wake_due().await;
            let now = self.house.clock.now();
            let wait = self.deadlines.next().map_or(LONGEST_SLEEP, |at| {
                // At least a moment: a deadline that changes nothing must not spin.
                Duration::try_from(at.duration_since(now.wall)).unwrap_or(Duration::from_millis(1)).min(LONGEST_SLEEP)
            });
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                message = self.inbox.recv() => match message {
                    Some(message) => self.take_in(Knock::Message(message)).await,
                    None => break,
                },
                ask = self.asks.recv() => match ask {
                    Some(ask) => self.take_in(Knock::Ask(ask)).await,
                    None => break,
                },
                () = self.house.clock.sleep(wait) => {}
            }
        }
        self.land().await;
    }

    /// What was lost in a panic goes on from what the ledger knows (FM-69). Readers kept their tokens.
    async fn begin_anew(&mut self) {
        if self.lost.is_empty() {
            return;
        }
        // A request of the life before is still on its way: its reply comes into the ledger, and recovery finds it
        // there. What it would have reported here is history.
        self.air.close();
        loop {
            // Longer than a sign of life where the ledger does not take what one of them brought.
            (self.house.alive)(self.number);
            tokio::select! {
                () = self.air.wait() => break,
                () = self.house.clock.sleep(LONGEST_SLEEP) => {}
            }
        }
        self.air.reopen();
        let mut kept = Vec::new();
        while let Ok(message) = self.inbox.try_recv() {
            kept.extend((!message.is_history()).then_some(message));
        }
        for message in kept {
            let _ = self.back.send(message);
        }
        while let Some(assignment) = self.lost.last().cloned() {
            match self.house.ledger.rotation().load(&assignment.id).await {
                Ok(record) => {
                    self.lost.pop();
                    self.house.leave(&assignment.endpoint(), &assignment.id);
                    let id = assignment.id.clone();
                    self.watch(assignment, record.map(Box::new), None, None).await;
                    self.take_up(&id).await;
                }
                Err(error) => {
                    tracing::error!(shard = self.number, %error, "a shard cannot begin anew yet; trying again");
                    (self.house.alive)(self.number);
                    self.house.clock.sleep(AFTER_A_PANIC).await;
                }
            }
        }
    }

    /// After the stop: no new flight, but those that are out are brought home (FM-67).
    async fn land(&mut self) {
        use Message::{Flown, Saved, WrittenBack};
        self.house.flights.close();
        loop {
            tokio::select! {
                biased;
                message = self.inbox.recv() => match message {
                    Some(message @ (Flown { .. } | Saved { .. } | WrittenBack { .. })) => {
                        self.take_in(Knock::Message(message)).await;
                    }
                    Some(_) => {}
                    None => return,
                },
                () = self.house.flights.wait() => {
                    // All have reported; what they reported is in the inbox.
                    while let Ok(message) = self.inbox.try_recv() {
                        if matches!(message, Flown { .. } | Saved { .. }) {
                            self.take_in(Knock::Message(message)).await;
                        }
                    }
                    // What one of them brought may have to wait for the ledger.
                    if self.saving.is_empty() {
                        return;
                    }
                }
            }
        }
    }

    async fn wake_due(&mut self) {
        loop {
            let now = self.house.clock.now();
            let time = (self.house.clock.stepped(), self.house.clock.is_doubted());
            if time != self.time {
                self.time = time;
                self.replan().await;
                continue;
            }
            let Some((at, id)) = self.deadlines.take_due(now.wall) else { return };
            let saving = self.is_saving(&id);
            let Some(watched) = self.watched.get_mut(&id) else { continue };
            watched.deadline = None;
            if saving {
                // It is looked at when that is over.
                continue;
            }
            let late = now.wall.duration_since(at).as_secs_f64();
            self.house.metrics.credd_scheduler_lag_seconds.observe(late.max(0.0));
            self.happen(&id, Event::Tick, effects::Note::quiet(Trigger::Schedule)).await;
        }
    }

    /// The clock stepped, or is doubted: each credential is looked at, and its deadline entered anew.
    async fn replan(&mut self) {
        let all: Vec<CredentialId> = self.watched.keys().filter(|id| !self.is_saving(id)).cloned().collect();
        for id in all {
            self.happen(&id, Event::Tick, effects::Note::quiet(Trigger::Schedule)).await;
            let doubted = self.time.1;
            self.flag(&id, |flags| flags.clock_untrusted = doubted);
        }
    }

    /// Enters the credential's next deadline into the queue: the next one after it was looked at. A step may have waited
    /// for the ledger since, and what fell due meanwhile must not be passed over.
    fn schedule(&mut self, id: &CredentialId, looked: Now) {
        let now = self.house.clock.now();
        let Some(watched) = self.watched.get_mut(id) else { return };
        let next = watched.life.next_deadline(looked, &watched.assignment.policy);
        // What is due already and did not act waits for something else; look again soon, not at once.
        let next = next.map(|at| if at <= now.wall { now.wall + Duration::from_secs(1) } else { at });
        self.deadlines.set(id, watched.deadline, next);
        watched.deadline = next;
    }

    async fn receive(&mut self, message: Message) {
        match message {
            Message::Watch { assignment, record, shown, first_look } => {
                self.watch(assignment, record, shown, first_look).await;
            }
            Message::TakeUp(id, taken_up) => {
                self.take_up(&id).await;
                taken_up.into_iter().for_each(|taken_up| _ = taken_up.send(()));
            }
            Message::Change(assignment) => self.change(assignment).await,
            Message::Forget(id) => self.forget(&id).await,
            Message::StoreChanged(id) => self.load(&id, LoadReason::Changed),
            // Seen on the way to whatever is due.
            Message::Time => {}
            Message::StoreStale(id, stale) => self.flag(&id, |flags| flags.store_stale = stale),
            Message::StoreSilent(id) => self.looked(&id).await,
            Message::MayWrite { id, read_only } => self.may_write(&id, read_only).await,
            Message::Loaded { id, why, result, took } => self.loaded(&id, why, result, took).await,
            Message::Flown { id, landing } => Box::pin(self.flown(&id, *landing)).await,
            Message::Saved { id, saved } => Box::pin(self.saved(&id, saved)).await,
            Message::Probed { id, look } => self.probed(&id, *look).await,
            Message::OrphanProbed { id, attempt, refused, look } => {
                self.orphan_probed(&id, attempt, refused, *look).await;
            }
            Message::Beat { cron, spread } => self.beat(&cron, spread).await,
            Message::WrittenBack { id, generation, version } => self.written_back(&id, generation, version),
            Message::WriteBackWaits { id } => self.flag(&id, |flags| flags.writeback_pending = true),
        }
    }

    async fn beat(&mut self, cron: &str, spread: Duration) {
        let mine: Vec<CredentialId> =
            self.watched.values().filter(|w| w.assignment.probe == cron).map(|w| w.assignment.id.clone()).collect();
        // Which wait for the ledger has just been proven by its refresh.
        for id in mine.into_iter().filter(|id| !self.is_saving(id)).collect::<Vec<_>>() {
            // Each credential keeps its own place in the beat, so that its probes come at equal distances.
            let offset = spread.mul_f64(fleet::place(&id));
            self.happen(&id, Event::Beat(offset), effects::Note::quiet(Trigger::Schedule)).await;
        }
    }

    fn written_back(&mut self, id: &CredentialId, generation: Generation, version: String) {
        let Some(watched) = self.watched.get_mut(id) else { return };
        watched.store_version = Some(version);
        if generation == watched.life.generation {
            let root = watched.material.as_ref().and_then(|material| material.root());
            watched.store_fingerprint = root.map(|root| self.house.ledger.sealer().fingerprint(root));
        }
        let newer_waits = watched.write_back_wanted > generation;
        self.flag(id, |flags| flags.writeback_pending = newer_waits);
    }

    /// Changes a fact beside the lifecycle and publishes it.
    fn flag(&mut self, id: &CredentialId, change: impl FnOnce(&mut watched::Flags)) {
        let Some(watched) = self.watched.get_mut(id) else { return };
        let before = watched.flags;
        change(&mut watched.flags);
        if watched.flags != before {
            self.publish(id);
        }
    }
}

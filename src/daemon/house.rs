//! What the daemon watches of itself: that the ledger takes writes, and that home stores answer.
//!
//! On-call hears of a store through the ledger, like of everything else. A ledger that takes no writes cannot carry the
//! word that it does not: that one goes straight to the channels, is kept in memory alone, and a restart forgets it.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::{FutureExt, join_all};
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{homes, latches::StoreLatches};
use crate::{
    clock::Clock,
    incident::{
        Action, Message, Severity, hygiene,
        words::{Details, date},
    },
    ledger::{Fact, Ledger, dedup_key},
    metrics::Metrics,
    pager::{Channel, Delivery},
    publish::Subscriber,
    watcher::StoreReport,
    web::{Beat, Guard, Readiness},
};

/// How often it looks.
const ROUND: Duration = Duration::from_secs(15);
/// No channel holds up the watch for longer.
const PATIENCE: Duration = Duration::from_secs(20);

const UNWRITABLE: &str = "ledger_unwritable";

/// Channels as they are now; a reload changes them.
pub(super) type Channels = Arc<Mutex<Vec<Arc<dyn Channel>>>>;

/// The watch.
pub(super) struct HouseWatch {
    pub ledger: Ledger,
    pub clock: Arc<dyn Clock>,
    pub metrics: Metrics,
    pub readiness: Readiness,
    pub subscriber: Subscriber,
    pub stores: Box<dyn Fn() -> Vec<StoreReport> + Send + Sync>,
    pub channels: Channels,
    /// Marked whenever the ledger answered, whatever it said: a restart frees no disk.
    pub beat: Beat,
}

/// What it remembers between two rounds.
#[derive(Default)]
struct Memory {
    alarm: Option<Alarm>,
    /// What is wrong with home stores, as the ledger knows it; `None` before it was asked.
    stores: Option<homes::Known>,
}

/// The ledger takes no writes.
struct Alarm {
    id: Uuid,
    since: Timestamp,
    why: String,
    /// Since when it does again.
    over: Option<Timestamp>,
    told: BTreeSet<String>,
    _not_ready: Option<Guard>,
}

impl HouseWatch {
    /// Until stopped.
    pub async fn run(self, mut latches: StoreLatches, stop: CancellationToken) {
        let mut memory = Memory::default();
        loop {
            self.round(&mut memory).await;
            latches.follow(&(self.stores)(), &self.subscriber.list());
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.clock.sleep(ROUND) => {}
            }
        }
    }

    /// What `/readyz` says of the home stores.
    pub fn latches(&self) -> StoreLatches {
        StoreLatches::new(self.readiness.clone(), &(self.stores)(), &self.subscriber.list())
    }

    async fn round(&self, memory: &mut Memory) {
        let (facts, after) = self.store_facts(memory).await;
        self.measure_logins();
        let outcome = self.ledger.incidents().facts(facts).await;
        self.beat.mark();
        let now = self.clock.now();
        match outcome {
            Ok(()) => {
                memory.stores = after;
                self.calm(memory, now.wall).await;
            }
            Err(error) => self.alarm(memory, now.wall, error.to_string()).await,
        }
        let open = i64::from(memory.alarm.is_some());
        self.metrics.credd_ledger_up.set(1 - open);
    }

    /// What changed of the home stores since the ledger was told, and what it will know then.
    async fn store_facts(&self, memory: &Memory) -> (Vec<Fact>, Option<homes::Known>) {
        let known = match &memory.stores {
            Some(known) => known.clone(),
            None => match self.ledger.incidents().open().await {
                Ok(open) => homes::known(&open),
                Err(error) => {
                    tracing::error!(%error, "the ledger's incidents cannot be read");
                    return (vec![], None);
                }
            },
        };
        let (facts, known) = homes::facts(known, &(self.stores)(), self.clock.now().wall);
        (facts, Some(known))
    }

    fn measure_logins(&self) {
        let gauge = &self.metrics.credd_store_auth_expiration_timestamp_seconds;
        for report in (self.stores)() {
            match report.auth_expires_at {
                Some(end) => gauge.with_label_values(&[&report.name]).set(end.as_millisecond() as f64 / 1e3),
                // A login that is gone has no end; the date that is over stays, because that is what an alert looks for.
                None if report.login_trouble.is_some() => {}
                None => drop(gauge.remove_label_values(&[&report.name])),
            }
        }
    }

    async fn alarm(&self, memory: &mut Memory, now: Timestamp, why: String) {
        let alarm = memory.alarm.get_or_insert_with(|| {
            tracing::error!(why, "the ledger takes no writes: nothing is refreshed until it does");
            let (since, told) = (now, BTreeSet::new());
            Alarm { id: new_id(now), since, why: why.clone(), over: None, told, _not_ready: None }
        });
        alarm.over = None;
        alarm.why = why;
        if alarm._not_ready.is_none() {
            alarm._not_ready = Some(self.readiness.hold("ledger"));
        }
        let message = alarm.message(Action::Trigger, now);
        let untold = |channel: &Arc<dyn Channel>| !alarm.told.contains(channel.name());
        let told = self.tell(alarm.id, &message, now, untold).await;
        alarm.told.extend(told);
    }

    async fn calm(&self, memory: &mut Memory, now: Timestamp) {
        let Some(alarm) = &mut memory.alarm else { return };
        alarm._not_ready = None;
        let over = *alarm.over.get_or_insert(now);
        if now.duration_since(over) < hygiene::of(UNWRITABLE).hold {
            return;
        }
        let message = alarm.message(Action::Resolve, over);
        let id = Uuid::from_u128(alarm.id.as_u128().wrapping_add(1));
        let heard = |channel: &Arc<dyn Channel>| alarm.told.contains(channel.name());
        for name in self.tell(id, &message, now, heard).await {
            alarm.told.remove(&name);
        }
        let names: BTreeSet<String> = self.channels().iter().map(|channel| channel.name().to_owned()).collect();
        alarm.told.retain(|name| names.contains(name));
        let given_up = now.duration_since(over) > SignedDuration::from_hours(24);
        if alarm.told.is_empty() || given_up {
            memory.alarm = None;
        }
    }

    /// Sends past the ledger. Answers which channels took it; the others are asked again in the next round.
    async fn tell(
        &self,
        id: Uuid,
        message: &Message,
        now: Timestamp,
        wanted: impl Fn(&Arc<dyn Channel>) -> bool,
    ) -> Vec<String> {
        let channels: Vec<Arc<dyn Channel>> = self.channels().into_iter().filter(wanted).collect();
        let sends = channels.iter().map(|channel| async {
            let delivery = tokio::select! {
                delivery = channel.send(id, message, now) => delivery,
                () = self.clock.sleep(PATIENCE) => {
                    Delivery::Later { reason: "timeout", detail: "no answer in 20 s".into(), after: None }
                }
            };
            let name = channel.name().to_owned();
            match delivery {
                Delivery::Accepted => {
                    self.metrics.credd_notifications_total.with_label_values(&[&name]).inc();
                    Some(name)
                }
                Delivery::Later { reason, detail, .. } | Delivery::Never { reason, detail } => {
                    self.metrics.credd_notification_failures_total.with_label_values(&[name.as_str(), reason]).inc();
                    tracing::error!(channel = name, reason, "{}: not delivered: {detail}", message.summary);
                    None
                }
            }
        });
        join_all(sends).map(|told| told.into_iter().flatten().collect()).await
    }

    fn channels(&self) -> Vec<Arc<dyn Channel>> {
        self.channels.lock().expect("nothing panics while it is held").clone()
    }
}

impl Alarm {
    fn message(&self, action: Action, at: Timestamp) -> Message {
        let over = action == Action::Resolve;
        let details = Details {
            evidence: &self.why,
            tried: "it is written to every 15 s; readers keep the tokens that they have",
            affected: "every credential: nothing is refreshed while an outcome could not be kept",
            remedy: "",
        };
        let title = "credd: its ledger takes no writes".to_owned();
        Message {
            dedup_key: dedup_key(UNWRITABLE, "ledger"),
            sequence: u32::from(over),
            action,
            severity: Severity::Critical,
            kind: UNWRITABLE.into(),
            credentials: Vec::new(),
            summary: if over { format!("{title}: over") } else { title.clone() },
            body: if over {
                format!("The ledger takes writes again since {}.", date(at))
            } else {
                format!("Since: {}\n{}", date(self.since), details.text(UNWRITABLE, "ledger"))
            },
            title,
            since: self.since,
            at,
            test: false,
        }
    }
}

fn new_id(now: Timestamp) -> Uuid {
    let seconds = u64::try_from(now.as_second()).unwrap_or(0);
    let nanoseconds = u32::try_from(now.subsec_nanosecond()).unwrap_or(0);
    Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, seconds, nanoseconds))
}

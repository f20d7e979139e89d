//! The script: what is made to go wrong, and what must then be seen. Its moments scale with the length of the demo; what
//! follows from them is waited for by looking at the daemon, at the sandbox and at the receivers.

mod renewal;
mod revocation;
mod trouble;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{
    api::{Api, Health},
    crowd::Tally,
    reader::Reader,
    sinks::Inbox,
    stage::{Stage, Withdrawn},
    view::View,
};
use crate::{
    clock::Clock,
    publish::{self, Subscriber},
    sandbox::{CallRecord, Running},
};

/// What is still under way at the end may take so much longer.
const GRACE: Duration = Duration::from_secs(30);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(40);

/// What is promised, in the order of telling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// Short-lived tokens are renewed ahead of their end.
    Proactive,
    /// A refusal that readers hand in is mended by one refresh.
    Refusal,
    /// A rate limit is waited out.
    RateLimit,
    /// An outage of the provider is survived.
    Outage,
    /// A revocation flips `/health` and pages.
    Revocation,
    /// A new secret heals it.
    Healing,
}

impl Promise {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Proactive, Self::Refusal, Self::RateLimit, Self::Outage, Self::Revocation, Self::Healing];
}

/// The script, and what came of it.
pub struct Script {
    /// Where it is told.
    pub view: Arc<View>,
    /// What the crowd counts.
    pub tally: Arc<Tally>,
    /// What was paged.
    pub inbox: Arc<Inbox>,
    /// How `/health` answered.
    pub health: Arc<Health>,
    clock: Arc<dyn Clock>,
    sandbox: Arc<Running>,
    grants: BTreeMap<&'static str, String>,
    withdrawn: Arc<Withdrawn>,
    api: Arc<Api>,
    subscriber: Subscriber,
    socket: PathBuf,
    length: Duration,
    outcomes: Mutex<BTreeMap<Promise, Result<String, String>>>,
}

impl Script {
    /// For this stage and that long.
    pub fn new(stage: &Stage, view: Arc<View>, length: Duration) -> Self {
        Self {
            view,
            tally: stage.tally.clone(),
            inbox: stage.inbox.clone(),
            health: stage.health.clone(),
            clock: stage.clock.clone(),
            sandbox: stage.sandbox.clone(),
            grants: stage.grants.clone(),
            withdrawn: stage.withdrawn.clone(),
            api: stage.api.clone(),
            subscriber: stage.watched(),
            socket: stage.socket().to_owned(),
            length,
            outcomes: Mutex::default(),
        }
    }

    /// Plays it all; ends when everything has happened or its time is up.
    pub async fn play(&self) {
        let trouble = async {
            let down = self.outage().await;
            let (survived, ()) = tokio::join!(self.recovery(down), self.revocation());
            self.note(Promise::Outage, survived);
        };
        let (proactive, refusal, limit, ()) =
            tokio::join!(self.proactive(), self.refusal(), self.rate_limit(), trouble);
        self.note(Promise::Proactive, proactive);
        self.note(Promise::Refusal, refusal);
        self.note(Promise::RateLimit, limit);
    }

    /// Until its length is over.
    pub async fn until_the_end(&self) {
        self.at(1.0).await;
    }

    /// What came of a promise; `None` if it never came so far.
    pub fn outcome(&self, promise: Promise) -> Option<Result<String, String>> {
        self.outcomes.lock().unwrap_or_else(PoisonError::into_inner).get(&promise).cloned()
    }

    fn note(&self, promise: Promise, outcome: Result<String, String>) {
        if let Err(why) = &outcome {
            self.view.bad(&format!("not as promised: {why}"));
        }
        self.outcomes.lock().unwrap_or_else(PoisonError::into_inner).insert(promise, outcome);
    }

    /// Waits for a moment of the script.
    async fn at(&self, part: f64) {
        let moment = self.view.began.boot + self.length.mul_f64(part);
        let left = moment.saturating_sub(self.clock.now().boot);
        self.clock.sleep(left).await;
    }

    /// Looks again and again until something is seen, or the demo's time is up.
    async fn until<T>(&self, what: &str, look: impl Fn() -> Option<T>) -> Result<T, String> {
        let end = self.view.began.boot + self.length + GRACE;
        loop {
            if let Some(seen) = look() {
                return Ok(seen);
            }
            if self.clock.now().boot >= end {
                return Err(format!("{what} did not come"));
            }
            self.clock.sleep(LOOK).await;
        }
    }

    fn reader(&self) -> Reader {
        Reader::new(self.socket.clone())
    }

    fn grant(&self, name: &str) -> &str {
        self.grants.get(name).map_or("", String::as_str)
    }

    fn view_of(&self, name: &str) -> Option<publish::View> {
        self.subscriber.get(name).map(|slot| slot.current().view.clone())
    }

    /// The calls of the token endpoint with this credential's grant, as the provider saw them.
    fn calls(&self, name: &str) -> Vec<CallRecord> {
        let mut calls = self.sandbox.admin().log_of(self.grant(name));
        calls.retain(|call| call.endpoint == "token");
        calls
    }
}

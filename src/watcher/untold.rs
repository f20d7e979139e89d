//! What on-call is to be told and the ledger has not taken yet (FM-42, FM-63): it is offered again until it is taken. A page
//! that was decided and not written would be known to nobody.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::House;
use crate::ledger::Fact;

/// Between two offers, doubled from the first to the last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));
/// At a stop the ledger has so long for what is left. What it does not take is seen, and told, after the next start.
const LAST_OFFER: Duration = Duration::from_secs(1);

/// The latest word of each incident that waits for the ledger, oldest first. Shared by all shards.
#[derive(Debug, Default)]
pub(super) struct Untold {
    facts: Arc<Mutex<Vec<Fact>>>,
    more: Notify,
}

fn locked(facts: &Mutex<Vec<Fact>>) -> MutexGuard<'_, Vec<Fact>> {
    facts.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_about(one: &Fact, other: &Fact) -> bool {
    (&one.kind, &one.credential) == (&other.kind, &other.credential)
}

impl Untold {
    /// To be told; takes the place of an older word of the same incident.
    pub fn add(&self, new: Vec<Fact>) {
        if new.is_empty() {
            return;
        }
        let _ = self.set_aside(&new);
        locked(&self.facts).extend(new);
        self.more.notify_one();
    }

    /// Newer words of these are on their way by themselves. Answers the older ones, for the case that those do not arrive.
    #[must_use = "the older word holds again if the newer one is not written"]
    pub fn set_aside(&self, newer: &[Fact]) -> Vec<Fact> {
        locked(&self.facts).extract_if(.., |old| newer.iter().any(|new| is_about(old, new))).collect()
    }

    /// Nobody is told anything of that one any more.
    pub fn forget(&self, credential: &str) {
        locked(&self.facts).retain(|fact| fact.credential != credential);
    }

    /// Offers all of it to the ledger once. It is read in the moment of the write: what was set aside meanwhile must not
    /// be written after the word that overtook it.
    async fn offer(&self, house: &House) -> bool {
        let waiting = self.facts.clone();
        match house.ledger.incidents().facts_of(move || locked(&waiting).clone()).await {
            Ok(taken) => {
                locked(&self.facts).retain(|fact| !taken.contains(fact));
                true
            }
            Err(error) => {
                let waiting = locked(&self.facts).len();
                tracing::error!(%error, waiting, "the ledger did not take what on-call is to be told; trying again");
                false
            }
        }
    }

    fn is_empty(&self) -> bool {
        locked(&self.facts).is_empty()
    }

    /// When no shard has anything to add any more.
    pub async fn last_offer(&self, house: &House) {
        if self.is_empty() {
            return;
        }
        tokio::select! {
            biased;
            _ = self.offer(house) => {}
            () = house.clock.sleep(LAST_OFFER) => {}
        }
    }
}

/// Until stopped.
pub(super) async fn carry(house: Arc<House>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = house.untold.more.notified() => {}
        }
        let mut pause = PAUSES.0;
        while !house.untold.is_empty() {
            if house.untold.offer(&house).await {
                continue;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = house.clock.sleep(pause) => {}
            }
            pause = (pause * 2).min(PAUSES.1);
        }
    }
}

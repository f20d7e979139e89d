//! Wanted: however many readers wait for a token, its shard is asked once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::{oneshot, watch};

use super::Parts;
use crate::{
    credential::CredentialId,
    publish::{Ask, Edition, Peer, Seen, Slot},
};

/// Asks under way, by credential.
#[derive(Clone, Debug, Default)]
pub struct Wanted(Arc<Mutex<HashMap<CredentialId, Flight>>>);

#[derive(Clone, Debug)]
struct Flight {
    /// What was asked for; who needs more asks again afterwards.
    need: Duration,
    /// Whether the shard answered, once that is known. It does not where the daemon is stopping or the shard's task failed.
    landed: watch::Receiver<Option<bool>>,
}

/// An answer that names a generation which is not published after this time is not waited for any longer.
const OVERTAKEN: Duration = Duration::from_secs(1);

impl Wanted {
    /// Ends when the token is no longer `needy`, or when its shard says that nothing helps now. Dropping it cancels nothing.
    pub async fn renewed(
        &self,
        parts: &Parts,
        slot: &Arc<Slot>,
        need: Duration,
        peer: Peer,
        needy: &(impl Fn(&Edition) -> bool + Sync),
    ) {
        let mut news = slot.watch();
        loop {
            let Some(mut flight) = self.join(parts, slot, need, peer, needy) else { return };
            let landed = loop {
                tokio::select! {
                    biased;
                    seen = news.next() => match seen {
                        Some(Seen::Edition(edition)) if needy(&edition) => {}
                        _ => return,
                    },
                    landed = flight.landed.wait_for(Option::is_some) => break landed.ok().and_then(|landed| *landed),
                }
            };
            let answered = landed.unwrap_or(false);
            if !answered || flight.need >= need {
                return;
            }
        }
    }

    /// The flight under way, or a new one; `None` if none is needed any longer.
    fn join(
        &self,
        parts: &Parts,
        slot: &Arc<Slot>,
        need: Duration,
        peer: Peer,
        needy: &impl Fn(&Edition) -> bool,
    ) -> Option<Flight> {
        let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock: a flight that has just landed published before it left the table.
        let current = slot.current();
        if !needy(&current) {
            return None;
        }
        let id = &current.view.name;
        if let Some(flight) = flights.get(id) {
            parts.metrics.credd_refresh_coalesced_total.inc(id.as_str(), "");
            return Some(flight.clone());
        }
        let (lands, landed) = watch::channel(None);
        let flight = Flight { need, landed };
        flights.insert(id.clone(), flight.clone());
        // In a task of its own: the reader that happened to be first may hang up.
        tokio::spawn(self.clone().ask(parts.clone(), slot.clone(), need, format!("uid {}", peer.uid), lands));
        Some(flight)
    }

    async fn ask(
        self,
        parts: Parts,
        slot: Arc<Slot>,
        min_ttl: Duration,
        actor: String,
        lands: watch::Sender<Option<bool>>,
    ) {
        let id = slot.current().view.name.clone();
        let (answer, answered) = oneshot::channel();
        let answer = match parts.asks.put(Ask::Wanted { id: id.clone(), min_ttl, actor, answer }).await {
            Ok(()) => answered.await.ok(),
            Err(_stopping) => None,
        };
        if let Some(answer) = &answer {
            // The answer may overtake the publication that it speaks of; a reader who came in between would ask again.
            let mut news = slot.watch();
            let published =
                async { while slot.current().view.generation < answer.generation && news.next().await.is_some() {} };
            tokio::select! { () = published => {}, () = parts.clock.sleep(OVERTAKEN) => {} }
        }
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        lands.send_replace(Some(answer.is_some()));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    use jiff::Timestamp;
    use tokio::sync::mpsc;

    use super::*;
    use crate::{
        clock::SystemClock,
        credential::{ExpirySource, Generation, Kind},
        lifecycle::State,
        metrics::Metrics,
        publish::{Asks, Criticality, Published, View, channel},
    };

    #[tokio::test]
    async fn goal5_a_reader_that_comes_just_after_the_landing_asks_nobody() {
        let clock = Arc::new(SystemClock);
        let (publisher, subscriber) = channel(clock.clone());
        let view = View {
            name: CredentialId::new("bot").unwrap(),
            kind: Kind::RefreshToken,
            provider: String::new(),
            store: String::new(),
            criticality: Criticality::Required,
            state: State::Fresh,
            since: Timestamp::UNIX_EPOCH,
            generation: Generation(2),
            issued_at: None,
            expires_at: None,
            expiry_source: ExpirySource::Unknown,
            refresh_expires_at: None,
            refresh_expiry_source: None,
            client_secret_expires_at: None,
            refresh_at: None,
            probe_at: None,
            last_probe_at: None,
            last_success_at: None,
            last_rotation_at: None,
            ttl_warn_seconds: None,
            ttl_fail_seconds: None,
            problem: None,
            store_error: None,
            flags: vec![],
        };
        publisher.set(Published { view, token: None, readers: Arc::from([]), offer: None });
        let slot = subscriber.get("bot").unwrap();
        let (door, mut asked) = mpsc::channel(1);
        let asks = Asks::new(vec![door], |_, _| 0);
        let parts = Parts { subscriber, asks, metrics: Metrics::new(), clock, witness: Arc::new(|_| {}) };
        let (wanted, peer) = (Wanted::default(), Peer { uid: 1, gid: 1 });
        // It saw an old edition, and found a new one when its turn at the table came.
        let looked = AtomicBool::new(false);
        let needy = |_: &Edition| {
            looked.store(true, Relaxed);
            false
        };
        assert!(wanted.join(&parts, &slot, Duration::ZERO, peer, &needy).is_none());
        assert!(looked.load(Relaxed) && wanted.0.lock().unwrap().is_empty());
        // The second joins the first.
        assert!(wanted.join(&parts, &slot, Duration::ZERO, peer, &|_| true).is_some());
        assert!(wanted.join(&parts, &slot, Duration::ZERO, peer, &|_| true).is_some());
        assert!(matches!(asked.recv().await, Some(Ask::Wanted { .. })));
        assert!(asked.try_recv().is_err());
    }
}

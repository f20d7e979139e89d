//! The board: shards put editions up, faces read them. A read takes no lock and waits for nobody.

use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, OnceLock, PoisonError, atomic::AtomicU64},
};

use arc_swap::{ArcSwap, Guard};
use tokio::sync::watch;

use super::{Edition, Published, Usage, View, services::Services};
use crate::{
    clock::{Clock, Now},
    credential::CredentialId,
};

/// Adding a credential copies one stripe, not the whole board.
const STRIPES: usize = 256;

type Observer = Box<dyn Fn(&CredentialId) + Send + Sync>;
type Names = HashMap<CredentialId, Arc<Slot>>;

pub(super) struct Board {
    stripes: Vec<Stripe>,
    pub(super) services: Services,
    hasher: RandomState,
    clock: Arc<dyn Clock>,
    observer: OnceLock<Observer>,
}

#[derive(Default)]
struct Stripe {
    names: ArcSwap<Names>,
    writer: Mutex<()>,
}

/// Two ends of a new board: shards publish, faces subscribe. Both ends may be cloned.
pub fn channel(clock: Arc<dyn Clock>) -> (Publisher, Subscriber) {
    let stripes = std::iter::repeat_with(Stripe::default).take(STRIPES).collect();
    let (services, hasher, observer) = (Services::default(), RandomState::new(), OnceLock::new());
    let board = Arc::new(Board { stripes, services, hasher, clock, observer });
    (Publisher(board.clone()), Subscriber(board))
}

/// One credential's place on the board; it outlives every edition, until the credential is removed.
#[derive(Debug)]
pub struct Slot {
    current: ArcSwap<Edition>,
    /// Rings at news; `true` once the credential is removed.
    removed: watch::Sender<bool>,
    /// Who read it.
    pub usage: Usage,
    /// The counter of its deliveries on the socket, found once: a look-up by label at each read would cost more than the read.
    pub deliveries: OnceLock<Arc<AtomicU64>>,
}

impl Slot {
    /// The edition of this moment.
    pub fn current(&self) -> Guard<Arc<Edition>> {
        self.current.load()
    }

    /// Whether it is no longer on the board.
    pub fn is_removed(&self) -> bool {
        *self.removed.borrow()
    }

    /// Follows it: the current edition first.
    pub fn watch(self: &Arc<Self>) -> Watch {
        let mut news = self.removed.subscribe();
        news.mark_changed();
        Watch { slot: self.clone(), news, over: false }
    }
}

/// The publishing end.
#[derive(Clone)]
pub struct Publisher(Arc<Board>);

impl Publisher {
    /// Calls the observer at each removal from now on, in the publishing task; the first observer stays.
    pub fn on_removal(&self, observer: impl Fn(&CredentialId) + Send + Sync + 'static) {
        let _ = self.0.observer.set(Box::new(observer));
    }

    /// Publishes a credential, or its next edition. Followers hear of it if its value, state, failure or readers changed.
    pub fn set(&self, published: Published) {
        let now = self.0.clock.now();
        let stripe = self.0.stripe(published.view.name.as_str());
        let _one_writer = stripe.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let known = stripe.names.load().get(&published.view.name).cloned();
        let Some(slot) = known else {
            let edition = Arc::new(Edition::new(published, None, now));
            let name = edition.view.name.clone();
            let slot = Arc::new(Slot {
                current: ArcSwap::new(edition.clone()),
                removed: watch::Sender::new(false),
                usage: Usage::default(),
                deliveries: OnceLock::new(),
            });
            let mut names = Names::clone(&stripe.names.load());
            names.insert(name, slot.clone());
            stripe.names.store(Arc::new(names));
            self.0.services.place(&slot, None, edition.offer());
            return;
        };
        let before = slot.current.load_full();
        let after = Arc::new(Edition::new(published, Some(&before), now));
        slot.current.store(after.clone());
        self.0.services.place(&slot, before.offer().map(AsRef::as_ref), after.offer());
        if after.is_news(&before) {
            slot.removed.send_replace(false);
        }
    }

    /// Takes a credential off the board; whoever follows it is told.
    pub fn remove(&self, name: &CredentialId) {
        let stripe = self.0.stripe(name.as_str());
        let _one_writer = stripe.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut names = Names::clone(&stripe.names.load());
        if let Some(slot) = names.remove(name) {
            stripe.names.store(Arc::new(names));
            self.0.services.place(&slot, slot.current().offer().map(AsRef::as_ref), None);
            slot.removed.send_replace(true);
            if let Some(observer) = self.0.observer.get() {
                observer(name);
            }
        }
    }
}

/// The reading end.
#[derive(Clone)]
pub struct Subscriber(pub(super) Arc<Board>);

impl Subscriber {
    /// A credential's place, by name.
    pub fn get(&self, name: &str) -> Option<Arc<Slot>> {
        self.0.stripe(name).names.load().get(name).cloned()
    }

    /// Every credential's place, by name in order.
    pub fn slots(&self) -> Vec<Arc<Slot>> {
        let mut slots: Vec<_> = self
            .0
            .stripes
            .iter()
            .flat_map(|stripe| stripe.names.load().values().cloned().collect::<Vec<_>>())
            .collect();
        slots.sort_by(|a, b| a.current().view.name.cmp(&b.current().view.name));
        slots
    }

    /// What may be known of every credential, by name in order.
    pub fn list(&self) -> Vec<View> {
        self.slots().iter().map(|slot| slot.current().view.clone()).collect()
    }

    /// Follows a credential: the current edition first, then each change.
    pub fn watch(&self, name: &str) -> Option<Watch> {
        self.get(name).map(|slot| slot.watch())
    }

    /// Both clocks, now.
    pub fn now(&self) -> Now {
        self.0.clock.now()
    }
}

/// Follows one credential; whoever is slow misses editions in between, never the last.
#[derive(Debug)]
pub struct Watch {
    slot: Arc<Slot>,
    news: watch::Receiver<bool>,
    over: bool,
}

/// What a follower sees.
#[derive(Clone, Debug)]
pub enum Seen {
    /// The newest edition.
    Edition(Arc<Edition>),
    /// The credential is no longer published; nothing follows.
    Removed,
}

impl Watch {
    /// The current edition at the first call, later the newest one after each change; `None` after the removal.
    pub async fn next(&mut self) -> Option<Seen> {
        if self.over {
            return None;
        }
        // The slot holds the sender, so this cannot fail.
        let _ = self.news.changed().await;
        let removed = *self.news.borrow_and_update();
        self.over = removed;
        Some(if removed { Seen::Removed } else { Seen::Edition(self.slot.current.load_full()) })
    }

    /// Which credential's place it follows.
    pub fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }
}

impl Board {
    fn stripe(&self, name: &str) -> &Stripe {
        let hash = self.hasher.hash_one(name);
        &self.stripes[usize::try_from(hash % STRIPES as u64).expect("less than 256")]
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Publisher")
    }
}

impl fmt::Debug for Subscriber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Subscriber")
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use futures_util::{FutureExt, future::BoxFuture};
    use jiff::{SignedDuration, Timestamp};

    use super::*;
    use crate::{
        credential::{ExpirySource, Generation, Kind, Secret, Value},
        lifecycle::State,
        publish::{Criticality, Token},
    };

    #[derive(Debug)]
    struct Still(Mutex<Now>);

    impl Clock for Still {
        fn now(&self) -> Now {
            *self.0.lock().unwrap()
        }
        fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
            std::future::pending().boxed()
        }
    }

    fn still() -> Arc<Still> {
        let wall = Timestamp::from_second(1_800_000_000).unwrap();
        Arc::new(Still(Mutex::new(Now { wall, boot: Duration::from_secs(50) })))
    }

    fn published(name: &str, generation: i64, expires_at: Option<Timestamp>) -> Published {
        let generation = Generation(generation);
        let view = View {
            name: CredentialId::new(name).unwrap(),
            kind: Kind::RefreshToken,
            provider: String::new(),
            store: String::new(),
            criticality: Criticality::Required,
            state: State::Fresh,
            since: Timestamp::UNIX_EPOCH,
            generation,
            issued_at: None,
            expires_at,
            expiry_source: ExpirySource::Response,
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
        let value = Value::Token(Secret::new("quote\" and \\ and \u{e9}"));
        let token = Token { value, token_type: "Bearer".into(), expires_at, scope: None, generation, unsaved: false };
        Published { view, token: Some(token), readers: Arc::from([]), offer: None }
    }

    #[test]
    fn a_follower_sees_what_is_then_the_newest_then_the_removal() {
        let (publisher, subscriber) = channel(still());
        assert!(subscriber.watch("bot").is_none());
        publisher.set(published("bot", 1, None));
        let mut watch = subscriber.watch("bot").unwrap();
        let generation = |watch: &mut Watch| match watch.next().now_or_never() {
            Some(Some(Seen::Edition(edition))) => Some(edition.view.generation.0),
            _ => None,
        };
        assert_eq!(generation(&mut watch), Some(1));
        assert_eq!(generation(&mut watch), None, "nothing new");
        publisher.set(published("bot", 1, None));
        assert_eq!(generation(&mut watch), None, "the same again is no news");
        (2..=5).for_each(|generation| publisher.set(published("bot", generation, None)));
        assert_eq!(generation(&mut watch), Some(5), "the newest only");
        publisher.remove(&CredentialId::new("bot").unwrap());
        assert!(matches!(watch.next().now_or_never(), Some(Some(Seen::Removed))));
        assert!(matches!(watch.next().now_or_never(), Some(None)));
        assert!(subscriber.get("bot").is_none());
    }

    #[test]
    fn many_names_stand_in_order_and_a_removal_is_heard_once() {
        let (publisher, subscriber) = channel(still());
        let heard = Arc::new(Mutex::new(Vec::new()));
        let notes = heard.clone();
        publisher.on_removal(move |name| notes.lock().unwrap().push(name.clone()));
        for number in (0..1000).rev() {
            publisher.set(published(&format!("n{number:03}"), 1, None));
        }
        let names: Vec<String> = subscriber.list().iter().map(|view| view.name.to_string()).collect();
        assert!(names.len() == 1000 && names.is_sorted());
        publisher.set(published("n500", 2, None));
        let name = CredentialId::new("n500").unwrap();
        publisher.remove(&name);
        publisher.remove(&name);
        assert_eq!(*heard.lock().unwrap(), [name]);
    }

    #[test]
    fn the_ready_bytes_are_json_whatever_the_token_holds() {
        let (publisher, subscriber) = channel(still());
        publisher.set(published("bot", 7, None));
        let slot = subscriber.get("bot").unwrap();
        let edition = slot.current();
        let ready = edition.token(subscriber.now()).unwrap();
        let body: serde_json::Value = serde_json::from_slice(&ready.body).unwrap();
        assert_eq!(body["access_token"], "quote\" and \\ and \u{e9}");
        assert!(body["expires_at"].is_null() && body.get("unsaved").is_none());
        assert!(!format!("{edition:?}").contains("quote"));
    }

    #[test]
    fn fm66_neither_a_stepped_date_nor_publishing_again_revives_a_token() {
        let clock = still();
        let (publisher, subscriber) = channel(clock.clone());
        let pass = |wall: i64, boot: u64| {
            let mut now = clock.0.lock().unwrap();
            now.wall += SignedDuration::from_secs(wall);
            now.boot += Duration::from_secs(boot);
        };
        let end = clock.now().wall + SignedDuration::from_secs(60);
        let lives = || subscriber.get("bot").unwrap().current().token(subscriber.now()).is_some();
        publisher.set(published("bot", 1, Some(end)));
        pass(59, 59);
        assert!(lives());
        pass(-3600, 2);
        assert!(!lives(), "its time is over by the clock that nobody steps");
        assert_eq!(subscriber.get("bot").unwrap().current().state(subscriber.now()), State::Expired);
        publisher.set(published("bot", 1, Some(end)));
        assert!(!lives(), "the same value brings no new time");
        publisher.set(published("bot", 2, Some(end)));
        assert!(lives(), "a new value does");
        pass(7200, 0);
        assert!(!lives(), "and ends by the date as well");
    }
}

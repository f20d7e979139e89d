//! FM-79: the first minute after a crash, with thousands of flights that were not finished.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use credd::{
    catalogue::{Catalogue, Provider},
    clock::Clock,
    credential::{CredentialId, ExpirySource, Fingerprint, Generation, Kind, Material, Reply, Rotation, Secret},
    fetch::Exchange,
    ledger::{Attempt, FlightStep, Ledger, NewValue, Place, Stage, Transition},
    lifecycle::{Event, Lifecycle, Loaded as LoadedFacts, Origin, Policy},
    metrics::Metrics,
    publish::{self, Criticality},
    seal::Sealer,
    store::{Loaded, Location, SecretStore, StoreError, StoreHealth, Version},
    upstream::{Settings, Subject, Unmakable, Upstream},
    watcher::{Assignment, Fleet, FleetParts},
};
use futures_util::{StreamExt, future::BoxFuture, stream};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use uuid::Uuid;

use crate::board::{HandClock, soon};

const BOOT: &str = "this boot";
const RECEIVED: usize = 500;
const SENT: usize = 1_000;
const PREPARED: usize = 500;

/// A home store without anything to say.
#[derive(Debug)]
struct Nowhere;

impl SecretStore for Nowhere {
    fn kind(&self) -> &'static str {
        "file"
    }
    fn load<'a>(&'a self, at: &'a Location) -> BoxFuture<'a, Result<Loaded, StoreError>> {
        Box::pin(async move { Err(StoreError::NotFound { path: at.0.clone() }) })
    }
    fn versions<'a>(&'a self, at: &'a [Location]) -> BoxFuture<'a, Vec<Result<Version, StoreError>>> {
        Box::pin(async move { at.iter().map(|at| Err(StoreError::NotFound { path: at.0.clone() })).collect() })
    }
    fn write<'a>(
        &'a self,
        at: &'a Location,
        _: &'a Material,
        _: &'a Version,
        _: Uuid,
    ) -> BoxFuture<'a, Result<Version, StoreError>> {
        Box::pin(async move { Err(StoreError::NotFound { path: at.0.clone() }) })
    }
    fn read_only<'a>(&'a self, _: &'a Location) -> BoxFuture<'a, Option<String>> {
        Box::pin(async { None })
    }
    fn check(&self) -> BoxFuture<'_, Result<StoreHealth, StoreError>> {
        Box::pin(async { Ok(StoreHealth { description: "nowhere".into(), auth_expires_at: None }) })
    }
    fn run(
        &self,
        _: tokio::sync::mpsc::Sender<Location>,
        stop: tokio_util::sync::CancellationToken,
    ) -> BoxFuture<'_, ()> {
        Box::pin(stop.cancelled_owned())
    }
    fn poll_interval(&self) -> Option<Duration> {
        None
    }
}

/// A provider that answers when it is let.
struct Gated {
    open: watch::Sender<bool>,
    /// The refresh tokens that were presented, and when.
    calls: Mutex<Vec<(String, Timestamp)>>,
}

impl Upstream for Gated {
    fn refresh<'a>(&'a self, subject: &'a Subject, now: Timestamp) -> BoxFuture<'a, Result<Exchange, Unmakable>> {
        Box::pin(async move {
            let presented = subject.material.refresh_token.as_ref().unwrap().expose().to_owned();
            self.calls.lock().unwrap().push((presented.clone(), now));
            self.open.subscribe().wait_for(|open| *open).await.unwrap();
            Ok(Exchange::Replied(reply(&presented)))
        })
    }
    fn probe<'a>(&'a self, _: &'a Subject, _: Timestamp) -> BoxFuture<'a, Result<Exchange, Unmakable>> {
        Box::pin(async { Err(Unmakable::Missing("probe")) })
    }
}

/// What a provider says to a refresh token.
fn reply(presented: &str) -> Reply {
    let body = serde_json::json!({
        "access_token": format!("{presented}-at"), "refresh_token": format!("{presented}-next"),
        "token_type": "Bearer", "expires_in": 3600,
    });
    Reply::new(200, [("content-type", "application/json")], body.to_string())
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Left {
    Received,
    Sent,
    Prepared,
}

/// By number, thoroughly mixed over names, shards and moments.
fn name(number: usize) -> CredentialId {
    CredentialId::new(&format!("c{}", (number * 7_919) % (RECEIVED + SENT + PREPARED))).unwrap()
}

fn left(number: usize) -> Left {
    match number {
        _ if number < RECEIVED => Left::Received,
        _ if number < RECEIVED + SENT => Left::Sent,
        _ => Left::Prepared,
    }
}

/// The later the number, the later its request is certainly dead.
fn deadline(number: usize, now: Timestamp) -> Timestamp {
    now + SignedDuration::from_millis(i64::try_from(number).unwrap())
}

fn token(number: usize) -> String {
    format!("rt-{number}")
}

fn policy() -> Policy {
    Policy {
        rotation: Rotation::Grace,
        grace: Duration::from_secs(600),
        has_probe: false,
        ..Policy::new(Kind::RefreshToken)
    }
}

/// As a process left it that was killed a moment ago.
async fn leave(ledger: &Ledger, clock: &HandClock, number: usize) {
    let (now, id, attempt) = (clock.now(), name(number), Uuid::from_u128(number as u128 + 1));
    let mut life = Lifecycle::default();
    let facts = LoadedFacts {
        generation: Generation(1),
        has_token: true,
        expires_at: Some(now.wall + Duration::from_secs(3600)),
        source: ExpirySource::Configured,
        refresh_expires_at: None,
        origin: Origin::HomeStore,
    };
    life.step(Event::Loaded(facts), now, 0.5, &policy());
    let written = |life: &Lifecycle| serde_json::json!({ "boot_id": BOOT, "life": life }).to_string();
    let step = |life: &Lifecycle, flight, value| Transition {
        id: id.clone(),
        shard: 0,
        lifecycle: written(life),
        flight,
        value,
        write_back: false,
        incidents: vec![],
        audit: vec![],
    };
    let material = Material {
        refresh_token: Some(Secret::new(token(number))),
        access_token: Some(Secret::new(format!("at-{number}"))),
        expires_at: Some(now.wall + Duration::from_secs(3600)),
        ..Material::default()
    };
    let value = NewValue {
        replaces: Generation(0),
        generation: Generation(1),
        material,
        store_version: Some("1".into()),
        from_store: true,
        keep_previous_until: None,
    };
    let rotation = ledger.rotation();
    rotation.commit(step(&life, None, Some(value))).await.unwrap();
    life.step(Event::RefreshNow, now, 0.5, &policy());
    life.step(Event::Prepared(attempt), now, 0.5, &policy());
    let presents: Fingerprint = ledger.sealer().fingerprint(&Secret::new(token(number)));
    let intent = Attempt {
        id: attempt,
        target: Generation(2),
        presents,
        prepared_at: now.wall,
        boot_id: BOOT.into(),
        stage: Stage::Prepared,
    };
    rotation.commit(step(&life, Some(FlightStep::Prepare(intent)), None)).await.unwrap();
    if left(number) == Left::Prepared {
        return;
    }
    let deadline = deadline(number, now.wall);
    life.step(Event::Sent(deadline), now, 0.5, &policy());
    rotation.commit(step(&life, Some(FlightStep::Sent { attempt, deadline }), None)).await.unwrap();
    if left(number) == Left::Received {
        rotation.received(&id, attempt, &reply(&token(number)), now.wall).await.unwrap();
    }
}

fn assignment(number: usize, provider: &Arc<Provider>) -> Assignment {
    Assignment {
        made_from: [0; 32],
        id: name(number),
        kind: Kind::RefreshToken,
        provider: provider.clone(),
        policy: policy(),
        probe: "0 0 0 1 1 *".into(),
        store_name: "nowhere".into(),
        store: Arc::new(Nowhere),
        at: Location(name(number).to_string()),
        criticality: Criticality::Required,
        shared: false,
        readers: Arc::new([]),
        offer: None,
        scopes: Arc::new([]),
        upstream: Arc::new(Settings::default()),
        expires_at: None,
        whole: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fm79_thousands_of_unfinished_flights_are_taken_up_in_order_and_hold_up_no_reader() {
    let folder = tempfile::tempdir().unwrap();
    let clock = HandClock::new();
    let sealer = || Sealer::from_base64(&Secret::new("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")).unwrap();
    let place = Place::Sqlite(folder.path().join("ledger.db"));
    let ledger = Ledger::open(place, sealer(), clock.clone()).await.unwrap();
    let (all, began) = (RECEIVED + SENT + PREPARED, clock.now().boot);
    stream::iter(0..all).for_each_concurrent(200, |number| leave(&ledger, &clock, number)).await;

    let mut provider = Provider::clone(&Catalogue::embedded().unwrap().provider("rfc6749").unwrap());
    provider.token.endpoint = Some("https://acme.example/token".into());
    (provider.rotation, provider.grace) = (Rotation::Grace, Some(Duration::from_secs(600)));
    let provider = Arc::new(provider);
    let upstream = Arc::new(Gated { open: watch::Sender::new(false), calls: Mutex::default() });
    let (publisher, subscriber) = publish::channel(clock.clone());
    let mut fleet = Fleet::start(FleetParts {
        clock: clock.clone(),
        ledger: ledger.clone(),
        publisher,
        upstream: upstream.clone(),
        metrics: Metrics::new(),
        dice: Arc::new(|| 0.5),
        boot_id: BOOT.into(),
        machine: None,
        shards: 64,
        alive: Arc::new(|_| {}),
        secrets: Arc::new(|_| {}),
    })
    .await
    .unwrap();
    let looks = fleet.watch((0..all).map(|number| assignment(number, &provider)).collect()).await;
    // Serving begins now, while not one request can have been answered.
    let served = |generation: i64| -> BTreeSet<CredentialId> {
        let views = subscriber.list().into_iter();
        views.filter(|view| view.generation.0 >= generation && view.expires_at.is_some()).map(|it| it.name).collect()
    };
    assert_eq!(served(1).len(), all);
    for number in (0..all).step_by(97) {
        let edition = subscriber.get(name(number).as_str()).unwrap();
        assert!(edition.current().token(clock.now()).is_some(), "{} has a token", name(number));
    }

    // Replies that are there need nobody: all of them are values long before the first request is answered.
    let received: BTreeSet<CredentialId> = (0..RECEIVED).map(name).collect();
    // Time stands still meanwhile: a request that is out has no end yet.
    soon(async {
        while served(2) != received {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    soon(async {
        while upstream.calls.lock().unwrap().len() < 10 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let calls = upstream.calls.lock().unwrap().clone();
    assert_eq!(calls.len(), 10, "so many are out, and none is answered");
    // The first to go are among those that are dead first.
    for (presented, _) in &calls {
        let number: usize = presented.strip_prefix("rt-").unwrap().parse().unwrap();
        assert_eq!(left(number), Left::Sent, "{presented}");
        assert!(number - RECEIVED < SENT / 2, "{presented} was not among the first");
    }

    upstream.open.send_replace(true);
    // Ten times as fast as it is: no call may run out of its budget because this machine is busy.
    while served(2).len() < RECEIVED + SENT {
        assert!(clock.now().boot - began < Duration::from_secs(1_000), "{} are done", served(2).len());
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(5)).await;
            clock.advance(Duration::from_millis(50));
        }
    }
    let calls = upstream.calls.lock().unwrap().clone();
    let mut presented: BTreeMap<&str, usize> = BTreeMap::new();
    calls.iter().for_each(|(token, _)| *presented.entry(token).or_default() += 1);
    assert_eq!((calls.len(), presented.len()), (SENT, SENT), "each lost request once more, and no other");
    // 1.5 times what they need, in a window of five minutes where nothing is known of their lives; and a burst of ten.
    let rate = 1.5 * all as f64 / 300.0;
    for (_, from) in &calls {
        let ten = calls.iter().filter(|(_, at)| {
            (SignedDuration::ZERO..SignedDuration::from_secs(10)).contains(&at.duration_since(*from))
        });
        let count = ten.count();
        assert!(count as f64 <= rate * 10.0 + 10.0 + rate, "{count} calls in ten seconds");
    }
    for number in (0..all).step_by(41) {
        let record = ledger.rotation().load(&name(number)).await.unwrap().unwrap();
        let held = record.material.unwrap().refresh_token.unwrap().expose().to_owned();
        let next = if left(number) == Left::Prepared { token(number) } else { format!("{}-next", token(number)) };
        assert_eq!((held, record.open_attempt.is_none()), (next, true), "{}: {:?}", name(number), left(number));
    }
    drop(looks);
    clock.until(fleet.drain()).await;
    ledger.close().await;
}

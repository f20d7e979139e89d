//! Health, metrics and the operator's socket, over the wire.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use credd::{
    clock::Clock,
    credential::{CredentialId, Failure, Generation, Reference, Resolve, Secret},
    lifecycle::State,
    metrics::Metrics,
    publish::{Criticality, Problem, Reader, Subtype},
    server::{
        FailOn,
        health::{self, StoreState},
        scrape::Scrape,
    },
    web::{self, Caller, Listener, Pulse, Readiness},
};
use futures_util::{FutureExt, future::BoxFuture};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use crate::board::{Board, CANARY, Client, HandClock, own, published, soon};

/// A listener whose callers seem to come from another host.
struct Elsewhere(TcpListener);

impl Listener for Elsewhere {
    type Io = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, Caller)> {
        let (stream, _) = self.0.accept().await?;
        Ok((stream, Caller::Remote("203.0.113.9:4000".parse().unwrap())))
    }
}

/// Every reference points at the same secret.
#[derive(Debug)]
struct Always(&'static str);

impl Resolve for Always {
    fn resolve<'a>(&'a self, _: &'a Reference) -> BoxFuture<'a, Result<Secret, String>> {
        async { Ok(Secret::new(self.0)) }.boxed()
    }
}

struct Health {
    board: Board,
    readiness: Readiness,
    pulse: Pulse,
    stores: Arc<Mutex<Vec<StoreState>>>,
    address: std::net::SocketAddr,
}

impl Health {
    async fn new() -> Self {
        Self::start(false).await
    }

    async fn start(elsewhere: bool) -> Self {
        let board = Board::without_socket();
        let listener = health::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (readiness, pulse) = (Readiness::default(), Pulse::new(board.clock.clone()));
        let stores: Arc<Mutex<Vec<StoreState>>> = Arc::default();
        let parts = health::Parts {
            subscriber: board.subscriber.clone(),
            readiness: readiness.clone(),
            pulse: pulse.clone(),
            stores: health::Stores::new({
                let stores = stores.clone();
                move || stores.lock().unwrap().clone()
            }),
            scrape: Scrape::new(board.metrics.clone(), board.subscriber.clone(), 50_000),
            clock: board.clock.clone(),
            fail_on: FailOn::Expired,
            details_token: Some(serde_json::from_value(json!({ "env": "X" })).unwrap()),
            resolve: Arc::new(Always("details-token")),
            service_id: "credd@here".into(),
        };
        let (limits, stop) = (web::Limits::default(), board.stop.clone());
        if elsewhere {
            tokio::spawn(health::serve(Elsewhere(listener), parts, limits, stop));
        } else {
            tokio::spawn(health::serve(listener, parts, limits, stop));
        }
        Self { board, readiness, pulse, stores, address }
    }

    async fn connect(&self) -> Client {
        Client::over(TcpStream::connect(self.address).await.unwrap())
    }

    async fn get(&self, path: &str) -> crate::board::Got {
        self.connect().await.get(path).await
    }

    fn set(&self, name: &str, state: State, left: Option<i64>, criticality: Criticality) {
        let mut edition = published(&self.board, name, 3, left, state);
        edition.view.criticality = criticality;
        self.board.publisher.set(edition);
    }
}

#[tokio::test]
async fn probes_never_look_at_a_credential() {
    let health = Health::new().await;
    health.set("dead", State::Revoked, None, Criticality::Required);
    for path in ["/livez", "/healthz", "/readyz"] {
        let got = health.get(path).await;
        assert_eq!((got.status, got.body.as_str()), (200, "ok\n"), "{path}");
        assert_eq!(got.header("cache-control"), Some("no-store"));
    }
    assert_eq!(health.get("/health").await.status, 503);
}

#[tokio::test]
async fn readiness_is_told_part_by_part() {
    let health = Health::new().await;
    let (ledger, store) = (health.readiness.hold("ledger"), health.readiness.hold("store/vault-main"));
    let got = health.get("/readyz").await;
    assert_eq!((got.status, got.header("retry-after")), (503, Some("1")));
    drop(ledger);
    let words = "[+]ledger ok\n[-]store/vault-main failed: reason withheld\nreadyz check failed\n";
    assert_eq!(health.get("/readyz?verbose").await.body, words);
    assert_eq!(health.get("/readyz/ledger").await.status, 200);
    assert_eq!(health.get("/readyz/store/vault-main").await.status, 503);
    assert_eq!(health.get("/readyz/nothing").await.status, 404);
    assert_eq!(health.get("/readyz?exclude=store/vault-main").await.status, 200);
    drop(store);
    assert_eq!(health.get("/readyz?verbose").await.body, "[+]ledger ok\n[+]store/vault-main ok\nreadyz check passed\n");
}

#[tokio::test]
async fn liveness_fails_only_when_a_part_stops_working() {
    let health = Health::new().await;
    let beat = health.pulse.part("shards", Duration::from_secs(60));
    // The listener's own timers wait on the same clock, so the time that passes stays below them.
    health.board.clock.advance(Duration::from_secs(60));
    assert_eq!(health.get("/livez").await.status, 200);
    health.board.clock.advance(Duration::from_secs(1));
    let got = health.get("/livez?verbose").await;
    assert_eq!((got.status, got.body.as_str()), (503, "[-]shards failed: reason withheld\nlivez check failed\n"));
    beat.mark();
    assert_eq!(health.get("/livez").await.status, 200);
}

#[tokio::test]
async fn health_follows_publications_and_the_clock() {
    let health = Health::new().await;
    let status = async |path: &str| {
        let got = health.get(path).await;
        (got.status, got.json()["status"].clone())
    };
    assert_eq!(status("/health").await, (200, "pass".into()));
    health.set("bot", State::Fresh, Some(100), Criticality::Required);
    assert_eq!(status("/health").await, (200, "pass".into()));
    // Nothing is published from here on: time alone turns it yellow at 60 s and red at 10 s left.
    for (passes, expected) in [(41, (200, "warn")), (49, (200, "warn")), (1, (503, "fail")), (9, (503, "fail"))] {
        health.board.clock.advance(Duration::from_secs(passes));
        assert_eq!(status("/health").await, (expected.0, expected.1.into()), "after {passes} s more");
    }
    health.set("bot", State::Fresh, Some(100), Criticality::Required);
    assert_eq!(status("/health").await, (200, "pass".into()), "green after the first success");

    health.set("extra", State::Revoked, None, Criticality::Optional);
    assert_eq!(status("/health").await, (200, "warn".into()));
    assert_eq!(status("/health?warn_status=429").await, (429, "warn".into()));
    assert_eq!(status("/health/credentials/extra").await, (503, "fail".into()));
    assert_eq!(status("/health?credential=bot").await, (200, "pass".into()));
    assert_eq!(status("/health?fail_on=revoked&credential=bot").await, (200, "pass".into()));
    assert_eq!(status("/health?credential=bot&min_ttl=101s").await, (503, "fail".into()));
    assert_eq!(health.get("/health?credential=bot,absent").await.status, 404);
    assert_eq!(health.get("/health/credentials/absent").await.status, 404);
    for bad in ["fail_on=never", "min_ttl=x", "warn_status=503", "warn_status=x"] {
        assert_eq!(health.get(&format!("/health?{bad}")).await.status, 400, "{bad}");
    }
    health.set("bot", State::Degraded, Some(100), Criticality::Required);
    assert_eq!(status("/health").await, (200, "warn".into()));
    assert_eq!(status("/health?fail_on=degraded").await, (503, "fail".into()));
}

#[tokio::test]
async fn the_document_has_the_shape_of_the_draft() {
    let health = Health::new().await;
    let mut edition = published(&health.board, "bot", 3, Some(30), State::Degraded);
    edition.view.problem = Some(Problem {
        failure: Subtype::Failure(Failure::RateLimitReached),
        cause: None,
        detail: format!("{CANARY} evidence"),
        since: health.board.now(),
        retry_at: Some(health.board.now() + jiff::SignedDuration::from_secs(17)),
        remedy: Some(format!("{CANARY} remedy")),
    });
    health.board.publisher.set(edition);
    let got = health.get("/health").await;
    assert_eq!(got.header("content-type"), Some("application/health+json"));
    assert!(!got.body.contains(CANARY), "{}", got.body);
    let body = got.json();
    assert_eq!(
        (&body["status"], &body["version"], &body["serviceId"]),
        (&"warn".into(), &"1".into(), &"credd@here".into())
    );
    assert_eq!(body["releaseId"], env!("CARGO_PKG_VERSION"));
    assert_eq!(body["notes"][0], "1 of 1 credentials needs attention");
    assert_eq!(body["output"], "bot: degraded (rate_limit_reached), 30 s left");
    let check = &body["checks"]["bot:ttl"][0];
    assert_eq!(
        (&check["componentId"], &check["observedValue"], &check["observedUnit"]),
        (&"bot".into(), &30.into(), &"s".into())
    );
    assert_eq!((&check["failure"]["subtype"], &check["status"]), (&"rate_limit_reached".into(), &"warn".into()));
    assert_eq!(check["links"]["self"], "/health/credentials/bot");
    assert_eq!(check["links"]["help"], "https://credd.dev/runbook#creddratelimited");
    health.set("bot", State::Fresh, Some(600), Criticality::Required);
    let body = health.get("/health").await.json();
    assert_eq!((&body["checks"], body.get("output")), (&json!({}), None));
    assert_eq!(health.get("/health?verbose").await.json()["checks"]["bot:ttl"][0]["status"], "pass");
    let mut client = health.connect().await;
    client.send("HEAD /health HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(soon(client.head()).await.unwrap().status, 200);
    assert_eq!(health.get("/elsewhere").await.status, 404);
}

#[tokio::test]
async fn home_stores_are_told_with_their_pace_and_only_those_of_what_was_asked_for() {
    let health = Health::new().await;
    health.set("bot", State::Fresh, Some(600), Criticality::Required);
    let store = |name: &str, up, response_ms| StoreState { name: name.into(), up, response_ms };
    let home = health.board.subscriber.get("bot").unwrap().current().view.store.clone();
    *health.stores.lock().unwrap() = vec![store(&home, Some(true), Some(12)), store("other", Some(false), Some(1))];
    for path in ["/health", "/health/credentials/bot", "/health/consumers/tests", "/health?credential=bot"] {
        let got = health.get(path).await;
        let body = got.json();
        let check = &body["checks"][format!("{home}:responseTime")][0];
        assert_eq!((got.status, &body["status"], &check["status"]), (200, &"pass".into(), &"pass".into()), "{path}");
        let said = (&check["componentType"], &check["observedValue"], &check["observedUnit"]);
        assert_eq!(said, (&"datastore".into(), &12.into(), &"ms".into()), "{path}");
        assert!(body["checks"].get("other:responseTime").is_none(), "{path}: {body}");
    }
    *health.stores.lock().unwrap() = vec![store(&home, Some(false), Some(5000))];
    let got = health.get("/health").await;
    let body = got.json();
    assert_eq!((got.status, &body["status"]), (200, &"warn".into()), "{body}");
    assert_eq!(body["output"], format!("store {home} does not answer"));
    assert_eq!(body["checks"][format!("{home}:responseTime")][0]["status"], "fail");
    assert_eq!(health.get("/health?warn_status=429").await.status, 429);
}

#[tokio::test]
async fn whose_calls_are_affected_is_told_with_the_details_only() {
    let (here, there) = (Health::new().await, Health::start(true).await);
    for (health, told) in [(&here, true), (&there, false)] {
        let mut edition = published(&health.board, "bot", 3, Some(600), State::Revoked);
        let named = Reader { name: Some("docs mcp".into()), ..own() };
        let narrowed = Reader { cut: Some(CredentialId::new("bot.cut-00000000").unwrap()), ..named.clone() };
        let group = Reader { gid: Some(7), ..Reader::default() };
        edition.readers = Arc::from([named, narrowed, group]);
        health.board.publisher.set(edition);
        let body = health.get("/health").await.json();
        let affected = body["checks"]["bot:ttl"][0].get("affectedEndpoints").cloned();
        assert_eq!(affected, told.then(|| json!(["mcp://docs%20mcp", "gid:7"])), "{body}");
    }
    here.set("bot", State::Fresh, Some(600), Criticality::Required);
    let body = here.get("/health?verbose").await.json();
    assert!(body["checks"]["bot:ttl"][0].get("affectedEndpoints").is_none(), "nothing is affected: {body}");
}

#[tokio::test]
async fn a_consumer_sees_what_it_reads() {
    let health = Health::new().await;
    health.set("mine", State::Fresh, Some(600), Criticality::Required);
    let mut other = published(&health.board, "other", 1, None, State::Revoked);
    other.readers = Arc::from([Reader { name: Some("else".into()), ..own() }]);
    health.board.publisher.set(other);
    assert_eq!(health.get("/health").await.status, 503);
    assert_eq!(health.get("/health/consumers/tests").await.status, 200);
    assert_eq!(health.get("/health?consumer=tests").await.status, 200);
    assert_eq!(health.get("/health/consumers/else").await.status, 503);
    assert_eq!(health.get("/health/consumers/nobody").await.status, 404);
}

#[tokio::test]
async fn readers_are_named_to_this_host_and_to_the_details_token_only() {
    let named = async |health: &Health, headers: &str, host: &str| {
        let mut client = health.connect().await;
        client.send(&format!("GET /health?verbose HTTP/1.1\r\nhost: {host}\r\n{headers}\r\n")).await;
        client.answer().await.json()["checks"]["bot:ttl"][0]["readers"][0]["name"] == "tests"
    };
    let publish = |health: &Health| {
        health.set("bot", State::Fresh, Some(600), Criticality::Required);
        let slot = health.board.subscriber.get("bot").unwrap();
        slot.usage.note(1000, Some("tests"), Generation(3), health.board.now());
    };
    let (here, there) = (Health::new().await, Health::start(true).await);
    publish(&here);
    publish(&there);
    assert!(named(&here, "", "127.0.0.1:7421").await);
    assert!(!named(&here, "", "rebound.example").await, "a page in a browser of this host");
    assert!(!named(&here, "x-forwarded-for: 203.0.113.9\r\n", "localhost").await, "a proxy on this host");
    assert!(!named(&there, "", "127.0.0.1").await);
    assert!(!named(&there, "authorization: Bearer details-tokem\r\n", "h").await);
    assert!(!named(&there, "authorization: Bearer \r\n", "h").await);
    assert!(named(&there, "authorization: Bearer details-token\r\n", "h").await);
}

#[tokio::test]
async fn metrics_show_every_series_of_a_published_credential_and_none_of_a_removed_one() {
    let health = Health::new().await;
    let mut edition = published(&health.board, "bot", 41, Some(600), State::Degraded);
    edition.view.flags = vec!["unsaved"];
    health.board.publisher.set(edition);
    let got = health.get("/metrics").await;
    assert_eq!((got.status, got.header("content-type")), (200, Some("text/plain; version=0.0.4; charset=utf-8")));
    let mut named = 0;
    for (name, help, labels) in Metrics::list() {
        if labels.first() == Some(&"credential")
            && !name.ends_with("_failures_total")
            && name != "credd_rotations_total"
        {
            assert!(got.body.contains(&format!("\n{name}{{credential=\"bot\"")), "{name} ({help}) is missing");
            named += 1;
        }
    }
    assert!(named >= 17, "{named}");
    let value = |series: &str| {
        let line = got.body.lines().find_map(|line| line.strip_prefix(series)).unwrap_or_else(|| panic!("{series}"));
        line.trim().parse::<f64>().unwrap()
    };
    let ends = health.board.now().as_second() as f64 + 600.0;
    assert_eq!(value("credd_credential_expiration_timestamp_seconds{credential=\"bot\",part=\"access\"}"), ends);
    assert_eq!(value("credd_credential_state{credential=\"bot\",state=\"degraded\"}"), 1.0);
    assert_eq!(value("credd_credential_state{credential=\"bot\",state=\"fresh\"}"), 0.0);
    assert_eq!(value("credd_credential_flag{credential=\"bot\",flag=\"unsaved\"}"), 1.0);
    assert_eq!(value("credd_credential_generation{credential=\"bot\"}"), 41.0);
    assert!(value("credd_process_resident_memory_bytes") > 1e6);
    assert!(value("credd_process_open_fds") > 2.0);
    assert!(value("credd_process_start_time_seconds") > 1.6e9);
    assert!(!got.body.contains(CANARY));

    // What changes is moved, not added; what is unknown is absent.
    let mut edition = published(&health.board, "bot", 42, None, State::Fresh);
    edition.view.store = "vault-main".into();
    health.board.publisher.set(edition);
    let text = health.get("/metrics").await.body;
    let count = |prefix: &str| text.lines().filter(|line| line.starts_with(prefix)).count();
    assert_eq!(count("credd_credential_info{credential=\"bot\""), 1);
    assert_eq!(count("credd_credential_expiration_timestamp_seconds{credential=\"bot\",part=\"access\"}"), 0);
    assert!(!text.contains("credd_credential_flag{credential=\"bot\""), "it holds no more");
    assert!(text.contains("credd_credential_state{credential=\"bot\",state=\"degraded\"} 0"));

    let metrics = &health.board.metrics;
    metrics.credd_probe_failures_total.with_label_values(&["bot", "timeout"]).inc();
    metrics.credd_token_request_failures_total.with_label_values(&["bot", "uds", "not_ready"]).inc();
    metrics.credd_rotations_total.with_label_values(&["bot", "refresh"]).inc();
    metrics.credd_refresh_failures_total.with_label_values(&["bot", "tls"]).inc();
    health.board.put("other", 1, 600);
    health.board.publisher.remove(&CredentialId::new("bot").unwrap());
    let text = health.get("/metrics").await.body;
    assert!(!text.contains("\"bot\"") && text.contains("\"other\""));
}

#[tokio::test]
async fn beyond_the_cap_a_credential_keeps_its_expiry_and_its_state() {
    let board = Board::without_socket();
    let metrics = Metrics::new();
    let put = |name: &str| board.publisher.set(published(&board, name, 1, Some(600), State::Fresh));
    ["a", "b", "c"].into_iter().for_each(put);
    let scrape = Scrape::new(metrics.clone(), board.subscriber.clone(), 80);
    let text = async || String::from_utf8(scrape.text().await.to_vec()).unwrap();
    let now = text().await;
    assert!(
        now.contains("credd_credential_info{credential=\"b\"")
            && !now.contains("credd_credential_info{credential=\"c\"")
    );
    assert!(now.contains("credd_credential_expiration_timestamp_seconds{credential=\"c\",part=\"access\"}"));
    assert!(now.contains("credd_credential_state{credential=\"c\",state=\"fresh\"} 1"));
    let dropped = metrics.credd_metrics_series_dropped_total.get();
    assert!(dropped > 0);
    text().await;
    assert_eq!(metrics.credd_metrics_series_dropped_total.get(), dropped, "the same series are dropped once");
    // A place that comes free goes to the next by name.
    board.publisher.remove(&CredentialId::new("a").unwrap());
    put("d");
    let now = text().await;
    assert!(now.contains("credd_credential_info{credential=\"c\"") && !now.contains("info{credential=\"d\""));
}

/// A listener that is out of descriptors for a while.
struct Hungry {
    listener: UnixListener,
    failures: usize,
    asked: Arc<AtomicUsize>,
}

impl Listener for Hungry {
    type Io = UnixStream;

    async fn accept(&mut self) -> io::Result<(UnixStream, Caller)> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if self.failures > 0 {
            self.failures -= 1;
            return Err(io::Error::from_raw_os_error(rustix::io::Errno::MFILE.raw_os_error()));
        }
        let (stream, _) = self.listener.accept().await?;
        let caller = Caller::of(&stream)?;
        Ok((stream, caller))
    }
}

#[tokio::test]
async fn fm57_a_lack_of_descriptors_is_waited_out_without_spinning() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let (clock, asked, stop) = (HandClock::new(), Arc::new(AtomicUsize::new(0)), CancellationToken::new());
    let listener = Hungry { listener: UnixListener::bind(&path).unwrap(), failures: 50, asked: asked.clone() };
    let router = axum::Router::new().route("/", axum::routing::get(async || "here"));
    tokio::spawn(web::serve_router(listener, router, web::Limits::default(), clock.clone(), stop));
    let mut client = Client::connect(&path).await;
    client.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    soon(async {
        while asked.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        (0..1000).for_each(|_| drop(tokio::task::yield_now()));
    })
    .await;
    let early = asked.load(Ordering::Relaxed);
    assert!(early <= 2, "{early} tries while no time passes: one, and one with the reserve");
    let start = clock.now().boot;
    let got = clock.until(client.answer()).await;
    assert_eq!(got.body, "here");
    assert!(clock.now().boot - start <= Duration::from_secs(30));
}

/// FM-62: peers that dawdle and a crowd that keeps its connections. Health is answered all the while.
#[tokio::test]
async fn fm62_slow_and_idle_connections_are_left_and_health_is_answered_all_the_while() {
    let health = Health::new().await;
    let clock = health.board.clock.clone();
    let begun = clock.now().boot;
    let mut crowd = Vec::new();
    for _ in 0..200 {
        let mut one = health.connect().await;
        assert_eq!(one.get("/livez").await.status, 200);
        crowd.push(one);
    }
    let (mut slow, mut silent) = (health.connect().await, health.connect().await);
    slow.send("GET /liv").await;
    assert_eq!(health.get("/livez").await.status, 200);
    // A byte now and then does not buy more time.
    clock
        .until(async {
            while slow.babble(b"e").await {
                tokio::time::sleep(Duration::from_millis(4)).await;
            }
        })
        .await;
    let lasted = clock.now().boot - begun;
    assert!(lasted < Duration::from_secs(25), "a head has 5 s, not {lasted:?}");
    assert_eq!(health.get("/livez").await.status, 200);
    clock.until(silent.ended()).await;
    clock.until(async { futures_util::future::join_all(crowd.iter_mut().map(Client::ended)).await }).await;
    assert!(clock.now().boot - begun >= Duration::from_secs(29), "who has asked before may wait 30 s");

    // More than one address may have: the next is told so, and places come back.
    let mut many = Vec::new();
    for _ in 0..web::Limits::default().per_party {
        let mut one = health.connect().await;
        assert_eq!(one.get("/livez").await.status, 200);
        many.push(one);
    }
    assert_eq!(health.connect().await.answer().await.status, 503);
    drop(many);
    soon(async {
        loop {
            let mut one = health.connect().await;
            one.babble(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await;
            if one.head().await.is_some_and(|got| got.status == 200) {
                return;
            }
        }
    })
    .await;
}

//! The readers' socket, driven by hand: the test publishes, answers the asks and moves the clock.

use std::{os::unix::fs::FileTypeExt, sync::Arc, time::Duration};

use credd::{
    clock::Clock,
    credential::{CredentialId, Failure, Generation, Kind, Verdict},
    lifecycle::State,
    publish::{Answer, Ask, Problem, Reader},
    server::socket::{self, Limits, Occurrence},
    web::{self, BindError},
};
use jiff::SignedDuration;
use tokio::task::JoinSet;

use crate::board::{Board, CANARY, Client, HandClock, own, published, soon};

fn answer(generation: i64, done: bool) -> Answer {
    Answer { done, generation: Generation(generation), verdict: None, message: String::new() }
}

fn problem(board: &Board, failure: Failure) -> Problem {
    Problem {
        failure,
        cause: None,
        detail: format!("{CANARY} evidence"),
        since: board.now() - SignedDuration::from_secs(30),
        retry_at: Some(board.now() + SignedDuration::from_secs(7)),
        remedy: None,
    }
}

#[tokio::test]
async fn a_read_brings_the_token_and_its_tag() {
    let board = Board::new().await;
    board.put("bot", 41, 600);
    let mut client = board.connect().await;
    let got = client.get("/v1/tokens/bot").await;
    assert_eq!((got.status, got.header("etag")), (200, Some("\"41\"")));
    assert_eq!(got.header("cache-control"), Some("no-store"));
    let expires_at = (board.now() + SignedDuration::from_secs(600)).to_string();
    let body = serde_json::json!({
        "name": "bot", "generation": 41, "access_token": format!("{CANARY}-bot-41"), "token_type": "Bearer",
        "expires_at": expires_at, "scope": "read write",
    });
    assert_eq!(got.json(), body);
    let again = client.get_with("/v1/tokens/bot", "if-none-match: \"40\", \"41\"\r\n").await;
    assert_eq!((again.status, again.body.as_str()), (304, ""));
    assert_eq!(client.get_with("/v1/tokens/bot", "if-none-match: \"40\"\r\n").await.status, 200);
    let used = board.subscriber.get("bot").unwrap().usage.list();
    assert_eq!((used[0].reads, used[0].generation, used[0].name.as_deref()), (3, Generation(41), Some("tests")));
    assert_eq!(board.metrics.credd_token_requests_total.with_label_values(&["bot", "uds"]).get(), 2);
}

#[tokio::test]
async fn an_unsaved_token_says_so() {
    let board = Board::new().await;
    let mut edition = published(&board, "bot", 1, Some(600), State::Fresh);
    edition.token.as_mut().unwrap().unsaved = true;
    board.publisher.set(edition);
    assert_eq!(board.connect().await.get("/v1/tokens/bot").await.json()["unsaved"], true);
}

#[tokio::test]
async fn n083_unknown_and_forbidden_names_look_alike() {
    let board = Board::new().await;
    let mut edition = published(&board, "hidden", 1, Some(600), State::Fresh);
    edition.readers = Arc::from([Reader { uid: Some(4_000_000), gid: None, name: None }]);
    board.publisher.set(edition);
    let mut client = board.connect().await;
    for path in ["/v1/tokens/NAME", "/v1/tokens/NAME?min_ttl=5", "/v1/watch?names=NAME"] {
        let mut told = Vec::new();
        for name in ["hidden", "absent"] {
            let got = client.get(&path.replace("NAME", name)).await;
            let mut body = got.json();
            assert_eq!((got.status, &body["failure"]["subtype"]), (404, &"unknown_credential".into()));
            body["instance"] = "".into();
            let headers: Vec<_> = got.headers.into_iter().filter(|(name, _)| name != "date").collect();
            told.push((headers, body.to_string().replace(name, "NAME")));
        }
        assert_eq!(told[0], told[1]);
    }
    let refused = client.post("/v1/tokens/hidden/refused", r#"{"generation":1,"status":401}"#).await;
    assert_eq!(refused.status, 404);
    assert_eq!(client.get("/v1/credentials").await.json()["credentials"], serde_json::json!([]));
    let seen = board.seen.lock().unwrap();
    assert!(seen.iter().all(|occurrence| {
        let Occurrence::Denied { peer, .. } = occurrence;
        peer.uid == rustix::process::geteuid().as_raw()
    }));
    assert_eq!(seen.len(), 7, "each denial is told to the audit log");
}

/// A socket whose callers are somebody else.
struct Costumed(tokio::net::UnixListener, u32, u32);

impl web::Listener for Costumed {
    type Io = tokio::net::UnixStream;

    async fn accept(&mut self) -> std::io::Result<(Self::Io, web::Caller)> {
        let (stream, _) = self.0.accept().await?;
        Ok((stream, web::Caller::Local { uid: self.1, gid: self.2, pid: None }))
    }
}

#[tokio::test]
async fn n081_rules_decide_by_the_kernels_word_and_not_by_the_callers() {
    let board = Board::without_socket();
    let group = Reader { uid: None, gid: Some(500), name: None };
    let both = Reader { uid: Some(7), gid: Some(500), name: None };
    for (name, readers) in [("grouped", vec![group]), ("strict", vec![both]), ("default", vec![])] {
        let mut edition = published(&board, name, 1, Some(600), State::Fresh);
        edition.readers = readers.into();
        board.publisher.set(edition);
    }
    let own_uid = rustix::process::geteuid().as_raw();
    let table = [
        (7, 500, [200, 200, 404]),
        (8, 500, [200, 404, 404]),
        (7, 501, [404, 404, 404]),
        (own_uid, 501, [404, 404, 200]),
    ];
    for (at, (uid, gid, expected)) in table.into_iter().enumerate() {
        let path = board.path.with_file_name(format!("{at}.sock"));
        let listener = Costumed(tokio::net::UnixListener::bind(&path).unwrap(), uid, gid);
        let parts = socket::Parts {
            subscriber: board.subscriber.clone(),
            asks: board.asks.clone(),
            metrics: board.metrics.clone(),
            clock: board.clock.clone(),
            witness: Arc::new(|_| {}),
        };
        tokio::spawn(socket::serve(listener, parts, Limits::default(), board.stop.clone()));
        let mut client = Client::connect(&path).await;
        let claims = format!("x-uid: {own_uid}\r\nforwarded: for=root\r\n");
        for (name, status) in ["grouped", "strict", "default"].into_iter().zip(expected) {
            let got = client.get_with(&format!("/v1/tokens/{name}"), &claims).await;
            assert_eq!(got.status, status, "uid {uid} gid {gid} {name}");
        }
    }
}

#[tokio::test]
async fn the_list_shows_what_the_caller_may_read_and_no_secret() {
    let board = Board::new().await;
    board.put("bot", 3, 600);
    let mut edition = published(&board, "sick", 2, Some(600), State::Degraded);
    edition.view.problem = Some(problem(&board, Failure::UpstreamUnavailable));
    board.publisher.set(edition);
    let got = board.connect().await.get("/v1/credentials").await;
    let list = got.json();
    assert_eq!(list["credentials"][0]["name"], "bot");
    assert_eq!(list["credentials"][1]["failure"]["subtype"], "upstream_unavailable");
    assert_eq!(list["credentials"][1]["available"], true);
    assert!(!got.body.contains(CANARY), "{}", got.body);
}

#[tokio::test]
async fn expiry_is_looked_at_when_a_token_is_read() {
    let mut board = Board::new().await;
    board.put("bot", 1, 10);
    let mut client = board.connect().await;
    assert_eq!(client.get("/v1/tokens/bot").await.status, 200);
    // The date goes back an hour while the token's time runs out: boot time decides.
    board.clock.step(-3600);
    board.clock.advance(Duration::from_secs(11));
    client.send("GET /v1/tokens/bot HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let Ask::Wanted { id, answer: to, .. } = board.ask().await else { panic!("another ask") };
    assert_eq!(id.as_str(), "bot");
    board.put("bot", 2, 600);
    to.send(answer(2, true)).unwrap();
    assert_eq!(client.answer().await.json()["generation"], 2);
}

#[tokio::test]
async fn an_expired_token_whose_flight_does_not_land_is_a_wait() {
    let mut board = Board::new().await;
    board.put("bot", 1, 10);
    board.clock.advance(Duration::from_secs(10));
    let mut client = board.connect().await;
    client.send("GET /v1/tokens/bot HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let asked = board.ask().await;
    let got = board.clock.until(client.answer()).await;
    drop(asked);
    assert_eq!((got.status, got.header("retry-after")), (503, Some("1")));
    assert_eq!(got.header("content-type"), Some("application/problem+json"));
    let body = got.json();
    assert_eq!(body["type"], "https://credd.dev/problems/credential-expired");
    let failure = &body["failure"];
    assert_eq!((&failure["type"], &failure["subtype"]), (&"auth_failure".into(), &"credential_expired".into()));
    assert_eq!((&failure["retryable"], &failure["action"]), (&true.into(), &"wait".into()));
    assert_eq!((&failure["generation"], &failure["state"]), (&1.into(), &"expired".into()));
    assert!(failure["authorize_url"].is_null());
}

#[tokio::test]
async fn a_blocked_refresh_is_told_by_its_blocker_at_once() {
    let table = [
        (Failure::ClientMisconfigured, 424, "fix_config", false),
        (Failure::UpstreamUnavailable, 502, "wait", true),
        (Failure::RateLimitReached, 429, "backoff", true),
        (Failure::Unclassified, 503, "wait", true),
    ];
    let mut board = Board::new().await;
    let mut client = board.connect().await;
    for (failure, status, action, retryable) in table {
        let mut edition = published(&board, "bot", 1, Some(-5), State::Expired);
        edition.view.problem = Some(problem(&board, failure));
        board.publisher.set(edition);
        client.send("GET /v1/tokens/bot HTTP/1.1\r\nhost: x\r\n\r\n").await;
        let Ask::Wanted { answer: to, .. } = board.ask().await else { panic!("another ask") };
        to.send(answer(1, false)).unwrap();
        // The clock stands still: nothing but the shard's answer ends this wait.
        let got = client.answer().await;
        let body = got.json();
        let told = &body["failure"];
        assert_eq!((got.status, &told["action"], &told["retryable"]), (status, &action.into(), &retryable.into()));
        assert_eq!(got.header("retry-after"), retryable.then_some("7"), "{failure}");
        assert!(!got.body.contains(CANARY), "{}", got.body);
    }
}

#[tokio::test]
async fn revoked_and_missing_credentials_are_refused_without_an_ask() {
    let mut board = Board::new().await;
    let mut revoked = published(&board, "dead", 4, None, State::Revoked);
    revoked.token = None;
    revoked.view.problem = Some(Problem { retry_at: None, ..problem(&board, Failure::CredentialRevoked) });
    board.publisher.set(revoked);
    let mut missing = published(&board, "new", 0, None, State::Uninitialised);
    missing.token = None;
    board.publisher.set(missing);
    let mut key = published(&board, "key", 1, Some(-1), State::Revoked);
    (key.view.kind, key.token) = (Kind::ApiKey, None);
    board.publisher.set(key);
    let mut client = board.connect().await;
    for (name, status, subtype, action) in [
        ("dead", 424, "credential_revoked", "reauthorize"),
        ("new", 503, "not_ready", "wait"),
        ("key", 424, "credential_revoked", "reauthorize"),
    ] {
        let got = client.get(&format!("/v1/tokens/{name}")).await;
        let body = got.json();
        let failure = &body["failure"];
        assert_eq!((got.status, &failure["subtype"]), (status, &subtype.into()), "{name}");
        assert_eq!(&failure["action"], action);
        assert_eq!(got.header("retry-after").is_some(), failure["retryable"] == true);
    }
    assert!(board.asked.try_recv().is_err(), "nobody was asked");
    let failures = &board.metrics.credd_token_request_failures_total;
    assert_eq!(failures.with_label_values(&["dead", "uds", "credential_revoked"]).get(), 1);
}

#[tokio::test]
async fn min_ttl_has_a_short_token_renewed_and_serves_it_where_that_fails() {
    let mut board = Board::new().await;
    board.put("bot", 1, 600);
    board.clock.advance(Duration::from_secs(500));
    let mut client = board.connect().await;
    assert_eq!(client.get("/v1/tokens/bot?min_ttl=100s").await.json()["generation"], 1);
    client.send("GET /v1/tokens/bot?min_ttl=120 HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let Ask::Wanted { min_ttl, answer: to, actor, .. } = board.ask().await else { panic!("another ask") };
    assert_eq!((min_ttl, actor), (Duration::from_secs(120), format!("uid {}", rustix::process::geteuid().as_raw())));
    board.put("bot", 2, 600);
    to.send(answer(2, true)).unwrap();
    assert_eq!(client.answer().await.json()["generation"], 2);
    // Nobody makes every read a refresh by asking for more than a new token has.
    assert_eq!(client.get("/v1/tokens/bot?min_ttl=24h").await.json()["generation"], 2);
    assert!(board.asked.try_recv().is_err());
    // Refused upstream: a token that still works is better than none.
    board.clock.advance(Duration::from_secs(500));
    client.send("GET /v1/tokens/bot?min_ttl=1h HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let Ask::Wanted { answer: to, .. } = board.ask().await else { panic!("another ask") };
    to.send(answer(2, false)).unwrap();
    let got = client.answer().await;
    assert_eq!((got.status, &got.json()["generation"]), (200, &2.into()));
    assert_eq!(client.get("/v1/tokens/bot?min_ttl=soon").await.status, 400);
}

#[tokio::test]
async fn a_long_poll_ends_with_the_next_generation_or_in_time() {
    let board = Board::new().await;
    board.put("bot", 1, 6000);
    let mut client = board.connect().await;
    let has_one = "if-none-match: \"1\"\r\n";
    assert_eq!(client.get("/v1/tokens/bot?wait=30s").await.status, 200, "who has nothing waits for nothing");
    client.send(&format!("GET /v1/tokens/bot?wait=30s HTTP/1.1\r\nhost: x\r\n{has_one}\r\n")).await;
    // A change of state alone is no new generation.
    board.publisher.set(published(&board, "bot", 1, Some(6000), State::Refreshing));
    board.put("bot", 2, 6000);
    assert_eq!(client.answer().await.json()["generation"], 2);
    client.send("GET /v1/tokens/bot?wait=30s HTTP/1.1\r\nhost: x\r\nif-none-match: \"2\"\r\n\r\n").await;
    assert_eq!(board.clock.until(client.answer()).await.status, 304);
    client.send("GET /v1/tokens/bot?wait=30s HTTP/1.1\r\nhost: x\r\nif-none-match: \"2\"\r\n\r\n").await;
    let mut revoked = published(&board, "bot", 2, None, State::Revoked);
    revoked.token = None;
    board.publisher.set(revoked);
    assert_eq!(client.answer().await.status, 424, "a withdrawal ends the wait");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn goal5_one_ask_for_ten_thousand_readers_of_one_expired_token() {
    let hard = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    rustix::process::setrlimit(
        rustix::process::Resource::Nofile,
        rustix::process::Rlimit { current: hard.maximum, maximum: hard.maximum },
    )
    .unwrap();
    // Both ends of each connection are in this process.
    let room = usize::try_from(hard.maximum.unwrap_or(1_000_000)).unwrap().saturating_sub(1000) / 2;
    let readers = room.min(10_000);
    if readers < 10_000 {
        eprintln!("the hard limit of open files allows {readers} readers instead of 10000");
    }
    let mut board = Board::with(Limits::per_uid(readers)).await;
    board.put("bot", 1, 10);
    board.clock.advance(Duration::from_secs(10));
    let mut crowd = JoinSet::new();
    for _ in 0..readers {
        let path = board.path.clone();
        crowd.spawn(async move {
            let mut client = Client::connect(&path).await;
            let got = client.get("/v1/tokens/bot").await;
            (got.status, got.json()["generation"].clone())
        });
    }
    let Ask::Wanted { answer: to, .. } = board.ask().await else { panic!("another ask") };
    let coalesced = board.metrics.credd_refresh_coalesced_total.with_label_values(&["bot"]);
    soon(async {
        while coalesced.get() < readers as u64 - 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    board.put("bot", 2, 600);
    to.send(answer(2, true)).unwrap();
    for result in soon(crowd.join_all()).await {
        assert_eq!(result, (200, 2.into()));
    }
    assert!(board.asked.try_recv().is_err(), "only the first reader asked");
    assert_eq!(coalesced.get(), readers as u64 - 1);
}

#[tokio::test]
async fn an_answer_that_overtakes_its_publication_makes_nobody_ask_again() {
    let mut board = Board::new().await;
    board.put("bot", 1, 10);
    board.clock.advance(Duration::from_secs(10));
    let (mut first, mut second) = (board.connect().await, board.connect().await);
    first.send("GET /v1/tokens/bot HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let Ask::Wanted { answer: to, .. } = board.ask().await else { panic!("another ask") };
    to.send(answer(2, true)).unwrap();
    second.send("GET /v1/tokens/bot HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let coalesced = board.metrics.credd_refresh_coalesced_total.with_label_values(&["bot"]);
    soon(async {
        while coalesced.get() < 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    board.put("bot", 2, 600);
    assert_eq!((first.answer().await.status, second.answer().await.status), (200, 200));
    assert!(board.asked.try_recv().is_err());
}

#[tokio::test]
async fn fm58_a_caller_that_hangs_up_cancels_nothing() {
    let mut board = Board::new().await;
    board.put("bot", 1, 10);
    board.clock.advance(Duration::from_secs(10));
    let mut first = board.connect().await;
    first.send("GET /v1/tokens/bot HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let Ask::Wanted { answer: to, .. } = board.ask().await else { panic!("another ask") };
    let mut second = board.connect().await;
    second.send("GET /v1/tokens/bot HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let coalesced = board.metrics.credd_refresh_coalesced_total.with_label_values(&["bot"]);
    soon(async {
        while coalesced.get() < 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop(first);
    // A third reader is served by the same connection loop after the first is gone.
    assert_eq!(board.connect().await.get("/v1/credentials").await.status, 200);
    assert!(!to.is_closed(), "the ask lives on");
    board.put("bot", 2, 600);
    to.send(answer(2, true)).unwrap();
    assert_eq!(second.answer().await.json()["generation"], 2);
}

#[tokio::test]
async fn a_watch_tells_what_is_then_each_change_in_order() {
    let board = Board::new().await;
    board.put("bot", 1, 600);
    let mut client = board.connect().await;
    client.send("GET /v1/watch?names=bot HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let head = client.head().await.unwrap();
    assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
    let next = async |client: &mut Client| client.event().await.expect("an event");
    let (kind, id, token) = next(&mut client).await;
    assert_eq!((kind.as_str(), id.as_str(), &token["access_token"]), ("token", "1", &format!("{CANARY}-bot-1").into()));
    let (kind, _, state) = next(&mut client).await;
    assert_eq!((kind.as_str(), &state["state"]), ("state", &"fresh".into()));
    let subscribers = board.metrics.credd_subscribers.with_label_values(&["uds"]);
    assert_eq!(subscribers.get(), 1);

    let mut sick = published(&board, "bot", 1, Some(600), State::Degraded);
    sick.view.problem = Some(problem(&board, Failure::RateLimitReached));
    board.publisher.set(sick);
    let (kind, _, state) = next(&mut client).await;
    assert_eq!((kind.as_str(), &state["state"]), ("state", &"degraded".into()));
    assert_eq!(state["failure"]["subtype"], "rate_limit_reached");

    board.put("bot", 2, 600);
    let (kind, id, _) = next(&mut client).await;
    assert_eq!((kind.as_str(), id.as_str()), ("token", "2"));
    let (kind, _, state) = next(&mut client).await;
    assert_eq!((kind.as_str(), &state["state"]), ("state", &"fresh".into()));

    let mut revoked = published(&board, "bot", 2, None, State::Revoked);
    revoked.token = None;
    board.publisher.set(revoked);
    let (kind, _, told) = next(&mut client).await;
    assert_eq!((kind.as_str(), &told["failure"]["subtype"]), ("withdrawn", &"credential_revoked".into()));

    board.put("bot", 3, 600);
    assert_eq!(next(&mut client).await.0, "token");
    assert_eq!(next(&mut client).await.0, "state");
    board.publisher.remove(&CredentialId::new("bot").unwrap());
    let (kind, _, told) = next(&mut client).await;
    assert_eq!((kind.as_str(), &told["name"]), ("removed", &"bot".into()));
    assert!(client.event().await.is_none(), "nothing follows a removal");
    soon(async {
        while subscribers.get() != 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_watch_follows_several_names_and_beats_while_nothing_happens() {
    let board = Board::new().await;
    board.put("a", 1, 60_000);
    board.put("b", 7, 60_000);
    let mut client = board.connect().await;
    client.send("GET /v1/watch?names=b,a,b HTTP/1.1\r\nhost: x\r\n\r\n").await;
    client.head().await.unwrap();
    let mut tokens = Vec::new();
    for _ in 0..4 {
        let (kind, id, body) = client.event().await.unwrap();
        if kind == "token" {
            tokens.push((body["name"].clone(), id));
        }
    }
    tokens.sort_by_key(|token| token.1.clone());
    assert_eq!(tokens, [("a".into(), "1".into()), ("b".into(), "7".into())]);
    assert_eq!(board.clock.until(client.chunk()).await.as_deref(), Some(": heartbeat\n\n"));
    board.publisher.remove(&CredentialId::new("a").unwrap());
    assert_eq!(client.event().await.unwrap().0, "removed");
    board.put("b", 8, 60_000);
    assert_eq!(client.event().await.unwrap().1, "8", "the others are followed on");
    let mut client = board.connect().await;
    assert_eq!(client.get("/v1/watch").await.status, 400);
    assert_eq!(client.get("/v1/watch?names=b,gone").await.status, 404);
}

#[tokio::test]
async fn a_watch_ends_when_its_reader_may_read_no_longer() {
    let board = Board::new().await;
    board.put("bot", 1, 600);
    let mut client = board.connect().await;
    client.send("GET /v1/watch?names=bot HTTP/1.1\r\nhost: x\r\n\r\n").await;
    client.head().await.unwrap();
    assert_eq!(client.event().await.unwrap().0, "token");
    assert_eq!(client.event().await.unwrap().0, "state");
    let mut edition = published(&board, "bot", 2, Some(600), State::Fresh);
    edition.readers = Arc::from([Reader { uid: Some(4_000_000), ..own() }]);
    board.publisher.set(edition);
    let (kind, _, body) = client.event().await.unwrap();
    assert_eq!(kind, "removed");
    assert!(!body.to_string().contains(CANARY));
}

#[tokio::test]
async fn fm61_a_storm_of_generations_ends_with_the_newest_for_everybody() {
    let board = Board::new().await;
    board.put("bot", 1, 600);
    let mut watchers = JoinSet::new();
    for _ in 0..100 {
        let mut client = board.connect().await;
        client.send("GET /v1/watch?names=bot HTTP/1.1\r\nhost: x\r\n\r\n").await;
        client.head().await.unwrap();
        watchers.spawn(async move {
            let (mut last, mut events) = (0, 0);
            while last < 1000 {
                let (kind, id, _) = client.event().await.expect("an event");
                if kind == "token" {
                    let generation = id.parse().unwrap();
                    assert!(generation > last, "{generation} after {last}");
                    (last, events) = (generation, events + 1);
                }
            }
            events
        });
    }
    for generation in 2..=1000 {
        board.put("bot", generation, 600);
    }
    let events: Vec<i32> = soon(watchers.join_all()).await;
    assert!(events.iter().all(|events| *events <= 1000));
}

#[tokio::test]
async fn fm53_a_watcher_that_never_reads_is_dropped_and_costs_the_others_nothing() {
    let board = Board::new().await;
    let publish = |generation: i64| {
        let mut edition = published(&board, "bot", generation, Some(60_000), State::Fresh);
        edition.token.as_mut().unwrap().scope = Some("x".repeat(60_000));
        board.publisher.set(edition);
    };
    publish(1);
    let mut deaf = board.connect().await;
    deaf.send("GET /v1/watch?names=bot HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let mut keen = board.connect().await;
    keen.send("GET /v1/watch?names=bot HTTP/1.1\r\nhost: x\r\n\r\n").await;
    keen.head().await.unwrap();
    let subscribers = board.metrics.credd_subscribers.with_label_values(&["uds"]);
    // More than the kernel's buffers hold; the keen one gets all of it, in order.
    for generation in 2..40 {
        publish(generation);
        while keen.event().await.unwrap().1 != generation.to_string() {}
    }
    assert_eq!(subscribers.get(), 2);
    board
        .clock
        .until(async {
            while subscribers.get() > 1 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    publish(50);
    while keen.event().await.expect("the keen one goes on").1 != "50" {}
    soon(deaf.ended()).await;
}

#[tokio::test]
async fn a_refusal_is_judged_and_brings_the_newer_token() {
    let mut board = Board::new().await;
    board.put("bot", 5, 600);
    let mut client = board.connect().await;
    let refusal = r#"{"generation":5,"status":401,"headers":{"WWW-Authenticate":"Bearer error=\"invalid_token\""},"body":"{\"error\":\"x\"}"}"#;
    let length = refusal.len();
    let request = format!(
        "POST /v1/tokens/bot/refused HTTP/1.1\r\nhost: x\r\ncontent-type: application/json; charset=utf-8\r\n\
         content-length: {length}\r\n\r\n{refusal}"
    );
    client.send(&request).await;
    let Ask::Refused { generation, reply, answer: to, .. } = board.ask().await else { panic!("another ask") };
    assert_eq!((generation, reply.status), (Generation(5), 401));
    assert_eq!(reply.header("www-authenticate"), Some("Bearer error=\"invalid_token\""));
    assert_eq!(reply.body, b"{\"error\":\"x\"}");
    board.put("bot", 6, 600);
    let verdict = Some(Verdict::of(Failure::CredentialExpired, ""));
    to.send(Answer { verdict, message: "refreshed".into(), ..answer(6, true) }).unwrap();
    let body = client.answer().await.json();
    assert_eq!((&body["verdict"]["subtype"], &body["message"]), (&"credential_expired".into(), &"refreshed".into()));
    assert_eq!(body["token"]["access_token"], format!("{CANARY}-bot-6"));

    // Where nothing helped there is a verdict and no token.
    client.send(&request.replace("\"generation\":5", "\"generation\":6")).await;
    let Ask::Refused { answer: to, .. } = board.ask().await else { panic!("another ask") };
    let verdict = Some(Verdict::of(Failure::CredentialRevoked, "revoked"));
    to.send(Answer { verdict, ..answer(6, false) }).unwrap();
    let body = client.answer().await.json();
    assert_eq!((&body["verdict"]["action"], &body["verdict"]["cause"]), (&"reauthorize".into(), &"revoked".into()));
    assert!(body.get("token").is_none());

    for (bad, status) in [("{}", 400), (r#"{"generation":99,"status":401}"#, 400), ("canary-x", 400)] {
        let got = client.post("/v1/tokens/bot/refused", bad).await;
        assert_eq!(got.status, status, "{bad}");
        assert!(!got.body.contains("canary-x"));
    }
    client.send("POST /v1/tokens/bot/refused HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}").await;
    assert_eq!(client.answer().await.status, 415);
    assert!(board.asked.try_recv().is_err());
}

#[tokio::test]
async fn fm56_large_bodies_are_refused_at_the_head() {
    let board = Board::new().await;
    board.put("bot", 1, 600);
    for length in ["4294967295", "1048576", "65537"] {
        for request in ["POST /v1/tokens/bot/refused", "GET /v1/credentials"] {
            let mut client = board.connect().await;
            let head = format!(
                "{request} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
            );
            client.send(&head).await;
            assert_eq!(client.answer().await.status, 413, "{request} {length}");
            soon(client.ended()).await;
        }
    }
    // Without an announcement the cap holds all the same.
    let mut client = board.connect().await;
    client
        .send("POST /v1/tokens/bot/refused HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
        .await;
    let chunk = format!("4000\r\n{}\r\n", "x".repeat(0x4000));
    for _ in 0..5 {
        client.babble(chunk.as_bytes()).await;
    }
    assert_eq!(client.answer().await.status, 413);
    let mut client = board.connect().await;
    client
        .babble(format!("GET /v1/credentials HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "y".repeat(40_000)).as_bytes())
        .await;
    assert_eq!(client.answer().await.status, 431);
    let mut client = board.connect().await;
    client.send("BABBLE\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 400);
}

#[tokio::test]
async fn fm54_fm55_peers_that_dawdle_are_left_and_patient_ones_stay() {
    let board = Board::new().await;
    board.put("bot", 1, 60_000);
    let mut silent = board.connect().await;
    let mut slow = board.connect().await;
    slow.send("GET /v1/tok").await;
    let mut patient = board.connect().await;
    assert_eq!(patient.get("/v1/tokens/bot").await.status, 200);
    let start = board.clock.now().boot;
    // A byte now and then does not buy more time.
    board
        .clock
        .until(async {
            while slow.babble(b"e").await {
                tokio::time::sleep(Duration::from_millis(4)).await;
            }
        })
        .await;
    assert!(board.clock.now().boot - start < Duration::from_secs(30), "the head has 5 s");
    board.clock.until(silent.ended()).await;
    assert!(board.clock.now().boot - start >= Duration::from_secs(29), "the first byte has 30 s");
    board.clock.advance(Duration::from_secs(300));
    assert_eq!(patient.get("/v1/tokens/bot").await.status, 200, "a kept connection may wait");
}

#[tokio::test]
async fn connections_of_one_user_are_capped_and_places_come_back() {
    let board = Board::with(Limits::per_uid(2)).await;
    board.put("bot", 1, 600);
    let mut a = board.connect().await;
    let mut b = board.connect().await;
    assert_eq!((a.get("/v1/tokens/bot").await.status, b.get("/v1/tokens/bot").await.status), (200, 200));
    let mut c = board.connect().await;
    assert_eq!(c.answer().await.status, 503);
    drop(a);
    soon(async {
        loop {
            let mut d = board.connect().await;
            d.babble(b"GET /v1/tokens/bot HTTP/1.1\r\nhost: x\r\n\r\n").await;
            if d.head().await.is_some_and(|got| got.status == 200) {
                break;
            }
        }
    })
    .await;
    assert_eq!(b.get("/v1/tokens/bot").await.status, 200);
}

#[tokio::test]
async fn paths_and_methods_that_are_not_there() {
    let board = Board::new().await;
    board.put("bot", 1, 600);
    let mut client = board.connect().await;
    for path in ["/", "/v1", "/v1/tokens", "/v1/tokens/", "/v1/tokens/bot/x", "/v1/tokens/../bot", "/v2/tokens/bot"] {
        assert_eq!(client.get(path).await.status, 404, "{path}");
    }
    for (path, allowed) in [("/v1/tokens/bot", "GET"), ("/v1/watch", "GET"), ("/v1/credentials", "GET")] {
        let got = client.post(path, "{}").await;
        assert_eq!((got.status, got.header("allow")), (405, Some(allowed)), "{path}");
    }
    let got = client.get("/v1/tokens/bot/refused").await;
    assert_eq!((got.status, got.header("allow")), (405, Some("POST")));
}

#[tokio::test]
async fn fm59_what_stands_at_the_socket_path_decides() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("credd.sock");
    let clock = HandClock::new();
    let bind = || socket::bind(&path, 0o600, clock.clone(), |_| {});
    std::fs::write(&path, "mine").unwrap();
    assert!(matches!(bind().await, Err(BindError::Foreign(_))));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine", "it is left untouched");
    std::fs::remove_file(&path).unwrap();
    // A daemon that died left its file.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(std::fs::metadata(&path).unwrap().file_type().is_socket());
    let door = bind().await.expect("a stale file is replaced");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    assert!(matches!(bind().await, Err(BindError::Taken(_))), "ours is alive");
    drop(door);
    assert!(!path.exists(), "an orderly end leaves nothing");
    // Somebody else's live socket, without our lock file.
    let _other = std::os::unix::net::UnixListener::bind(&path).unwrap();
    assert!(matches!(bind().await, Err(BindError::Taken(_))));
}

#[tokio::test]
async fn fm60_a_deleted_socket_file_comes_back() {
    let board = Board::new().await;
    board.put("bot", 1, 60_000);
    let mut before = board.connect().await;
    assert_eq!(before.get("/v1/tokens/bot").await.status, 200);
    let start = board.clock.now().boot;
    std::fs::remove_file(&board.path).unwrap();
    board
        .clock
        .until(async {
            while !board.path.exists() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    assert!(board.clock.now().boot - start <= Duration::from_secs(15));
    soon(async {
        while tokio::net::UnixStream::connect(&board.path).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(board.connect().await.get("/v1/tokens/bot").await.status, 200);
    assert_eq!(before.get("/v1/tokens/bot").await.status, 200, "open connections stay");
}

#[tokio::test]
async fn the_drain_ends_watches_waits_and_idle_connections() {
    let mut board = Board::new().await;
    board.put("bot", 1, 60_000);
    let mut idle = board.connect().await;
    idle.get("/v1/tokens/bot").await;
    let mut silent = board.connect().await;
    let mut watcher = board.connect().await;
    watcher.send("GET /v1/watch?names=bot HTTP/1.1\r\nhost: x\r\n\r\n").await;
    watcher.head().await.unwrap();
    assert_eq!(watcher.event().await.unwrap().0, "token");
    let mut poller = board.connect().await;
    poller.send("GET /v1/tokens/bot?wait=5m HTTP/1.1\r\nhost: x\r\nif-none-match: \"1\"\r\n\r\n").await;
    poller.babble(b"").await;
    board.end().await;
    soon(idle.ended()).await;
    soon(silent.ended()).await;
    soon(watcher.ended()).await;
    soon(poller.ended()).await;
    assert!(!board.path.exists());
}

#[tokio::test]
async fn limits_are_those_of_the_faults_page() {
    let limits = Limits::default();
    let seconds = Duration::from_secs;
    assert_eq!((limits.web.first, limits.web.head, limits.web.blocked), (seconds(30), seconds(5), seconds(10)));
    assert_eq!((limits.web.per_party, limits.flight, web::BODY_CAP), (1024, seconds(5), 65_536));
}

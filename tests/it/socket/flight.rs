//! Reads that need a newer token: one ask, however many wait.

use super::{answer, problem};
use crate::board::{Board, CANARY, Client, published, soon};
use credd::{credential::Failure, lifecycle::State, publish::Ask, server::socket::Limits};
use std::{sync::atomic::Ordering, time::Duration};
use tokio::task::JoinSet;

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
async fn min_ttl_has_a_short_token_renewed_and_serves_it_where_that_fails() {
    let mut board = Board::new().await;
    board.put("bot", 1, 600);
    board.clock.advance(Duration::from_secs(500));
    let mut client = board.connect().await;
    let got = client.get("/v1/tokens/bot?min_ttl=100s").await;
    assert_eq!((&got.json()["generation"], got.header("credd-min-ttl")), (&1.into(), Some("?1")));
    client.send("GET /v1/tokens/bot?min_ttl=120 HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let Ask::Wanted { min_ttl, answer: to, actor, .. } = board.ask().await else { panic!("another ask") };
    assert_eq!((min_ttl, actor), (Duration::from_secs(120), format!("uid {}", rustix::process::geteuid().as_raw())));
    board.put("bot", 2, 600);
    to.send(answer(2, true)).unwrap();
    assert_eq!(client.answer().await.json()["generation"], 2);
    // Nobody makes every read a refresh by asking for more than a new token has.
    // That it was not met is said, with what there is and what is worth asking for.
    let got = client.get("/v1/tokens/bot?min_ttl=24h").await;
    assert_eq!((&got.json()["generation"], got.header("credd-min-ttl")), (&2.into(), Some("?0;left=600;most=330")));
    assert_eq!(client.get("/v1/tokens/bot").await.header("credd-min-ttl"), None, "nobody asked");
    assert!(board.asked.try_recv().is_err());
    // Refused upstream: a token that still works is better than none.
    board.clock.advance(Duration::from_secs(500));
    client.send("GET /v1/tokens/bot?min_ttl=1h HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let Ask::Wanted { answer: to, .. } = board.ask().await else { panic!("another ask") };
    to.send(answer(2, false)).unwrap();
    let got = client.answer().await;
    assert_eq!((got.status, &got.json()["generation"]), (200, &2.into()));
    assert_eq!(got.header("credd-min-ttl"), Some("?0;left=100;most=330"));
    assert_eq!(client.get("/v1/tokens/bot?min_ttl=soon").await.status, 400);
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
    let coalesced = board.metrics.credd_refresh_coalesced_total.of("bot", "");
    soon(async {
        while coalesced.load(Ordering::Relaxed) < readers as u64 - 1 {
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
    assert_eq!(coalesced.load(Ordering::Relaxed), readers as u64 - 1);
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
    let coalesced = board.metrics.credd_refresh_coalesced_total.of("bot", "");
    soon(async {
        while coalesced.load(Ordering::Relaxed) < 1 {
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
    let coalesced = board.metrics.credd_refresh_coalesced_total.of("bot", "");
    soon(async {
        while coalesced.load(Ordering::Relaxed) < 1 {
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

//! Following credentials.

use super::problem;
use crate::board::{Board, CANARY, Client, own, published, soon};
use credd::{credential::CredentialId, credential::Failure, lifecycle::State, publish::Reader};
use std::sync::Arc;
use tokio::task::JoinSet;

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

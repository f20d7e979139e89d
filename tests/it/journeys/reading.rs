//! From the home store to the readers: found, refreshed, delivered, and exactly once whatever the crowd.

use std::time::Duration;

use credd::{
    credential::Secret,
    sandbox::{Fault, FaultKind, Place},
};
use futures_util::future::join_all;

use crate::world::{World, call_api, generation, grant, token, until};

fn delayed(grant: &str, ms: u64) -> Fault {
    let kind = FaultKind::Delay { ms, after_commit: false };
    Fault { kind, at: Place::Token, grant: Some(grant.into()), calls: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_is_found_proven_refreshed_before_its_end_and_told_to_everybody() {
    let mut world = World::new().await;
    let seed = world.granted("bot", grant(8.0), "").await;
    world.start().await;
    let view = world.view("bot").await;
    assert_eq!((&view["state"], &view["generation"]), (&"fresh".into(), &1.into()), "{view}");
    assert!(!view["last_success_at"].is_null(), "the start probes what it loads: {view}");
    assert_eq!(world.admin().counters_of(&seed.id).api_calls, 1);

    let mut watcher = world.reader().await;
    watcher.send("GET /v1/watch?names=bot HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(watcher.head().await.unwrap().status, 200);
    let (_, _, first) = watcher.event().await.unwrap();
    assert_eq!(first["generation"], 1, "{first}");

    let mut reader = world.reader().await;
    let got = reader.get("/v1/tokens/bot").await;
    assert_eq!(token(&got), seed.access_token.expose());
    let etag = got.header("etag").unwrap().to_owned();
    let poll = reader.get_with("/v1/tokens/bot?wait=60s", &format!("if-none-match: {etag}\r\n")).await;
    assert_eq!(generation(&poll), 2);
    let second = token(&poll);
    assert!(crate::world::now() < seed.expires_at, "refreshed before the end");
    assert_eq!(call_api(&world.sandbox.probe_url(), &second).await.0, 200);

    loop {
        let (_, _, event) = watcher.event().await.unwrap();
        if event["generation"] == 2 && event["access_token"].is_string() {
            assert_eq!(event["access_token"], second.as_str());
            break;
        }
    }
    let list = reader.get("/v1/credentials").await;
    assert!(list.body.contains("\"bot\"") && !list.body.contains(&second), "{}", list.body);
    assert_eq!(reader.get("/v1/tokens/unknown").await.status, 404);
    let counted = world.admin().counters_of(&seed.id);
    assert_eq!((counted.overlaps, counted.reuse_seen), (0, 0), "{counted:?}");

    // P-8: what went upstream is what the audit log says went upstream.
    world.act("bot", "hold").await;
    let (sent, probed) = until("the calls are all written down", async || {
        let (sent, probed) = (world.logged("bot", "refresh_sent").await, world.logged("bot", "probed").await);
        let counted = world.admin().counters_of(&seed.id);
        let by_tests = 1;
        (counted.token_calls == sent.len() as u64 && counted.api_calls == probed.len() as u64 + by_tests)
            .then_some((sent, probed))
    })
    .await;
    assert!(!sent.is_empty() && !probed.is_empty());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rf01_a_crowd_with_an_expired_token_makes_one_refresh() {
    let mut world = World::new().await;
    world.credential("bot", "refresh_token", "startup = \"warn\"");
    world.start().await;
    let seed = world.admin().grant(grant(0.05));
    world.admin().fault(delayed(&seed.id, 3500));
    until("the grant's first token ends", async || (crate::world::now() > seed.expires_at).then_some(())).await;
    world.keep("bot", &seed.document()).await;
    world.becomes("bot", "expired").await;
    let readers = crowd();
    let answers = join_all((0..readers).map(async |_| generation(&world.read("bot").await))).await;
    assert_eq!(answers.len(), readers);
    assert!(answers.iter().all(|generation| *generation == 2), "all get the one successor");
    let counted = world.admin().counters_of(&seed.id);
    assert_eq!((counted.refresh_calls, counted.overlaps, counted.reuse_seen), (1, 0, 0));
    eprintln!("{readers} readers, one refresh");
    world.stop().await;
}

/// As many readers as descriptors allow (each costs two in one process), and as one user may have connections.
fn crowd() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(1 << 20);
    usize::try_from(limit / 3).unwrap_or(usize::MAX).min(1000)
}

#[tokio::test(flavor = "multi_thread")]
async fn rf04_readers_that_hang_up_cancel_nothing() {
    let mut world = World::new().await;
    world.credential("bot", "refresh_token", "startup = \"warn\"");
    world.start().await;
    let seed = world.admin().grant(grant(0.05));
    world.admin().fault(delayed(&seed.id, 2000));
    until("the grant's first token ends", async || (crate::world::now() > seed.expires_at).then_some(())).await;
    world.keep("bot", &seed.document()).await;
    until("the refresh is under way", async || (world.admin().counters_of(&seed.id).in_flight == 1).then_some(()))
        .await;
    for _ in 0..50 {
        let mut reader = world.reader().await;
        reader.send("GET /v1/tokens/bot HTTP/1.1\r\nhost: x\r\n\r\n").await;
        drop(reader);
    }
    world.reaches("bot", 2).await;
    assert_eq!(generation(&world.read("bot").await), 2);
    let counted = world.admin().counters_of(&seed.id);
    assert_eq!((counted.refresh_calls, counted.overlaps), (1, 0));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rf10_a_refused_call_is_judged_once_and_history_changes_nothing() {
    let mut world = World::new().await;
    let seed = world.granted("bot", grant(3600.0), "").await;
    world.start().await;
    let used = world.read("bot").await;
    // The access token alone is dead upstream: the API refuses it once, then its successor is good.
    let refuse = FaultKind::Refuse { status: 401, error: "invalid_token".into(), description: Some("revoked".into()) };
    world.admin().fault(Fault { kind: refuse, at: Place::Api, grant: Some(seed.id.clone()), calls: Some(1) });
    let (status, body) = call_api(&world.sandbox.probe_url(), &token(&used)).await;
    assert_eq!(status, 401);
    let got = world.refused("bot", generation(&used), status, &body).await;
    assert_eq!(got.status, 200, "{}", got.body);
    let answer = got.json();
    assert_eq!(answer["token"]["generation"], 2, "the verdict comes with the successor: {answer}");
    assert!(answer["verdict"]["subtype"].is_string(), "{answer}");
    let fresh = answer["token"]["access_token"].as_str().unwrap();
    assert_eq!(call_api(&world.sandbox.probe_url(), fresh).await.0, 200);

    let before = world.admin().counters_of(&seed.id);
    for _ in 0..20 {
        let stale = world.refused("bot", 1, 401, &body).await.json();
        assert_eq!(stale["token"]["generation"], 2, "{stale}");
    }
    assert_eq!(world.admin().counters_of(&seed.id), before, "no call upstream for history");
    assert_eq!(world.view("bot").await["generation"], 2);
    assert_eq!(before.refresh_calls, 1);
    let future = world.refused("bot", 9, 401, &body).await;
    assert_eq!(future.status, 400, "{}", future.body);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_exchange_brings_the_first_token() {
    let mut world = World::new().await;
    let seed = world.admin().grant(grant(3600.0));
    let document = serde_json::json!({
        "client_id": seed.client_id, "client_secret": seed.client_secret.as_ref().unwrap().expose(),
        "refresh_token": seed.refresh_token.expose(),
    });
    world.keep("bot", &Secret::new(document.to_string())).await;
    world.credential("bot", "refresh_token", "");
    world.start().await;
    let got = world.read("bot").await;
    assert_eq!(call_api(&world.sandbox.probe_url(), &token(&got)).await.0, 200);
    assert_eq!(world.admin().counters_of(&seed.id).refresh_calls, 1);
    // Time left that the token has: no refresh. More than half of its life is asked of nobody.
    let mut reader = world.reader().await;
    assert_eq!(generation(&reader.get("/v1/tokens/bot?min_ttl=10m").await), generation(&got));
    assert_eq!(world.admin().counters_of(&seed.id).refresh_calls, 1);
    tokio::time::timeout(Duration::from_secs(30), world.stop()).await.expect("a stop is bounded");
}

//! RF-03: the provider has rotated and its reply never came. What credd does depends on what the provider does with the
//! old refresh token, which a provider file tells.

use std::time::Duration;

use credd::sandbox::{Fault, FaultKind, NewGrant, Place, Seed};

use crate::world::{World, call_api, grant, token, until};
use credd::incident::words::date;

/// A daemon whose next refresh is acted upon and not answered.
async fn lost(kind: FaultKind, rotation: &str, profile: &str, access_ttl: f64) -> (World, Seed) {
    let mut world = World::new().await;
    world.provider("rotating", &format!("extends = \"rfc6749\"\n[rotation]\n{rotation}\n"));
    let terms = NewGrant { profile: profile.parse().unwrap(), ..grant(access_ttl) };
    let seed = world.granted("bot", terms, "provider = \"rotating\"").await;
    world.start().await;
    world.admin().fault(Fault { kind, at: Place::Token, grant: None, calls: Some(1) });
    (world, seed)
}

/// Lost, presented again while that is safe, and no grant is lost.
async fn recovers(kind: FaultKind, rotation: &str, profile: &str) {
    let (mut world, seed) = lost(kind, rotation, profile, 3600.0).await;
    world.act("bot", "refresh").await;
    let lost = world.logged("bot", "refresh_failed").await;
    assert_eq!(lost.len(), 1, "{lost:?}");
    world.reaches("bot", 2).await;
    let took = crate::world::now().duration_since(lost[0].at);
    assert!(took < jiff::SignedDuration::from_secs(10), "recovered after {took:#}");
    assert_eq!(call_api(&world.sandbox.probe_url(), &token(&world.read("bot").await)).await.0, 200);
    assert_eq!(world.act("bot", "refresh").await.status, 200, "the grant that is held is the living one");
    assert_eq!(world.view("bot").await["generation"], 3);
    let counted = world.admin().counters_of(&seed.id);
    assert_eq!((counted.refresh_calls, counted.reuse_refused, counted.overlaps), (3, 0, 0), "{counted:?}");
    until("no incident stays open", async || world.incidents().await.is_empty().then_some(())).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rf03_none_is_presented_again_at_once() {
    recovers(FaultKind::DropAfterCommit, "profile = \"none\"", "none").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rf03_grace_is_presented_again_within_the_grace() {
    recovers(FaultKind::DropAfterCommit, "profile = \"grace\"\ngrace = \"30s\"", "grace(30)").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rf03_until_first_use_is_presented_again_before_anything_else() {
    recovers(FaultKind::DropAfterCommit, "profile = \"until_first_use\"", "until_first_use").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fm04_a_connection_that_is_reset_after_the_request_loses_no_grant() {
    for (rotation, profile) in [
        ("profile = \"none\"", "none"),
        ("profile = \"grace\"\ngrace = \"30s\"", "grace(30)"),
        ("profile = \"until_first_use\"", "until_first_use"),
    ] {
        recovers(FaultKind::ResetAfterCommit, rotation, profile).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rf03_rr4_strict_serves_what_lives_and_tells_on_call_at_once() {
    let (mut world, seed) = lost(
        FaultKind::DropAfterCommit,
        "profile = \"strict\"\nreuse_kills_access_token = true",
        "strict_kill_family",
        20.0,
    )
    .await;
    let view = world.becomes("bot", "outcome_unknown").await;
    assert_eq!(view["generation"], 1);
    let open = until("on-call is told", async || Some(world.incidents().await).filter(|open| !open.is_empty())).await;
    assert_eq!(open[0].kind, "rotation_outcome_unknown");
    let sent = world.logged("bot", "refresh_sent").await;
    let (attempt, sent_at) = (sent[0].attempt.unwrap().to_string(), date(sent[0].at));
    assert_eq!(token(&world.read("bot").await), seed.access_token.expose(), "served to its end");
    assert_eq!(world.admin().counters_of(&seed.id).refresh_calls, 1, "no gamble while the token lives");
    let view = world.becomes("bot", "revoked").await;
    assert_eq!(view["problem"]["cause"], "rotation_lost", "{view}");
    let calls = world.admin().counters_of(&seed.id).refresh_calls;
    assert!((2..=3).contains(&calls), "{calls} presentations");
    let told = world.incidents().await;
    assert_eq!(told.len(), 1, "one incident took the other's place");
    // RR-4: whoever is called knows which request it was, when it went out, and what became of it.
    for words in
        [attempt, format!("sent at {}", &sent_at[..sent_at.len() - 6]), "closed the connection without a reply".into()]
    {
        assert!(told[0].body.contains(&words), "{words}: {}", told[0].body);
    }
    let successor = world.admin().grant(grant(3600.0));
    world.keep("bot", &successor.document()).await;
    world.becomes("bot", "fresh").await;
    until("the incident is closed", async || world.incidents().await.is_empty().then_some(())).await;
    tokio::time::timeout(Duration::from_secs(30), world.stop()).await.expect("a stop is bounded");
}

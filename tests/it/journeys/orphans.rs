//! Replies that came and of which no value was made: kept, read again, and taken where the grant in their place is dead.

use credd::{
    credential::Secret,
    sandbox::{Fault, FaultKind, NewGrant, Place, Seed},
};

use crate::world::{World, call_api, generation, grant, token, until};

/// A provider file whose rules find the access token there.
fn rules(access_token: &str) -> String {
    format!(
        "extends = \"rfc6749\"\n[rotation]\nprofile = \"strict\"\nreuse_kills_access_token = true\n\
         [token.response]\naccess_token = \"{access_token}\"\n"
    )
}

fn strict() -> NewGrant {
    NewGrant { profile: "strict_kill_family".parse().unwrap(), ..grant(3600.0) }
}

#[tokio::test(flavor = "multi_thread")]
async fn rr2_a_reply_that_could_not_be_read_is_read_again_at_each_start() {
    let mut world = World::new().await;
    world.provider("odd", &rules("/data/access_token"));
    let seed = world.granted("bot", strict(), "provider = \"odd\"").await;
    world.start().await;
    world.act("bot", "refresh").await;
    world.becomes("bot", "outcome_unknown").await;
    let attempt = world.logged("bot", "refresh_sent").await[0].attempt.unwrap().to_string();
    let told = world.incidents().await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((told[0].kind.as_str(), told[0].severity.as_str()), ("rotation_outcome_unknown", "critical"));
    assert!(told[0].body.contains(&attempt) && told[0].body.contains("/data/access_token"), "{}", told[0].body);
    // The same rules learn nothing new from it, and lose nothing either.
    world.stop().await;
    world.start().await;
    world.becomes("bot", "outcome_unknown").await;
    assert_eq!(token(&world.read("bot").await), seed.access_token.expose());
    assert_eq!(world.incidents().await.len(), 1);
    world.stop().await;

    world.provider("odd", &rules("/access_token"));
    world.start().await;
    let view = world.reaches("bot", 2).await;
    assert_eq!(view["state"], "fresh", "{view}");
    assert_eq!(world.admin().counters_of(&seed.id).refresh_calls, 1, "the provider was not asked again");
    assert_eq!(call_api(&world.sandbox.probe_url(), &token(&world.read("bot").await)).await.0, 200);
    until("the page is resolved", async || world.incidents().await.is_empty().then_some(())).await;
    assert!(world.daemon().ledger.rotation().orphans().await.unwrap().is_empty());
    assert_eq!(world.act("bot", "refresh").await.status, 200, "the grant that was in it is the living one");
    assert_eq!(world.admin().counters_of(&seed.id).reuse_seen, 0);
    world.stop().await;
}

/// Refreshes a grant and replaces it before its reply is there.
async fn overtake(world: &mut World, old: &Seed, new: &Seed) {
    let kind = FaultKind::Delay { ms: 1500, after_commit: true };
    world.admin().fault(Fault { kind, at: Place::Token, grant: Some(old.id.clone()), calls: Some(1) });
    let mut operator = world.operator().await;
    operator.send("POST /v1/credentials/bot/refresh HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n").await;
    until("the refresh is out", async || (world.admin().counters_of(&old.id).in_flight == 1).then_some(())).await;
    world.keep("bot", &new.document()).await;
    until("the new grant took its place", async || {
        (token(&world.read("bot").await) == new.access_token.expose()).then_some(())
    })
    .await;
    operator.answer().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rr6_rr4_a_late_reply_takes_the_place_of_a_refused_grant_the_newest_that_works_first() {
    let mut world = World::new().await;
    world.provider("odd", &rules("/access_token"));
    let first = world.granted("bot", strict(), "provider = \"odd\"").await;
    let (second, third) = (world.admin().grant(strict()), world.admin().grant(strict()));
    world.start().await;
    overtake(&mut world, &first, &second).await;
    overtake(&mut world, &second, &third).await;
    let orphans = || async { world.daemon().ledger.rotation().orphans().await.unwrap().len() };
    until("both replies are kept", async || (orphans().await == 2).then_some(())).await;
    assert!(world.incidents().await.is_empty(), "a grant that works needs no other");
    let calls = |seed: &Seed| world.admin().counters_of(&seed.id).refresh_calls;

    // The grant in their place dies, and so does the newer of the two.
    world.admin().revoke(&second.id);
    world.admin().revoke(&third.id);
    let before = generation(&world.read("bot").await);
    world.act("bot", "refresh").await;
    world.reaches("bot", before + 1).await;
    assert_eq!(world.logged("bot", "orphan_refused").await.len(), 1, "the newest was looked at first");
    assert_eq!((calls(&first), calls(&second)), (1, 1), "a probe told them apart, no grant was spent on it");
    let got = world.read("bot").await;
    assert_eq!(call_api(&world.sandbox.probe_url(), &token(&got)).await.0, 200);
    let told = world.incidents().await;
    assert!(told.iter().any(|it| it.kind == "orphan_promoted" && it.severity == "warning"), "{told:?}");
    assert_eq!(orphans().await, 1, "the other stays until a later one is proven");
    until("it went home", async || {
        let (held, _) = world.daemon().ledger.embedded().get("bot").await.unwrap().unwrap();
        let held: serde_json::Value = serde_json::from_str(held.expose()).unwrap();
        let held = Secret::new(held["refresh_token"].as_str().unwrap());
        (world.admin().find(&held).map(|(grant, _)| grant) == Some(first.id.clone())).then_some(())
    })
    .await;
    let got = world.act("bot", "refresh").await;
    assert_eq!(got.status, 200, "{}", got.body);
    until("nothing is told any more", async || world.incidents().await.is_empty().then_some(())).await;
    assert_eq!(orphans().await, 0);
    assert_eq!(world.admin().counters_of(&first.id).reuse_seen, 0);
    world.stop().await;
}

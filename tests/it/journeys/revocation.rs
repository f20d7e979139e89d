//! Revoked upstream: noticed, confirmed, told once, and mended by a new secret in the home store.

use credd::sandbox::NewKey;
use jiff::SignedDuration;

use crate::world::{World, call_api, generation, grant, token, until};

#[tokio::test(flavor = "multi_thread")]
async fn rf16_a_revoked_grant_is_confirmed_told_once_and_mended_by_a_new_secret() {
    let mut world = World::new().await;
    world.tables("[policies.default]\nprobe = \"*/1 * * * * *\"");
    let seed = world.granted("bot", grant(3600.0), "").await;
    world.start().await;
    assert_eq!(world.health("/health").await.status, 200);
    assert!(world.admin().revoke(&seed.id));
    let view = until("a suspicion", async || {
        let view = world.view("bot").await;
        ["suspect", "revoked"].contains(&view["state"].as_str().unwrap()).then_some(view)
    })
    .await;
    assert_eq!(view["problem"]["failure"], "credential_revoked", "{view}");
    let before = world.admin().counters_of(&seed.id);
    world.becomes("bot", "revoked").await;
    let got = world.read("bot").await;
    assert_eq!(got.status, 424, "{}", got.body);
    assert_eq!(got.json()["failure"]["subtype"], "credential_revoked", "{}", got.body);
    assert_eq!(world.health("/health").await.status, 503);
    assert_eq!(world.health("/readyz").await.status, 200, "a restart cures no revoked token");
    let open = world.incidents().await;
    assert_eq!(open.len(), 1, "{open:?}");
    assert_eq!((open[0].kind.as_str(), open[0].credential.as_str()), ("credential_revoked", "bot"));
    // Beats pass, readers come: nothing more goes upstream.
    for _ in 0..20 {
        assert_eq!(world.read("bot").await.status, 424);
    }
    let began = crate::world::up();
    until("three beats pass", async || ((crate::world::up() - began).as_secs() >= 3).then_some(())).await;
    let after = world.admin().counters_of(&seed.id);
    let further = (after.token_calls - before.token_calls) + (after.api_calls - before.api_calls);
    assert!(further <= 2, "{further} further calls: {before:?} {after:?}");
    assert_eq!(world.incidents().await.len(), 1, "told once");

    let successor = world.admin().grant(grant(3600.0));
    world.keep("bot", &successor.document()).await;
    world.becomes("bot", "fresh").await;
    let got = world.read("bot").await;
    assert_eq!(token(&got), successor.access_token.expose());
    assert!(generation(&got) > 1);
    until("the incident is closed", async || world.incidents().await.is_empty().then_some(())).await;
    assert_eq!(world.health("/health").await.status, 200);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_1d_a_static_key_is_revoked_after_a_second_look() {
    let mut world = World::new().await;
    world.tables("[policies.default]\nprobe = \"*/1 * * * * *\"");
    let (key, secret) = world.admin().key(&NewKey::default());
    world.keep("key", &secret).await;
    world.credential("key", "api_key", "");
    world.start().await;
    assert_eq!(call_api(&world.sandbox.probe_url(), &token(&world.read("key").await)).await.0, 200);
    world.admin().revoke(&key);
    let suspect = world.becomes("key", "suspect").await;
    assert_eq!(world.read("key").await.status, 200, "served until it is certain");
    world.becomes("key", "revoked").await;
    assert_eq!(world.read("key").await.status, 424);
    let since: jiff::Timestamp = suspect["since"].as_str().unwrap().parse().unwrap();
    assert!(crate::world::now().duration_since(since) >= SignedDuration::from_secs(30));
    assert_eq!(world.incidents().await.len(), 1);
    assert_eq!(world.health("/health").await.status, 503);
    let (_, next) = world.admin().key(&NewKey::default());
    world.keep("key", &next).await;
    world.becomes("key", "fresh").await;
    assert_eq!(token(&world.read("key").await), next.expose());
    until("the incident is closed", async || world.incidents().await.is_empty().then_some(())).await;
    world.stop().await;
}

//! A provider that refuses how it is asked, not the grant: there is another way, and it is tried once.

use std::time::Duration;

use credd::{
    credential::Secret,
    sandbox::{Client, FaultKind, Place},
};
use serde_json::Value;

use crate::world::{World, call_api, grant, token, until};

/// `invalid_scope` is answered with one request without a scope, and from then on that is the way.
#[tokio::test(flavor = "multi_thread")]
async fn a_scope_that_was_never_granted_is_left_out_the_second_time() {
    let mut world = World::new().await;
    let seed = world.granted("bot", grant(3600.0), "").await;
    world.tables("scopes = [\"read\", \"everything\"]");
    world.start().await;
    assert_eq!(world.act("bot", "refresh").await.status, 200);
    assert_eq!(world.reaches("bot", 2).await["state"], "fresh");
    assert_eq!(world.logged("bot", "refresh_turned").await.len(), 1);
    assert_eq!(world.act("bot", "refresh").await.status, 200);
    world.reaches("bot", 3).await;
    assert_eq!(world.admin().counters_of(&seed.id).refresh_calls, 3, "the way that worked is remembered");
    assert_eq!((world.logged("bot", "refresh_failed").await.len(), world.incidents().await.len()), (0, 0));

    world.admin().fault(FaultKind::Refuse { status: 400, error: "invalid_scope".into(), description: None }.always());
    world.act("bot", "refresh").await;
    let view = world.becomes("bot", "misconfigured").await;
    assert_eq!(
        (&view["problem"]["failure"], &view["problem"]["cause"]),
        (&"client_misconfigured".into(), &"scope".into())
    );
    assert_eq!(world.admin().counters_of(&seed.id).refresh_calls, 4, "there was no other way left");
    assert!(!token(&world.read("bot").await).is_empty(), "what lives is served");
    world.stop().await;
}

/// RF-47: the provider goes over to the new secret whenever it likes, and no refresh fails.
#[tokio::test(flavor = "multi_thread")]
async fn rf47_a_client_secret_is_switched_under_running_refreshes() {
    let mut world = World::new().await;
    let names = ["a", "b", "c", "d", "e"];
    for name in names {
        let seed = world.admin().grant(grant(6.0));
        let mut document: Value = serde_json::from_str(seed.document().expose()).unwrap();
        document["client_secret_next"] = "the-next-secret".into();
        document["client_secret_expires_at"] = 1_900_000_000.into();
        world.keep(name, &Secret::new(document.to_string())).await;
        world.credential(name, "refresh_token", "");
    }
    world.start().await;
    for name in names {
        world.reaches(name, 2).await;
    }
    tokio::time::sleep(Duration::from_secs(3).mul_f64(crate::journey::fraction())).await;
    world.admin().client(Client { secret: Some(Secret::new("the-next-secret")), ..Client::default() });
    for name in names {
        let generation = world.view(name).await["generation"].as_i64().unwrap();
        // The one that was out at the switch, and two that began after it.
        let view = world.reaches(name, generation + 3).await;
        assert_eq!(view["client_secret_expires_at"], "2030-03-17T17:46:40Z");
        assert_eq!(world.logged(name, "refresh_failed").await.len(), 0, "{name}");
        assert_eq!(world.logged(name, "refresh_turned").await.len(), 1, "{name}: the one that works is remembered");
    }
    assert_eq!(world.incidents().await.len(), 0);
    let metrics = world.health("/metrics").await.body;
    let ends = "credd_credential_expiration_timestamp_seconds{credential=\"a\",part=\"client_secret\"} 1900000000";
    assert!(metrics.contains(ends), "{metrics}");
    assert!(!metrics.contains("the-next-secret"));
    world.stop().await;
}

/// FM-05: a server error with a good token in it. The token is tried, and used because it works.
#[tokio::test(flavor = "multi_thread")]
async fn fm05_a_token_under_a_server_error_is_tried_before_it_is_used() {
    let mut world = World::new().await;
    let seed = world.granted("bot", grant(3600.0), "").await;
    world.start().await;
    world.admin().fault(FaultKind::Restamp { status: 500 }.next(1));
    assert_eq!(world.act("bot", "refresh").await.status, 200);
    world.reaches("bot", 2).await;
    let new = token(&world.read("bot").await);
    assert_ne!(new, seed.access_token.expose());
    assert_eq!(call_api(&world.sandbox.probe_url(), &new).await.0, 200);
    assert_eq!(world.admin().counters_of(&seed.id).refresh_calls, 1);
    assert_eq!(world.act("bot", "refresh").await.status, 200, "its refresh token was kept as well");
    world.stop().await;
}

/// FM-05: the API does not know the token. It reaches nobody, and is kept.
#[tokio::test(flavor = "multi_thread")]
async fn fm05_a_token_that_does_not_work_reaches_nobody_and_is_kept() {
    let mut world = World::new().await;
    let seed = world.granted("bot", grant(3600.0), "").await;
    world.start().await;
    until("the first probe", async || (!world.view("bot").await["last_probe_at"].is_null()).then_some(())).await;
    world.admin().fault(
        FaultKind::Refuse { status: 401, error: "invalid_token".into(), description: None }.next(1).at(Place::Api),
    );
    let body = r#"{"access_token":"of-somebody-else","refresh_token":"likewise","expires_in":3600}"#;
    world.admin().fault(FaultKind::Raw { status: 500, headers: Default::default(), body: body.into() }.next(1));
    world.act("bot", "refresh").await;
    let failed = until("the refresh has failed", async || {
        Some(world.logged("bot", "refresh_failed").await).filter(|failed| !failed.is_empty())
    })
    .await;
    let attempt = failed[0].attempt.unwrap();
    let kept = world.daemon().ledger.rotation().orphans().await.unwrap();
    let kept = kept.iter().find(|orphan| orphan.attempt == attempt).expect("the reply is kept");
    assert_eq!(kept.reply.body, body.as_bytes());
    assert_eq!(token(&world.read("bot").await), seed.access_token.expose());
    assert_eq!(world.act("bot", "refresh").await.status, 200);
    world.reaches("bot", 2).await;
    assert_ne!(token(&world.read("bot").await), "of-somebody-else");
    world.stop().await;
}

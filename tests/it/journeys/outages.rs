//! A provider that is limited, down, elsewhere or that changed its mind about our client: the token goes on being served.

use credd::{
    credential::Secret,
    sandbox::{Client, Fault, FaultKind, Place, RetryAfter},
};
use jiff::SignedDuration;

use crate::world::{World, call_api, generation, grant, token, until};

fn everywhere(kind: FaultKind) -> Fault {
    Fault { kind, at: Place::Any, grant: None, calls: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn rf12_a_limit_is_obeyed_for_as_long_as_it_says() {
    let mut world = World::new().await;
    let seed = world.granted("bot", grant(20.0), "").await;
    let kind = FaultKind::RateLimit { retry_after: RetryAfter::Seconds(3) };
    world.admin().fault(Fault { kind, at: Place::Token, grant: Some(seed.id.clone()), calls: Some(1) });
    world.start().await;
    world.reaches("bot", 2).await;
    let log = world.admin().log_of(&seed.id);
    let calls: Vec<_> = log.iter().filter(|call| call.endpoint == "token").collect();
    assert_eq!(calls[0].status, Some(429), "{calls:?}");
    let waited = calls[1].arrived.duration_since(calls[0].replied.unwrap());
    assert!(waited >= SignedDuration::from_millis(2990), "came back after {waited:#}");
    assert!(world.incidents().await.is_empty());
    world.stop().await;
}

/// The provider is away in that manner while a refresh is due: what lives is served, nothing is called dead, and it
/// mends itself.
async fn away(kind: FaultKind) {
    let mut world = World::new().await;
    let seed = world.granted("bot", grant(24.0), "").await;
    world.start().await;
    let fault = world.admin().fault(everywhere(kind));
    until("a refresh fails", async || (!world.logged("bot", "refresh_failed").await.is_empty()).then_some(())).await;
    // What is durable is shown a moment later.
    until("it is shown", async || (!world.view("bot").await["problem"].is_null()).then_some(())).await;
    let got = world.read("bot").await;
    assert_eq!(token(&got), seed.access_token.expose(), "static stability");
    let view = world.view("bot").await;
    assert!(!["revoked", "suspect", "misconfigured"].contains(&view["state"].as_str().unwrap()), "{view}");
    assert_eq!(view["problem"]["failure"], "upstream_unavailable", "{view}");
    world.admin().clear(fault);
    world.reaches("bot", 2).await;
    let healed = token(&world.read("bot").await);
    assert_eq!(call_api(&world.sandbox.probe_url(), &healed).await.0, 200);
    until("no incident stays open", async || world.incidents().await.is_empty().then_some(())).await;
    assert!(world.logged("bot", "refresh_failed").await.iter().all(|entry| entry.outcome != "credential_revoked"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rf13_server_errors_are_lived_through() {
    away(FaultKind::Status { status: 500, after_commit: false }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rf13_resets_are_lived_through() {
    away(FaultKind::ResetBeforeCommit).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rf13_a_gateways_page_is_lived_through() {
    away(FaultKind::Html { status: 502 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rf14_a_redirect_is_never_followed() {
    let mut world = World::new().await;
    let elsewhere = World::new().await;
    let seed = world.granted("bot", grant(3600.0), "").await;
    world.start().await;
    let kind = FaultKind::Redirect { status: 307, location: elsewhere.sandbox.token_endpoint() };
    world.admin().fault(Fault { kind, at: Place::Token, grant: None, calls: None });
    let got = world.act("bot", "refresh").await;
    assert_eq!(got.status, 409, "{}", got.body);
    let view = world.becomes("bot", "misconfigured").await;
    assert_eq!(view["problem"]["failure"], "client_misconfigured", "{view}");
    assert_eq!(elsewhere.admin().counters().total.token_calls, 0, "the grant went to its own provider alone");
    assert_eq!(token(&world.read("bot").await), seed.access_token.expose(), "what lives is served");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rf17_a_changed_client_secret_is_told_and_a_new_one_in_the_home_store_mends_it() {
    let mut world = World::new().await;
    let seed = world.granted("bot", grant(3600.0), "").await;
    world.start().await;
    world.admin().client(Client { secret: Some(Secret::new("another-secret")), ..Client::default() });
    assert_eq!(world.act("bot", "refresh").await.status, 409);
    world.becomes("bot", "misconfigured").await;
    assert_eq!(generation(&world.read("bot").await), 1, "the token itself is still good");
    let open =
        until("the incident is open", async || Some(world.incidents().await).filter(|open| !open.is_empty())).await;
    assert_eq!(open[0].kind, "client_misconfigured");
    let calls = world.admin().counters_of(&seed.id).refresh_calls;

    let mut document: serde_json::Value = serde_json::from_str(seed.document().expose()).unwrap();
    document["client_secret"] = "another-secret".into();
    let began = crate::world::up();
    world.keep("bot", &Secret::new(document.to_string())).await;
    until("it is healed", async || {
        let view = world.view("bot").await;
        (view["state"] == "fresh").then_some(())
    })
    .await;
    eprintln!("healed {:.2} s after the new secret was put", (crate::world::up() - began).as_secs_f64());
    assert_eq!(world.act("bot", "refresh").await.status, 200);
    assert_eq!(world.admin().counters_of(&seed.id).refresh_calls, calls + 1);
    until("the incident is closed", async || world.incidents().await.is_empty().then_some(())).await;
    world.stop().await;
}

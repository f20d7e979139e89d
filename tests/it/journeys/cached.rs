//! FM-12: a cache before the API goes on saying yes for a token that is dead.

use std::sync::{Arc, Mutex};

use axum::{Router, extract::State, http::HeaderMap, response::IntoResponse};

use crate::world::{World, call_api, grant, until};

/// What was answered first, and the API behind.
#[derive(Clone)]
struct Cache {
    kept: Arc<Mutex<Option<String>>>,
    api: String,
}

async fn through(State(cache): State<Cache>, headers: HeaderMap) -> impl IntoResponse {
    let kept = cache.kept.lock().unwrap().clone();
    if let Some(kept) = kept.filter(|_| headers.get("cache-control").is_none_or(|value| value != "no-cache")) {
        return (axum::http::StatusCode::OK, kept);
    }
    let token = headers["authorization"].to_str().unwrap().strip_prefix("Bearer ").unwrap().to_owned();
    let (status, body) = call_api(&cache.api, &token).await;
    if status == 200 {
        *cache.kept.lock().unwrap() = Some(body.clone());
    }
    (axum::http::StatusCode::from_u16(status).unwrap(), body)
}

#[tokio::test(flavor = "multi_thread")]
async fn fm12_a_cache_before_the_api_hides_no_revocation() {
    let mut world = World::new().await;
    let cache = Cache { kept: Arc::default(), api: world.sandbox.probe_url() };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let cached = format!("http://{}/me", listener.local_addr().unwrap());
    tokio::spawn(axum::serve(listener, Router::new().fallback(through).with_state(cache.clone())).into_future());
    let seed = world.granted("bot", grant(3600.0), "").await;
    world.tables = world.tables.replace(&world.sandbox.probe_url(), &cached);
    world.start().await;
    world.act("bot", "probe").await;
    until("the cache has an answer", async || cache.kept.lock().unwrap().clone()).await;

    assert!(world.admin().revoke(&seed.id));
    assert_eq!(call_api(&cached, seed.access_token.expose()).await.0, 200, "whoever does not insist is told a lie");
    world.act("bot", "probe").await;
    let view = world.becomes("bot", "revoked").await;
    assert_eq!(view["problem"]["failure"], "credential_revoked", "{view}");
    world.stop().await;
}

//! What happens to a flight when its settings, or its process, go while it is in the air; and to readers when it lands.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use credd::sandbox::{Fault, FaultKind, NewGrant, Place, Seed};

use crate::{
    journey::ask,
    world::{World, call_api, grant, token, until},
};

fn strict() -> NewGrant {
    NewGrant { profile: "strict_kill_family".parse().unwrap(), ..grant(3600.0) }
}

async fn flies(world: &World, seed: &Seed, ms: u64) {
    let kind = FaultKind::Delay { ms, after_commit: true };
    world.admin().fault(Fault { kind, at: Place::Token, grant: Some(seed.id.clone()), calls: Some(1) });
    let mut operator = world.operator().await;
    operator.send("POST /v1/credentials/bot/refresh HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n").await;
    until("the refresh is out", async || (world.admin().counters_of(&seed.id).in_flight == 1).then_some(())).await;
}

const ODD: &str = "extends = \"rfc6749\"\n[rotation]\nprofile = \"strict\"\n";

/// RF-40: the provider ends the old access token in the moment of the refresh. Whoever reads after it has the new one.
#[tokio::test(flavor = "multi_thread")]
async fn rf40_a_refresh_that_kills_the_old_token_leaves_nobody_with_it() {
    let mut world = World::new().await;
    let seed = world.granted("bot", NewGrant { single_access: true, ..strict() }, "").await;
    world.start().await;
    let mut watcher = world.reader().await;
    watcher.send("GET /v1/watch?names=bot HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(watcher.head().await.unwrap().status, 200);
    assert_eq!(watcher.event().await.unwrap().2["access_token"], seed.access_token.expose());
    for generation in 2..=4 {
        let before = token(&world.read("bot").await);
        assert_eq!(world.act("bot", "refresh").await.status, 200);
        let now = token(&world.read("bot").await);
        let probe = world.sandbox.probe_url();
        assert_eq!((call_api(&probe, &now).await.0, call_api(&probe, &before).await.0), (200, 401));
        // Those who watch are told by themselves.
        let told = loop {
            let (_, _, told) = watcher.event().await.expect("the stream goes on");
            if told["generation"] == generation {
                break told;
            }
        };
        assert_eq!(told["access_token"], now.as_str());
    }
    assert_eq!(world.admin().counters_of(&seed.id).refresh_calls, 3, "no refresh without a reason");
    world.stop().await;
}

/// FM-67: a stop waits for the reply that exists only once, however impatient whoever asked for it is.
#[tokio::test(flavor = "multi_thread")]
async fn fm67_a_stop_brings_home_what_is_in_the_air() {
    let mut world = World::new().await;
    world.provider("odd", ODD);
    let seed = world.granted("bot", strict(), "provider = \"odd\"").await;
    let running = world.launched().await;
    flies(&world, &seed, 4_000).await;
    let pid = rustix::process::Pid::from_raw(i32::try_from(running.pid()).unwrap()).unwrap();
    for _ in 0..3 {
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    }
    assert_eq!(world.admin().counters_of(&seed.id).in_flight, 1, "it was asked to stop while the call was out");
    assert_eq!(running.terminate(), Some(0));
    let running = world.launched().await;
    let view = world.view_by_binary("bot");
    assert_eq!(view["generation"], 2, "{view}");
    let (status, said) = ask(&world.path("run/admin.sock"), "POST", "/v1/credentials/bot/refresh").await.unwrap();
    assert_eq!(status, 200, "{said}");
    let counted = world.admin().counters_of(&seed.id);
    assert_eq!((counted.refresh_calls, counted.reuse_seen, counted.overlaps), (2, 0, 0), "{counted:?}");
    assert_eq!(running.terminate(), Some(0));
}

/// FM-72: the settings lose a credential whose flight is in the air. What it brings is kept, should it come back.
#[tokio::test(flavor = "multi_thread")]
async fn fm72_a_credential_that_is_removed_in_the_air_is_brought_home_first() {
    let mut world = World::new().await;
    world.provider("odd", ODD);
    let seed = world.granted("bot", strict(), "provider = \"odd\"").await;
    let other = world.granted("other", strict(), "provider = \"odd\"").await;
    world.start().await;
    flies(&world, &seed, 3_000).await;
    let all = world.tables.clone();
    world.tables.clear();
    world.credential("other", "refresh_token", "provider = \"odd\"");
    world.write_settings();
    until("readers hear that it is gone", async || (world.read("bot").await.status == 404).then_some(())).await;
    assert_eq!(world.admin().counters_of(&seed.id).in_flight, 1, "its flight is still out");
    assert_eq!(token(&world.read("other").await), other.access_token.expose());
    until("it is removed", async || world.logged("bot", "removed").await.first().cloned()).await;
    assert_eq!(world.logged("bot", "refreshed").await.len(), 1, "after it was brought home");

    world.tables = all;
    world.write_settings();
    until("it is back", async || (world.read("bot").await.status == 200).then_some(())).await;
    assert_eq!(world.view("bot").await["generation"], 2);
    assert_eq!(world.act("bot", "refresh").await.status, 200);
    let counted = world.admin().counters_of(&seed.id);
    assert_eq!((counted.refresh_calls, counted.reuse_seen), (2, 0), "{counted:?}");
    world.stop().await;
}

/// A way to the provider that counts who takes it.
async fn way(to: &str) -> (String, Arc<AtomicU32>) {
    let to: std::net::SocketAddr = to.trim_start_matches("http://").parse().unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/token", listener.local_addr().unwrap());
    let counter = Arc::<AtomicU32>::default();
    let counts = counter.clone();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            counts.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let mut provider = tokio::net::TcpStream::connect(to).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut provider).await;
            });
        }
    });
    (url, counter)
}

/// FM-73: another endpoint in the settings counts from the next flight on; the one that is out comes home by its own way.
#[tokio::test(flavor = "multi_thread")]
async fn fm73_changed_settings_count_from_the_next_flight_on() {
    let mut world = World::new().await;
    world.provider("odd", ODD);
    let (first, firsts) = way(&world.sandbox.url).await;
    let (second, seconds) = way(&world.sandbox.url).await;
    let seed = world.granted("bot", strict(), "provider = \"odd\"").await;
    world.tables = world.tables.replace(&world.sandbox.token_endpoint(), &first);
    world.start().await;
    flies(&world, &seed, 3_000).await;
    world.tables = world.tables.replace(&first, &second);
    world.write_settings();
    let reloaded = world.operator().await.post("/v1/reload", "").await;
    assert_eq!(reloaded.status, 200, "{}", reloaded.body);
    assert_eq!(world.admin().counters_of(&seed.id).in_flight, 1);
    world.reaches("bot", 2).await;
    assert_eq!(world.act("bot", "refresh").await.status, 200);
    assert_eq!((firsts.load(Ordering::SeqCst), seconds.load(Ordering::SeqCst)), (1, 1));
    let counted = world.admin().counters_of(&seed.id);
    assert_eq!((counted.refresh_calls, counted.reuse_seen, counted.overlaps), (2, 0, 0), "{counted:?}");
    world.stop().await;
}

/// FM-18: somebody deletes the secret. The last known value is served, refreshed and never taken for nothing.
#[tokio::test(flavor = "multi_thread")]
async fn fm18_a_secret_that_is_deleted_in_its_home_leaves_the_value_served_and_is_told() {
    let mut world = World::new().await;
    std::fs::create_dir(world.path("secrets")).unwrap();
    let seed = world.admin().grant(strict());
    crate::world::write(&world.path("secrets/bot"), seed.document().expose());
    world.provider("odd", ODD);
    world.tables("[stores.files]\nkind = \"file\"\nfolder = \"secrets\"\nwritable = true");
    world.credential("bot", "refresh_token", "store = \"files\"\nprovider = \"odd\"");
    world.start().await;
    std::fs::remove_file(world.path("secrets/bot")).unwrap();
    until("it is seen", async || {
        let view = world.view("bot").await;
        view["flags"].as_array().unwrap().contains(&"store_stale".into()).then_some(())
    })
    .await;
    assert_eq!(token(&world.read("bot").await), seed.access_token.expose());
    let told = until("on-call is told", async || {
        world.incidents().await.into_iter().find(|incident| incident.kind == "secret_missing")
    })
    .await;
    assert!(told.body.contains("files") && told.body.contains("bot"), "{}", told.body);
    // A restart keeps the value as well, and says it once.
    world.stop().await;
    world.start().await;
    assert_eq!(token(&world.read("bot").await), seed.access_token.expose());
    let next = world.admin().grant(strict());
    crate::world::write(&world.path("secrets/bot"), next.document().expose());
    until("the new one is taken over", async || {
        (token(&world.read("bot").await) == next.access_token.expose()).then_some(())
    })
    .await;
    until("the page is resolved", async || world.incidents().await.is_empty().then_some(())).await;
    world.stop().await;
}

/// RF-18: the settings name another client than the one that the grant was given to. It is not presented under that one.
#[tokio::test(flavor = "multi_thread")]
async fn rf18_a_grant_is_never_presented_under_another_client() {
    let mut world = World::new().await;
    world.provider("odd", ODD);
    let seed = world.admin().grant(strict());
    let mut document: serde_json::Value = serde_json::from_str(seed.document().expose()).unwrap();
    document.as_object_mut().unwrap().remove("client_id");
    world.keep("bot", &credd::credential::Secret::new(document.to_string())).await;
    world.credential("bot", "refresh_token", "provider = \"odd\"");
    world.tables("client_id = \"sandbox\"");
    world.start().await;
    assert_eq!(world.act("bot", "refresh").await.status, 200);
    assert_eq!(calls(&world, &seed), 1);
    let held = token(&world.read("bot").await);

    world.tables = world.tables.replace("client_id = \"sandbox\"", "client_id = \"made-anew\"");
    for restart in [false, true] {
        world.write_settings();
        if restart {
            world.stop().await;
            world.start().await;
        } else {
            assert_eq!(world.operator().await.post("/v1/reload", "").await.status, 200);
        }
        let got = world.act("bot", "refresh").await;
        assert_eq!(got.status, 409, "{}", got.body);
        let view = world.becomes("bot", "misconfigured").await;
        assert_eq!(view["problem"]["cause"], "client_binding", "{view}");
        assert!(view["problem"]["remedy"].as_str().unwrap().contains("client_id"), "{view}");
        assert_eq!(calls(&world, &seed), 1, "the old grant was not presented");
        assert_eq!(token(&world.read("bot").await), held, "what lives is served");
    }
    world.tables = world.tables.replace("client_id = \"made-anew\"", "client_id = \"sandbox\"");
    world.write_settings();
    assert_eq!(world.operator().await.post("/v1/reload", "").await.status, 200);
    until("it is refreshed again", async || (world.act("bot", "refresh").await.status == 200).then_some(())).await;
    until("no page stays open", async || world.incidents().await.is_empty().then_some(())).await;
    world.stop().await;
}

fn calls(world: &World, seed: &Seed) -> u64 {
    world.admin().counters_of(&seed.id).token_calls
}

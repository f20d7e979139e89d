//! A changed settings file is followed; a broken one changes nothing.

use std::time::Duration;

use credd::{
    clock::{Clock, SystemClock},
    sandbox::{FaultKind, NewKey},
};

use crate::world::{World, generation, get_tcp, grant, until};

fn metric(body: &str, name: &str) -> f64 {
    let line = body.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}: {body}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_come_change_and_go_and_no_other_watcher_notices() {
    let mut world = World::new().await;
    world.granted("stays", grant(3600.0), "").await;
    let stays = std::mem::take(&mut world.tables);
    world.granted("goes", grant(3600.0), "").await;
    world.tables = format!("{stays}{}", world.tables);
    world.start().await;
    let mut watcher = world.reader().await;
    watcher.send("GET /v1/watch?names=stays HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(watcher.head().await.unwrap().status, 200);
    assert_eq!(watcher.event().await.unwrap().2["generation"], 1);
    let mut leaver = world.reader().await;
    leaver.send("GET /v1/watch?names=goes HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(leaver.head().await.unwrap().status, 200);
    let _ = leaver.event().await.unwrap();

    // One goes, one comes, one changes its meaning for health.
    world.tables = stays.replace("kind =", "ttl_warn = \"2h\"\nkind =");
    let (_, key) = world.admin().key(&NewKey::default());
    world.keep("comes", &key).await;
    world.credential("comes", "api_key", "");
    world.write_settings();
    until("the new one is served", async || (world.read("comes").await.status == 200).then_some(())).await;
    until("the old one is gone", async || (world.read("goes").await.status == 404).then_some(())).await;
    while leaver.event().await.expect("its watchers are told").0 != "removed" {}
    let view = world.becomes("stays", "degraded").await;
    assert_eq!(view["ttl_warn_seconds"], 7200, "{view}");
    assert_eq!(world.act("stays", "refresh").await.status, 200);
    loop {
        let (_, _, event) = watcher.event().await.expect("the stream goes on");
        if event["generation"] == 2 {
            break;
        }
    }

    // Broken: nothing changes, and the metric says so.
    let good = std::fs::read_to_string(world.settings_path()).unwrap();
    std::fs::write(world.settings_path(), good.replace("[credentials.comes]", "[credentials.comes")).unwrap();
    let health = world.daemon().health;
    until("the metric tells of the broken file", async || {
        let body = get_tcp(health, "/metrics").await.body;
        (metric(&body, "credd_config_last_reload_successful") == 0.0).then_some(())
    })
    .await;
    let mut operator = world.operator().await;
    let asked = operator.post("/v1/reload", "").await;
    assert_eq!(asked.status, 422, "{}", asked.body);
    assert_eq!((world.read("comes").await.status, generation(&world.read("stays").await)), (200, 2));
    std::fs::write(world.settings_path(), good).unwrap();
    until("the metric tells of the mended file", async || {
        let body = get_tcp(health, "/metrics").await.body;
        (metric(&body, "credd_config_last_reload_successful") == 1.0).then_some(())
    })
    .await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fm71_a_reload_refuses_what_a_check_finds_and_takes_it_once_it_is_mended() {
    let mut world = World::new().await;
    world.granted("stays", grant(3600.0), "").await;
    world.start().await;
    let good = world.tables.clone();
    world.tables("[credentials.never]\nprovider = \"stripe\"\nkind = \"refresh_token\"");
    world.write_settings();
    let mut operator = world.operator().await;
    let asked = operator.post("/v1/reload", "").await;
    assert_eq!(asked.status, 422, "{}", asked.body);
    assert!(asked.body.contains("credentials.never.kind: provider stripe has no token endpoint"), "{}", asked.body);
    assert_eq!(world.read("stays").await.status, 200);
    assert_eq!(world.read("never").await.status, 404, "the old settings stay");
    let body = get_tcp(world.daemon().health, "/metrics").await.body;
    assert_eq!(metric(&body, "credd_config_last_reload_successful"), 0.0);

    // A secret that comes later needs no touch of the settings.
    world.tables = good;
    let key = world.path("hook.key");
    world.tables(&format!(
        "[pager.channels.hook]\nkind = \"webhook\"\nurl = \"http://127.0.0.1:1/\"\nsecrets = [{{ file = \"{}\" }}]",
        key.display()
    ));
    world.write_settings();
    let asked = operator.post("/v1/reload", "").await;
    assert_eq!(asked.status, 422, "{}", asked.body);
    crate::world::write(&key, "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz");
    let asked = operator.post("/v1/reload", "").await;
    assert_eq!(asked.status, 200, "{}", asked.body);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_goes_and_comes_back_is_watched_again() {
    let mut world = World::new().await;
    let seed = world.granted("bot", grant(3600.0), "").await;
    world.start().await;
    assert_eq!(world.act("bot", "refresh").await.status, 200);
    let tables = std::mem::take(&mut world.tables);
    world.write_settings();
    until("it is gone", async || (world.read("bot").await.status == 404).then_some(())).await;
    world.tables = tables;
    let successor = world.admin().grant(grant(3600.0));
    world.keep("bot", &successor.document()).await;
    world.write_settings();
    until("it is back", async || {
        let got = world.read("bot").await;
        (got.status == 200 && got.json()["access_token"] == successor.access_token.expose()).then_some(())
    })
    .await;
    assert_eq!(world.admin().counters_of(&seed.id).refresh_calls, 1);
    assert_eq!(world.act("bot", "refresh").await.status, 200);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_reloads_the_program() {
    let mut world = World::new().await;
    world.granted("bot", grant(3600.0), "").await;
    let running = world.launched().await;
    let (_, key) = world.admin().key(&NewKey::default());
    assert!(world.run_with(&["credential", "put", "key"], key.expose()).status.success());
    world.credential("key", "api_key", "");
    world.write_settings();
    running.hang_up();
    until("the new one is served", async || (world.read("key").await.status == 200).then_some(())).await;
    assert_eq!(running.terminate(), Some(0));
}

/// A static key's new end counts as soon as the settings say it, without any other news of the key.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_prolonged_in_the_settings() {
    let mut world = World::new().await;
    let (_, key) = world.admin().key(&NewKey::default());
    world.keep("key", &key).await;
    world.credential("key", "api_key", "expires_at = \"2031-01-01T00:00:00Z\"");
    world.start().await;
    assert_eq!(world.view("key").await["expires_at"], "2031-01-01T00:00:00Z");
    world.tables = world.tables.replace("2031", "2032");
    world.write_settings();
    until("the new end", async || (world.view("key").await["expires_at"] == "2032-01-01T00:00:00Z").then_some(()))
        .await;
    assert_eq!(world.view("key").await["generation"], 1, "nothing else is new");
    world.stop().await;
}

/// A provider file that changes is taken at once; a broken one changes nothing, loudly.
#[tokio::test(flavor = "multi_thread")]
async fn a_provider_file_is_followed_and_a_broken_one_is_not() {
    let mut world = World::new().await;
    let file = |cause: &str| {
        format!(
            "extends = \"rfc6749\"\n[[failure]]\nsubtype = \"client_misconfigured\"\ncause = \"{cause}\"\n\
             when = {{ body = {{ \"/error\" = [\"teapot\"] }} }}\n[[example]]\nsubtype = \"client_misconfigured\"\n\
             surface = \"token_endpoint\"\nreply = {{ status = 400, body = '{{\"error\":\"teapot\"}}' }}\n"
        )
    };
    world.provider("teapot", &file("first_rule"));
    world.granted("bot", grant(3600.0), "provider = \"teapot\"").await;
    world.start().await;
    let refuse = FaultKind::Refuse { status: 400, error: "teapot".into(), description: None };
    world.admin().fault(refuse.always());
    world.act("bot", "refresh").await;
    let cause = async |wanted: &str| {
        // Not faster than the endpoint may be asked: a refusal of the pacing is no answer of the provider.
        let mut last = String::new();
        for _ in 0..240 {
            last = world.act("bot", "release").await.body;
            if world.view("bot").await["problem"]["cause"] == wanted {
                return;
            }
            SystemClock.sleep(Duration::from_millis(250)).await;
        }
        panic!("{wanted} never came: {last} {}", world.view("bot").await);
    };
    cause("first_rule").await;
    let path = world.path("providers/teapot.toml");
    crate::world::write(&path, &file("second_rule"));
    cause("second_rule").await;
    crate::world::write(&path, "extends = \"rfc6749\"\nno such thing\n");
    let health = world.daemon().health;
    until("the metric tells of the broken file", async || {
        let body = get_tcp(health, "/metrics").await.body;
        (metric(&body, "credd_provider_file_problems") > 0.0).then_some(())
    })
    .await;
    world.act("bot", "release").await;
    world.becomes("bot", "misconfigured").await;
    cause("second_rule").await;
    crate::world::write(&path, &file("third_rule"));
    cause("third_rule").await;
    assert_eq!(metric(&get_tcp(health, "/metrics").await.body, "credd_provider_file_problems"), 0.0);
    world.stop().await;
}

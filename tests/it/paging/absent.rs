//! A home store that is away: on-call's conditions begin with it, count from their own dates, and end with it.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use credd::ledger::Incident;
use serde_json::{Value, json};

use crate::world::{World, grant, until, write};

async fn incident(world: &World, kind: &str) -> Incident {
    until(kind, async || world.incidents().await.into_iter().find(|incident| incident.kind == kind)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn fm15_a_store_that_is_away_and_a_value_that_waits_for_it_are_conditions_until_it_is_back() {
    let mut world = World::new().await;
    let seed = world.admin().grant(grant(3600.0));
    let held = world.path("held.json");
    let document: Value = serde_json::from_str(seed.document().expose()).unwrap();
    fs::write(&held, json!({ "bot": { "version": 1, "secret": document } }).to_string()).unwrap();
    let store = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/stores/exec/store.py");
    let away = world.path("away");
    let script = format!("#!/bin/sh\n[ -e {away:?} ] && exit 69\nexec python3 {store:?} {held:?} \"$@\"\n");
    write(&world.path("store.sh"), &script);
    fs::set_permissions(world.path("store.sh"), fs::Permissions::from_mode(0o700)).unwrap();
    world.tables(&format!(
        "[stores.far]\nkind = \"exec\"\ncommand = [{:?}]\nwritable = true\npoll_seconds = 1\n",
        world.path("store.sh")
    ));
    world.credential("bot", "refresh_token", "store = \"far\"");
    world.start().await;
    world.becomes("bot", "fresh").await;
    assert!(world.incidents().await.is_empty());

    fs::write(&away, "").unwrap();
    world.act("bot", "refresh").await;
    world.reaches("bot", 2).await;
    let waits = incident(&world, "writeback_failing").await;
    assert_eq!(
        (waits.credential.as_str(), waits.severity.as_str(), waits.group.as_str()),
        ("bot", "warning", "store far")
    );
    let logged = world.logged("bot", "refreshed").await;
    let apart = waits.opened_at.duration_since(logged[0].at).abs();
    assert!(apart < jiff::SignedDuration::from_secs(5), "it counts from the value that waits: {apart:#}");
    let down = incident(&world, "store_down").await;
    assert_eq!((down.credential.as_str(), down.group.as_str()), ("store far", "far"));
    assert_eq!(world.read("bot").await.status, 200, "readers have their token");
    assert_eq!(world.health("/readyz").await.body, "ok\n");

    // A restart finds the same conditions, with the same dates.
    world.stop().await;
    world.start().await;
    assert_eq!(incident(&world, "store_down").await.opened_at, down.opened_at);
    assert_eq!(incident(&world, "writeback_failing").await.opened_at, waits.opened_at);

    fs::remove_file(&away).unwrap();
    until("both are over", async || world.incidents().await.is_empty().then_some(())).await;
    let home: Value = serde_json::from_str(&fs::read_to_string(&held).unwrap()).unwrap();
    assert_ne!(home["bot"]["secret"]["refresh_token"], document["refresh_token"], "and the new secret is home");
    world.stop().await;
}

//! What readers see is in the ledger already, and what is in the ledger goes on its way after a death.

use std::{collections::BTreeMap, os::unix::process::ExitStatusExt, sync::Arc};

use credd::{
    clock::SystemClock,
    ledger::{Ledger, Place},
    sandbox::{Fault, FaultKind, NewGrant, Place as At},
    seal::Sealer,
};
use serde_json::Value;

use crate::{
    journey::ask,
    world::{World, generation, grant, id, token, until, write},
};

/// P-4: each token that a reader is told of is looked up at once, by a second pair of eyes that believes the file alone.
#[tokio::test(flavor = "multi_thread")]
async fn p4_what_a_reader_sees_the_ledger_holds_already() {
    const NAMES: [&str; 4] = ["a", "b", "c", "d"];
    let mut world = World::new().await;
    for name in NAMES {
        world.granted(name, NewGrant { profile: "strict".parse().unwrap(), ..grant(2.0) }, "").await;
    }
    world.start().await;
    let sealer = Sealer::from_file(&world.path("state/ledger.key")).unwrap();
    let place = Place::Sqlite(world.path("state/ledger.db"));
    let ledger = Ledger::open_to_read(place, sealer, Arc::new(SystemClock)).await.unwrap();
    let mut watcher = world.reader().await;
    watcher.send(&format!("GET /v1/watch?names={} HTTP/1.1\r\nhost: x\r\n\r\n", NAMES.join(","))).await;
    assert_eq!(watcher.head().await.unwrap().status, 200);
    let mut seen: BTreeMap<String, i64> = BTreeMap::new();
    while seen.len() < NAMES.len() || seen.values().any(|generation| *generation < 5) {
        let (_, _, told) = watcher.event().await.expect("the stream goes on");
        let (Some(token), Some(name)) = (told["access_token"].as_str(), told["name"].as_str()) else { continue };
        let record = ledger.rotation().load(&id(name)).await.unwrap().expect("it is there");
        let generation = told["generation"].as_i64().unwrap();
        assert!(record.generation.0 >= generation, "{name}: generation {generation} was seen, {record:?} is durable");
        if record.generation.0 == generation {
            let held = record.material.as_ref().unwrap().access_token.as_ref().unwrap();
            assert_eq!(held.expose(), token, "{name}: the very token");
        }
        assert_eq!(told["unsaved"], Value::Null, "{told}");
        seen.insert(name.to_owned(), generation);
    }
    world.stop().await;
}

/// RR-7: promoted, and its process died before readers, or the home store, had it. The next one publishes it and carries it
/// home, and asks the provider nothing.
#[tokio::test(flavor = "multi_thread")]
async fn rr7_a_value_that_was_promoted_is_published_and_carried_home_by_the_next_process() {
    for point in ["CP-15", "CP-16"] {
        let mut world = World::new().await;
        let home = world.path("secrets/bot");
        std::fs::create_dir(world.path("secrets")).unwrap();
        let terms = NewGrant { profile: "strict_kill_family".parse().unwrap(), ..grant(3600.0) };
        let seed = world.admin().grant(terms);
        write(&home, seed.document().expose());
        world.provider("odd", "extends = \"rfc6749\"\n[rotation]\nprofile = \"strict\"\n");
        world.tables("[stores.files]\nkind = \"file\"\nfolder = \"secrets\"\nwritable = true");
        world.credential("bot", "refresh_token", "store = \"files\"\nprovider = \"odd\"");
        world.write_settings();
        let log = std::fs::File::create(world.path("credd.log")).unwrap();
        let mut dies = world.credd(&["run"]).env("CREDD_FAILPOINT", point).stderr(log).spawn().unwrap();
        let operate = async || ask(&world.path("run/admin.sock"), "POST", "/v1/credentials/bot/refresh").await;
        until("it dies of a refresh", async || {
            operate().await;
            dies.try_wait().unwrap()
        })
        .await;
        assert_eq!(dies.wait().unwrap().signal(), Some(9), "{point}: {}", world.log());
        let at_home = || serde_json::from_str::<Value>(&std::fs::read_to_string(&home).unwrap()).unwrap();
        assert_eq!(at_home()["generation"], Value::Null, "{point}: nothing was carried home");

        let kind = FaultKind::Status { status: 503, after_commit: false };
        world.admin().fault(Fault { kind, at: At::Token, grant: None, calls: None });
        let running = world.launched().await;
        let got = world.read("bot").await;
        assert_eq!(generation(&got), 2, "{point}");
        assert_ne!(token(&got), seed.access_token.expose(), "{point}");
        until("it is carried home", async || (at_home()["generation"] == 2).then_some(())).await;
        let counted = world.admin().counters_of(&seed.id);
        assert_eq!((counted.refresh_calls, counted.reuse_seen), (1, 0), "{point}: {counted:?}");
        assert_eq!(running.terminate(), Some(0));
    }
}

//! Home stores that are changed by others, and to which rotated grants go home.

use credd::sandbox::{NewGrant, NewKey};
use serde_json::{Value, json};

use crate::world::{World, generation, grant, token, until, write};

fn document(path: &std::path::Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// A world with a folder of files as home store.
async fn with_files(writable: bool) -> World {
    let mut world = World::new().await;
    std::fs::create_dir(world.path("secrets")).unwrap();
    let folder = world.path("secrets");
    world.tables(&format!("[stores.files]\nkind = \"file\"\nfolder = \"{}\"\nwritable = {writable}", folder.display()));
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_file_reaches_a_watcher() {
    let mut world = with_files(false).await;
    let path = world.path("secrets/key");
    let (_, first) = world.admin().key(&NewKey::default());
    write(&path, first.expose());
    world.credential("key", "api_key", "store = \"files\"");
    world.start().await;
    let mut watcher = world.reader().await;
    watcher.send("GET /v1/watch?names=key HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(watcher.head().await.unwrap().status, 200);
    assert_eq!(watcher.event().await.unwrap().2["access_token"], first.expose());
    let (_, second) = world.admin().key(&NewKey::default());
    let began = crate::world::up();
    write(&path, second.expose());
    loop {
        let (_, _, event) = watcher.event().await.expect("the stream goes on");
        if event["access_token"] == second.expose() {
            break;
        }
    }
    eprintln!("a changed file reached a watcher after {:.3} s", (crate::world::up() - began).as_secs_f64());
    // Garbage in its place replaces nothing (P-10).
    let before = generation(&world.read("key").await);
    write(&path, "{\"access_token\": 7}");
    until("the bad file is seen", async || {
        let flags = world.view("key").await["flags"].to_string();
        flags.contains("store_stale").then_some(())
    })
    .await;
    let got = world.read("key").await;
    assert_eq!((generation(&got), token(&got).as_str()), (before, second.expose()));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rf02_a_rotated_grant_goes_home_with_our_marks_and_a_foreign_one_there_is_adopted() {
    let mut world = with_files(true).await;
    let path = world.path("secrets/bot.json");
    let terms = || NewGrant { profile: "strict".parse().unwrap(), ..grant(3600.0) };
    let seed = world.admin().grant(terms());
    let mut first: Value = serde_json::from_str(seed.document().expose()).unwrap();
    first["note"] = "kept by a person".into();
    write(&path, &first.to_string());
    world.credential("bot", "refresh_token", "store = \"files\"\nat = \"bot.json\"");
    world.start().await;
    for round in 2..=3 {
        // An operator's wish is not held back by the limiter of refreshes.
        assert_eq!(world.act("bot", "refresh").await.status, 200);
        let home = until("the rotated grant stands at home", async || {
            let home = document(&path);
            (home["generation"] == round).then_some(home)
        })
        .await;
        let live = credd::credential::Secret::new(home["refresh_token"].as_str().unwrap());
        assert!(world.admin().is_live(&live), "round {round}: what stands at home is the living grant");
        assert_eq!(home["access_token"], token(&world.read("bot").await).as_str());
        assert!(home["attempt_id"].is_string() && home["grant_id"].is_string(), "our marks");
        assert_eq!(home["note"], "kept by a person");
        assert_eq!(home["client_id"], first["client_id"]);
    }
    until("nothing waits to go home", async || {
        let flags = world.view("bot").await["flags"].to_string();
        (!flags.contains("writeback_pending")).then_some(())
    })
    .await;
    // Our own writing comes back as no news.
    assert_eq!(generation(&world.read("bot").await), 3);
    let other = world.admin().grant(terms());
    write(&path, other.document().expose());
    until("the foreign grant is adopted", async || {
        (token(&world.read("bot").await) == other.access_token.expose()).then_some(())
    })
    .await;
    assert_eq!(world.act("bot", "refresh").await.status, 200);
    assert_eq!(world.admin().counters_of(&other.id).refresh_calls, 1, "the next refresh presents theirs");
    until("it goes home in turn", async || (document(&path)["generation"] == 5).then_some(())).await;
    // A rotation by somebody else, who wrote it back as one should.
    world.stop().await;
    world.start().await;
    assert_eq!(generation(&world.read("bot").await), 5);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exec_store_is_a_home_like_any_other() {
    let mut world = World::new().await;
    let held = world.path("held.json");
    let seed = world.admin().grant(NewGrant { profile: "strict".parse().unwrap(), ..grant(3600.0) });
    let hold = |document: Value, version: i64| {
        write(&held, &json!({ "bot": { "version": version, "secret": document } }).to_string());
    };
    hold(serde_json::from_str(seed.document().expose()).unwrap(), 1);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/stores/exec/store.py");
    let command = json!(["/usr/bin/env", "python3", script, held]);
    world.tables(&format!("[stores.own]\nkind = \"exec\"\ncommand = {command}\nwritable = true\npoll_seconds = 1"));
    world.credential("bot", "refresh_token", "store = \"own\"");
    world.start().await;
    assert_eq!(token(&world.read("bot").await), seed.access_token.expose());
    assert_eq!(world.act("bot", "refresh").await.status, 200);
    until("the rotated grant stands at home", async || {
        let home = document(&held)["bot"].clone();
        let secret = match &home["secret"] {
            Value::String(text) => serde_json::from_str(text).unwrap(),
            other => other.clone(),
        };
        (secret["generation"] == 2).then_some(())
    })
    .await;
    let other = world.admin().grant(grant(3600.0));
    hold(serde_json::from_str(other.document().expose()).unwrap(), 9);
    until("the foreign grant is adopted", async || {
        (token(&world.read("bot").await) == other.access_token.expose()).then_some(())
    })
    .await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fm20_a_rotating_grant_in_a_home_that_cannot_be_written_is_not_spent() {
    let mut world = with_files(false).await;
    world.provider("rotating", "extends = \"rfc6749\"\n[rotation]\nprofile = \"strict\"\n");
    let seed = world.admin().grant(grant(3600.0));
    write(&world.path("secrets/bot"), seed.document().expose());
    world.credential("bot", "refresh_token", "store = \"files\"\nprovider = \"rotating\"");
    world.start().await;
    let got = world.act("bot", "refresh").await;
    assert_eq!(got.status, 409, "{}", got.body);
    assert_eq!(world.admin().counters_of(&seed.id).refresh_calls, 0);
    assert_eq!(token(&world.read("bot").await), seed.access_token.expose());
    world.stop().await;
}

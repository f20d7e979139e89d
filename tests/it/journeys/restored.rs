//! Ledgers that are older than the world: put back from a backup, or copied to a second machine.

use std::path::Path;

use credd::sandbox::{NewGrant, Seed};
use serde_json::Value;

use crate::world::{World, grant, token, until, write};

const STRICT: &str = "extends = \"rfc6749\"\n[rotation]\nprofile = \"strict\"\n";

fn strict(access_ttl: f64) -> NewGrant {
    NewGrant { profile: "strict_kill_family".parse().unwrap(), ..grant(access_ttl) }
}

/// A world whose secret lies in a folder of files, which several daemons can share.
async fn at_home_in(folder: &Path, seed: impl AsyncFnOnce(&World) -> Seed) -> (World, Seed) {
    let mut world = World::new().await;
    world.provider("odd", STRICT);
    let seed = seed(&world).await;
    std::fs::create_dir_all(folder).unwrap();
    write(&folder.join("bot"), seed.document().expose());
    settle(&mut world, folder);
    (world, seed)
}

fn settle(world: &mut World, folder: &Path) {
    world.tables(&format!("[stores.files]\nkind = \"file\"\nfolder = \"{}\"\nwritable = true", folder.display()));
    world.credential("bot", "refresh_token", "provider = \"odd\"\nstore = \"files\"");
}

/// Copies a folder's files, as a backup does.
fn copy(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
    std::fs::set_permissions(to, std::fs::metadata(from).unwrap().permissions()).unwrap();
}

/// Puts the ledger's own files back, and leaves what lies beside it.
fn restore(world: &World) {
    let mark = std::fs::read_to_string(world.path("state/ledger.db.reached")).unwrap();
    copy(&world.path("backup"), &world.path("state"));
    write(&world.path("state/ledger.db.reached"), &mark);
}

fn at_home(folder: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(folder.join("bot")).unwrap()).unwrap()
}

async fn went_home(folder: &Path, generation: i64) {
    until("it went home", async || (at_home(folder)["generation"] == generation).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rf49_rr8_a_restored_ledger_takes_the_newer_grant_from_its_home_and_presents_no_spent_one() {
    let homes = tempfile::tempdir().unwrap();
    // A token that is over at once: the old ledger has every reason to refresh in the moment it starts.
    let (mut world, seed) = at_home_in(homes.path(), async |world| world.admin().grant(strict(1.5))).await;
    world.start().await;
    world.reaches("bot", 2).await;
    world.stop().await;
    copy(&world.path("state"), &world.path("backup"));
    world.start().await;
    let reached = world.reaches("bot", 4).await["generation"].as_i64().unwrap();
    assert_eq!(world.act("bot", "hold").await.status, 200);
    let reached = world.view("bot").await["generation"].as_i64().unwrap().max(reached);
    went_home(homes.path(), reached).await;
    world.stop().await;

    copy(&world.path("backup"), &world.path("state"));
    world.start().await;
    let adopted = until("the home store's value is taken over", async || {
        world
            .logged("bot", "loaded")
            .await
            .first()
            .cloned()
            .filter(|it| it.trigger == "schedule" && it.generation.0 > 1)
    })
    .await;
    assert_eq!(adopted.generation.0, reached, "the same value has the same number");
    world.reaches("bot", reached + 2).await;
    let counted = world.admin().counters_of(&seed.id);
    assert_eq!((counted.reuse_seen, counted.reuse_refused, counted.overlaps), (0, 0, 0), "{counted:?}");
    assert!(world.incidents().await.is_empty());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rf49_rr8_a_restored_ledger_without_a_newer_home_presents_nothing_and_tells() {
    let mut world = World::new().await;
    world.provider("odd", STRICT);
    // The embedded store is restored with its ledger: only the mark beside it knows better.
    let seed = world.granted("bot", strict(3600.0), "provider = \"odd\"").await;
    world.start().await;
    assert_eq!(world.act("bot", "refresh").await.status, 200);
    world.stop().await;
    copy(&world.path("state"), &world.path("backup"));
    world.start().await;
    for _ in 0..2 {
        assert_eq!(world.act("bot", "refresh").await.status, 200);
    }
    world.stop().await;
    let calls = world.admin().counters_of(&seed.id).refresh_calls;

    restore(&world);
    world.start().await;
    world.becomes("bot", "outcome_unknown").await;
    let told = world.incidents().await;
    assert_eq!((told.len(), told[0].kind.as_str()), (1, "ledger_rolled_back"), "{told:?}");
    assert_eq!(world.act("bot", "refresh").await.status, 409, "an operator must vouch for it first");
    assert_eq!(world.read("bot").await.status, 200, "its token is served while it lives");
    // Nor after a restart.
    world.stop().await;
    world.start().await;
    world.becomes("bot", "outcome_unknown").await;
    let counted = world.admin().counters_of(&seed.id);
    assert_eq!((counted.refresh_calls, counted.reuse_seen), (calls, 0), "the spent token was presented 0 times");

    let new = world.admin().grant(strict(3600.0));
    world.keep("bot", &new.document()).await;
    world.becomes("bot", "fresh").await;
    until("the page is resolved", async || world.incidents().await.is_empty().then_some(())).await;
    assert_eq!(token(&world.read("bot").await), new.access_token.expose());
    assert_eq!(world.act("bot", "refresh").await.status, 200);
    world.stop().await;
    world.start().await;
    world.becomes("bot", "fresh").await;
    world.stop().await;
}

/// The ledger of before the first start knows nothing, and its embedded store holds the first token, without a mark of ours.
#[tokio::test(flavor = "multi_thread")]
async fn rf49_the_first_token_of_all_is_known_to_be_spent() {
    let mut world = World::new().await;
    world.provider("odd", STRICT);
    let seed = world.granted("bot", strict(3600.0), "provider = \"odd\"").await;
    copy(&world.path("state"), &world.path("backup"));
    world.start().await;
    for _ in 0..2 {
        assert_eq!(world.act("bot", "refresh").await.status, 200);
    }
    world.stop().await;
    restore(&world);
    world.start().await;
    world.becomes("bot", "outcome_unknown").await;
    assert_eq!(world.act("bot", "refresh").await.status, 409);
    let counted = world.admin().counters_of(&seed.id);
    assert_eq!((counted.refresh_calls, counted.reuse_seen), (2, 0));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rf49_an_operator_can_vouch_for_a_restored_ledger() {
    let mut world = World::new().await;
    world.provider("odd", STRICT);
    let seed = world.granted("bot", strict(3600.0), "provider = \"odd\"").await;
    world.start().await;
    world.stop().await;
    // The mark is ahead, and yet nothing was spent: somebody has put a wrong file there.
    let mark = world.path("state/ledger.db.reached");
    std::fs::write(&mark, "[\"bot\",7,null,null]\n").unwrap();
    world.start().await;
    world.becomes("bot", "outcome_unknown").await;
    assert_eq!(world.act("bot", "release").await.status, 200);
    world.becomes("bot", "fresh").await;
    assert_eq!(world.act("bot", "refresh").await.status, 200);
    world.stop().await;
    world.start().await;
    world.becomes("bot", "fresh").await;
    assert!(world.incidents().await.is_empty());
    assert_eq!(world.admin().counters_of(&seed.id).refresh_calls, 1);
    world.stop().await;
}

/// RF-50: the younger of two daemons with one state is silent, and follows what the elder writes home.
#[tokio::test(flavor = "multi_thread")]
async fn rf50_of_a_daemon_and_its_clone_exactly_one_calls_upstream() {
    let homes = tempfile::tempdir().unwrap();
    let (mut elder, seed) = at_home_in(homes.path(), async |world| world.admin().grant(strict(3600.0))).await;
    elder.machine = Some("00000000000000000000000000000001".into());
    elder.start().await;
    assert_eq!(elder.act("bot", "refresh").await.status, 200);
    went_home(homes.path(), 2).await;
    elder.stop().await;
    let mut clone = World::new().await;
    copy(&elder.path("state"), &clone.path("state"));
    elder.start().await;

    clone.provider("odd", STRICT);
    // Its calls would reach the same provider.
    std::mem::swap(&mut clone.sandbox, &mut elder.sandbox);
    settle(&mut clone, homes.path());
    std::mem::swap(&mut clone.sandbox, &mut elder.sandbox);
    clone.machine = Some("00000000000000000000000000000002".into());
    clone.start().await;
    clone.becomes("bot", "held").await;
    let told = clone.incidents().await;
    assert_eq!((told.len(), told[0].kind.as_str()), (1, "duplicate_owner"), "{told:?}");
    assert!(elder.incidents().await.is_empty());
    assert_eq!(clone.act("bot", "refresh").await.status, 409);
    assert_eq!(elder.act("bot", "refresh").await.status, 200);
    let elders = token(&elder.read("bot").await);
    until("the clone serves what the elder wrote home", async || {
        (token(&clone.read("bot").await) == elders).then_some(())
    })
    .await;
    clone.becomes("bot", "held").await;
    let counted = elder.admin().counters_of(&seed.id);
    assert_eq!((counted.refresh_calls, counted.reuse_seen, counted.overlaps), (2, 0, 0), "{counted:?}");

    // The state has really moved: the elder is gone, and somebody says so.
    elder.stop().await;
    assert_eq!(clone.act("bot", "release").await.status, 200);
    assert_eq!(clone.act("bot", "refresh").await.status, 200);
    assert!(clone.incidents().await.is_empty());
    assert_eq!(elder.admin().counters_of(&seed.id).refresh_calls, 3);
    // A stop waits for no home store, and the next start of it would hold on to what it has.
    went_home(homes.path(), 4).await;
    clone.stop().await;

    // It comes back all the same, on its own machine and with its old state: now it is the younger.
    elder.start().await;
    elder.reaches("bot", 4).await;
    assert_eq!(elder.act("bot", "hold").await.status, 200);
    clone.start().await;
    assert_eq!(clone.act("bot", "refresh").await.status, 200);
    until("the elder is told of its rival", async || {
        elder.incidents().await.iter().any(|it| it.kind == "duplicate_owner").then_some(())
    })
    .await;
    assert_eq!(elder.act("bot", "refresh").await.status, 409);
    assert_eq!(elder.admin().counters_of(&seed.id).reuse_seen, 0);
    clone.stop().await;
    elder.stop().await;
}

/// RF-02: a program that rotates the grant and leaves our marks in the document as they are.
#[tokio::test(flavor = "multi_thread")]
async fn rf02_a_token_that_somebody_else_put_between_our_marks_is_adopted() {
    let homes = tempfile::tempdir().unwrap();
    let (mut world, _) = at_home_in(homes.path(), async |world| world.admin().grant(strict(3600.0))).await;
    world.start().await;
    assert_eq!(world.act("bot", "refresh").await.status, 200);
    went_home(homes.path(), 2).await;
    let other = world.admin().grant(strict(3600.0));
    let mut home = at_home(homes.path());
    home["refresh_token"] = other.refresh_token.expose().into();
    home["access_token"] = other.access_token.expose().into();
    write(&homes.path().join("bot"), &home.to_string());
    until("it is adopted", async || (token(&world.read("bot").await) == other.access_token.expose()).then_some(()))
        .await;
    assert_eq!(world.act("bot", "refresh").await.status, 200);
    assert_eq!(world.admin().counters_of(&other.id).refresh_calls, 1);
    assert!(world.incidents().await.is_empty());
    world.stop().await;
}

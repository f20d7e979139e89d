//! FM-42, FM-63: what on-call is to be told happens while the ledger takes nothing. It is told when the ledger takes it.

use std::time::Duration;

use credd::sandbox::NewKey;
use sqlx::{Connection, SqliteConnection};

use crate::world::{World, grant, now, token, until, write};

/// Somebody else holds the database: nothing of ours is written until they let go.
pub async fn hold_the_ledger(world: &World) -> SqliteConnection {
    let mut thief = SqliteConnection::connect(world.path("state/ledger.db").to_str().unwrap()).await.unwrap();
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut thief).await.unwrap();
    thief
}

pub async fn let_go(mut thief: SqliteConnection) {
    sqlx::raw_sql("ROLLBACK").execute(&mut thief).await.unwrap();
    thief.close().await.unwrap();
}

/// All incidents of that kind that on-call was not told the end of yet.
async fn told(world: &World, kind: &str) -> Vec<(String, bool)> {
    let conditions = world.daemon().ledger.notices().conditions().await.unwrap();
    let ours = conditions.into_iter().filter(|condition| condition.kind == kind);
    ours.map(|condition| (condition.credential, condition.cleared.is_none())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn fm42_fm63_what_happens_while_the_ledger_is_away_is_told_once_when_it_is_back() {
    let mut world = World::new().await;
    std::fs::create_dir(world.path("secrets")).unwrap();
    world.tables("[stores.files]\nkind = \"file\"\nfolder = \"secrets\"\nwritable = true");
    let seed = world.admin().grant(grant(3600.0));
    write(&world.path("secrets/bot"), seed.document().expose());
    world.credential("bot", "refresh_token", "store = \"files\"");
    let (_, key) = world.admin().key(&NewKey::default());
    world.keep("soon", &key).await;
    let end = now() + Duration::from_secs(15);
    world.credential("soon", "api_key", &format!("expires_at = {end}"));
    world.start().await;
    world.becomes("bot", "fresh").await;
    assert_eq!(token(&world.read("soon").await), key.expose(), "it ends soon, and lives");

    let thief = hold_the_ledger(&world).await;
    // One is a fact of its home store, the other a step of its lifecycle.
    std::fs::remove_file(world.path("secrets/bot")).unwrap();
    world.becomes("soon", "expired").await;
    until("the home store is seen to have it no longer", async || {
        world.view("bot").await["flags"].as_array().unwrap().contains(&"store_stale".into()).then_some(())
    })
    .await;
    // A write that was asked for later has failed, so theirs has.
    assert!(world.daemon().ledger.rotation().preflight().await.is_err(), "the ledger is away");
    let held = world.put("other", "{}").await;
    assert_ne!(held.status, 200, "{}", held.body);
    assert!(told(&world, "secret_missing").await.is_empty() && told(&world, "credential_expired").await.is_empty());

    let_go(thief).await;
    for (kind, whose) in [("secret_missing", "bot"), ("credential_expired", "soon")] {
        until(kind, async || (!told(&world, kind).await.is_empty()).then_some(())).await;
        assert_eq!(told(&world, kind).await, [(whose.to_owned(), true)], "{kind}");
    }
    // The next looks find the same, and nobody is told again.
    assert_eq!(world.act("bot", "refresh").await.status, 200);
    let lives = token(&world.read("bot").await);

    // It is over while the ledger is away again.
    let thief = hold_the_ledger(&world).await;
    let next = world.admin().grant(grant(3600.0));
    write(&world.path("secrets/bot"), next.document().expose());
    assert!(world.daemon().ledger.rotation().preflight().await.is_err());
    let_go(thief).await;
    until("the end is told", async || {
        (!told(&world, "secret_missing").await.iter().any(|(_, open)| *open)).then_some(())
    })
    .await;
    until("the new one is served", async || (token(&world.read("bot").await) != lives).then_some(())).await;
    let all = told(&world, "secret_missing").await;
    assert!(all.len() <= 1, "one incident in all: {all:?}");
    world.stop().await;
}

//! FM-75: a home store that suddenly gives one credential the secret of another.

use credd::sandbox::{NewGrant, NewKey, Seed};

use crate::world::{World, grant, token, until, write};

/// Two grants at home in a folder of files.
async fn two() -> (World, Seed, Seed) {
    let mut world = World::new().await;
    std::fs::create_dir(world.path("secrets")).unwrap();
    world.provider("odd", "extends = \"rfc6749\"\n[rotation]\nprofile = \"strict\"\n");
    world.tables("[stores.files]\nkind = \"file\"\nfolder = \"secrets\"\nwritable = true");
    let terms = || NewGrant { profile: "strict_kill_family".parse().unwrap(), ..grant(3600.0) };
    let (a, b) = (world.admin().grant(terms()), world.admin().grant(terms()));
    for (name, seed) in [("a", &a), ("b", &b)] {
        put(&world, name, seed);
        world.credential(name, "refresh_token", "store = \"files\"\nprovider = \"odd\"");
    }
    world.start().await;
    (world, a, b)
}

fn put(world: &World, name: &str, seed: &Seed) {
    write(&world.path("secrets").join(name), seed.document().expose());
}

async fn is_refused(world: &World, name: &str, whose: &str) {
    let view = until("it is refused", async || {
        let view = world.view(name).await;
        view["store_error"].as_str().is_some_and(|text| text.contains("that of credential")).then_some(view)
    })
    .await;
    assert!(view["store_error"].as_str().unwrap().contains(&format!("credential {whose}")), "{view}");
}

async fn duplicates(world: &World) -> Vec<String> {
    let open = world.incidents().await;
    let ours = open.into_iter().filter(|it| it.kind == "duplicate_secret");
    ours.map(|it| format!("{}: {}", it.credential, it.summary)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn fm75_the_secret_of_another_is_refused_and_the_old_value_stays() {
    let (mut world, a, b) = two().await;
    put(&world, "a", &b);
    is_refused(&world, "a", "b").await;
    assert_eq!(token(&world.read("a").await), a.access_token.expose(), "its readers keep what they had");
    let told = duplicates(&world).await;
    assert!(told.len() == 1 && told[0].starts_with("a: a: files gives it the secret of b"), "{told:?}");
    let logged = world.logged("a", "secret_refused").await;
    assert_eq!(logged.len(), 1, "{logged:?}");
    // Each refreshes its own.
    for (name, seed) in [("b", &b), ("a", &a)] {
        assert_eq!(world.act(name, "refresh").await.status, 200, "{name}");
        assert_eq!(world.admin().counters_of(&seed.id).refresh_calls, 1, "{name}");
    }
    // A restart knows it as well, and that on-call was told.
    world.stop().await;
    world.start().await;
    is_refused(&world, "a", "b").await;
    assert_eq!(duplicates(&world).await.len(), 1);

    let next = world.admin().grant(grant(3600.0));
    put(&world, "a", &next);
    until("the right one is taken over", async || {
        (token(&world.read("a").await) == next.access_token.expose()).then_some(())
    })
    .await;
    until("the page is resolved", async || duplicates(&world).await.is_empty().then_some(())).await;
    assert!(world.view("a").await["store_error"].is_null());
    world.stop().await;
}

/// What the other has let go of is nobody's, and is taken over by itself.
#[tokio::test(flavor = "multi_thread")]
async fn fm75_a_secret_that_its_owner_lets_go_of_may_be_had() {
    let (mut world, _, b) = two().await;
    put(&world, "a", &b);
    is_refused(&world, "a", "b").await;
    let next = world.admin().grant(grant(3600.0));
    put(&world, "b", &next);
    for (name, seed) in [("b", &next), ("a", &b)] {
        until("it is taken over", async || {
            (token(&world.read(name).await) == seed.access_token.expose()).then_some(())
        })
        .await;
    }
    until("the page is resolved", async || duplicates(&world).await.is_empty().then_some(())).await;
    // The same when a credential is renamed: the new name has its secret, and nobody is told anything.
    let at_home = std::fs::read_to_string(world.path("secrets/b")).unwrap();
    write(&world.path("secrets/c"), &at_home);
    world.tables = world.tables.replace("credentials.b]", "credentials.c]").replace("credentials.b.", "credentials.c.");
    world.write_settings();
    until("the new name is served", async || {
        let got = world.read("c").await;
        (got.status == 200 && token(&got) == next.access_token.expose()).then_some(())
    })
    .await;
    until("no page stays open", async || duplicates(&world).await.is_empty().then_some(())).await;
    world.stop().await;
}

/// A static key may be meant for two; then the settings say so.
#[tokio::test(flavor = "multi_thread")]
async fn fm75_a_key_that_two_share_is_one_only_where_the_settings_say_so() {
    for (shared, served) in [("", false), ("shared = true", true)] {
        let mut world = World::new().await;
        world.head("startup = \"warn\"");
        let (_, key) = world.admin().key(&NewKey::default());
        world.keep("one", &key).await;
        world.credential("one", "api_key", "");
        world.start().await;
        world.becomes("one", "fresh").await;
        world.stop().await;
        world.keep("two", &key).await;
        world.credential("two", "api_key", shared);
        world.start().await;
        assert_eq!(token(&world.read("one").await), key.expose());
        if served {
            world.becomes("two", "fresh").await;
            assert_eq!(token(&world.read("two").await), key.expose());
            assert!(duplicates(&world).await.is_empty());
        } else {
            is_refused(&world, "two", "one").await;
            assert_ne!(world.read("two").await.status, 200);
            assert_eq!(duplicates(&world).await.len(), 1);
        }
        world.stop().await;
    }
}

//! A garbage secret never replaces a good one (P-10, FM-74): at the door of the embedded store, and from any other home.

use std::os::unix::fs::PermissionsExt;

use crate::world::{
    World,
    binary::{err, out},
    grant, token, until,
};

#[tokio::test(flavor = "multi_thread")]
async fn fm74_what_a_kind_cannot_be_made_of_is_not_stored() {
    let mut world = World::new().await;
    let seed = world.granted("bot", grant(3600.0), "").await;
    world.write_settings();
    for daemon in [false, true] {
        let running = if daemon { Some(world.launched().await) } else { None };
        for garbage in ["barekey", r#"{"api_key":"zzz"}"#] {
            let put = world.run_with(&["credential", "put", "bot"], garbage);
            assert_eq!(put.status.code(), Some(1), "daemon {daemon}: {}", out(&put));
            assert!(err(&put).contains("needs a refresh_token"), "{}", err(&put));
            assert!(!err(&put).contains("zzz") && !err(&put).contains("barekey"), "{}", err(&put));
        }
        // All of them, or none: the good one before it is not stored either.
        let many = r#"{"another":"good-key","bot":5}"#;
        let import = world.run_with(&["credential", "import"], many);
        assert_eq!(import.status.code(), Some(1), "daemon {daemon}: {}", out(&import));
        assert!(err(&import).contains("bot: a secret is a text or a JSON object"), "{}", err(&import));
        assert!(!out(&world.run(&["credential", "list"])).contains("another"));
        if let Some(running) = running {
            assert_eq!(token(&world.read("bot").await), seed.access_token.expose());
            assert_eq!(running.terminate(), Some(0));
        }
    }
    // Whoever speaks to the daemon's own door hears the same.
    world.start().await;
    let got = world.put("bot", "barekey").await;
    assert_eq!(got.status, 422, "{}", got.body);
    assert!(got.body.contains("needs a refresh_token"), "{}", got.body);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fm74_garbage_in_a_home_store_leaves_the_good_value_served_and_is_told_once() {
    let mut world = World::new().await;
    let folder = world.path("secrets");
    std::fs::create_dir(&folder).unwrap();
    let put = |text: &str| {
        std::fs::write(folder.join("next"), text).unwrap();
        std::fs::set_permissions(folder.join("next"), PermissionsExt::from_mode(0o600)).unwrap();
        std::fs::rename(folder.join("next"), folder.join("bot")).unwrap();
    };
    let seed = world.admin().grant(grant(3600.0));
    put(seed.document().expose());
    world.tables(&format!("[stores.files]\nkind = \"file\"\nfolder = {folder:?}\nwritable = true\n"));
    world.credential("bot", "refresh_token", "store = \"files\"");
    world.start().await;
    let before = world.view("bot").await;
    put(r#"{"api_key":"zzz"}"#);
    let told = until("the store's error is shown", async || {
        let view = world.view("bot").await;
        view["store_error"].is_string().then_some(view)
    })
    .await;
    assert!(told["store_error"].as_str().unwrap().contains("needs a refresh_token"), "{told}");
    assert_eq!((&told["state"], &told["generation"]), (&before["state"], &before["generation"]), "{told}");
    assert!(told["flags"].as_array().unwrap().contains(&"store_stale".into()), "{told}");
    assert_eq!(token(&world.read("bot").await), seed.access_token.expose());
    let logged = world.logged("bot", "secret_refused").await;
    assert_eq!(logged.len(), 1, "{logged:?}");
    assert!(logged[0].detail.as_ref().unwrap().contains("needs a refresh_token"), "{logged:?}");
    assert!(world.incidents().await.is_empty());
    // A good one is taken over, and nothing of the other is left.
    let next = world.admin().grant(grant(3600.0));
    put(next.document().expose());
    let view = world.reaches("bot", 2).await;
    assert!(view["store_error"].is_null(), "{view}");
    assert_eq!(token(&world.read("bot").await), next.access_token.expose());
    world.stop().await;
}

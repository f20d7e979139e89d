//! Files that the settings lead to: a broken one is refused with its place, at a check, at a start and at a reload, and a
//! reload is a success only when it took effect.

use credd::sandbox::NewKey;

use crate::world::{
    World,
    binary::{err, out},
    get_tcp, grant, token, until, write,
};

/// Whether the last reload was a success, when the last success was, and how many faults the provider files have.
async fn measured(world: &World) -> (i64, i64, i64) {
    let body = get_tcp(world.daemon().health, "/metrics").await.body;
    let value = |name: &str| {
        let line = body.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}: {body}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    (
        value("credd_config_last_reload_successful"),
        value("credd_config_last_reload_success_timestamp_seconds"),
        value("credd_provider_file_problems"),
    )
}

fn vault(name: &str, more: &str, token: &std::path::Path) -> String {
    format!(
        "[stores.{name}]\nkind = \"vault\"\naddress = \"https://127.0.0.1:1\"\n{more}\n\
         auth = {{ method = \"token\", token = {{ file = {token:?} }} }}"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn fm71_what_cannot_be_opened_refuses_all_of_a_reload_and_says_its_name() {
    let mut world = World::new().await;
    let (_, key) = world.admin().key(&NewKey::default());
    world.granted("stays", grant(3600.0), "").await;
    world.start().await;
    world.keep("more", &key).await;
    let before = measured(&world).await;
    assert_eq!((before.0, before.2), (1, 0));
    // A later success must show as a later second.
    until("a second has passed", async || (crate::world::now().as_second() > before.1).then_some(())).await;
    let good = world.tables.clone();
    let (ca, secret) = (world.path("ca.pem"), world.path("vault-token"));
    write(&ca, "no certificate");
    write(&secret, "hvs.something");
    world.credential("more", "api_key", "");
    world.tables(&vault("main", &format!("ca = {ca:?}"), &secret));
    world.write_settings();
    let mut operator = world.operator().await;
    let asked = operator.post("/v1/reload", "").await;
    assert_eq!(asked.status, 422, "{}", asked.body);
    let detail = asked.json()["detail"].as_str().unwrap().to_owned();
    let line = 1 + std::fs::read_to_string(world.settings_path())
        .unwrap()
        .lines()
        .position(|line| line == "[stores.main]")
        .unwrap();
    for part in [&format!("credd.toml:{line}:"), "stores.main", "ca.pem", "correct it"] {
        assert!(detail.contains(part), "{part}: {detail}");
    }
    assert_eq!(measured(&world).await, (0, before.1, 0), "no success, and none is dated");
    assert_eq!(world.read("more").await.status, 404, "nothing of it is in force");
    assert_eq!(world.read("stays").await.status, 200);

    // A channel is no different.
    world.tables = good.clone();
    world.tables(
        "[pager.channels.mail]\nkind = \"email\"\nhost = \"127.0.0.1\"\nport = 1\nfrom = \"credd at home\"\nto = [\"you@example.com\"]",
    );
    world.credential("more", "api_key", "");
    world.write_settings();
    let asked = operator.post("/v1/reload", "").await;
    assert!(asked.status == 422 && asked.body.contains("pager.channels.mail"), "{}", asked.body);
    assert_eq!((measured(&world).await.0, world.read("more").await.status), (0, 404));

    // FM-78: one that is only down is no reason, and the answer comes when the new ones are in force.
    world.tables = good;
    world.credential("more", "api_key", "");
    world.tables(&vault("main", "", &secret));
    world.write_settings();
    let asked = operator.post("/v1/reload", "").await;
    assert_eq!(asked.status, 200, "{}", asked.body);
    assert!(asked.body.contains("credentials: 1 added") && asked.body.contains("stores: 1 added"), "{}", asked.body);
    let after = measured(&world).await;
    assert!((after.0, after.2) == (1, 0) && after.1 > before.1, "{before:?} {after:?}");
    until("it is served", async || (world.read("more").await.status == 200).then_some(())).await;
    assert_eq!(token(&world.read("more").await), key.expose());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fm71_a_broken_provider_file_is_refused_in_the_same_words_by_a_check_a_start_and_a_reload() {
    let good = "extends = \"rfc6749\"\n[rotation]\nprofile = \"strict\"\n";
    let bad = "extends = \"rfc6749\"\n[rotation]\n  profil = \"strict\"\n";
    let mut world = World::new().await;
    world.provider("odd", bad);
    world.granted("bot", grant(3600.0), "provider = \"odd\"").await;
    world.write_settings();
    let file = world.path("providers/odd.toml");
    let place = format!("{}:3:3: ", file.display());
    let [check, run] = [&["check", "--offline"][..], &["run"]].map(|verb| world.run(verb));
    let complaint = |text: &str| {
        let line = text.lines().find(|line| line.contains(&place)).unwrap_or_else(|| panic!("{text}"));
        line.trim_start_matches("error: ").to_owned()
    };
    let (checked, ran) = (out(&check) + &err(&check), err(&run));
    assert_eq!((check.status.code(), run.status.code()), (Some(78), Some(78)), "{checked} {ran}");
    let words = complaint(&checked);
    assert!(words.contains("profil") && words.contains("profile"), "the reason and what is allowed: {words}");
    assert_eq!(complaint(&ran), words);
    assert!(checked.contains("credd providers lint"), "the next step: {checked}");
    let json: serde_json::Value = serde_json::from_str(&out(&world.run(&["check", "--offline", "--json"]))).unwrap();
    let told = &json["diagnostics"][0];
    assert_eq!((&told["line"], &told["column"]), (&3.into(), &3.into()), "{json}");
    assert_eq!(told["file"].as_str(), file.to_str());

    // A reload keeps all of the old, also what the settings file itself says anew.
    write(&file, good);
    world.start().await;
    let served = token(&world.read("bot").await);
    write(&file, bad);
    let (_, key) = world.admin().key(&NewKey::default());
    world.keep("more", &key).await;
    world.credential("more", "api_key", "");
    world.write_settings();
    let asked = world.operator().await.post("/v1/reload", "").await;
    assert_eq!(asked.status, 422, "{}", asked.body);
    assert_eq!(complaint(asked.json()["detail"].as_str().unwrap()), words);
    let (successful, _, faults) = measured(&world).await;
    assert_eq!((successful, faults), (0, 1));
    assert_eq!((token(&world.read("bot").await), world.read("more").await.status), (served, 404));
    write(&file, good);
    let asked = world.operator().await.post("/v1/reload", "").await;
    assert_eq!(asked.status, 200, "{}", asked.body);
    let (successful, _, faults) = measured(&world).await;
    assert_eq!((successful, faults), (1, 0));
    until("it is served", async || (world.read("more").await.status == 200).then_some(())).await;
    world.stop().await;
}

//! Starts and restarts: what ends a start, what only starts red, and what a restart must not lose.

use credd::{
    credential::Secret,
    daemon::StartError,
    sandbox::{Client, Fault, FaultKind, NewKey, Place},
};

use crate::world::{
    World,
    binary::{err, out},
    generation, grant, token, until,
};

#[tokio::test(flavor = "multi_thread")]
async fn rf05_a_restart_goes_on_where_it_was_and_asks_nobody() {
    let mut world = World::new().await;
    let seed = world.granted("bot", grant(3600.0), "").await;
    world.start().await;
    assert_eq!(world.act("bot", "refresh").await.status, 200);
    let before = world.read("bot").await;
    assert_eq!(generation(&before), 2);
    world.stop().await;
    let calls = world.admin().counters_of(&seed.id).refresh_calls;
    world.start().await;
    let after = world.read("bot").await;
    assert_eq!((generation(&after), token(&after)), (2, token(&before)), "served at once, as it was");
    assert_eq!(world.admin().counters_of(&seed.id).refresh_calls, calls, "no second refresh");
    assert_eq!(world.act("bot", "refresh").await.status, 200);
    assert_eq!(generation(&world.read("bot").await), 3);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fm78_with_everything_down_the_ledgers_value_is_served() {
    let mut world = World::new().await;
    let seed = world.granted("bot", grant(3600.0), "").await;
    world.start().await;
    world.stop().await;
    world.admin().fault(Fault { kind: FaultKind::ResetBeforeCommit, at: Place::Any, grant: None, calls: None });
    world.start().await;
    assert_eq!(token(&world.read("bot").await), seed.access_token.expose());
    until("it is ready", async || (world.health("/readyz").await.status == 200).then_some(())).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_down_never_prevents_a_first_start() {
    let mut world = World::new().await;
    world.granted("bot", grant(3600.0), "").await;
    world.granted("over", grant(0.05), "").await;
    world.tables(&format!(
        "[stores.gone]\nkind = \"vault\"\naddress = \"http://127.0.0.1:1\"\nauth = {{ method = \"token\", token = {{ file = \"{}\" }} }}",
        world.path("vault-token").display()
    ));
    crate::world::write(&world.path("vault-token"), "hvs.none");
    world.credential("far", "api_key", "store = \"gone\"\nat = \"secret/far\"");
    let (_, key) = world.admin().key(&NewKey::default());
    world.keep("key", &key).await;
    world.credential("key", "api_key", "");
    world.admin().fault(Fault {
        kind: FaultKind::Status { status: 503, after_commit: false },
        at: Place::Any,
        grant: None,
        calls: None,
    });
    world.start().await;
    assert_eq!(world.read("bot").await.status, 200);
    assert_eq!(world.read("over").await.json()["failure"]["subtype"], "upstream_unavailable");
    let far = world.read("far").await;
    assert!(far.status >= 400, "{}", far.body);
    // Nobody has proven the key yet, and `credd status` says why.
    let key = world.becomes("key", "degraded").await;
    assert_eq!(key["problem"]["failure"], "upstream_unavailable", "{key}");
    assert_eq!(world.read("key").await.status, 200, "it is served all the same");
    world.stop().await;
}

/// Each home store has a line of its own in `/readyz`, and can be asked for or left out.
#[tokio::test(flavor = "multi_thread")]
async fn readiness_names_each_home_store() {
    let mut world = World::new().await;
    world.granted("bot", grant(3600.0), "").await;
    let alone = world.tables.clone();
    world.tables(&format!(
        "[stores.gone]\nkind = \"vault\"\naddress = \"http://127.0.0.1:1\"\nauth = {{ method = \"token\", token = {{ file = \"{}\" }} }}",
        world.path("vault-token").display()
    ));
    crate::world::write(&world.path("vault-token"), "hvs.none");
    world.credential("far", "api_key", "store = \"gone\"\nat = \"secret/far\"");
    world.start().await;
    assert_eq!(world.health("/readyz").await.status, 503);
    let told = world.health("/readyz?verbose").await.body;
    for line in ["[+]ledger ok", "[+]store/embedded ok", "[-]store/gone failed: reason withheld", "readyz check failed"]
    {
        assert!(told.lines().any(|other| other == line), "{line}: {told}");
    }
    assert!(!told.contains("127.0.0.1") && !told.contains("secret/far"), "{told}");
    let told = world.health("/readyz?verbose&exclude=store/gone").await;
    assert_eq!(told.status, 200, "{}", told.body);
    assert!(told.body.contains("[+]store/gone excluded: ok\n"), "{}", told.body);
    assert_eq!(world.health("/readyz/store/embedded").await.status, 200);
    assert_eq!(world.health("/readyz/store/gone").await.status, 503);
    let whole = world.health("/health?verbose").await.json();
    let checks = (&whole["checks"]["embedded:responseTime"][0], &whole["checks"]["gone:responseTime"][0]);
    assert_eq!((&checks.0["status"], &checks.1["status"]), (&"pass".into(), &"fail".into()), "{whole}");
    assert!(checks.0["observedValue"].is_u64(), "{whole}");

    world.tables = alone;
    world.write_settings();
    until("nobody waits for a store that has left", async || {
        (world.health("/readyz").await.status == 200).then_some(())
    })
    .await;
    assert_eq!(world.health("/readyz/store/gone").await.status, 404);
    world.stop().await;
}

/// A start with one bad credential of each sort, all required and none ever seen good.
async fn bad_deployment(startup: &str) -> World {
    let mut world = World::new().await;
    world.head(startup);
    world.granted("good", grant(3600.0), "").await;
    let dead = world.granted("dead", grant(0.05), "").await;
    world.admin().revoke(&dead.id);
    let (_, over) = world.admin().key(&NewKey::default());
    let end = crate::world::now() - jiff::SignedDuration::from_hours(1);
    world.keep("over", &over).await;
    world.credential("over", "api_key", &format!("expires_at = \"{end}\""));
    world.admin().client(Client { id: "other".into(), secret: Some(Secret::new("right")), ..Client::default() });
    let wrong = credd::sandbox::NewGrant { client: "other".into(), ..grant(0.05) };
    world.granted("wrong", wrong, "").await;
    world.admin().client(Client { id: "other".into(), secret: Some(Secret::new("changed")), ..Client::default() });
    world.credential("missing", "refresh_token", "");
    until("the short tokens end", async || (crate::world::now() > dead.expires_at).then_some(())).await;
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_deployment_does_not_start_and_says_why_in_one_line_each() {
    let mut world = bad_deployment("").await;
    let Err(StartError::Credentials(refused)) = world.try_start().await else { panic!("it started") };
    let lines = refused.0;
    assert_eq!(lines.len(), 4, "{lines:#?}");
    for (name, words) in
        [("dead", "revoked"), ("over", "expired"), ("wrong", "misconfigured"), ("missing", "no usable secret")]
    {
        let line = lines.iter().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}: {lines:#?}"));
        let mend = if name == "wrong" { "correct the client" } else { "credd credential put" };
        assert!(line.contains(words) && line.contains(mend), "{line}");
        assert!(!line.contains('\n'));
    }
    // The program says the same and ends with 77.
    let world = bad_deployment("").await;
    world.write_settings();
    let output = world.run(&["run"]);
    assert_eq!(output.status.code(), Some(77), "{}", err(&output));
    for name in ["dead:", "over:", "wrong:", "missing:"] {
        assert!(err(&output).contains(name), "{}", err(&output));
    }
}

/// FM-71 at a start: what `credd check` holds against the settings, `credd run` holds against them too.
#[tokio::test(flavor = "multi_thread")]
async fn fm71_a_start_refuses_what_a_check_finds_in_the_same_words() {
    for (table, words) in [
        ("provider = \"stripe\"\nkind = \"refresh_token\"", "provider stripe has no token endpoint"),
        ("provider = \"github\"\nkind = \"aws_session\"", "makes no sessions of an access key"),
    ] {
        let mut world = World::new().await;
        world.tables(&format!("[credentials.never]\n{table}"));
        world.write_settings();
        let checked = world.run(&["check", "--offline"]);
        let told = out(&checked);
        let line = told.lines().find(|line| line.contains(words)).unwrap_or_else(|| panic!("{told}"));
        let output = world.run(&["run"]);
        assert_eq!((checked.status.code(), output.status.code()), (Some(78), Some(78)), "{}", err(&output));
        assert!(err(&output).lines().any(|other| other == line), "{line}\n{}", err(&output));
        assert!(!world.path("state").exists(), "a start that cannot be leaves nothing behind");
    }
    let mut world = World::new().await;
    world.tables("[pager.channels.hook]\nkind = \"webhook\"\nurl = \"https://on-call.example.com\"\nsecrets = [{ file = \"nowhere\" }]");
    world.write_settings();
    let (checked, output) = (world.run(&["check", "--offline"]), world.run(&["run"]));
    assert_eq!((checked.status.code(), output.status.code()), (Some(78), Some(78)), "{}", err(&output));
    for said in [out(&checked), err(&output)] {
        assert!(said.contains("pager.channels.hook.secrets[0]: file") && said.contains("cannot be read"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn startup_warn_starts_red() {
    let mut world = bad_deployment("startup = \"warn\"").await;
    world.start().await;
    assert_eq!(world.read("good").await.status, 200);
    assert_eq!(world.health("/health").await.status, 503);
    until("it is ready", async || (world.health("/readyz").await.status == 200).then_some(())).await;
    until("the dead one is told", async || {
        world.incidents().await.iter().any(|open| open.credential == "dead").then_some(())
    })
    .await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_settings_end_with_78_and_a_second_daemon_with_1() {
    let mut world = World::new().await;
    world.granted("bot", grant(3600.0), "").await;
    let running = world.launched().await;
    let second = world.run(&["run"]);
    assert_eq!(second.status.code(), Some(1), "{}", err(&second));
    assert!(err(&second).contains(&running.pid().to_string()), "FM-39 names the holder: {}", err(&second));
    assert_eq!(world.read("bot").await.status, 200, "the first one is not disturbed");
    assert_eq!(running.terminate(), Some(0));
    std::fs::write(world.settings_path(), "[server]\nhaelth = \"127.0.0.1:0\"\n").unwrap();
    let output = world.run(&["run"]);
    assert_eq!(output.status.code(), Some(78), "{}", err(&output));
    assert!(err(&output).contains("haelth"), "{}", err(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn rf05_kill_9_loses_nothing_that_the_provider_gave() {
    let mut world = World::new().await;
    world.provider("rotating", "extends = \"rfc6749\"\n[rotation]\nprofile = \"grace\"\ngrace = \"60s\"\n");
    let terms = credd::sandbox::NewGrant { profile: "grace(60)".parse().unwrap(), ..grant(3600.0) };
    let seed = world.granted("bot", terms, "provider = \"rotating\"").await;
    // Killed at rest: goes on at once, and asks nobody.
    let running = world.launched().await;
    assert!(world.run(&["refresh", "bot"]).status.success());
    let before = world.read("bot").await;
    running.kill();
    let running = world.launched().await;
    let after = world.read("bot").await;
    assert_eq!((generation(&after), token(&after)), (2, token(&before)));
    assert_eq!(world.admin().counters_of(&seed.id).refresh_calls, 1);
    running.kill();
    // Killed while the request is on its way, before and after the provider acts: the grant is presented again.
    for (generation_then, after_commit) in [(3, false), (4, true)] {
        let running = world.launched().await;
        let kind = FaultKind::Delay { ms: 60_000, after_commit };
        let fault = world.admin().fault(Fault { kind, at: Place::Token, grant: None, calls: Some(1) });
        ask_and_kill(&world, running, &seed.id).await;
        world.admin().clear(fault);
        let running = world.launched().await;
        world.reaches("bot", generation_then).await;
        let got = world.read("bot").await;
        assert_eq!(crate::world::call_api(&world.sandbox.probe_url(), &token(&got)).await.0, 200);
        running.kill();
    }
    let running = world.launched().await;
    assert!(world.run(&["refresh", "bot"]).status.success(), "the grant that is held is the living one");
    let counted = world.admin().counters_of(&seed.id);
    assert_eq!(counted.reuse_refused, 0, "{counted:?}");
    until("what was rotated stands at home, whatever was cut off between writing and noting it", async || {
        let shown = world.run(&["status", "--json"]);
        (!out(&shown).contains("writeback_pending")).then_some(())
    })
    .await;
    assert_eq!(running.terminate(), Some(0));
    assert!(world.run(&["audit", "verify"]).status.success());
}

async fn ask_and_kill(world: &World, running: crate::world::binary::Running, grant: &str) {
    let before = world.admin().counters_of(grant).refresh_calls;
    let mut operator = world.operator().await;
    operator.send("POST /v1/credentials/bot/refresh HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n").await;
    until("the request arrives", async || (world.admin().counters_of(grant).refresh_calls > before).then_some(()))
        .await;
    running.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn p10_a_credential_that_was_once_good_ends_no_start() {
    let mut world = World::new().await;
    let (key_id, key) = world.admin().key(&NewKey::default());
    world.keep("key", &key).await;
    world.credential("key", "api_key", "");
    let running = world.launched().await;
    until("it is proven", async || world.view_by_binary("key")["last_success_at"].is_string().then_some(())).await;
    // A bad secret, and a second one: the daemon stays up and red, and a restart takes nothing from other readers.
    for bad in ["bad-key-1", "bad-key-2"] {
        let put = world.run_with(&["credential", "put", "key"], bad);
        assert_eq!(put.status.code(), Some(0), "{}", err(&put));
    }
    until("it is refused", async || (world.view_by_binary("key")["state"] == "suspect").then_some(())).await;
    running.kill();
    let running = world.launched().await;
    assert_ne!(world.view_by_binary("key")["state"], "fresh");
    assert_eq!(running.terminate(), Some(0));
    assert!(world.admin().counters_of(&key_id).api_calls >= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_key_that_its_api_refuses_at_once_never_goes_live() {
    let mut world = World::new().await;
    world.keep("key", &Secret::new("never-issued")).await;
    world.credential("key", "api_key", "");
    world.write_settings();
    let check = world.run(&["check", "--online"]);
    assert_eq!(check.status.code(), Some(1), "{}", out(&check));
    assert!(out(&check).contains("[ failure ] credentials.key: its API refuses it"), "{}", out(&check));
    let Err(StartError::Credentials(refused)) = world.try_start().await else { panic!("it started") };
    assert!(refused.0[0].contains("is refused by its API") && refused.0[0].contains("credd credential put key"));
}

#[tokio::test(flavor = "multi_thread")]
async fn check_online_does_the_same_as_a_start() {
    let mut world = World::new().await;
    let document = |secret: &str| Secret::new(format!(r#"{{"client_id":"sandbox","client_secret":"{secret}"}}"#));
    world.keep("wrong", &document("no-secret-of-it")).await;
    world.credential("wrong", "client_credentials", "startup = \"warn\"");
    world.keep("right", &document("sandbox-secret")).await;
    world.credential("right", "client_credentials", "");
    world.keep("over", &Secret::new("some-key")).await;
    world.credential("over", "api_key", "startup = \"warn\"\nexpires_at = \"2020-01-01T00:00:00Z\"");
    world.credential("missing", "refresh_token", "startup = \"warn\"");
    world.write_settings();
    let check = world.run(&["check", "--online"]);
    assert_eq!(check.status.code(), Some(1), "{}", out(&check));
    for words in [
        "[ failure ] credentials.wrong: no token: client_misconfigured",
        "[ success ] credentials.right: works",
        "[ failure ] credentials.over: it has expired, and nothing renews a static key",
        "[ failure ] credentials.missing: no secret at missing: credd credential put missing",
    ] {
        assert!(out(&check).contains(words), "{words}: {}", out(&check));
    }
    // A daemon that runs is asked for what it holds.
    let running = world.launched().await;
    let check = world.run(&["check", "--online"]);
    assert_eq!(check.status.code(), Some(1), "{}", out(&check));
    let shown = out(&check);
    assert!(shown.contains("[ success ] credentials.right: fresh in the running daemon"), "{shown}");
    assert!(shown.contains("[ failure ] credentials.wrong: misconfigured in the running daemon"), "{shown}");
    assert_eq!(running.terminate(), Some(0));
}

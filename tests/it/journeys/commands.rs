//! The command line against the running program, and against none.

use credd::sandbox::NewKey;
use serde_json::Value;

use crate::world::{
    World,
    binary::{err, out},
    grant, until,
};

fn json(output: &std::process::Output) -> Value {
    serde_json::from_str(&out(output)).unwrap_or_else(|error| panic!("{error}: {} {}", out(output), err(output)))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_sees_and_moves_everything() {
    let mut world = World::new().await;
    let seed = world.granted("bot", grant(3600.0), "").await;
    let (key_id, key) = world.admin().key(&NewKey::default());
    world.keep("key", &key).await;
    world.credential("key", "api_key", "criticality = \"optional\"");
    let running = world.launched().await;
    let secrets = [seed.access_token.expose(), seed.refresh_token.expose(), key.expose(), "sandbox-secret"];
    let silent = |output: &std::process::Output| {
        let all = out(output) + &err(output);
        assert!(secrets.iter().all(|secret| !all.contains(secret)), "{all}");
    };

    let status = world.run(&["status"]);
    silent(&status);
    assert_eq!(status.status.code(), Some(0), "{}", err(&status));
    assert!(out(&status).contains("bot") && out(&status).contains("fresh"), "{}", out(&status));
    assert!(out(&status).contains("1 of 2 credentials renew themselves"), "{}", out(&status));
    let status = world.run(&["status", "--json"]);
    silent(&status);
    let status = json(&status);
    assert_eq!(status["credentials"].as_array().unwrap().len(), 2);
    assert_eq!(status["daemon"]["pid"], running.pid());

    // Piped, the token itself and nothing else.
    let got = world.run(&["get", "bot"]);
    assert_eq!((out(&got).trim(), got.status.code()), (seed.access_token.expose(), Some(0)));
    let whole = json(&world.run(&["get", "bot", "--json"]));
    assert_eq!(whole["generation"], 1);
    let unknown = world.run(&["get", "nobody"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(!err(&unknown).is_empty());

    let refreshed = world.run(&["refresh", "bot"]);
    assert_eq!(refreshed.status.code(), Some(0), "{}", err(&refreshed));
    assert!(out(&refreshed).contains("generation 2"), "{}", out(&refreshed));
    let probed = json(&world.run(&["probe", "key", "--json"]));
    assert_eq!((&probed["done"], &probed["message"]), (&true.into(), &"it works".into()), "{probed}");
    let refused = world.run(&["refresh", "key"]);
    assert_eq!(refused.status.code(), Some(1), "a static key cannot be refreshed: {}", out(&refused));
    let why = err(&refused);
    assert!(why.contains("nothing renews a static key") && why.contains("credd credential put key"), "{why}");

    assert_eq!(world.run(&["hold", "bot"]).status.code(), Some(0));
    world.becomes("bot", "held").await;
    let calls = world.admin().counters_of(&seed.id).token_calls;
    let held = world.run(&["refresh", "bot"]);
    assert_eq!(held.status.code(), Some(1), "{}", out(&held));
    for held in [held, world.run(&["probe", "bot"])] {
        assert!(err(&held).contains("held, so nothing goes upstream; `credd release bot`"), "{}", err(&held));
    }
    assert_eq!(world.admin().counters_of(&seed.id).token_calls, calls, "nothing goes upstream while held");
    assert_eq!(world.run(&["release", "bot"]).status.code(), Some(0));
    world.becomes("bot", "fresh").await;
    assert_eq!(world.run(&["refresh", "bot"]).status.code(), Some(0));

    // A required credential that is bad shows in the exit code.
    world.admin().revoke(&seed.id);
    assert_eq!(world.run(&["refresh", "bot"]).status.code(), Some(1));
    world.becomes("bot", "revoked").await;
    let status = world.run(&["status"]);
    assert_eq!(status.status.code(), Some(1));
    assert!(out(&status).contains("credd credential put bot"), "the command that mends it: {}", out(&status));
    let next = world.admin().grant(grant(3600.0));
    let put = world.run_with(&["credential", "put", "bot"], next.document().expose());
    assert_eq!(put.status.code(), Some(0), "{}", err(&put));
    world.becomes("bot", "fresh").await;

    let log = world.run(&["audit", "--credential", "bot", "--json"]);
    silent(&log);
    for event in ["refresh_sent", "refreshed", "held", "released", "refresh_asked"] {
        assert!(out(&log).contains(&format!("\"{event}\"")), "{event}: {}", out(&log));
    }
    assert!(world.run(&["audit"]).status.success());
    assert!(world.admin().counters_of(&key_id).api_calls >= 2);
    assert_eq!(running.terminate(), Some(0));
    let verified = world.run(&["audit", "verify"]);
    assert_eq!(verified.status.code(), Some(0), "{}", err(&verified));
    let whole = world.run(&["audit", "export"]);
    silent(&whole);
    assert!(out(&whole).lines().count() > 10);
    let written = std::fs::read_to_string(world.path("credd.log")).unwrap();
    assert!(secrets.iter().all(|secret| !written.contains(secret)), "no secret in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_kept_with_a_daemon_and_without_one() {
    let mut world = World::new().await;
    let (_, key) = world.admin().key(&NewKey::default());
    world.credential("key", "api_key", "startup = \"warn\"");
    world.write_settings();
    for daemon in [false, true] {
        let running = if daemon { Some(world.launched().await) } else { None };
        let put = world.run_with(&["credential", "put", "key"], key.expose());
        assert_eq!(put.status.code(), Some(0), "daemon {daemon}: {}", err(&put));
        assert!(!(out(&put) + &err(&put)).contains(key.expose()));
        let bad = world.run_with(&["credential", "put", "other"], "{\"refresh_token\": 7}");
        assert_eq!(bad.status.code(), Some(1), "daemon {daemon}: {}", out(&bad));
        let list = json(&world.run(&["credential", "list", "--json"]));
        let names: Vec<_> = list.as_array().unwrap().iter().map(|entry| entry["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["key"], "daemon {daemon}");
        assert!(out(&world.run(&["credential", "list"])).contains("key"));
        let shown = world.run(&["credential", "show", "key"]);
        assert_eq!(shown.status.code(), Some(0), "daemon {daemon}: {}", err(&shown));
        assert!(!out(&shown).contains(key.expose()), "daemon {daemon}");
        assert!(daemon || out(&shown).contains("access_token              (secret)"), "{}", out(&shown));
        if daemon {
            world.becomes("key", "fresh").await;
        }
        let removed = world.run(&["credential", "rm", "key"]);
        assert_eq!(removed.status.code(), Some(0), "daemon {daemon}: {}", err(&removed));
        assert_eq!(world.run(&["credential", "rm", "key"]).status.code(), Some(1), "daemon {daemon}");
        assert_eq!(json(&world.run(&["credential", "list", "--json"])), Value::from(Vec::<Value>::new()));
        let import = format!("{{\"key\": \"{0}\", \"more\": {{\"api_key\": \"{0}\"}}}}", key.expose());
        let imported = world.run_with(&["credential", "import"], &import);
        assert_eq!(imported.status.code(), Some(0), "daemon {daemon}: {}", err(&imported));
        for name in ["key", "more"] {
            assert_eq!(world.run(&["credential", "rm", name]).status.code(), Some(0), "daemon {daemon} {name}");
        }
        if let Some(running) = running {
            assert_eq!(running.terminate(), Some(0));
        }
    }
    // No verb takes a secret as an argument, because every process of the machine sees those.
    let help = out(&world.run(&["credential", "put", "--help"]));
    assert!(help.contains("standard input"), "{help}");
    let argument = world.run(&["credential", "put", "key", "a-secret"]);
    assert_eq!(argument.status.code(), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_daemon_every_command_says_what_to_do() {
    let world = World::new().await;
    world.write_settings();
    for command in [
        &["status"][..],
        &["status", "--json"],
        &["get", "bot"],
        &["refresh", "bot"],
        &["probe", "bot"],
        &["hold", "bot"],
        &["release", "bot"],
    ] {
        let output = world.run(command);
        assert_eq!(output.status.code(), Some(69), "{command:?}: {}", err(&output));
        assert!(err(&output).contains("credd run"), "{command:?}: {}", err(&output));
        assert_eq!(out(&output), "", "{command:?}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let output = world.run(&["completions", shell]);
        assert!(output.status.success() && out(&output).contains("credd"), "{shell}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_daemon_is_idle() {
    let mut world = World::new().await;
    for number in 0..20 {
        world.granted(&format!("bot-{number}"), grant(3600.0), "").await;
    }
    // Conditions that a shard could turn in circles over: refused, revoked, held, missing, and down.
    let dead = world.granted("dead", grant(3600.0), "startup = \"warn\"").await;
    world.credential("missing", "refresh_token", "startup = \"warn\"");
    world.admin().revoke(&dead.id);
    let running = world.launched().await;
    world.becomes("dead", "revoked").await;
    assert!(world.run(&["hold", "bot-1"]).status.success());
    let before = running.processor_seconds();
    let began = crate::world::up();
    until("ten quiet seconds", async || ((crate::world::up() - began).as_secs() >= 10).then_some(())).await;
    let used = running.processor_seconds() - before;
    eprintln!("{used:.2} s of processor time in ten quiet seconds");
    assert!(used < 2.0, "{used:.2} s of processor time in ten quiet seconds: something turns in circles");
    assert_eq!(running.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn p8_the_audit_log_is_verified_by_its_rows_while_the_daemon_runs() {
    use sqlx::Connection;
    let mut world = World::new().await;
    world.granted("bot", grant(3600.0), "").await;
    let running = world.launched().await;
    assert_eq!(world.run(&["refresh", "bot"]).status.code(), Some(0));
    let verified = world.run(&["audit", "verify"]);
    assert_eq!(verified.status.code(), Some(0), "{}", err(&verified));
    assert!(out(&verified).contains("ledger.db is whole: "), "{}", out(&verified));
    let exported = out(&world.run(&["audit", "export"]));
    assert!(exported.lines().any(|line| line.contains("\"refreshed\"")), "{exported}");

    // Somebody who can write the file changes what was done; the daemon, asked, would not know.
    let file = world.path("state/ledger.db");
    let mut conn = sqlx::SqliteConnection::connect(file.to_str().unwrap()).await.unwrap();
    let sql = "UPDATE audit SET entry = replace(entry, '\"ok\"', '\"no\"') WHERE event = 'refreshed'";
    assert_eq!(sqlx::query(sql).execute(&mut conn).await.unwrap().rows_affected(), 1);
    conn.close().await.unwrap();
    let broken = world.run(&["audit", "verify"]);
    assert_eq!(broken.status.code(), Some(1), "{}", out(&broken));
    assert!(err(&broken).contains("broken in chain"), "{}", err(&broken));
    assert_eq!(world.read("bot").await.status, 200, "the daemon is not disturbed");
    assert_eq!(world.run(&["refresh", "bot"]).status.code(), Some(0));
    assert_eq!(running.terminate(), Some(0));
}

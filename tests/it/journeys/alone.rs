//! The command line where no daemon answers, where another one does, and where nobody reads to the end.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, net::UnixListener, process::CommandExt},
    process::Stdio,
};

use credd::credential::Secret;

use crate::world::{
    World,
    binary::{err, out},
    grant,
};

#[tokio::test(flavor = "multi_thread")]
async fn looking_makes_nothing_and_storing_says_what_it_made() {
    let mut world = World::new().await;
    world.credential("key", "api_key", "");
    world.write_settings();
    let state = world.path("state");
    let names = || fs::read_dir(&state).map_or(0, Iterator::count);
    let before = names();
    let checked = world.run(&["check"]);
    assert_eq!(checked.status.code(), Some(0), "{}{}", out(&checked), err(&checked));
    assert!(out(&checked).contains("no ledger yet at"), "{}", out(&checked));
    assert_eq!(world.run(&["credential", "list"]).status.code(), Some(0));
    for verb in [&["credential", "show", "key"][..], &["credential", "rm", "key"], &["audit"], &["audit", "verify"]] {
        let said = world.run(verb);
        assert_eq!((said.status.code(), err(&said).lines().count()), (Some(1), 1), "{verb:?}: {}", err(&said));
    }
    assert_eq!(names(), before, "nothing was made");
    let put = world.run_with(&["credential", "put", "key"], "k-1");
    assert_eq!(put.status.code(), Some(0), "{}", err(&put));
    assert!(err(&put).contains("made a new ledger") && err(&put).contains("of uid "), "{}", err(&put));
    let again = world.run_with(&["credential", "put", "key"], "k-2");
    assert!(!err(&again).contains("made"), "{}", err(&again));
    assert!(out(&world.run(&["credential", "list"])).contains("key  version 2"));
    assert!(!err(&again).contains("warning"), "{}", err(&again));
    let slip = world.run_with(&["credential", "put", "keyy"], "k-3");
    assert_eq!(slip.status.code(), Some(0), "{}", err(&slip));
    assert!(err(&slip).contains("no credential of the settings reads keyy; did you mean `key`?"), "{}", err(&slip));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_is_held_elsewhere_is_one_error() {
    let mut world = World::new().await;
    world.granted("bot", grant(3600.0), "").await;
    let running = world.launched().await;
    let nowhere = world.path("nowhere/credd.sock");
    let pid = format!("pid {}", running.pid());
    for verb in [&["check"][..], &["credential", "list"], &["credential", "rm", "bot"]] {
        let said = world.credd(verb).arg("--socket").arg(&nowhere).output().unwrap();
        let text = out(&said) + &err(&said);
        assert_eq!(said.status.code(), Some(1), "{verb:?}: {text}");
        let told = text.lines().filter(|line| line.contains("--socket")).collect::<Vec<_>>();
        assert!(matches!(told[..], [one] if one.contains(&pid)), "{verb:?}: {text}");
        assert!(!text.contains("stop that one"), "{text}");
    }
    let json = world.credd(&["check", "--json"]).arg("--socket").arg(&nowhere).output().unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((&json["ok"], &json["diagnostics"][0]["severity"]), (&false.into(), &"failure".into()), "{json}");
    assert_eq!(running.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn p8_the_audit_log_that_is_verified_is_that_of_the_daemon_at_the_socket() {
    let mut world = World::new().await;
    world.granted("bot", grant(3600.0), "").await;
    let running = world.launched().await;
    let ledger = world.path("state/ledger.db").display().to_string();
    // Settings of another daemon, whose ledger is empty; only the socket says which daemon is meant.
    let other = World::new().await;
    other.write_settings();
    let at_socket = |verb: &[&str]| other.credd(verb).env("CREDD_SOCKET", world.socket()).output().unwrap();
    let verified = at_socket(&["audit", "verify"]);
    assert_eq!(verified.status.code(), Some(0), "{}", err(&verified));
    assert!(out(&verified).contains(&ledger), "{}", out(&verified));
    assert!(out(&at_socket(&["audit", "export"])).contains("\"bot\""));
    let none = other.run(&["audit", "verify"]);
    assert_eq!(none.status.code(), Some(1), "{}", out(&none));
    assert_eq!(running.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn output_that_nobody_reads_to_its_end_is_no_fault() {
    let mut world = World::new().await;
    world.granted("bot", grant(3600.0), "").await;
    let running = world.launched().await;
    for verb in [
        &["audit"][..],
        &["audit", "export"],
        &["audit", "verify"],
        &["status"],
        &["status", "--json"],
        &["status", "--watch"],
        &["unclassified", "list"],
        &["completions", "bash"],
        &["check"],
        &["schema"],
        &["providers", "list"],
        &["providers", "schema"],
        &["credential", "list"],
        &["get", "bot"],
    ] {
        let mut child = world.credd(verb).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let ended = child.wait_with_output().unwrap();
        assert_eq!(ended.status.code(), Some(141), "{verb:?}: {}", err(&ended));
        assert!(!err(&ended).contains("panicked") && !err(&ended).contains("error"), "{verb:?}: {}", err(&ended));
    }
    let full = world.credd(&["status"]).stdout(fs::File::create("/dev/full").unwrap()).output().unwrap();
    assert_eq!(full.status.code(), Some(1));
    assert!(err(&full).contains("standard output cannot be written"), "{}", err(&full));
    assert_eq!(running.terminate(), Some(0));
}

/// Without a network a placeholder that the settings leave open is a warning; whoever reads the secret knows.
#[tokio::test(flavor = "multi_thread")]
async fn a_placeholder_is_looked_for_in_the_secret() {
    let mut world = World::new().await;
    for (name, secret) in [
        ("filled", r#"{"refresh_token":"r","client_id":"c","client_secret":"s","tenant":"contoso"}"#),
        ("open", r#"{"refresh_token":"r","client_id":"c","client_secret":"s"}"#),
    ] {
        world.keep(name, &Secret::new(secret)).await;
        world.tables(&format!("[credentials.{name}]\nprovider = \"microsoft_entra\"\nkind = \"refresh_token\""));
    }
    world.write_settings();
    let offline = world.run(&["check", "--offline"]);
    let said = out(&offline);
    for name in ["filled", "open"] {
        let place = format!("credentials.{name}: {{tenant}} in the addresses of provider microsoft_entra");
        assert!(said.lines().any(|line| line.starts_with("[ warning ]") && line.contains(&place)), "{said}");
    }
    assert_eq!(offline.status.code(), Some(0), "{said}");
    let looked = world.run(&["check"]);
    let said = out(&looked);
    assert_eq!(looked.status.code(), Some(1), "{said}");
    assert!(said.contains("[ success ] credentials.filled: its secret fills {tenant}"), "{said}");
    let line = said
        .lines()
        .find(|line| line.starts_with("[ failure ] credentials.open: "))
        .unwrap_or_else(|| panic!("{said}"));
    assert!(line.contains("credd.toml:") && line.contains("add upstream.with.tenant = "), "{line}");
}

/// Nobody reads what goes wrong: the exit code is the same as if somebody did.
#[tokio::test(flavor = "multi_thread")]
async fn a_closed_standard_error_changes_no_exit_code() {
    let mut world = World::new().await;
    world.tables("[credentials.never]\nprovider = \"stripe\"\nkind = \"refresh_token\"");
    world.write_settings();
    for (verb, code) in [
        (&["run"][..], 78),
        (&["status"], 69),
        (&["get", "bot"], 69),
        (&["audit", "verify"], 1),
        (&["providers", "show", "nobody"], 64),
        (&["explain", "--provider", "nobody"], 65),
        (&["unclassified", "list"], 69),
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let ended = world.credd(verb).stdin(Stdio::null()).stderr(writer).output().unwrap();
        assert_eq!(ended.status.code(), Some(code), "{verb:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_who_may_not_ask_is_told_so() {
    let world = World::new().await;
    world.write_settings();
    let admin = world.socket().with_file_name("admin.sock");
    fs::create_dir_all(admin.parent().unwrap()).unwrap();
    let _listener = UnixListener::bind(&admin).unwrap();
    fs::set_permissions(&admin, fs::Permissions::from_mode(0o000)).unwrap();
    let mut status = world.credd(&["status"]);
    if rustix::process::geteuid().is_root() {
        // Root is refused nothing, and the program may lie where nobody else can reach it.
        let program = world.path("credd-program");
        fs::copy(env!("CARGO_BIN_EXE_credd"), &program).unwrap();
        for folder in [admin.parent().unwrap(), program.parent().unwrap()] {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
        }
        status = std::process::Command::new(&program);
        status.arg("status").env("CREDD_SOCKET", world.socket()).uid(65_534).gid(65_534);
    }
    let said = status.output().unwrap();
    assert_eq!(said.status.code(), Some(1), "{}", err(&said));
    assert!(err(&said).contains("permission denied; ask as root or as the daemon's user"), "{}", err(&said));
    assert!(!err(&said).contains("credd run"), "{}", err(&said));
}

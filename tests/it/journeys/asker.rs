//! P-8: the audit log names who asked, and not who carried it out.

use std::{
    io::Write,
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, Output, Stdio},
};

use credd::{config, daemon, ledger::Filter};

use crate::world::{
    World,
    binary::{err, out},
    until,
};

/// `credd credential …` as that person would run it.
fn run(mut command: Command, sudo: Option<&str>, input: &str) -> Output {
    command.env_remove("SUDO_UID");
    command.envs(sudo.map(|uid| ("SUDO_UID", uid)));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", err(&output));
    output
}

/// Event and actor of each entry that an operator made, newest first.
fn asked(log: Vec<credd::ledger::Logged>) -> Vec<(String, String)> {
    let ours = log.into_iter().map(|logged| logged.entry).filter(|entry| entry.event.starts_with("secret_"));
    ours.map(|entry| {
        assert_eq!(entry.trigger, "operator");
        (entry.event, entry.actor.unwrap())
    })
    .collect()
}

fn all() -> Filter {
    Filter { credential: Some("bot".into()), ..Filter::default() }
}

#[tokio::test]
async fn p8_a_command_that_writes_the_ledger_itself_names_the_person_behind_it() {
    let world = World::new().await;
    world.write_settings();
    let me = rustix::process::getuid();
    for (sudo, verb, input) in [
        (None, &["credential", "put", "bot"][..], "key-one"),
        (Some("4711"), &["credential", "import"], r#"{"bot": "key-two"}"#),
        (Some("4711"), &["credential", "rm", "bot"], ""),
    ] {
        run(world.credd(verb), sudo, input);
    }
    let loaded = config::load(Some(&world.settings_path()), &[]).unwrap();
    let references = config::References::new(Some(&world.settings_path()), Default::default());
    let clock = std::sync::Arc::new(credd::clock::SystemClock);
    let ledger = daemon::ledger(&loaded.config, &references, clock).await.unwrap();
    let (own, behind) = (format!("uid {}", me.as_raw()), "uid 4711 (through sudo)".to_owned());
    // Only root is believed to be sudo's.
    let behind = if me.is_root() { behind } else { own.clone() };
    let expected = [("secret_removed", &behind), ("secret_put", &behind), ("secret_put", &own)];
    let expected: Vec<(String, String)> = expected.map(|(event, actor)| (event.to_owned(), actor.clone())).into();
    assert_eq!(asked(ledger.audit().tail(&all(), 100).await.unwrap()), expected);
    ledger.close().await;
}

/// Root asks a daemon that runs as somebody else: the socket says who it was.
#[tokio::test(flavor = "multi_thread")]
async fn p8_a_command_that_the_daemon_carries_out_names_the_peer_of_the_socket() {
    const DAEMON: u32 = 65_534;
    let world = World::new().await;
    world.write_settings();
    let me = rustix::process::geteuid();
    let mut command = world.credd(&["run"]);
    if me.is_root() {
        // The program may lie where nobody else can reach it.
        let program = world.path("credd-program");
        std::fs::copy(env!("CARGO_BIN_EXE_credd"), &program).unwrap();
        give(world.folder.path(), DAEMON);
        command = Command::new(&program);
        command.env_clear().arg("--config").arg(world.settings_path()).arg("run");
        command.current_dir(world.folder.path()).uid(DAEMON).gid(DAEMON);
    }
    let ask = |verb: &[&str]| {
        let mut command = world.credd(verb);
        command.env("CREDD_SOCKET", world.socket());
        command
    };
    let mut daemon = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("the operator's socket answers", async || {
        assert_eq!(daemon.try_wait().unwrap(), None, "it runs");
        ask(&["status"]).output().unwrap().status.code().filter(|code| *code != 69)
    })
    .await;
    run(ask(&["credential", "put", "bot"]), Some("4711"), "key-one");
    run(ask(&["credential", "rm", "bot"]), Some("4711"), "");
    let log = out(&ask(&["audit", "--credential", "bot", "--json"]).output().unwrap());
    let process = rustix::process::Pid::from_child(&daemon);
    rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
    daemon.wait().unwrap();
    let who = format!("\"actor\":\"uid {}\"", me.as_raw());
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("\"secret_")).collect();
    assert!(lines.len() == 2 && lines.iter().all(|line| line.contains(&who)), "{log}");
}

/// Everything in that folder is that user's.
fn give(folder: &Path, uid: u32) {
    std::os::unix::fs::chown(folder, Some(uid), Some(uid)).unwrap();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { give(&path, uid) } else { std::os::unix::fs::chown(&path, Some(uid), Some(uid)).unwrap() }
    }
}

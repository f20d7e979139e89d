//! `credd demo`, as a person runs it.

use std::{path::Path, process::Stdio, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
    time::timeout,
};

/// The demo ends by itself a minute after its start at the latest; a machine under load gets twice that.
const PATIENCE: Duration = Duration::from_secs(150);

/// The demo with a temporary folder of its own.
fn demo(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_credd"));
    command.args(["demo", "--plain", "--for", "30s"]).env("TMPDIR", folder).env_remove("CREDD_SOCKET");
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

fn leaves_nothing(folder: &Path) {
    let left: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "the demo left {left:?}");
}

#[tokio::test]
async fn the_whole_life_of_credentials_in_one_command() {
    let folder = tempfile::tempdir().unwrap();
    let output = timeout(PATIENCE, demo(folder.path()).output()).await.expect("the demo ends").unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{out}\n{err}");
    for what in [
        "proactive refreshes",
        "refusal mended",
        "rate limit",
        "outage survived",
        "revocation paged",
        "healed",
        "reads",
        "both sides agree",
        "exactly once",
        "paged once",
        "resolved once",
        "health flipped once",
    ] {
        assert!(out.contains(&format!("\n  ok  {what:20} ")), "{what} is missing: {out}");
    }
    for fact in [
        "failed reads 0 of ",
        "overlaps 0, ",
        "pages: 1 by mail, 1 by webhook;",
        "resolves: 1 by mail, 1 by webhook\n",
        "All that was promised happened.",
    ] {
        assert!(out.contains(fact), "{fact} is missing: {out}");
    }
    assert!(out.contains("curl --unix-socket ") && out.contains("/health") && out.contains(" status "), "{out}");
    for secret in ["sbx_", "whsec_", "sandbox-secret"] {
        assert!(!out.contains(secret) && !err.contains(secret), "{secret} was printed: {out}\n{err}");
    }
    leaves_nothing(folder.path());
}

#[tokio::test]
async fn an_interrupted_demo_names_what_did_not_happen_and_cleans_up() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = demo(folder.path()).stdout(Stdio::piped()).spawn().unwrap();
    let pid = rustix::process::Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut out = String::new();
    let watched = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.starts_with("Try meanwhile") {
                rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
            }
            out.push_str(&line);
            out.push('\n');
        }
        child.wait().await.unwrap()
    };
    let status = timeout(PATIENCE, watched).await.expect("the demo ends");
    assert_eq!(status.code(), Some(1), "{out}");
    let last = out.lines().last().unwrap_or_default();
    assert!(last.starts_with("Not as promised: "), "{out}");
    for what in ["revocation paged", "healed", "paged once", "resolved once"] {
        assert!(last.contains(what), "{what}: {last}");
    }
    leaves_nothing(folder.path());
}

#[tokio::test]
async fn the_demo_never_stands_on_somebody_elses_socket() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = demo(folder.path());
    let ended = command.env("CREDD_SOCKET", folder.path().join("credd.sock")).output();
    let output = timeout(PATIENCE, ended).await.expect("the demo ends").unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("env -u CREDD_SOCKET credd demo"));
    leaves_nothing(folder.path());
}

//! FM-70: a process that may not have enough files or threads starts whole, or says what it lacks and makes nothing.

use std::process::{Command, Output, Stdio};

use crate::world::{World, binary::err, grant, token};

/// `credd run` under limits.
fn limited(world: &World, limits: &[&str]) -> Command {
    let mut command = Command::new("prlimit");
    command.args(limits).arg(env!("CARGO_BIN_EXE_credd"));
    command.arg("--config").arg(world.settings_path()).arg("run").stdin(Stdio::null());
    command
}

fn refused(world: &World, output: &Output, words: &[&str]) {
    let said = err(output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(said.trim().lines().count(), 1, "one line, and no panic: {said}");
    words.iter().for_each(|word| assert!(said.contains(word), "{word}: {said}"));
    assert!(!world.path("state").exists() && !world.path("run").exists(), "nothing was made");
}

#[tokio::test(flavor = "multi_thread")]
async fn fm70_too_few_open_files_are_said_before_anything_is_made() {
    let world = World::new().await;
    world.write_settings();
    for files in ["8", "16", "32", "63"] {
        let output = limited(&world, &[&format!("--nofile={files}:{files}")]).output().unwrap();
        refused(&world, &output, &[&format!("may have {files} open files"), "at least 64", "LimitNOFILE="]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fm70_with_just_enough_files_it_starts_whole() {
    // The second may have more, and has only to ask for it.
    for limit in ["--nofile=64:64", "--nofile=16:4096"] {
        let mut world = World::new().await;
        let seed = world.granted("bot", grant(3600.0), "").await;
        world.write_settings();
        let log = std::fs::File::create(world.path("credd.log")).unwrap();
        let mut child = limited(&world, &[limit]).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        crate::world::until("the operator is answered", async || {
            assert_eq!(child.try_wait().unwrap(), None, "{limit}: {}", world.log());
            crate::journey::ask(&world.path("run/admin.sock"), "GET", "/v1/status").await
        })
        .await;
        assert_eq!(token(&world.read("bot").await), seed.access_token.expose(), "{limit}");
        assert_eq!(world.act("bot", "refresh").await.status, 200, "{limit}: {}", world.log());
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(child.wait().unwrap().success(), "{limit}: {}", world.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fm70_too_few_threads_are_said_before_anything_is_made() {
    let world = World::new().await;
    world.write_settings();
    // The limit counts a user's threads, and root's not at all: as root the program is lent to nobody.
    let root = rustix::process::geteuid().is_root();
    for threads in if root { &["1", "3", "6"][..] } else { &["1"][..] } {
        let mut command = if root {
            use std::os::unix::fs::PermissionsExt;
            let lent = world.path("credd");
            std::fs::copy(env!("CARGO_BIN_EXE_credd"), &lent).unwrap();
            for path in [world.folder.path(), &lent, &world.settings_path()] {
                std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
            }
            let mut command = Command::new("setpriv");
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "prlimit"]);
            command.arg(format!("--nproc={threads}:{threads}")).arg(lent);
            command.arg("--config").arg(world.settings_path()).arg("run").stdin(Stdio::null());
            command
        } else {
            limited(&world, &[&format!("--nproc={threads}:{threads}")])
        };
        refused(&world, &command.output().unwrap(), &["threads can be started here", "credd needs", "TasksMax="]);
    }
}

/// FM-42: the log's partition is full. The audit log is the ledger's; this one is for people, and stops nothing.
#[tokio::test(flavor = "multi_thread")]
async fn fm42_a_log_that_takes_no_line_stops_nothing() {
    let mut world = World::new().await;
    let seed = world.granted("bot", grant(3600.0), "").await;
    world.write_settings();
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut child = world.credd(&["run"]).stdout(full()).stderr(full()).spawn().unwrap();
    crate::world::until("the operator is answered", async || {
        assert_eq!(child.try_wait().unwrap(), None);
        crate::journey::ask(&world.path("run/admin.sock"), "GET", "/v1/status").await
    })
    .await;
    assert_eq!(token(&world.read("bot").await), seed.access_token.expose());
    assert_eq!(world.act("bot", "refresh").await.status, 200);
    let panics = world.asked("/metrics").await.body;
    let panics = panics.lines().filter(|line| line.starts_with("credd_panics_total") && !line.ends_with(" 0"));
    assert_eq!(panics.collect::<Vec<_>>(), [""; 0]);
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
}

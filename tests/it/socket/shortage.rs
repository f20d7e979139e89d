//! A real lack of file descriptors, in a process of its own.

use std::{
    io::Read,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};

use credd::{
    clock::SystemClock,
    metrics::Metrics,
    publish::{self, Asks},
    server::socket::{self, Limits},
};
use rustix::process::{Resource, Rlimit, setrlimit};
use tokio_util::sync::CancellationToken;

use crate::board::{Client, soon};

const SOCKET: &str = "CREDD_TEST_SHORTAGE_SOCKET";
const DESCRIPTORS: u64 = 64;

/// The other process: a socket that may have few descriptors, until its input ends.
#[tokio::test]
#[ignore = "run by fm57_the_socket_recovers_from_a_real_lack_of_descriptors"]
async fn fm57_child() {
    let Some(path) = std::env::var_os(SOCKET) else { return };
    setrlimit(Resource::Nofile, Rlimit { current: Some(DESCRIPTORS), maximum: Some(DESCRIPTORS) }).unwrap();
    let clock = Arc::new(SystemClock);
    let (_publisher, subscriber) = publish::channel(clock.clone());
    let door = socket::bind(Path::new(&path), 0o600, clock.clone(), |_| {}).await.unwrap();
    let asks = Asks::new(Vec::new(), |_, _| 0);
    let parts = socket::Parts { subscriber, asks, metrics: Metrics::new(), clock, witness: Arc::new(|_| {}) };
    let stop = CancellationToken::new();
    let server = tokio::spawn(socket::serve(door, parts, Limits::default(), stop.clone()));
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await.unwrap().unwrap();
    stop.cancel();
    server.await.unwrap();
}

#[tokio::test]
async fn fm57_the_socket_recovers_from_a_real_lack_of_descriptors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("credd.sock");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "socket::shortage::fm57_child"])
        .env(SOCKET, &path)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let open = || std::fs::read_dir(format!("/proc/{}/fd", child.id())).map_or(0, Iterator::count) as u64;
    soon(async {
        while tokio::net::UnixStream::connect(&path).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let mut crowd = Vec::new();
    for _ in 0..2 * DESCRIPTORS {
        crowd.push(Client::connect(&path).await);
    }
    soon(async {
        while open() < DESCRIPTORS {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(crowd[1].get("/v1/credentials").await.status, 200, "who is connected is served all the while");
    drop(crowd);
    let mut later = Client::connect(&path).await;
    assert_eq!(soon(later.get("/v1/credentials")).await.status, 200);
    drop((later, child.stdin.take()));
    assert!(child.wait().unwrap().success());
}

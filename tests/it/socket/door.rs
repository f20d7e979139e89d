//! The socket itself: peers that dawdle, the path, the drain.

use crate::board::{Board, HandClock, soon};
use credd::{clock::Clock, server::socket, server::socket::Limits, web, web::BindError};
use std::os::unix::fs::FileTypeExt;
use std::time::Duration;

#[tokio::test]
async fn fm54_fm55_peers_that_dawdle_are_left_and_patient_ones_stay() {
    let board = Board::new().await;
    board.put("bot", 1, 60_000);
    let mut silent = board.connect().await;
    let mut slow = board.connect().await;
    slow.send("GET /v1/tok").await;
    let mut patient = board.connect().await;
    assert_eq!(patient.get("/v1/tokens/bot").await.status, 200);
    let start = board.clock.now().boot;
    // A byte now and then does not buy more time.
    board
        .clock
        .until(async {
            while slow.babble(b"e").await {
                tokio::time::sleep(Duration::from_millis(4)).await;
            }
        })
        .await;
    assert!(board.clock.now().boot - start < Duration::from_secs(30), "the head has 5 s");
    board.clock.until(silent.ended()).await;
    assert!(board.clock.now().boot - start >= Duration::from_secs(29), "the first byte has 30 s");
    board.clock.advance(Duration::from_secs(300));
    assert_eq!(patient.get("/v1/tokens/bot").await.status, 200, "a kept connection may wait");
}

#[tokio::test]
async fn connections_of_one_user_are_capped_and_places_come_back() {
    let board = Board::with(Limits::per_uid(2)).await;
    board.put("bot", 1, 600);
    let mut a = board.connect().await;
    let mut b = board.connect().await;
    assert_eq!((a.get("/v1/tokens/bot").await.status, b.get("/v1/tokens/bot").await.status), (200, 200));
    let mut c = board.connect().await;
    assert_eq!(c.answer().await.status, 503);
    drop(a);
    soon(async {
        loop {
            let mut d = board.connect().await;
            d.babble(b"GET /v1/tokens/bot HTTP/1.1\r\nhost: x\r\n\r\n").await;
            if d.head().await.is_some_and(|got| got.status == 200) {
                break;
            }
        }
    })
    .await;
    assert_eq!(b.get("/v1/tokens/bot").await.status, 200);
}

#[tokio::test]
async fn fm59_what_stands_at_the_socket_path_decides() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("credd.sock");
    let clock = HandClock::new();
    let bind = || socket::bind(&path, 0o600, clock.clone(), |_| {});
    std::fs::write(&path, "mine").unwrap();
    assert!(matches!(bind().await, Err(BindError::Foreign(_))));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine", "it is left untouched");
    std::fs::remove_file(&path).unwrap();
    // A daemon that died left its file.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(std::fs::metadata(&path).unwrap().file_type().is_socket());
    let door = bind().await.expect("a stale file is replaced");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    assert!(matches!(bind().await, Err(BindError::Taken(_))), "ours is alive");
    drop(door);
    assert!(!path.exists(), "an orderly end leaves nothing");
    // Somebody else's live socket, without our lock file.
    let _other = std::os::unix::net::UnixListener::bind(&path).unwrap();
    assert!(matches!(bind().await, Err(BindError::Taken(_))));
}

#[tokio::test]
async fn fm60_a_deleted_socket_file_comes_back() {
    let board = Board::new().await;
    board.put("bot", 1, 60_000);
    let mut before = board.connect().await;
    assert_eq!(before.get("/v1/tokens/bot").await.status, 200);
    let start = board.clock.now().boot;
    std::fs::remove_file(&board.path).unwrap();
    board
        .clock
        .until(async {
            while !board.path.exists() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    assert!(board.clock.now().boot - start <= Duration::from_secs(15));
    soon(async {
        while tokio::net::UnixStream::connect(&board.path).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(board.connect().await.get("/v1/tokens/bot").await.status, 200);
    assert_eq!(before.get("/v1/tokens/bot").await.status, 200, "open connections stay");
}

#[tokio::test]
async fn the_drain_ends_watches_waits_and_idle_connections() {
    let mut board = Board::new().await;
    board.put("bot", 1, 60_000);
    let mut idle = board.connect().await;
    idle.get("/v1/tokens/bot").await;
    let mut silent = board.connect().await;
    let mut watcher = board.connect().await;
    watcher.send("GET /v1/watch?names=bot HTTP/1.1\r\nhost: x\r\n\r\n").await;
    watcher.head().await.unwrap();
    assert_eq!(watcher.event().await.unwrap().0, "token");
    let mut poller = board.connect().await;
    poller.send("GET /v1/tokens/bot?wait=5m HTTP/1.1\r\nhost: x\r\nif-none-match: \"1\"\r\n\r\n").await;
    poller.babble(b"").await;
    board.end().await;
    soon(idle.ended()).await;
    soon(silent.ended()).await;
    soon(watcher.ended()).await;
    soon(poller.ended()).await;
    assert!(!board.path.exists());
}

#[tokio::test]
async fn limits_are_those_of_the_faults_page() {
    let limits = Limits::default();
    let seconds = Duration::from_secs;
    assert_eq!((limits.web.first, limits.web.head, limits.web.blocked), (seconds(30), seconds(5), seconds(10)));
    assert_eq!((limits.web.per_party, limits.flight, web::BODY_CAP), (1024, seconds(5), 65_536));
}

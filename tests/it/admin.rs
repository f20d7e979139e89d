//! The operator's socket, over the wire.

use std::{io, sync::Arc};

use credd::{
    credential::{CredentialId, Failure, Generation, Secret, Verdict},
    publish::{Answer, Ask},
    server::admin::{self, AuditQuery, House},
    web::{Caller, Listener},
};
use futures_util::{FutureExt, future::BoxFuture};
use serde_json::{Value, json};
use tokio::net::{UnixListener, UnixStream};

use crate::board::{Board, CANARY};

/// A house that writes down what it is told.
#[derive(Default)]
struct Told(std::sync::Mutex<Vec<String>>);

impl Told {
    fn note(&self, words: String) -> Result<String, String> {
        self.0.lock().unwrap().push(words.clone());
        if words.contains("broken") { Err(words) } else { Ok(words) }
    }
}

impl House for Told {
    fn about(&self) -> BoxFuture<'_, Value> {
        async { json!({ "version": "x" }) }.boxed()
    }
    fn audit(&self, wanted: AuditQuery) -> BoxFuture<'_, Result<Vec<Value>, String>> {
        async move { self.note(format!("{wanted:?}")).map(|words| vec![words.into()]) }.boxed()
    }
    fn unclassified(&self) -> BoxFuture<'_, Result<Vec<Value>, String>> {
        async { Ok(vec!["odd".into()]) }.boxed()
    }
    fn dismiss(&self, ids: Option<Vec<String>>, actor: String) -> BoxFuture<'_, Result<String, String>> {
        async move { self.note(format!("dismissed {ids:?} for {actor}")) }.boxed()
    }
    fn reload(&self) -> BoxFuture<'_, Result<String, String>> {
        async { self.note("broken settings".into()) }.boxed()
    }
    fn embedded(&self) -> BoxFuture<'_, Result<Vec<Value>, String>> {
        async { Ok(vec!["bot".into()]) }.boxed()
    }
    fn put(&self, name: CredentialId, document: Secret, actor: String) -> BoxFuture<'_, Result<String, String>> {
        async move { self.note(format!("put {name} {} for {actor}", document.len())) }.boxed()
    }
    fn remove(&self, name: CredentialId, actor: String) -> BoxFuture<'_, Result<String, String>> {
        async move { self.note(format!("removed {name} for {actor}")) }.boxed()
    }
}

#[tokio::test]
async fn the_operator_sees_everything_and_can_act() {
    let mut board = Board::without_socket();
    board.put("bot", 3, 600);
    let door = admin::bind(&board.path, board.clock.clone()).await.unwrap();
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&board.path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let parts = admin::Parts {
        subscriber: board.subscriber.clone(),
        asks: board.asks.clone(),
        house: Arc::new(Told::default()),
        clock: board.clock.clone(),
    };
    tokio::spawn(admin::serve(door, parts, board.stop.clone()));
    let mut client = board.connect().await;
    let got = client.get("/v1/status").await;
    let status = got.json();
    assert_eq!((&status["daemon"]["version"], &status["credentials"][0]["name"]), (&"x".into(), &"bot".into()));
    assert_eq!(got.header("cache-control"), Some("no-store"));
    assert!(!got.body.contains(CANARY));
    assert_eq!(client.get("/v1/credentials/bot").await.json()["readers"], json!([]));
    assert_eq!(client.get("/v1/credentials/absent").await.status, 404);

    client.send("POST /v1/credentials/bot/refresh HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let Ask::Refresh { id, answer, .. } = board.ask().await else { panic!("another ask") };
    assert_eq!(id.as_str(), "bot");
    let done = Answer { done: true, generation: Generation(4), verdict: None, message: "refreshed".into() };
    answer.send(done.clone()).unwrap();
    let got = client.answer().await;
    assert_eq!((got.status, &got.json()["generation"]), (200, &4.into()));
    client.send("POST /v1/credentials/bot/probe HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let Ask::Probe { answer, .. } = board.ask().await else { panic!("another ask") };
    let verdict = Some(Verdict::of(Failure::CredentialRevoked, ""));
    answer.send(Answer { done: false, verdict, ..done }).unwrap();
    let got = client.answer().await;
    assert_eq!((got.status, &got.json()["failure"]["subtype"]), (409, &"credential_revoked".into()));
    assert_eq!(client.post("/v1/credentials/bot/polish", "").await.status, 404);

    let entries = client.get("/v1/audit?credential=bot&limit=5").await.json();
    assert!(entries["entries"][0].as_str().unwrap().contains("limit: Some(5)"), "{entries}");
    assert_eq!(client.get("/v1/unclassified").await.json()["entries"][0], "odd");
    let who = format!("uid {}", rustix::process::geteuid().as_raw());
    for (path, ids) in [("/ab,cd", "Some([\"ab\", \"cd\"])"), ("", "None")] {
        client.send(&format!("DELETE /v1/unclassified{path} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
        assert_eq!(client.answer().await.json()["message"], format!("dismissed {ids} for {who}"));
    }
    assert_eq!(client.post("/v1/reload", "").await.status, 422);
    assert_eq!(client.get("/v1/embedded").await.json()["entries"][0], "bot");
    client.send("PUT /v1/embedded/bot HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc").await;
    assert_eq!(client.answer().await.json()["message"], format!("put bot 3 for {who}"));
    client.send("DELETE /v1/embedded/bot HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(client.answer().await.json()["message"], format!("removed bot for {who}"));
    client.send("PUT /v1/embedded/bot HTTP/1.1\r\nhost: x\r\ncontent-length: 4294967295\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 413);
}

#[tokio::test]
async fn nobody_but_the_operator_is_heard() {
    let board = Board::without_socket();
    board.put("bot", 3, 600);
    let parts = admin::Parts {
        subscriber: board.subscriber.clone(),
        asks: board.asks.clone(),
        house: Arc::new(Told::default()),
        clock: board.clock.clone(),
    };
    let listener = Stranger(UnixListener::bind(&board.path).unwrap());
    tokio::spawn(admin::serve(listener, parts, board.stop.clone()));
    let mut client = board.connect().await;
    for path in ["/v1/status", "/v1/credentials/bot", "/elsewhere"] {
        assert_eq!(client.get(path).await.status, 403, "{path}");
    }
}

/// A listener whose callers are somebody else.
struct Stranger(UnixListener);

impl Listener for Stranger {
    type Io = UnixStream;

    async fn accept(&mut self) -> io::Result<(UnixStream, Caller)> {
        let (stream, _) = self.0.accept().await?;
        Ok((stream, Caller::Local { uid: 4_000_000, gid: 4_000_000, pid: None }))
    }
}

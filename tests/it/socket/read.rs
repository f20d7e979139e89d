//! Reads, and who may read.

use super::problem;
use crate::board::{Board, CANARY, Client, published};
use credd::{
    credential::Failure, credential::Generation, credential::Kind, lifecycle::State, publish::Problem, publish::Reader,
    server::socket, server::socket::Limits, server::socket::Occurrence, web,
};
use jiff::SignedDuration;
use std::sync::Arc;

#[tokio::test]
async fn a_read_brings_the_token_and_its_tag() {
    let board = Board::new().await;
    board.put("bot", 41, 600);
    let mut client = board.connect().await;
    let got = client.get("/v1/tokens/bot").await;
    assert_eq!((got.status, got.header("etag")), (200, Some("\"41\"")));
    assert_eq!(got.header("cache-control"), Some("no-store"));
    let expires_at = (board.now() + SignedDuration::from_secs(600)).to_string();
    let body = serde_json::json!({
        "name": "bot", "generation": 41, "access_token": format!("{CANARY}-bot-41"), "token_type": "Bearer",
        "expires_at": expires_at, "scope": "read write",
    });
    assert_eq!(got.json(), body);
    let again = client.get_with("/v1/tokens/bot", "if-none-match: \"40\", \"41\"\r\n").await;
    assert_eq!((again.status, again.body.as_str()), (304, ""));
    assert_eq!(client.get_with("/v1/tokens/bot", "if-none-match: \"40\"\r\n").await.status, 200);
    let used = board.subscriber.get("bot").unwrap().usage.list();
    assert_eq!((used[0].reads, used[0].generation, used[0].name.as_deref()), (3, Generation(41), Some("tests")));
    assert_eq!(board.metrics.credd_token_requests_total.total("bot"), 2);
}

#[tokio::test]
async fn an_unsaved_token_says_so() {
    let board = Board::new().await;
    let mut edition = published(&board, "bot", 1, Some(600), State::Fresh);
    edition.token.as_mut().unwrap().unsaved = true;
    board.publisher.set(edition);
    assert_eq!(board.connect().await.get("/v1/tokens/bot").await.json()["unsaved"], true);
}

#[tokio::test]
async fn n083_unknown_and_forbidden_names_look_alike() {
    let board = Board::new().await;
    let mut edition = published(&board, "hidden", 1, Some(600), State::Fresh);
    edition.readers = Arc::from([Reader { uid: Some(4_000_000), ..Reader::default() }]);
    board.publisher.set(edition);
    let mut client = board.connect().await;
    for path in ["/v1/tokens/NAME", "/v1/tokens/NAME?min_ttl=5", "/v1/watch?names=NAME"] {
        let mut told = Vec::new();
        for name in ["hidden", "absent"] {
            let got = client.get(&path.replace("NAME", name)).await;
            let mut body = got.json();
            assert_eq!((got.status, &body["failure"]["subtype"]), (404, &"unknown_credential".into()));
            body["instance"] = "".into();
            let headers: Vec<_> = got.headers.into_iter().filter(|(name, _)| name != "date").collect();
            told.push((headers, body.to_string().replace(name, "NAME")));
        }
        assert_eq!(told[0], told[1]);
    }
    let refused = client.post("/v1/tokens/hidden/refused", r#"{"generation":1,"status":401}"#).await;
    assert_eq!(refused.status, 404);
    assert_eq!(client.get("/v1/credentials").await.json()["credentials"], serde_json::json!([]));
    let seen = board.seen.lock().unwrap();
    assert!(seen.iter().all(|occurrence| {
        let Occurrence::Denied { peer, .. } = occurrence;
        peer.uid == rustix::process::geteuid().as_raw()
    }));
    assert_eq!(seen.len(), 7, "each denial is told to the audit log");
}

/// A socket whose callers are somebody else.
struct Costumed(tokio::net::UnixListener, u32, u32);

impl web::Listener for Costumed {
    type Io = tokio::net::UnixStream;

    async fn accept(&mut self) -> std::io::Result<(Self::Io, web::Caller)> {
        let (stream, _) = self.0.accept().await?;
        Ok((stream, web::Caller::Local { uid: self.1, gid: self.2, pid: None }))
    }
}

#[tokio::test]
async fn n081_rules_decide_by_the_kernels_word_and_not_by_the_callers() {
    let board = Board::without_socket();
    let group = Reader { gid: Some(500), ..Reader::default() };
    let both = Reader { uid: Some(7), gid: Some(500), ..Reader::default() };
    for (name, readers) in [("grouped", vec![group]), ("strict", vec![both]), ("default", vec![])] {
        let mut edition = published(&board, name, 1, Some(600), State::Fresh);
        edition.readers = readers.into();
        board.publisher.set(edition);
    }
    let own_uid = rustix::process::geteuid().as_raw();
    let table = [
        (7, 500, [200, 200, 404]),
        (8, 500, [200, 404, 404]),
        (7, 501, [404, 404, 404]),
        (own_uid, 501, [404, 404, 200]),
    ];
    for (at, (uid, gid, expected)) in table.into_iter().enumerate() {
        let path = board.path.with_file_name(format!("{at}.sock"));
        let listener = Costumed(tokio::net::UnixListener::bind(&path).unwrap(), uid, gid);
        let parts = socket::Parts {
            subscriber: board.subscriber.clone(),
            asks: board.asks.clone(),
            metrics: board.metrics.clone(),
            clock: board.clock.clone(),
            witness: Arc::new(|_| {}),
        };
        tokio::spawn(socket::serve(listener, parts, Limits::default(), board.stop.clone()));
        let mut client = Client::connect(&path).await;
        let claims = format!("x-uid: {own_uid}\r\nforwarded: for=root\r\n");
        for (name, status) in ["grouped", "strict", "default"].into_iter().zip(expected) {
            let got = client.get_with(&format!("/v1/tokens/{name}"), &claims).await;
            assert_eq!(got.status, status, "uid {uid} gid {gid} {name}");
        }
    }
}

#[tokio::test]
async fn the_list_shows_what_the_caller_may_read_and_no_secret() {
    let board = Board::new().await;
    board.put("bot", 3, 600);
    let mut edition = published(&board, "sick", 2, Some(600), State::Degraded);
    edition.view.problem = Some(problem(&board, Failure::UpstreamUnavailable));
    board.publisher.set(edition);
    let got = board.connect().await.get("/v1/credentials").await;
    let list = got.json();
    assert_eq!(list["credentials"][0]["name"], "bot");
    assert_eq!(list["credentials"][1]["failure"]["subtype"], "upstream_unavailable");
    assert_eq!(list["credentials"][1]["available"], true);
    assert!(!got.body.contains(CANARY), "{}", got.body);
}

#[tokio::test]
async fn revoked_and_missing_credentials_are_refused_without_an_ask() {
    let mut board = Board::new().await;
    let mut revoked = published(&board, "dead", 4, None, State::Revoked);
    revoked.token = None;
    revoked.view.problem = Some(Problem { retry_at: None, ..problem(&board, Failure::CredentialRevoked) });
    board.publisher.set(revoked);
    let mut missing = published(&board, "new", 0, None, State::Uninitialised);
    missing.token = None;
    board.publisher.set(missing);
    let mut key = published(&board, "key", 1, Some(-1), State::Revoked);
    (key.view.kind, key.token) = (Kind::ApiKey, None);
    board.publisher.set(key);
    let mut client = board.connect().await;
    for (name, status, subtype, action) in [
        ("dead", 424, "credential_revoked", "reauthorize"),
        ("new", 503, "not_ready", "wait"),
        ("key", 424, "credential_revoked", "reauthorize"),
    ] {
        let got = client.get(&format!("/v1/tokens/{name}")).await;
        let body = got.json();
        let failure = &body["failure"];
        assert_eq!((got.status, &failure["subtype"]), (status, &subtype.into()), "{name}");
        assert_eq!(&failure["action"], action);
        assert_eq!(got.header("retry-after").is_some(), failure["retryable"] == true);
    }
    assert!(board.asked.try_recv().is_err(), "nobody was asked");
    let failures = &board.metrics.credd_token_request_failures_total;
    assert_eq!(failures.with_label_values(&["dead", "uds", "credential_revoked"]).get(), 1);
}

#[tokio::test]
async fn a_long_poll_ends_with_the_next_generation_or_in_time() {
    let board = Board::new().await;
    board.put("bot", 1, 6000);
    let mut client = board.connect().await;
    let has_one = "if-none-match: \"1\"\r\n";
    assert_eq!(client.get("/v1/tokens/bot?wait=30s").await.status, 200, "who has nothing waits for nothing");
    client.send(&format!("GET /v1/tokens/bot?wait=30s HTTP/1.1\r\nhost: x\r\n{has_one}\r\n")).await;
    // A change of state alone is no new generation.
    board.publisher.set(published(&board, "bot", 1, Some(6000), State::Refreshing));
    board.put("bot", 2, 6000);
    assert_eq!(client.answer().await.json()["generation"], 2);
    client.send("GET /v1/tokens/bot?wait=30s HTTP/1.1\r\nhost: x\r\nif-none-match: \"2\"\r\n\r\n").await;
    assert_eq!(board.clock.until(client.answer()).await.status, 304);
    client.send("GET /v1/tokens/bot?wait=30s HTTP/1.1\r\nhost: x\r\nif-none-match: \"2\"\r\n\r\n").await;
    let mut revoked = published(&board, "bot", 2, None, State::Revoked);
    revoked.token = None;
    board.publisher.set(revoked);
    assert_eq!(client.answer().await.status, 424, "a withdrawal ends the wait");
}

#[tokio::test]
async fn paths_and_methods_that_are_not_there() {
    let board = Board::new().await;
    board.put("bot", 1, 600);
    let mut client = board.connect().await;
    for path in ["/", "/v1", "/v1/tokens", "/v1/tokens/", "/v1/tokens/bot/x", "/v1/tokens/../bot", "/v2/tokens/bot"] {
        assert_eq!(client.get(path).await.status, 404, "{path}");
    }
    for (path, allowed) in [("/v1/tokens/bot", "GET"), ("/v1/watch", "GET"), ("/v1/credentials", "GET")] {
        let got = client.post(path, "{}").await;
        assert_eq!((got.status, got.header("allow")), (405, Some(allowed)), "{path}");
    }
    let got = client.get("/v1/tokens/bot/refused").await;
    assert_eq!((got.status, got.header("allow")), (405, Some("POST")));
}

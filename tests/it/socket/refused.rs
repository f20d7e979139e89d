//! Handing in refusals, and bodies of all sizes.

use super::answer;
use crate::board::{Board, CANARY, soon};
use credd::{
    catalogue::Surface, credential::Failure, credential::Generation, credential::Verdict, publish::Answer, publish::Ask,
};

#[tokio::test]
async fn a_refusal_is_judged_and_brings_the_newer_token() {
    let mut board = Board::new().await;
    board.put("bot", 5, 600);
    let mut client = board.connect().await;
    let refusal = r#"{"generation":5,"status":401,"surface":"publish","headers":{"WWW-Authenticate":"Bearer error=\"invalid_token\""},"body":"{\"error\":\"x\"}"}"#;
    let length = refusal.len();
    let request = format!(
        "POST /v1/tokens/bot/refused HTTP/1.1\r\nhost: x\r\ncontent-type: application/json; charset=utf-8\r\n\
         content-length: {length}\r\n\r\n{refusal}"
    );
    client.send(&request).await;
    let Ask::Refused { generation, surface, reply, answer: to, .. } = board.ask().await else { panic!("another ask") };
    assert_eq!((generation, surface, reply.status), (Generation(5), Surface::Publish, 401));
    assert_eq!(reply.header("www-authenticate"), Some("Bearer error=\"invalid_token\""));
    assert_eq!(reply.body, b"{\"error\":\"x\"}");
    board.put("bot", 6, 600);
    let verdict = Some(Verdict::of(Failure::CredentialExpired, ""));
    to.send(Answer { verdict, message: "refreshed".into(), ..answer(6, true) }).unwrap();
    let body = client.answer().await.json();
    assert_eq!((&body["verdict"]["subtype"], &body["message"]), (&"credential_expired".into(), &"refreshed".into()));
    assert_eq!(body["token"]["access_token"], format!("{CANARY}-bot-6"));

    // Where nothing helped there is a verdict and no token.
    client.send(&request.replace("\"generation\":5", "\"generation\":6")).await;
    let Ask::Refused { answer: to, .. } = board.ask().await else { panic!("another ask") };
    let verdict = Some(Verdict::of(Failure::CredentialRevoked, "revoked"));
    to.send(Answer { verdict, ..answer(6, false) }).unwrap();
    let body = client.answer().await.json();
    assert_eq!((&body["verdict"]["action"], &body["verdict"]["cause"]), (&"reauthorize".into(), &"revoked".into()));
    assert!(body.get("token").is_none());

    for (bad, status) in [("{}", 400), (r#"{"generation":99,"status":401}"#, 400), ("canary-x", 400)] {
        let got = client.post("/v1/tokens/bot/refused", bad).await;
        assert_eq!(got.status, status, "{bad}");
        assert!(!got.body.contains("canary-x"));
    }
    client.send("POST /v1/tokens/bot/refused HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}").await;
    assert_eq!(client.answer().await.status, 415);
    assert!(board.asked.try_recv().is_err());
}

#[tokio::test]
async fn fm56_large_bodies_are_refused_at_the_head() {
    let board = Board::new().await;
    board.put("bot", 1, 600);
    for length in ["4294967295", "1048576", "65537"] {
        for request in ["POST /v1/tokens/bot/refused", "GET /v1/credentials"] {
            let mut client = board.connect().await;
            let head = format!(
                "{request} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
            );
            client.send(&head).await;
            assert_eq!(client.answer().await.status, 413, "{request} {length}");
            soon(client.ended()).await;
        }
    }
    // Without an announcement the cap holds all the same.
    let mut client = board.connect().await;
    client
        .send("POST /v1/tokens/bot/refused HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
        .await;
    let chunk = format!("4000\r\n{}\r\n", "x".repeat(0x4000));
    for _ in 0..5 {
        client.babble(chunk.as_bytes()).await;
    }
    assert_eq!(client.answer().await.status, 413);
    let mut client = board.connect().await;
    client
        .babble(format!("GET /v1/credentials HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "y".repeat(40_000)).as_bytes())
        .await;
    assert_eq!(client.answer().await.status, 431);
    let mut client = board.connect().await;
    client.send("BABBLE\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 400);
}

//! Several credentials of one service: who asks for a use gets the narrowest that will do.

use std::sync::Arc;

use crate::board::{Board, published};
use credd::{
    credential::CredentialId,
    lifecycle::State,
    publish::{Offer, Published, Reader, Uses},
};

fn offered(board: &Board, name: &str, generation: i64, uses: &[&str]) -> Published {
    let uses = (!uses.is_empty()).then(|| Uses::Several(uses.iter().map(|one| (*one).to_owned()).collect()));
    let offer = Some(Arc::new(Offer { service: "github".into(), uses }));
    Published { offer, ..published(board, name, generation, Some(6000), State::Fresh) }
}

async fn board() -> Board {
    let board = Board::new().await;
    for (name, uses) in [
        ("all", &[][..]),
        ("writer", &["read", "write"]),
        ("reader", &["read"]),
        ("acme", &["repo:acme/*"]),
        ("web", &["repo:acme/web"]),
    ] {
        board.publisher.set(offered(&board, name, 7, uses));
    }
    board.put("plain", 7, 6000);
    board
}

#[tokio::test]
async fn the_narrowest_that_will_do_answers() {
    let board = board().await;
    let mut client = board.connect().await;
    let table = [
        ("?use=read", "reader"),
        ("?use=write", "writer"),
        ("?use=read&use=write", "writer"),
        ("?use=read,write", "writer"),
        ("?use=repo:acme/web", "web"),
        ("?use=repo%3Aacme%2Fapi", "acme"),
        ("?use=repo:acme/*", "acme"),
        ("?use=repo:other/x", "all"),
        ("?use=read,repo:acme/web", "all"),
        ("?use=", "all"),
        ("", "all"),
    ];
    for (query, name) in table {
        let got = client.get(&format!("/v1/services/github/token{query}")).await;
        assert_eq!((got.status, &got.json()["name"]), (200, &name.into()), "{query}: {}", got.body);
        assert_eq!(got.header("etag"), Some(format!("\"{name}.7\"").as_str()));
    }
    let list = client.get("/v1/credentials").await.json();
    assert_eq!(list["credentials"][3]["name"], "reader");
    assert_eq!(list["credentials"][3]["use"], serde_json::json!(["read"]));
    assert_eq!(list["credentials"][3]["service"], "github");
    assert!(list["credentials"][2].get("service").is_none(), "{list}");
}

#[tokio::test]
async fn what_may_not_be_read_is_not_among_them_and_unknown_looks_the_same() {
    let board = board().await;
    let stranger: Arc<[Reader]> = Arc::from([Reader { uid: Some(4_000_000), ..Reader::default() }]);
    for (name, uses) in [("reader", &["read"][..]), ("all", &[])] {
        board.publisher.set(Published { readers: stranger.clone(), ..offered(&board, name, 8, uses) });
    }
    let mut client = board.connect().await;
    assert_eq!(client.get("/v1/services/github/token?use=read").await.json()["name"], "writer");
    let mut told = Vec::new();
    // One exists for a stranger, the other not at all; the credential that nobody offered is not found by its provider.
    for service in ["github", "gitlab"] {
        let got = client.get(&format!("/v1/services/{service}/token?use=delete")).await;
        assert_eq!((got.status, &got.json()["failure"]["subtype"]), (404, &"unknown_credential".into()));
        let mut body = got.json();
        body["instance"] = "".into();
        told.push(body.to_string().replace(service, "SERVICE"));
    }
    assert_eq!(told[0], told[1]);
    for path in ["/v1/services/rfc6749/token", "/v1/services//token", "/v1/services/a/b/token", "/v1/services/github"] {
        assert_eq!(client.get(path).await.status, 404, "{path}");
    }
    assert_eq!(client.post("/v1/services/github/token", "{}").await.status, 405);
}

#[tokio::test]
async fn a_binding_follows_the_settings_and_never_the_state() {
    let board = board().await;
    let mut client = board.connect().await;
    let path = "/v1/services/github/token?use=read";
    // Revoked: still the answer, because a reader must not slip into a more powerful one.
    let mut revoked = offered(&board, "reader", 7, &["read"]);
    (revoked.token, revoked.view.state) = (None, State::Revoked);
    board.publisher.set(revoked);
    let got = client.get(path).await;
    assert_eq!((got.status, &got.json()["failure"]["credential"]), (424, &"reader".into()), "{}", got.body);
    board.publisher.set(offered(&board, "reader", 8, &["read"]));
    assert_eq!(client.get(path).await.json()["generation"], 8);
    // It is for something else from now on: the same generation of another credential is news to who had the first.
    let tag = client.get(path).await.header("etag").unwrap().to_owned();
    assert_eq!(client.get_with(path, &format!("if-none-match: {tag}\r\n")).await.status, 304);
    board.publisher.set(offered(&board, "writer", 8, &["read", "write"]));
    board.publisher.set(offered(&board, "reader", 8, &["list"]));
    let got = client.get_with(path, &format!("if-none-match: {tag}\r\n")).await;
    assert_eq!((got.status, &got.json()["name"]), (200, &"writer".into()));
    board.publisher.remove(&"writer".to_owned().try_into().unwrap());
    assert_eq!(client.get(path).await.json()["name"], "all");
    board.publisher.set(Published { offer: None, ..offered(&board, "all", 7, &[]) });
    assert_eq!(client.get(path).await.status, 404, "no longer offered");
    assert_eq!(client.get("/v1/tokens/all").await.status, 200, "by its name it is there");
}

#[tokio::test]
async fn waiting_and_watching_work_as_they_do_by_name() {
    let board = board().await;
    let mut client = board.connect().await;
    let path = "/v1/services/github/token?use=read&wait=30s&min_ttl=5";
    client.send(&format!("GET {path} HTTP/1.1\r\nhost: x\r\nif-none-match: \"reader.7\"\r\n\r\n")).await;
    board.publisher.set(offered(&board, "reader", 8, &["read"]));
    let got = client.answer().await;
    assert_eq!((&got.json()["name"], &got.json()["generation"]), (&"reader".into(), &8.into()));
    assert_eq!(client.get("/v1/services/github/token?use=read&min_ttl=soon").await.status, 400);

    client.send("GET /v1/watch?service=github&use=write HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(client.head().await.unwrap().status, 200);
    let (kind, _, first) = client.event().await.unwrap();
    assert_eq!((kind.as_str(), &first["name"]), ("token", &"writer".into()));
    let mut other = board.connect().await;
    assert_eq!(other.get("/v1/watch?service=github&use=read&use=nothing-less").await.status, 200);
    assert_eq!(board.connect().await.get("/v1/watch?use=read").await.status, 400);
    assert_eq!(board.connect().await.get("/v1/watch?service=gitlab&use=read").await.status, 404);
}

#[tokio::test]
async fn who_is_narrowed_while_he_reads_gets_no_more_of_the_whole() {
    let board = Board::new().await;
    board.put("bot", 1, 6000);
    let (mut client, mut waiting) = (board.connect().await, board.connect().await);
    client.send("GET /v1/watch?names=bot HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(client.head().await.unwrap().status, 200);
    assert_eq!(client.event().await.unwrap().0, "token");
    waiting.send("GET /v1/tokens/bot?wait=60s HTTP/1.1\r\nhost: x\r\nif-none-match: \"1\"\r\n\r\n").await;
    // From now on this reader is sent to a cut.
    let cut = CredentialId::new("bot.cut-0123abcd").unwrap();
    let mut narrowed = published(&board, "bot", 2, Some(6000), State::Fresh);
    narrowed.readers = Arc::from([Reader { cut: Some(cut.clone()), ..crate::board::own() }]);
    board.publisher.set(narrowed);
    let told = loop {
        let (kind, _, told) = client.event().await.unwrap();
        if kind != "state" {
            break (kind, told);
        }
    };
    assert_eq!(told.0, "removed", "{}", told.1);
    let got = waiting.answer().await;
    assert_eq!((got.status, got.body.contains("access_token")), (404, false), "{}", got.body);
    let mut reader = board.connect().await;
    assert_eq!(reader.get("/v1/tokens/bot").await.status, 404, "the whole in its place would be too much");
    assert_eq!(reader.get("/v1/credentials").await.json()["credentials"], serde_json::json!([]));
    board.put(cut.as_str(), 1, 6000);
    let got = reader.get("/v1/tokens/bot").await;
    assert_eq!((&got.json()["name"], got.header("etag")), (&cut.as_str().into(), Some("\"bot.cut-0123abcd.1\"")));
    assert_eq!(reader.get("/v1/credentials").await.json()["credentials"][0]["name"], cut.as_str());
    let report = reader.post("/v1/tokens/bot/refused", r#"{"generation":2,"status":401}"#).await;
    assert_eq!((report.status, report.body.contains(cut.as_str())), (400, true), "{}", report.body);
}

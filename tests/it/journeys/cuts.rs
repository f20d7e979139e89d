//! Readers who get a token of their own that may do less: made of the same grant, and dead with it.

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der},
    rsa,
    signature::KeyPair,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use credd::{
    credential::Secret,
    sandbox::{Client, Fault, FaultKind, NewGrant, Place},
};
use serde_json::{Value, json};
use std::time::Duration;

use crate::world::{World, call_api, token, until};

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// An app's key pair in PEM.
fn keys() -> (String, String) {
    let pem =
        |label: &str, der: &[u8]| format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der));
    let pair = rsa::KeyPair::generate(rsa::KeySize::Rsa2048).unwrap();
    let private = AsDer::<Pkcs8V1Der>::as_der(&pair).unwrap();
    let public = AsDer::<PublicKeyX509Der>::as_der(pair.public_key()).unwrap();
    (pem("PRIVATE KEY", private.as_ref()), pem("PUBLIC KEY", public.as_ref()))
}

/// Makes a new key for the app known to the sandbox; the document for its home store.
fn app(world: &World) -> Secret {
    let (private, public) = keys();
    let access_ttl = Duration::from_secs(8);
    let client = Client { id: "app-1".into(), secret: None, public_key: Some(public), access_ttl, ..Client::default() };
    world.admin().client(client);
    Secret::new(json!({ "client_id": "app-1", "installation_id": 42, "private_key": private }).to_string())
}

fn settings(world: &World, readers: &str) -> String {
    format!(
        "[policies.default]\nprobe = \"*/2 * * * * *\"\n\
         [credentials.bot]\nprovider = \"github_app\"\nkind = \"jwt_bearer\"\n{readers}\n\
         [credentials.bot.upstream]\ntoken_endpoint = \"{0}/app/installations/42/access_tokens\"\nprobe_url = \"{0}/api/me\"\n",
        world.sandbox.url
    )
}

/// The names of the cuts, as the operator sees them.
async fn cuts(world: &World) -> Vec<String> {
    let status = world.operator().await.get("/v1/status").await.json();
    let names = status["credentials"].as_array().unwrap().iter().map(|view| view["name"].as_str().unwrap().to_owned());
    names.filter(|name| name.starts_with("bot.cut-")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_reader_of_an_app_gets_its_own_narrower_token_and_all_die_as_one() {
    let mut world = World::new().await;
    let uid = own_uid();
    let narrowed = format!(
        "readers = [{{ uid = {uid}, name = \"docs\", narrow = {{ repositories = [\"web\"], permissions = {{ contents = \"read\" }} }} }}, \
         {{ uid = 4000000, narrow = {{ repositories = [\"api\"] }} }}]"
    );
    world.tables(&settings(&world, &narrowed));
    let document = app(&world);
    world.keep("bot", &document).await;
    world.start().await;
    let mine = until("a narrowed token", async || {
        let got = world.read("bot").await;
        (got.status == 200).then_some(got)
    })
    .await;
    let name = mine.json()["name"].as_str().unwrap().to_owned();
    let names = cuts(&world).await;
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names.contains(&name), "the answer says which it is: {name}");
    // What the provider gave is what was asked for, and no more.
    let (status, said) = call_api(&world.sandbox.probe_url(), &token(&mine)).await;
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((status, &said["scope"]), (200, &"repositories:web permissions:contents:read".into()));
    let scopes: Vec<_> = world.admin().log_of("client:app-1").into_iter().filter_map(|call| call.scope).collect();
    for scope in ["", "repositories:web permissions:contents:read", "repositories:api"] {
        assert!(scopes.iter().any(|made| made == scope), "{scope:?} in {scopes:?}");
    }
    // This reader sees its cut and nothing else: not the whole, not the other's.
    let list = world.reader().await.get("/v1/credentials").await.json();
    assert_eq!(list["credentials"].as_array().unwrap().iter().map(|one| &one["name"]).collect::<Vec<_>>(), [&name]);
    let other = names.iter().find(|one| **one != name).unwrap();
    assert_eq!(world.read(other).await.status, 404);
    assert_eq!(world.read(&name).await.json()["name"], name.as_str());
    // It is renewed like anything else, and the tag says whose generation it is.
    let tag = mine.header("etag").unwrap().to_owned();
    assert!(tag.contains(&name), "{tag}");
    let next = world.reader().await.get_with("/v1/tokens/bot?wait=60s", &format!("if-none-match: {tag}\r\n")).await;
    assert!(next.json()["generation"].as_i64() > mine.json()["generation"].as_i64(), "{}", next.body);

    // An operator's hold of the whole holds them all: it is one grant that calls.
    assert_eq!(world.act("bot", "hold").await.status, 200);
    world.becomes(&name, "held").await;
    world.becomes(other, "held").await;
    assert_eq!(world.act("bot", "release").await.status, 200);
    world.becomes(&name, "fresh").await;

    // The installation is suspended: one death, one incident, and nobody of them has a token.
    let body = json!({ "message": "This installation has been suspended" }).to_string();
    let kind = FaultKind::Raw { status: 403, headers: [].into(), body };
    world.admin().fault(Fault { kind, at: Place::Token, grant: Some("client:app-1".into()), calls: None });
    world.becomes("bot", "revoked").await;
    world.becomes(&name, "revoked").await;
    let got = world.read("bot").await;
    assert_eq!((got.status, &got.json()["failure"]["credential"]), (424, &name.as_str().into()), "{}", got.body);
    assert_eq!(world.health("/health/consumers/docs").await.status, 503);
    let calls = world.admin().counters_of("client:app-1").token_calls;
    let began = crate::world::up();
    // Its value ends meanwhile; that, too, is no incident of its own.
    until("the cut's value is over", async || ((crate::world::up() - began).as_secs() >= 9).then_some(())).await;
    let open: Vec<(String, String)> =
        world.incidents().await.into_iter().map(|one| (one.credential, one.kind)).collect();
    assert_eq!(open, [("bot".to_owned(), "credential_revoked".to_owned())]);
    assert_eq!(world.admin().counters_of("client:app-1").token_calls, calls, "a dead grant is asked for nothing");

    // A new key in the home store mends the whole and its cuts.
    world.admin().clear_all();
    let document = app(&world);
    world.keep("bot", &document).await;
    world.becomes("bot", "fresh").await;
    let mended = until("the cut lives again", async || {
        let got = world.read("bot").await;
        (got.status == 200).then_some(got)
    })
    .await;
    assert_eq!(mended.json()["name"], name.as_str());
    until("the incident is closed", async || world.incidents().await.is_empty().then_some(())).await;

    // No longer narrowed: the reader gets the whole, and the cuts are gone.
    world.tables = settings(&world, &format!("readers = [{{ uid = {uid} }}]"));
    world.write_settings();
    until("the reader gets the whole", async || (world.read("bot").await.json()["name"] == "bot").then_some(())).await;
    until("no cut is left", async || cuts(&world).await.is_empty().then_some(())).await;
    assert_eq!(world.read(&name).await.status, 404);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scopes_are_narrowed_and_a_provider_that_gives_more_is_not_believed() {
    let mut world = World::new().await;
    let still = "title = \"Still\"\nextends = \"rfc6749\"\n[rotation]\nprofile = \"none\"\n";
    world.provider("still", still);
    let narrowed =
        format!("startup = \"warn\"\nreaders = [{{ uid = {}, narrow = {{ scopes = [\"read\"] }} }}]", own_uid());
    let document = json!({ "client_id": "sandbox", "client_secret": "sandbox-secret" });
    world.keep("bot", &Secret::new(document.to_string())).await;
    world.credential("bot", "client_credentials", &narrowed);
    world.tables("scopes = [\"read\", \"write\"]");
    // The sandbox's refresh gives all scopes of the grant, whatever it is asked for.
    let terms = NewGrant { profile: "none".parse().unwrap(), ..NewGrant::default() };
    world.granted("greedy", terms, &format!("provider = \"still\"\n{narrowed}")).await;
    world.start().await;
    let got = until("a narrowed token", async || {
        let got = world.read("bot").await;
        (got.status == 200).then_some(got)
    })
    .await;
    assert_eq!(got.json()["scope"], "read");
    let (_, said) = call_api(&world.sandbox.probe_url(), &token(&got)).await;
    assert_eq!(serde_json::from_str::<Value>(&said).unwrap()["scope"], "read");
    let whole = world.view("bot").await;
    assert_eq!(whole["state"], "fresh", "{whole}");

    let refused = until("the provider's answer is judged", async || {
        let got = world.read("greedy").await;
        (got.json()["failure"]["cause"] == "not_narrowed").then_some(got)
    })
    .await;
    assert!(refused.status >= 400 && !refused.body.contains("sbx_at_"), "{}", refused.body);
    assert_eq!(world.view("greedy").await["state"], "fresh", "the whole is well");
    world.stop().await;
}

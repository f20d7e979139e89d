//! Upstreams against the sandbox and a certified OpenID provider: what is sent, how often, and where it never goes.

mod assertions;
mod oidc;
mod tls;

use std::{collections::BTreeMap, sync::Arc};

use credd::{
    catalogue::{ClientAuthentication, Probe, Provider, Request, Token},
    clock::{Clock, SystemClock},
    credential::{Kind, Material, Reply, Rotation, Secret},
    fetch::{Exchange, Fetch, FetchSettings, Trouble},
    sandbox::{Client, FaultKind, NewGrant, NewKey, Options, Place, Running, Sandbox, Seed},
    upstream::{HttpUpstream, Settings, Subject, Upstream},
};
use serde_json::{Value, json};

fn provider(endpoint: &str) -> Provider {
    Provider {
        name: "sandbox".into(),
        title: "Sandbox".into(),
        docs: None,
        token: Token { endpoint: Some(endpoint.into()), ..Token::default() },
        consent: Default::default(),
        rate_limit: Default::default(),
        unattended: Default::default(),
        probes: vec![],
        revocation_endpoint: None,
        introspection_endpoint: None,
        narrow: None,
        rotation: Rotation::Strict,
        grace: None,
        reuse_kills_access_token: true,
        refresh_idle: None,
        refresh_absolute: None,
        default_lifetime: None,
        max_lead: None,
        rules: Default::default(),
    }
}

fn subject(kind: Kind, document: &str, provider: Provider, settings: Settings) -> Subject {
    Subject {
        provider: Arc::new(provider),
        kind,
        material: Arc::new(Material::parse(document.as_bytes()).unwrap()),
        settings: Arc::new(settings),
    }
}

fn upstream() -> HttpUpstream {
    HttpUpstream::new(Arc::new(Fetch::new(FetchSettings::default()).unwrap()))
}

async fn sandbox() -> Running {
    Sandbox::start(Options::default()).await.unwrap()
}

fn granted(sandbox: &Running, seed: &Seed) -> Subject {
    let probe_url = Some(sandbox.probe_url().parse().unwrap());
    let settings = Settings { probe_url, ..Settings::default() };
    subject(Kind::RefreshToken, seed.document().expose(), provider(&sandbox.token_endpoint()), settings)
}

async fn refresh(subject: &Subject) -> Exchange {
    upstream().refresh(subject, SystemClock.now().wall).await.unwrap()
}

#[track_caller]
fn replied(exchange: Exchange) -> Reply {
    let Exchange::Replied(reply) = exchange else { panic!("{exchange:?}") };
    reply
}

#[track_caller]
fn read(exchange: Exchange) -> (u16, Value) {
    let reply = replied(exchange);
    (reply.status, serde_json::from_slice(&reply.body).unwrap_or_default())
}

#[tokio::test]
async fn every_way_to_show_the_client_is_understood() {
    let sandbox = sandbox().await;
    let odd = Client { id: "a:b c".into(), secret: Some(Secret::new("p%+&=:é")), ..Client::default() };
    sandbox.admin().client(odd.clone());
    sandbox.admin().client(Client { id: "public".into(), secret: None, ..odd });
    for (client, method, json) in [
        ("a:b c", ClientAuthentication::Basic, false),
        ("a:b c", ClientAuthentication::Basic, true),
        ("a:b c", ClientAuthentication::Post, false),
        ("a:b c", ClientAuthentication::Post, true),
        ("public", ClientAuthentication::None, false),
        ("public", ClientAuthentication::Basic, false),
    ] {
        let seed = sandbox.admin().grant(NewGrant { client: client.into(), ..NewGrant::default() });
        let mut subject = granted(&sandbox, &seed);
        let provider = Arc::make_mut(&mut subject.provider);
        provider.token.client_authentication = method;
        provider.token.request = Request { json, ..Request::default() };
        let (status, body) = read(refresh(&subject).await);
        assert_eq!((status, &body["token_type"]), (200, &json!("Bearer")), "{client} {method:?} {body}");
        assert_ne!(body["refresh_token"], seed.refresh_token.expose());
    }
}

#[tokio::test]
async fn client_credentials_bring_a_token_that_works() {
    let sandbox = sandbox().await;
    let settings =
        Settings { client_id: Some("sandbox".into()), scopes: vec!["a".into(), "b".into()], ..Settings::default() };
    let document = r#"{"client_secret":"sandbox-secret"}"#;
    let subject = subject(Kind::ClientCredentials, document, provider(&sandbox.token_endpoint()), settings);
    let (status, body) = read(refresh(&subject).await);
    assert_eq!((status, &body["scope"], body.get("refresh_token")), (200, &json!("a b"), None));
    assert_eq!(probe(&sandbox, body["access_token"].as_str().unwrap()).await.status, 200);
    assert_eq!(sandbox.admin().counters_of("client:sandbox").commits, 1);
}

async fn probe(sandbox: &Running, token: &str) -> Reply {
    let settings = Settings { probe_url: Some(sandbox.probe_url().parse().unwrap()), ..Settings::default() };
    let subject = subject(Kind::ApiKey, token, provider("https://unused.invalid/"), settings);
    replied(upstream().probe(&subject, SystemClock.now().wall).await.unwrap())
}

#[tokio::test]
async fn rf13_one_request_whatever_happens() {
    use FaultKind::*;
    let sandbox = sandbox().await;
    let seed = sandbox.admin().grant(NewGrant { profile: "none".parse().unwrap(), ..NewGrant::default() });
    let subject = granted(&sandbox, &seed);
    let faults = [
        ResetBeforeCommit,
        ResetAfterCommit,
        DropAfterCommit,
        Truncated,
        Malformed,
        Empty,
        Status { status: 408, after_commit: false },
        Status { status: 421, after_commit: false },
        Status { status: 503, after_commit: false },
        Html { status: 200 },
        Redirect { status: 307, location: "/token".into() },
        Refuse { status: 401, error: "invalid_client".into(), description: None },
    ];
    for (index, fault) in faults.into_iter().enumerate() {
        sandbox.admin().fault(fault.clone().next(1));
        let exchange = refresh(&subject).await;
        assert_eq!(sandbox.admin().counters_of(&seed.id).refresh_calls, index as u64 + 1, "{fault:?}: {exchange:?}");
        assert!(sandbox.admin().faults().is_empty(), "{fault:?}");
    }
}

#[tokio::test]
async fn rf14_the_refresh_token_goes_to_the_configured_origin_alone() {
    let (sandbox, other) = (sandbox().await, sandbox().await);
    let seed = sandbox.admin().grant(NewGrant::default());
    let subject = granted(&sandbox, &seed);
    for status in [301, 302, 303, 307, 308] {
        sandbox.admin().fault(FaultKind::Redirect { status, location: other.token_endpoint() }.next(1));
        let reply = replied(refresh(&subject).await);
        assert_eq!((reply.status, reply.header("location")), (status, Some(other.token_endpoint().as_str())));
    }
    assert_eq!(other.admin().log(), []);
    // A provider's answer does not move it either; the credential's own setting does.
    let mut moved = subject.clone();
    Arc::make_mut(&mut moved.settings).token_endpoint = Some(other.token_endpoint().parse().unwrap());
    refresh(&moved).await;
    assert_eq!((other.admin().log().len(), sandbox.admin().log().len()), (1, 5));
}

#[tokio::test]
async fn rf22_pages_and_scraps_are_handed_over_as_they_are() {
    let sandbox = sandbox().await;
    let seed = sandbox.admin().grant(NewGrant { profile: "none".parse().unwrap(), ..NewGrant::default() });
    let subject = granted(&sandbox, &seed);
    for body in ["", "null", "[]", "\"token\"", "{", "<html>", "\u{feff}{}", "access_token=a", "{}{}", "\0"] {
        for status in [200, 400, 503] {
            let raw = FaultKind::Raw { status, headers: BTreeMap::new(), body: body.into() };
            sandbox.admin().fault(raw.next(1));
            let reply = replied(refresh(&subject).await);
            assert_eq!((reply.status, reply.body.as_slice()), (status, body.as_bytes()));
        }
    }
    assert_eq!(sandbox.admin().counters_of(&seed.id).commits, 0);
}

#[tokio::test]
async fn rf23_slow_bytes_arrive_whole_within_the_budget() {
    let sandbox = sandbox().await;
    let seed = sandbox.admin().grant(NewGrant::default());
    sandbox.admin().fault(FaultKind::SlowBytes { every_ms: 1 }.next(1));
    let (status, body) = read(refresh(&granted(&sandbox, &seed)).await);
    assert_eq!(status, 200);
    assert_eq!(sandbox.admin().find(&Secret::new(body["refresh_token"].as_str().unwrap())), Some((seed.id, 2)));
}

#[tokio::test]
async fn a_probe_proves_a_key_and_shows_the_challenge() {
    let sandbox = sandbox().await;
    let (id, key) = sandbox.admin().key(&NewKey::default());
    assert_eq!(probe(&sandbox, key.expose()).await.status, 200);
    let mut described = provider("https://unused.invalid/");
    described.probes = vec![Probe {
        method: "GET".into(),
        url: "http://{host}/api/me?scope={wanted}".into(),
        headers: BTreeMap::from([("x-api-key".into(), "{access_token}".into())]),
        body: None,
        ..Probe::default()
    }];
    let host = sandbox.url.trim_start_matches("http://").to_owned();
    let with = BTreeMap::from([("host".into(), host), ("wanted".into(), "admin".into())]);
    let subject = subject(Kind::ApiKey, key.expose(), described, Settings { with, ..Settings::default() });
    let reply = replied(upstream().probe(&subject, SystemClock.now().wall).await.unwrap());
    assert_eq!((reply.status, reply.header("x-accepted-scopes")), (403, Some("admin")));
    sandbox.admin().revoke(&id);
    let reply = probe(&sandbox, key.expose()).await;
    assert!(reply.header("www-authenticate").unwrap().contains("error=\"invalid_token\""));
    assert_eq!(sandbox.admin().counters_of(&id).api_calls, 3);
}

#[tokio::test]
async fn rf48_secrets_are_in_no_word_of_ours() {
    let sandbox = sandbox().await;
    let admin = sandbox.admin();
    let seed = admin.grant(NewGrant { profile: "none".parse().unwrap(), ..NewGrant::default() });
    let canaries = [seed.refresh_token.expose(), seed.access_token.expose(), "sandbox-secret"];
    let quiet = |said: String| {
        for canary in canaries {
            assert!(!said.contains(canary), "{said}");
        }
    };
    let subject = granted(&sandbox, &seed);
    quiet(format!("{subject:?}"));
    for kind in [FaultKind::Truncated, FaultKind::ResetAfterCommit, FaultKind::Malformed] {
        admin.fault(kind.clone().next(1));
        quiet(format!("{:?}", refresh(&subject).await));
        admin.fault(kind.next(1).at(Place::Api));
        quiet(format!("{:?}", upstream().probe(&subject, SystemClock.now().wall).await));
    }
    let mut secret_path = subject.clone();
    let url = format!("{}/bot{}/me?key={}", sandbox.url, seed.access_token.expose(), seed.access_token.expose());
    Arc::make_mut(&mut secret_path.settings).probe_url = Some(url.parse().unwrap());
    quiet(format!("{:?}", upstream().probe(&secret_path, SystemClock.now().wall).await));
    drop(sandbox);
    let unreachable = refresh(&subject).await;
    assert!(matches!(unreachable, Exchange::NotSent(Trouble { reason: "connect", .. })), "{unreachable:?}");
    quiet(format!("{unreachable:?} {:?} {:?}", admin, admin.log()));
}

//! Assertions, proven by the other side with the public key alone.

use std::time::Duration;

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der},
    rsa,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use credd::{
    catalogue::{Assertion, Provider},
    credential::Kind,
    sandbox::Client,
    upstream::Settings,
};
use serde_json::json;

use super::{probe, provider, read, refresh, sandbox, subject};

/// Private and public key in PEM, new each time.
fn keys(algorithm: &str) -> (String, String) {
    let pem = |label: &str, der: &[u8]| {
        let body = STANDARD.encode(der);
        let lines: Vec<&str> = body.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
    };
    let both = |private: &[u8], public: &[u8]| (pem("PRIVATE KEY", private), pem("PUBLIC KEY", public));
    match algorithm {
        "RS256" | "PS256" => {
            let pair = rsa::KeyPair::generate(rsa::KeySize::Rsa2048).unwrap();
            let private = AsDer::<Pkcs8V1Der>::as_der(&pair).unwrap();
            let public = AsDer::<PublicKeyX509Der>::as_der(pair.public_key()).unwrap();
            both(private.as_ref(), public.as_ref())
        }
        "ES256" => {
            let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
            let private = pair.to_pkcs8v1().unwrap();
            both(private.as_ref(), AsDer::<PublicKeyX509Der>::as_der(pair.public_key()).unwrap().as_ref())
        }
        _ => {
            let pair = Ed25519KeyPair::generate().unwrap();
            let private = pair.to_pkcs8().unwrap();
            both(private.as_ref(), AsDer::<PublicKeyX509Der>::as_der(pair.public_key()).unwrap().as_ref())
        }
    }
}

fn service_account(private: &str, endpoint: &str) -> String {
    json!({"type": "service_account", "client_email": "bot@project.example", "private_key_id": "k1",
        "private_key": private, "token_uri": endpoint, "client_id": "1089", "installation_id": 42})
    .to_string()
}

fn asserting(algorithm: &str, endpoint: Option<&str>, bearer: bool) -> Provider {
    let assertion = Assertion {
        algorithm: algorithm.into(),
        audience: None,
        issuer: Some("{client_email}".into()),
        subject: None,
        lifetime: Duration::from_secs(600),
        bearer,
    };
    let mut provider = provider("");
    provider.token.endpoint = endpoint.map(Into::into);
    provider.token.assertion = Some(assertion);
    provider
}

fn account(public_key: String) -> Client {
    Client { id: "bot@project.example".into(), secret: None, public_key: Some(public_key), ..Client::default() }
}

#[tokio::test]
async fn assertions_are_proven_by_the_public_key() {
    let sandbox = sandbox().await;
    for algorithm in ["RS256", "PS256", "ES256", "EdDSA"] {
        let (private, public) = keys(algorithm);
        sandbox.admin().client(account(public));
        let document = service_account(&private, &sandbox.token_endpoint());
        let subject = subject(Kind::JwtBearer, &document, asserting(algorithm, None, false), Settings::default());
        let (status, body) = read(refresh(&subject).await);
        assert_eq!(status, 200, "{algorithm}: {body}");
        assert_eq!(probe(&sandbox, body["access_token"].as_str().unwrap()).await.status, 200);
        // Another key of the same kind is somebody else.
        sandbox.admin().client(account(keys(algorithm).1));
        let (status, body) = read(refresh(&subject).await);
        assert_eq!((status, &body["error"]), (400, &json!("invalid_grant")), "{algorithm}");
    }
    let counters = sandbox.admin().counters_of("client:bot@project.example");
    assert_eq!((counters.token_calls, counters.commits), (8, 4));

    // An assertion that is meant for another endpoint is worth nothing here.
    let (private, public) = keys("EdDSA");
    sandbox.admin().client(account(public));
    let mut elsewhere = asserting("EdDSA", None, false);
    elsewhere.token.assertion.as_mut().unwrap().audience = Some("https://other.example/token".into());
    let document = service_account(&private, &sandbox.token_endpoint());
    let subject = subject(Kind::JwtBearer, &document, elsewhere, Settings::default());
    assert_eq!(read(refresh(&subject).await).0, 400);
}

#[tokio::test]
async fn an_app_shows_its_assertion_as_bearer() {
    let sandbox = sandbox().await;
    let (private, public) = keys("RS256");
    sandbox.admin().client(account(public));
    for json in [true, false] {
        let endpoint = format!("{}/app/installations/{{installation_id}}/access_tokens", sandbox.url);
        let mut provider = asserting("RS256", Some(&endpoint), true);
        provider.token.request.json = json;
        let subject = subject(Kind::JwtBearer, &service_account(&private, ""), provider, Settings::default());
        let (status, body) = read(refresh(&subject).await);
        assert_eq!(status, 201, "{body}");
        assert!(body["expires_at"].is_string());
        assert_eq!(probe(&sandbox, body["token"].as_str().unwrap()).await.status, 200);
    }
}

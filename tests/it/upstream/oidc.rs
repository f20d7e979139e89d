//! A certified OpenID provider, with rotating refresh tokens and reuse detection.

use std::{process::Command, sync::Arc};

use credd::{
    catalogue::ClientAuthentication,
    clock::{Clock, SystemClock},
    credential::{ExpirySource, Failure, Kind, Secret},
    fetch::{Fetch, FetchSettings},
    upstream::{HttpUpstream, Settings, Upstream},
};
use serde_json::{Value, json};

use super::{provider, read, refresh, subject};
use crate::components::{Component, folder};

/// Runs the authorization-code flow at the OpenID provider; the token response with its client, as a home store keeps it.
fn login(issuer: &str, client: &str) -> String {
    let run = Command::new("node").arg(folder().join("oidc-login.mjs")).args([issuer, client]).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let mut document: Value = serde_json::from_slice(&run.stdout).unwrap();
    document["client_id"] = client.into();
    if client != "pub" {
        document["client_secret"] = format!("{client}-secret").into();
    }
    document.to_string()
}

fn authentication(client: &str) -> ClientAuthentication {
    match client {
        "post" => ClientAuthentication::Post,
        "pub" => ClientAuthentication::None,
        _ => ClientAuthentication::Basic,
    }
}

#[tokio::test]
async fn a_certified_provider_rotates_refuses_reuse_and_serves_clients() {
    let oidc = Component::start("oidc.sh", &[("ACCESS_TTL", "60"), ("REFRESH_TTL", "600")]);
    let endpoint = oidc.text("token_endpoint");
    for client in ["svc", "post", "pub"] {
        let mut provider = provider(endpoint);
        provider.token.client_authentication = authentication(client);
        let first = subject(Kind::RefreshToken, &login(oidc.text("url"), client), provider, Settings::default());
        let spent = first.material.refresh_token.clone().unwrap();
        let (status, body) = read(refresh(&first).await);
        assert_eq!(status, 200, "{client}: {body}");
        assert_ne!(body["refresh_token"], spent.expose(), "{client}: it rotates");

        let renewed = |body: &Value| {
            let mut next = first.clone();
            Arc::make_mut(&mut next.material).refresh_token =
                Some(Secret::new(body["refresh_token"].as_str().unwrap()));
            next
        };
        let (status, body) = read(refresh(&renewed(&body)).await);
        assert_eq!(status, 200, "{client}: {body}");

        let (status, refused) = read(refresh(&first).await);
        assert_eq!((status, &refused["error"]), (400, &json!("invalid_grant")), "{client}: reuse");
        let (status, refused) = read(refresh(&renewed(&body)).await);
        assert_eq!((status, &refused["error"]), (400, &json!("invalid_grant")), "{client}: the family is dead");
    }
    let mut provider = provider(endpoint);
    provider.token.client_authentication = ClientAuthentication::Basic;
    let ask = |secret: &str| {
        let document = json!({"client_id": "svc", "client_secret": secret}).to_string();
        subject(Kind::ClientCredentials, &document, provider.clone(), Settings::default())
    };
    let (status, body) = read(refresh(&ask("svc-secret")).await);
    assert_eq!((status, &body["token_type"]), (200, &json!("Bearer")), "{body}");
    let (status, body) = read(refresh(&ask("wrong")).await);
    assert_eq!((status, &body["error"]), (401, &json!("invalid_client")), "{body}");
}

#[tokio::test]
async fn a_certified_provider_over_https_with_a_private_authority() {
    let oidc = Component::start("oidc.sh", &[("TLS", "1")]);
    let bundle = std::fs::read(oidc.text("ca")).unwrap();
    let settings = FetchSettings { private_ca: vec![bundle], ..FetchSettings::default() };
    let upstream = HttpUpstream::new(Arc::new(Fetch::new(settings).unwrap()));
    let mut provider = provider(oidc.text("token_endpoint"));
    provider.token.client_authentication = ClientAuthentication::Basic;
    let document = r#"{"client_id":"svc","client_secret":"svc-secret"}"#;
    let subject = subject(Kind::ClientCredentials, document, provider, Settings::default());
    assert_eq!(read(upstream.refresh(&subject, SystemClock.now().wall).await.unwrap()).0, 200);
}

/// RFC 7662: a provider without a probe is asked whether the token lives, and until when.
#[tokio::test]
async fn a_certified_provider_tells_by_introspection_whether_a_token_lives() {
    let oidc = Component::start("oidc.sh", &[("ACCESS_TTL", "60")]);
    let mut provider = provider(oidc.text("token_endpoint"));
    provider.token.client_authentication = ClientAuthentication::Basic;
    provider.introspection_endpoint = Some(format!("{}/introspection", oidc.text("token_endpoint")));
    let holder = |token: &Value, secret: &str| {
        let document = json!({"client_id": "svc", "client_secret": secret, "access_token": token}).to_string();
        subject(Kind::ClientCredentials, &document, provider.clone(), Settings::default())
    };
    let now = SystemClock.now().wall;
    let (_, issued) = read(refresh(&holder(&"none yet".into(), "svc-secret")).await);
    let token = &issued["access_token"];
    let ask = async |subject: &credd::upstream::Subject| {
        let reply = super::replied(super::upstream().probe(subject, now).await.unwrap());
        subject.provider.introspected(&reply, now)
    };
    let (end, source) = ask(&holder(token, "svc-secret")).await.unwrap().expect("it says until when");
    assert_eq!(source, ExpirySource::Introspection);
    assert!((50..=61).contains(&end.duration_since(now).as_secs()), "{end}");
    let unknown = ask(&holder(&"unheard-of".into(), "svc-secret")).await.unwrap_err();
    assert_eq!((unknown.failure, unknown.cause.as_deref()), (Failure::CredentialRejected, Some("inactive")));
    let stranger = ask(&holder(token, "wrong")).await.unwrap_err();
    assert_eq!(stranger.failure, Failure::ClientMisconfigured, "of the token nothing was said");
}

//! Our own login to Vault: every method, its renewal and its end.

use std::time::Duration;

use credd::store::{StoreError, vault::Auth};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{Vault, literal, open};
use crate::stores::{Operator, at, clock};

const READ: &str = r#"path "secret/*" { capabilities = ["read", "list", "create", "update"] }"#;

impl Vault {
    /// A server that keeps an audit log, with one secret and an AppRole whose tokens live that long.
    async fn with_role(ttl: &str, max: &str) -> (Self, Auth) {
        let vault = Self::start(&[("MODE", "server"), ("AUDIT", "1")]);
        vault.put("app", &json!({"refresh_token": "r"})).await;
        vault.policy("app", READ).await;
        vault.admin(Method::POST, "sys/auth/approle", json!({"type": "approle"})).await;
        let role = json!({"token_policies": "app", "token_ttl": ttl, "token_max_ttl": max});
        vault.admin(Method::POST, "auth/approle/role/credd", role).await;
        let id = vault.admin(Method::GET, "auth/approle/role/credd/role-id", Value::Null).await;
        let secret = vault.admin(Method::POST, "auth/approle/role/credd/secret-id", Value::Null).await;
        let auth = Auth::AppRole {
            mount: None,
            role_id: literal(id["data"]["role_id"].as_str().unwrap()),
            secret_id: literal(secret["data"]["secret_id"].as_str().unwrap()),
        };
        (vault, auth)
    }

    /// How often a path was really asked for, by Vault's own count.
    fn asked(&self, path: &str) -> usize {
        let log = std::fs::read_to_string(format!("{}/audit.log", self.server.text("run_dir"))).unwrap();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["type"] == "request" && line["request"]["path"] == path).count()
    }

    async fn revoke_logins(&self) {
        self.admin(Method::PUT, "sys/leases/revoke-prefix/auth/approle", Value::Null).await;
    }
}

#[tokio::test]
async fn fm16_a_revoked_token_is_replaced_by_one_login_in_thirty_seconds() {
    let (vault, auth) = Vault::with_role("1h", "2h").await;
    let clock = clock();
    let store = open(vault.settings(auth), clock.clone()).await;
    let logins = || vault.asked("auth/approle/login");
    store.load(&at("app")).await.unwrap();
    store.versions(&[at("app"), at("none")]).await;
    assert_eq!(logins(), 1);
    let ends = store.auth_expires_at().unwrap();

    clock.by(31);
    vault.revoke_logins().await;
    let (one, two) = (at("app"), at("app#refresh_token"));
    let (one, two) = tokio::join!(store.load(&one), store.load(&two));
    assert!(one.is_ok() && two.is_ok(), "both callers get their secret: {one:?} {two:?}");
    assert_eq!(logins(), 2, "by one login");
    assert!(store.auth_expires_at().unwrap() > ends);

    vault.revoke_logins().await;
    for _ in 0..10 {
        let error = store.load(&at("app")).await.unwrap_err();
        assert!(matches!(&error, StoreError::Unreachable { reason, .. } if reason.contains("next login")), "{error}");
        assert_eq!(store.auth_expires_at(), None);
        clock.by(2);
    }
    assert_eq!(logins(), 2);
    clock.by(11);
    store.load(&at("app")).await.unwrap();
    assert_eq!(logins(), 3);

    // The role itself is gone: denied, with what to look at, and still one login in 30 s.
    vault.admin(Method::DELETE, "auth/approle/role/credd", Value::Null).await;
    vault.revoke_logins().await;
    clock.by(31);
    for _ in 0..10 {
        let error = store.load(&at("app")).await.unwrap_err();
        assert!(matches!(&error, StoreError::Denied { path, .. } if path == "auth/approle/login"), "{error}");
        clock.by(2);
    }
    assert_eq!(logins(), 4);
}

#[tokio::test]
async fn our_token_is_renewed_in_time_and_replaced_at_its_last_end() {
    let (vault, auth) = Vault::with_role("4s", "10s").await;
    // Thirty seconds of Vault's own time are not waited for: the clock runs ahead after each look.
    let clock = clock();
    let store = open(vault.settings(auth), clock.clone()).await;
    let stop = CancellationToken::new();
    let running = tokio::spawn({
        let (store, stop) = (store.clone(), stop.clone());
        async move { store.run(mpsc::channel(1).0, stop).await }
    });
    let seen = async |path: &str, times: usize| {
        while vault.asked(path) < times {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let patience = Duration::from_secs(60);
    timeout(patience, seen("auth/approle/login", 1)).await.unwrap();
    timeout(patience, seen("auth/token/renew-self", 2)).await.expect("renewed, and again");
    assert_eq!(vault.asked("auth/approle/login"), 1);
    store.load(&at("app")).await.unwrap();
    clock.by(31);
    timeout(patience, seen("auth/approle/login", 2)).await.expect("a new login where renewal ends");
    store.load(&at("app")).await.unwrap();
    assert!(store.auth_expires_at().is_some());
    stop.cancel();
    timeout(patience, running).await.unwrap().unwrap();
}

#[tokio::test]
async fn userpass_and_a_mount_of_its_own() {
    let vault = Vault::start(&[]);
    vault.put("app", &json!({"key": "k"})).await;
    vault.policy("app", READ).await;
    vault.admin(Method::POST, "sys/auth/people", json!({"type": "userpass"})).await;
    vault.admin(Method::POST, "auth/people/users/credd", json!({"password": "p4ss", "token_policies": "app"})).await;
    let auth = |password: &str| Auth::Userpass {
        mount: Some("people".into()),
        username: "credd".into(),
        password: literal(password),
    };
    open(vault.settings(auth("p4ss")), clock()).await.load(&at("app")).await.unwrap();
    let error = open(vault.settings(auth("canary-wrong")), clock()).await.load(&at("app")).await.unwrap_err();
    assert!(matches!(&error, StoreError::Denied { path, .. } if path.contains("people")), "{error}");
    assert!(!error.to_string().contains("canary"), "{error}");
}

#[tokio::test]
async fn a_token_that_cannot_be_one_is_refused_before_it_is_sent() {
    let vault = Vault::start(&[]);
    for wrong in ["", "two\nlines", "canary-ü"] {
        let store = open(vault.settings(Auth::Token { token: literal(wrong) }), clock()).await;
        let error = store.load(&at("app")).await.unwrap_err();
        assert!(matches!(error, StoreError::Denied { .. }) && !error.to_string().contains("canary"), "{error}");
    }
    let store = open(vault.settings(Auth::Token { token: literal("unknown") }), clock()).await;
    assert!(matches!(store.load(&at("app")).await, Err(StoreError::Denied { .. })));
}

/// The one endpoint of a Kubernetes API server that Vault asks: it says that any token is that service account's.
async fn kubernetes() -> String {
    use axum::{Json, Router, routing::post};
    let review = json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "status": {"authenticated": true, "user": {
            "username": "system:serviceaccount:prod:credd",
            "uid": "u-1",
            "groups": ["system:serviceaccounts", "system:serviceaccounts:prod"],
        }},
    });
    let answer = post(move || std::future::ready(Json(review.clone())));
    let router = Router::new().route("/apis/authentication.k8s.io/v1/tokenreviews", answer);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

fn certificate() -> String {
    let folder = tempfile::tempdir().unwrap();
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/components/tls.sh");
    assert!(std::process::Command::new("bash").arg(script).arg(folder.path()).status().unwrap().success());
    std::fs::read_to_string(folder.path().join("ca.pem")).unwrap()
}

#[tokio::test]
async fn a_pod_logs_in_with_its_service_account() {
    let vault = Vault::start(&[]);
    vault.put("app", &json!({"key": "k"})).await;
    vault.policy("app", READ).await;
    vault.admin(Method::POST, "sys/auth/kubernetes", json!({"type": "kubernetes"})).await;
    let config = json!({
        "kubernetes_host": kubernetes().await,
        "disable_local_ca_jwt": true,
        // Wanted in any case, though the stand-in speaks plain HTTP.
        "kubernetes_ca_cert": certificate(),
    });
    vault.admin(Method::POST, "auth/kubernetes/config", config).await;
    let role = json!({
        "bound_service_account_names": "credd",
        "bound_service_account_namespaces": "prod",
        "token_policies": "app",
    });
    vault.admin(Method::POST, "auth/kubernetes/role/credd", role).await;
    let claims = json!({
        "iss": "kubernetes/serviceaccount",
        "sub": "system:serviceaccount:prod:credd",
        "nbf": 1_700_000_000,
        "iat": 1_700_000_000,
        "exp": 4_000_000_000_u64,
        "kubernetes.io": {"namespace": "prod", "serviceaccount": {"name": "credd", "uid": "u-1"}},
    });
    let part =
        |value: &Value| base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, value.to_string());
    let jwt = format!("{}.{}.c2ln", part(&json!({"alg": "RS256", "typ": "JWT"})), part(&claims));
    let auth = |role: &str| Auth::Kubernetes { mount: None, role: role.into(), jwt: Some(literal(&jwt)) };
    let store = open(vault.settings(auth("credd")), clock()).await;
    store.load(&at("app")).await.unwrap();
    assert!(store.auth_expires_at().is_some());
    let error = open(vault.settings(auth("stranger")), clock()).await.load(&at("app")).await.unwrap_err();
    assert!(matches!(error, StoreError::Denied { .. }), "{error}");
}

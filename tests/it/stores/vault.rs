//! The Vault store against OpenBao, which speaks Vault's API.

mod login;

use std::sync::Arc;

use credd::{
    clock::Clock,
    credential::{EnvReference, Reference},
    store::{
        self, SecretStore, StoreError,
        vault::{Auth, Settings},
    },
};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Literal, Loud, Operator, at, clock, contract, renewed, version_of};
use crate::components::Component;

/// A running Vault and its administrator.
struct Vault {
    server: Component,
    namespace: Option<&'static str>,
    mount: &'static str,
}

impl Vault {
    fn start(environment: &[(&str, &str)]) -> Self {
        Self { server: Component::start("vault.sh", environment), namespace: None, mount: "secret" }
    }

    /// One request of the administrator; it must succeed.
    async fn admin(&self, method: Method, path: &str, body: Value) -> Value {
        let mut http = reqwest::Client::builder().no_proxy();
        let ca = self.server.text("ca");
        if ca.is_empty() {
            http = http.tls_certs_only([]);
        } else {
            http = http.tls_certs_only([reqwest::Certificate::from_pem(&std::fs::read(ca).unwrap()).unwrap()]);
        }
        let mut request = http.build().unwrap().request(method, format!("{}/v1/{path}", self.server.text("url")));
        if let Some(namespace) = self.namespace {
            request = request.header("X-Vault-Namespace", namespace);
        }
        let reply = request.header("X-Vault-Token", self.server.text("token")).json(&body).send().await.unwrap();
        let (status, text) = (reply.status(), reply.text().await.unwrap());
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    fn settings(&self, auth: Auth) -> Settings {
        let ca = self.server.text("ca");
        Settings {
            address: self.server.text("url").parse().unwrap(),
            namespace: self.namespace.map(Into::into),
            ca: (!ca.is_empty()).then(|| ca.into()),
            mount: self.mount.into(),
            auth,
            poll_seconds: 30,
        }
    }

    fn root(&self) -> Auth {
        Auth::Token { token: literal(self.server.text("token")) }
    }

    async fn policy(&self, name: &str, rules: &str) {
        self.admin(Method::PUT, &format!("sys/policies/acl/{name}"), json!({ "policy": rules })).await;
    }
}

fn literal(text: &str) -> Reference {
    Reference::Env(EnvReference { env: text.into() })
}

async fn open(settings: Settings, clock: Arc<dyn Clock>) -> Arc<dyn SecretStore> {
    store::open("vault-main", &store::Settings::Vault(settings), Arc::new(Literal), clock).await.unwrap()
}

impl Operator for Vault {
    async fn put(&self, name: &str, document: &Value) {
        self.admin(Method::POST, &format!("{}/data/{name}", self.mount), json!({ "data": document })).await;
    }

    /// As `vault kv delete` does: softly, the versions can be had back.
    async fn remove(&self, name: &str) {
        self.admin(Method::DELETE, &format!("{}/data/{name}", self.mount), Value::Null).await;
    }
}

#[tokio::test]
async fn kv_v2_keeps_the_contract() {
    let vault = Vault::start(&[]);
    let store = open(vault.settings(vault.root()), clock()).await;
    assert_eq!(store.auth_expires_at(), None, "nothing was asked yet");
    contract(store.as_ref(), &vault).await;
    let health = store.check().await.unwrap();
    assert!(health.description.contains("KV v2 at secret/"), "{health:?}");
    assert_eq!(health.auth_expires_at, None, "a root token never ends");
    deleted_secrets(store.as_ref(), &vault).await;
}

/// Soft deletion keeps the versions and their number; deletion for good starts again at 1.
async fn deleted_secrets(store: &dyn SecretStore, vault: &Vault) {
    vault.put("del", &json!({"refresh_token": "r1"})).await;
    vault.put("del", &json!({"refresh_token": "r2"})).await;
    let held = store.load(&at("del")).await.unwrap();
    vault.remove("del").await;
    let written = store.write(&at("del"), &renewed(&held.material, "r3"), &held.version, Uuid::now_v7()).await.unwrap();
    assert_eq!(version_of(store, "del").await, Ok(written), "cas is the deleted version, not 0");

    vault.admin(Method::DELETE, "secret/metadata/del", Value::Null).await;
    assert!(matches!(store.load(&at("del")).await, Err(StoreError::NotFound { .. })));
    vault.put("del", &json!({"refresh_token": "anew"})).await;
    let anew = store.load(&at("del")).await.unwrap();
    assert!(anew.version.0.starts_with("1@"), "a lower number, and still newer: {:?}", anew.version);
    assert_eq!(version_of(store, "del").await, Ok(anew.version));
}

#[tokio::test]
async fn fm20_kv_v1_is_read_and_never_written() {
    let mut vault = Vault::start(&[]);
    vault.admin(Method::POST, "sys/mounts/team/old", json!({"type": "kv", "options": {"version": "1"}})).await;
    vault.mount = "team/old";
    let put = async |token: &str| {
        vault.admin(Method::POST, "team/old/app", json!({ "refresh_token": token })).await;
    };
    put("r1").await;
    let store = open(vault.settings(vault.root()), clock()).await;
    let first = store.load(&at("app")).await.unwrap();
    assert_eq!(version_of(store.as_ref(), "app").await, Ok(first.version.clone()));
    put("r2").await;
    assert_ne!(version_of(store.as_ref(), "app").await.unwrap(), first.version);
    assert!(store.read_only(&at("app")).await.unwrap().contains("v2"));
    let refused = store.write(&at("app"), &first.material, &first.version, Uuid::now_v7()).await;
    assert!(matches!(refused, Err(StoreError::ReadOnly { .. })));
    assert_eq!(vault.admin(Method::GET, "team/old/app", Value::Null).await["data"], json!({"refresh_token": "r2"}));
    assert!(store.check().await.unwrap().description.contains("KV v1"));
}

#[tokio::test]
async fn a_namespace_is_a_world_of_its_own() {
    let mut vault = Vault::start(&[]);
    vault.admin(Method::PUT, "sys/namespaces/team", json!({})).await;
    vault.namespace = Some("team");
    vault.mount = "kv";
    vault.admin(Method::POST, "sys/mounts/kv", json!({"type": "kv", "options": {"version": "2"}})).await;
    // A fresh mount upgrades itself and answers 400 meanwhile.
    let store = open(vault.settings(vault.root()), clock()).await;
    let mut settled = false;
    for _ in 0..200 {
        settled = matches!(store.load(&at("nothing")).await, Err(StoreError::NotFound { .. }));
        if settled {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(settled, "{:?}", store.load(&at("nothing")).await);
    contract(store.as_ref(), &vault).await;
    vault.put("app", &json!({"key": "k"})).await;
    let elsewhere = open(Settings { namespace: None, ..vault.settings(vault.root()) }, clock()).await;
    let error = elsewhere.load(&at("app")).await.unwrap_err();
    assert!(
        matches!(&error, StoreError::Denied { path, reason } if path == "kv/" && reason.contains("mount")),
        "{error}"
    );
}

#[tokio::test]
async fn what_a_policy_does_not_allow_is_denied_with_the_rule_to_add() {
    let vault = Vault::start(&[]);
    vault.put("app", &json!({"refresh_token": "r"})).await;
    vault.policy("reader", r#"path "secret/data/app" { capabilities = ["read"] }"#).await;
    let made = vault.admin(Method::POST, "auth/token/create", json!({"policies": ["reader"], "ttl": "1h"})).await;
    let token = made["auth"]["client_token"].as_str().unwrap();
    let store = open(vault.settings(Auth::Token { token: literal(token) }), clock()).await;
    let loaded = store.load(&at("app")).await.unwrap();
    assert!(store.auth_expires_at().is_some());
    assert!(matches!(store.load(&at("other")).await, Err(StoreError::Denied { .. })));
    let unlisted = version_of(store.as_ref(), "app").await.unwrap_err().to_string();
    assert!(unlisted.contains("secret/metadata/app"), "{unlisted}");
    assert!(store.read_only(&at("app")).await.unwrap().contains("secret/data/app"));
    let refused = store.write(&at("app"), &loaded.material, &loaded.version, Uuid::now_v7()).await;
    assert!(matches!(refused, Err(StoreError::Denied { .. })), "{refused:?}");
    for place in ["", "/app", "a/../../x", "app\n"] {
        assert!(matches!(store.load(&at(place)).await, Err(StoreError::Denied { .. })), "{place:?}");
    }
    // Without the default policy a token may not even look at itself: a forbidden path must not cost it its life.
    let path = "auth/approle/role/bare";
    vault.admin(Method::POST, "sys/auth/approle", json!({"type": "approle"})).await;
    vault.admin(Method::POST, path, json!({"token_policies": "reader", "token_no_default_policy": true})).await;
    let id = vault.admin(Method::GET, &format!("{path}/role-id"), Value::Null).await;
    let secret = vault.admin(Method::POST, &format!("{path}/secret-id"), Value::Null).await;
    let text = |value: &Value| literal(value.as_str().unwrap());
    let auth = Auth::AppRole {
        mount: None,
        role_id: text(&id["data"]["role_id"]),
        secret_id: text(&secret["data"]["secret_id"]),
    };
    let store = open(vault.settings(auth), clock()).await;
    for _ in 0..3 {
        assert!(matches!(store.load(&at("other")).await, Err(StoreError::Denied { .. })));
        store.load(&at("app")).await.unwrap();
    }
}

#[tokio::test]
async fn fm21_what_is_no_credential_is_refused_by_path_and_field() {
    let vault = Vault::start(&[]);
    let store = open(vault.settings(vault.root()), clock()).await;
    let table = [
        (json!({}), "access_token"),
        (json!({"access_token": ["canary"]}), "must be a text"),
        (json!({"access_token": "canary".repeat(80_000)}), "64 KiB"),
        (json!({"value": "  "}), "access_token"),
        (json!({"refresh_token": "canary", "expires_at": "canary"}), "expires_at"),
    ];
    for (document, words) in table {
        vault.put("app", &document).await;
        let error = store.load(&at("app")).await.unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(matches!(error, StoreError::Malformed { .. }) && text.contains(words), "{text}");
        assert!(text.contains("app") && !text.contains("canary"));
    }
}

#[tokio::test]
async fn fm23_a_vault_that_hangs_ends_each_question_after_ten_seconds() {
    let vault = Vault::start(&[]);
    vault.put("app", &json!({"key": "k"})).await;
    let store = open(vault.settings(vault.root()), clock()).await;
    store.load(&at("app")).await.unwrap();
    let pid = i32::try_from(vault.server.ready["pid"].as_i64().unwrap()).unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    let error = store.load(&at("app")).await.unwrap_err();
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    assert!(matches!(&error, StoreError::Unreachable { reason, .. } if reason.contains("10 s")), "{error}");
    store.load(&at("app")).await.unwrap();
}

#[tokio::test]
async fn no_library_below_us_logs_a_secret() {
    let loud = Loud::default();
    let _listening = loud.listen();
    let vault = Vault::start(&[("VAULT_TOKEN", "canary-root")]);
    vault.put("app", &json!({"refresh_token": "canary-refresh"})).await;
    let store = open(vault.settings(vault.root()), clock()).await;
    let held = store.load(&at("app")).await.unwrap();
    store.versions(&[at("app"), at("none")]).await;
    for version in [&held.version, &held.version] {
        let material = renewed(&held.material, &format!("canary-{}", Uuid::now_v7()));
        let _ = store.write(&at("app"), &material, version, Uuid::now_v7()).await;
    }
    let stranger = open(vault.settings(Auth::Token { token: literal("canary-unknown") }), clock()).await;
    let error = stranger.load(&at("app")).await.unwrap_err();
    assert!(matches!(&error, StoreError::Denied { path, .. } if path == "auth/token/lookup-self"), "{error}");
    assert_eq!(loud.found("canary", &format!("{error} {error:?} {held:?}")), None);
}

#[tokio::test]
async fn a_private_ca_is_trusted_only_where_it_is_named() {
    let vault = Vault::start(&[("MODE", "server"), ("TLS", "1")]);
    vault.put("app", &json!({"key": "k"})).await;
    let store = open(vault.settings(vault.root()), clock()).await;
    store.load(&at("app")).await.unwrap();
    let stranger = open(Settings { ca: None, ..vault.settings(vault.root()) }, clock()).await;
    let error = stranger.load(&at("app")).await.unwrap_err();
    assert!(matches!(&error, StoreError::Unreachable { reason, .. } if reason.contains("certificate")), "{error}");
    fm15_sealed(&vault, store.as_ref()).await;
}

async fn fm15_sealed(vault: &Vault, store: &dyn SecretStore) {
    vault.admin(Method::PUT, "sys/seal", Value::Null).await;
    for error in [store.load(&at("app")).await.unwrap_err(), store.check().await.unwrap_err()] {
        assert!(matches!(&error, StoreError::Unreachable { reason, .. } if reason.contains("sealed")), "{error}");
    }
    vault.admin(Method::PUT, "sys/unseal", json!({"key": vault.server.text("unseal_key")})).await;
    let mut open = store.load(&at("app")).await;
    for _ in 0..200 {
        if open.is_ok() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        open = store.load(&at("app")).await;
    }
    open.expect("our token survived the seal");
}

#[tokio::test]
async fn a_vault_that_is_down_prevents_no_start() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", nobody.local_addr().unwrap());
    drop(nobody);
    let settings = |address: &str| Settings {
        address: address.parse().unwrap(),
        namespace: None,
        ca: None,
        mount: "secret".into(),
        auth: Auth::Token { token: literal("root") },
        poll_seconds: 30,
    };
    let store = open(settings(&address), clock()).await;
    let error = store.load(&at("app")).await.unwrap_err();
    assert!(matches!(&error, StoreError::Unreachable { reason, .. } if reason.contains("refused")), "{error}");
    for wrong in ["ftp://vault", "https://vault/path", "https://user:canary-password@vault"] {
        let opened = store::open("v", &store::Settings::Vault(settings(wrong)), Arc::new(Literal), clock()).await;
        let error = opened.unwrap_err().to_string();
        assert!(error.contains("[stores.v]") && !error.contains("canary"), "{error}");
    }
}

/// Nodes of a Vault that has fallen apart: each answers the same question with another version, in that order.
async fn nodes(versions: &'static [u64]) -> String {
    use axum::{Json, Router, routing::get};
    let wrapped = |data: Value| json!({"data": data, "lease_id": "", "lease_duration": 0, "renewable": false, "request_id": "r", "auth": null});
    let mount = wrapped(json!({"type": "kv", "options": {"version": "2"}}));
    let token = wrapped(json!({
        "accessor": "a", "creation_time": 0, "creation_ttl": 0, "display_name": "d", "entity_id": "", "explicit_max_ttl": 0,
        "id": "t", "num_uses": 0, "orphan": true, "path": "p", "policies": [], "ttl": 0,
    }));
    let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let read = move || {
        let number = versions[asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst).min(versions.len() - 1)];
        let metadata = json!({
            "created_time": format!("2026-01-01T00:00:0{number}Z"),
            "deletion_time": "", "destroyed": false, "version": number,
        });
        std::future::ready(Json(wrapped(json!({"data": {"key": format!("k{number}")}, "metadata": metadata}))))
    };
    let router = Router::new()
        .route("/v1/sys/internal/ui/mounts/secret", get(move || std::future::ready(Json(mount.clone()))))
        .route("/v1/auth/token/lookup-self", get(move || std::future::ready(Json(token.clone()))))
        .route("/v1/secret/data/app", get(read));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

#[tokio::test]
async fn fm22_a_standby_that_is_behind_never_takes_us_back() {
    let settings = |address: String| Settings {
        address: address.parse().unwrap(),
        namespace: None,
        ca: None,
        mount: "secret".into(),
        auth: Auth::Token { token: literal("t") },
        poll_seconds: 30,
    };
    let key = |loaded: store::Loaded| loaded.material.access_token.unwrap().expose().to_owned();
    let store = open(settings(nodes(&[5, 4, 4, 6]).await), clock()).await;
    assert_eq!(key(store.load(&at("app")).await.unwrap()), "k5");
    assert_eq!(key(store.load(&at("app")).await.unwrap()), "k6", "asked again until a node has it");
    let store = open(settings(nodes(&[5, 4]).await), clock()).await;
    store.load(&at("app")).await.unwrap();
    let error = store.load(&at("app")).await.unwrap_err();
    assert!(matches!(&error, StoreError::Unreachable { reason, .. } if reason.contains("older")), "{error}");
}

//! Whole journeys on real components: a certified OIDC provider that rotates strictly, home stores in Vault, in AWS and in
//! the ledger, restarts, outages, other people's changes, and readers that never stop.

mod adoption;
mod changes;
mod conflict;
mod ledgers;
mod logins;
mod outage;
mod staging;

use std::{collections::BTreeMap, process::Command, time::Duration};

use aws_sdk_secretsmanager::Client;
use credd::clock::{Clock, SystemClock};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use crate::{
    components::{Component, folder},
    journey::{Books, House, Readers, long, until},
};

/// Starts the AWS API and runs the test of that name again, with the environment that an operator would set. `None` in
/// the first process, once the second has passed; there, where the API is.
fn with_aws(test: &str) -> Option<String> {
    if let Ok(endpoint) = std::env::var("AWS_ENDPOINT_URL") {
        return Some(endpoint);
    }
    let moto = Component::start("moto.sh", &[]);
    let again = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("refresh::{test}"), "--nocapture"])
        .envs([
            ("AWS_ENDPOINT_URL", moto.text("url")),
            ("AWS_REGION", "eu-central-1"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ])
        .envs([("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test")])
        .envs([("AWS_CONFIG_FILE", "/dev/null"), ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")])
        .output()
        .unwrap();
    let output = format!("{}{}", String::from_utf8_lossy(&again.stdout), String::from_utf8_lossy(&again.stderr));
    eprint!(
        "{}",
        output.lines().filter(|line| line.starts_with("measured")).map(|line| format!("{line}\n")).collect::<String>()
    );
    assert!(again.status.success() && output.contains("1 passed"), "{output}");
    None
}

/// The administrator of Secrets Manager.
async fn aws_admin() -> Client {
    Client::new(&Box::pin(aws_config::defaults(aws_config::BehaviorVersion::latest()).load()).await)
}

/// One request to Vault as its administrator; it must succeed.
async fn vault_admin(vault: &Component, method: reqwest::Method, path: &str, body: Value) -> Value {
    let request = http().request(method, format!("{}/v1/{path}", vault.text("url")));
    let reply = request.header("X-Vault-Token", vault.text("token")).json(&body).send().await.unwrap();
    let (status, text) = (reply.status(), reply.text().await.unwrap());
    assert!(status.is_success(), "{path}: {status} {text}");
    serde_json::from_str(&text).unwrap_or(Value::Null)
}

async fn put_in_vault(vault: &Component, name: &str, document: &Value) {
    vault_admin(vault, reqwest::Method::POST, &format!("secret/data/{name}"), json!({ "data": document })).await;
}

async fn read_in_vault(vault: &Component, name: &str) -> Value {
    let found = vault_admin(vault, reqwest::Method::GET, &format!("secret/data/{name}"), Value::Null).await;
    found["data"]["data"].clone()
}

fn http() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap()
}

/// The settings of a Vault, polled each second; its token lies in a file.
fn vault_settings(vault: &Component) -> String {
    format!(
        "[stores.vault]\nkind = \"vault\"\naddress = \"{}\"\npoll_seconds = 1\n\
         [stores.vault.auth]\nmethod = \"token\"\ntoken = {{ file = \"vault-token\" }}\n",
        vault.text("url")
    )
}

fn private_file(house: &House, name: &str, text: &str) {
    std::fs::write(house.path(name), text).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(house.path(name), mode).unwrap();
}

/// A client of the provider for each home store, so that its log tells them apart.
const CLIENTS: [(&str, &str, &str); 3] =
    [("vault", "svc", "client_secret_basic"), ("aws", "post", "client_secret_post"), ("embedded", "pub", "none")];

/// A grant of a user, by a real login.
fn login(issuer: &str, client: &str) -> String {
    let login = Command::new("node").arg(folder().join("oidc-login.mjs")).args([issuer, client]).output().unwrap();
    let reply: Value = serde_json::from_slice(&login.stdout)
        .unwrap_or_else(|_| panic!("login: {}", String::from_utf8_lossy(&login.stderr)));
    reply["refresh_token"].as_str().unwrap_or_else(|| panic!("no refresh token: {reply}")).to_owned()
}

fn document(client: &str, refresh_token: &str) -> Value {
    let mut document = json!({ "client_id": client, "refresh_token": refresh_token, "owner": "team blue" });
    if client != "pub" {
        document["client_secret"] = format!("{client}-secret").into();
    }
    document
}

async fn read_in_aws(aws: &Client, name: &str) -> Value {
    let found = aws.get_secret_value().secret_id(name).send().await.unwrap();
    serde_json::from_str(found.secret_string().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_p3_every_store_keeps_every_rotated_token() {
    let Some(endpoint) = with_aws("p1_p3_every_store_keeps_every_rotated_token") else { return };
    let (each, refreshes, life) = if long() { (20, 500, "12") } else { (4, 20, "5") };
    let vault = Component::start("vault.sh", &[]);
    let oidc = Component::start("oidc.sh", &[("ACCESS_TTL", life), ("REFRESH_TTL", "3600"), ("ROTATE", "1")]);
    let issuer = oidc.text("url").to_owned();
    let mut settings = vault_settings(&vault);
    settings +=
        &format!("[stores.aws]\nkind = \"aws\"\nendpoint = \"{endpoint}\"\npoll_seconds = 1\ncoalesce_seconds = 1\n");
    let mut names: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (store, client, _) in CLIENTS {
        for number in 0..each {
            let name = format!("{store}-{number}");
            settings += &format!(
                "[credentials.{name}]\nprovider = \"{client}\"\nkind = \"refresh_token\"\nstore = \"{store}\"\n\
                 [credentials.{name}.upstream]\ntoken_endpoint = \"{}\"\nprobe_url = \"{issuer}/me\"\nclient_id = \"{client}\"\n",
                oidc.text("token_endpoint"),
            );
            names.entry(store).or_default().push(name);
        }
    }
    let strict = |way| format!("[token]\nclient_authentication = \"{way}\"\n[rotation]\nprofile = \"strict\"\n");
    let house = House::new(&settings, &CLIENTS.map(|(_, client, way)| (client, strict(way))));
    private_file(&house, "vault-token", vault.text("token"));

    let aws = aws_admin().await;
    let mut embedded = BTreeMap::new();
    for (store, client, _) in CLIENTS {
        let logins = names[store].iter().map(|name| {
            let (issuer, name) = (issuer.clone(), name.clone());
            async move { (name, tokio::task::spawn_blocking(move || login(&issuer, client)).await.unwrap()) }
        });
        let grants: Vec<(String, String)> = stream::iter(logins).buffer_unordered(3).collect().await;
        for (name, refresh_token) in grants {
            let document = document(client, &refresh_token);
            match store {
                "vault" => put_in_vault(&vault, &name, &document).await,
                "aws" => {
                    drop(aws.create_secret().name(&name).secret_string(document.to_string()).send().await.unwrap())
                }
                _ => drop(embedded.insert(name, document)),
            }
        }
    }
    house.import(&embedded);

    let began = SystemClock.now().boot;
    let daemon = house.start().await;
    let all: Vec<String> = names.values().flatten().cloned().collect();
    until("everybody has a token", || async {
        let generations = house.generations().await;
        all.iter().all(|name| generations.get(name).is_some_and(|generation| *generation > 1))
    })
    .await;
    let readers = Readers::start(&house.socket(), &all);
    let refreshed = |store: &str| {
        let (house, names) = (&house, names[store].clone());
        async move {
            let generations = house.generations().await;
            // The first generation was found, not refreshed.
            names.iter().map(|name| generations.get(name).map_or(0, |generation| generation - 1)).sum::<i64>()
        }
    };
    let reached = |count: i64| async move {
        let counts = futures_util::future::join_all(CLIENTS.map(|(store, ..)| refreshed(store))).await;
        counts.iter().all(|found| *found >= count)
    };
    until("half of the refreshes", || reached(refreshes / 2)).await;
    daemon.stop().await;
    let daemon = house.start().await;
    until("all refreshes", || reached(refreshes)).await;
    for name in &all {
        assert_eq!(house.operate(name, "hold").await.0, 200);
    }
    let reads = readers.end().await;
    let took = SystemClock.now().boot - began;

    let at_home = |name: String| {
        let (vault, aws) = (&vault, &aws);
        async move {
            match name.split('-').next() {
                Some("vault") => read_in_vault(vault, &name).await,
                _ => read_in_aws(aws, &name).await,
            }
        }
    };
    let carried: Vec<String> = names["vault"].iter().chain(&names["aws"]).cloned().collect();
    until("the home stores hold the last generations", || async {
        let generations = house.generations().await;
        for name in &carried {
            if at_home(name.clone()).await["generation"].as_i64() != generations.get(name).copied() {
                return false;
            }
        }
        true
    })
    .await;
    daemon.stop().await;

    let books = Books::open(house.ledger().await).await;
    let log: Value = http().get(format!("{issuer}/_test/log")).send().await.unwrap().json().await.unwrap();
    let log = log.as_array().unwrap();
    let told = |event: &str, client: &str| {
        log.iter().filter(|it| it["event"] == event && it["client"] == client).count() as i64
    };
    for (store, client, _) in CLIENTS {
        let records = books.records.iter().filter(|record| names[store].iter().any(|name| name == record.id.as_str()));
        let ours: i64 = records.map(|record| record.generation.0 - 1).sum();
        assert!(ours >= refreshes);
        let theirs = told("refresh_token.consumed", client);
        assert_eq!(theirs, ours, "{store}: the provider's count of refreshes, and ours");
        assert_eq!(told("grant.error", client), 0, "{store}: nothing was refused");
        eprintln!("measured: {store}: {ours} refreshes over {each} credentials, {theirs} by the provider's count");
    }
    let lost = books.count(None, "recovered", "no reply is durable").await;
    assert_eq!((lost, books.count(None, "refresh_failed", "").await), (0, 0));
    for record in &books.records {
        let ours = record.material.as_ref().unwrap();
        let refresh_token = ours.refresh_token.as_ref().unwrap().expose();
        assert!(ours.grant_id.is_some() && ours.attempt_id.is_some());
        let client = CLIENTS.iter().find(|(store, ..)| record.id.as_str().starts_with(store)).unwrap().1;
        if client != "pub" {
            let theirs = at_home(record.id.to_string()).await;
            assert_eq!(theirs["refresh_token"], refresh_token, "{}: its home store has the last token", record.id);
            assert_eq!(theirs["grant_id"].as_str(), ours.grant_id.as_deref(), "{}", record.id);
            assert_eq!(theirs["generation"], record.generation.0);
            assert_eq!(theirs["attempt_id"].as_str(), ours.attempt_id.as_deref(), "{}", record.id);
            assert_eq!(theirs["owner"], "team blue", "what credd does not know stays");
        }
        // The proof of proofs: it buys a token, once more.
        let mut form = vec![("grant_type", "refresh_token"), ("refresh_token", refresh_token), ("client_id", client)];
        let secret = format!("{client}-secret");
        let mut request = http().post(oidc.text("token_endpoint"));
        match client {
            "svc" => request = request.basic_auth(client, Some(&secret)),
            "post" => form.push(("client_secret", &secret)),
            _ => {}
        }
        let reply = request.form(&form).send().await.unwrap();
        assert_eq!(reply.status(), 200, "{}", record.id);
    }
    books.close().await;
    eprintln!("measured: {reads} reads, none failed, in {:.1} s with one restart", took.as_secs_f64());
}

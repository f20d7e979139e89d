//! A secret that somebody else changes in its home store reaches every watcher within the poll interval, and polls read no
//! values.

use super::*;
use crate::board;

/// Changes of a key, as a watcher sees them.
async fn watched(house: &House, name: &str, changes: usize, mut change: impl AsyncFnMut(&str)) -> Vec<Duration> {
    let mut watcher = board::Client::connect(&house.socket()).await;
    watcher.send(&format!("GET /v1/watch?names={name} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
    assert_eq!(watcher.head().await.unwrap().status, 200);
    let mut token = async |wanted: &str| loop {
        let (_, _, data) = watcher.event().await.expect("the stream goes on");
        if data["access_token"] == wanted {
            return SystemClock.now().boot;
        }
    };
    token("key-number-0").await;
    let mut times = Vec::new();
    for number in 1..=changes {
        let key = format!("key-number-{number}");
        let began = SystemClock.now().boot;
        change(&key).await;
        times.push(token(&key).await - began);
    }
    times
}

fn report(store: &str, times: &[Duration]) {
    let seconds: Vec<f64> = times.iter().map(Duration::as_secs_f64).collect();
    let mean = seconds.iter().sum::<f64>() / seconds.len() as f64;
    let worst = seconds.iter().copied().fold(0.0, f64::max);
    eprintln!("measured: {store}: {} changes reached the watcher, mean {mean:.2} s, worst {worst:.2} s, polled each second", times.len());
}

const KEY: &str = "provider = \"rfc6749\"\nkind = \"api_key\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_changed_in_vault_reaches_a_watcher_and_polls_read_no_values() {
    let run = tempfile::tempdir().unwrap();
    let run_dir = run.path().to_str().unwrap();
    let vault = Component::start("vault.sh", &[("MODE", "server"), ("AUDIT", "1"), ("RUN_DIR", run_dir)]);
    let settings = format!("{}[credentials.key]\nstore = \"vault\"\n{KEY}", vault_settings(&vault));
    let house = House::new(&settings, &[]);
    private_file(&house, "vault-token", vault.text("token"));
    put_in_vault(&vault, "key", &json!({ "api_key": "key-number-0" })).await;
    let daemon = house.start().await;
    let changes = if long() { 20 } else { 3 };
    let times = watched(&house, "key", changes, async |key| {
        put_in_vault(&vault, "key", &json!({ "api_key": key })).await;
    })
    .await;
    let asked = |path: &'static str, operation: &'static str| {
        let log = std::fs::read_to_string(run.path().join("audit.log")).unwrap();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let fits = |it: &Value| it["type"] == "request" && it["request"]["path"] == path && it["request"]["operation"] == operation;
        lines.filter(fits).count()
    };
    // A few looks in which nothing had changed.
    let looks = asked("secret/metadata/key", "read");
    until("three more looks", || async { asked("secret/metadata/key", "read") >= looks + 3 }).await;
    daemon.stop().await;
    assert_eq!(asked("secret/data/key", "read"), 1 + changes, "values are read at the start and once for each change");
    report("vault", &times);
    eprintln!("measured: vault: {} looks at versions, {} reads of values", asked("secret/metadata/key", "read"), 1 + changes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_changed_in_aws_reaches_a_watcher() {
    let Some(endpoint) = with_aws("changes::a_secret_changed_in_aws_reaches_a_watcher") else { return };
    let settings = format!(
        "[stores.aws]\nkind = \"aws\"\nendpoint = \"{endpoint}\"\npoll_seconds = 1\n[credentials.key]\nstore = \"aws\"\n{KEY}"
    );
    let house = House::new(&settings, &[]);
    let aws = aws_admin().await;
    aws.create_secret().name("key").secret_string("key-number-0").send().await.unwrap();
    let daemon = house.start().await;
    let times = watched(&house, "key", if long() { 20 } else { 3 }, async |key| {
        aws.put_secret_value().secret_id("key").secret_string(key).send().await.unwrap();
    })
    .await;
    daemon.stop().await;
    report("aws", &times);
}

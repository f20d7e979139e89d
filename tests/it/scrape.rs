//! What a real run exports: every metric that dashboards, alerts and documents name, well-formed, and read by a real Prometheus.

use std::{
    collections::BTreeSet,
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use credd::{
    metrics::Metrics,
    sandbox::{Fault, FaultKind, Place},
};
use regex::Regex;
use serde_json::{Value, json};

use crate::{
    components::Component,
    world::{World, grant, until, write},
};

fn fault(kind: FaultKind, at: Place, grant: &str) -> Fault {
    Fault { kind, at, grant: Some(grant.to_owned()), calls: None }
}

/// The names that somebody would look for.
fn named() -> BTreeSet<String> {
    let name = Regex::new(r"\bcredd_[a-z0-9_]+\b").unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let known: BTreeSet<&str> = Metrics::list().into_iter().map(|(name, ..)| name).collect();
    let mut found = BTreeSet::new();
    for place in
        ["dashboards/overview.json", "dashboards/alerts.yaml", "dashboards/README.md", "README.md", "deploy/README.md"]
    {
        let Ok(text) = std::fs::read_to_string(root.join(place)) else { continue };
        for one in name.find_iter(&text).map(|found| found.as_str()) {
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|part| one.strip_suffix(part));
            found.insert(base.filter(|base| known.contains(base)).unwrap_or(one).to_owned());
        }
    }
    assert!(found.len() > 30, "only {} names were found: the search is broken", found.len());
    found
}

async fn vault(server: &Component) -> String {
    let admin = async |path: &str, body: Value| -> Value {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = client.post(format!("{}/v1/{path}", server.text("url")));
        let reply = request.header("X-Vault-Token", server.text("token")).body(body.to_string()).send().await.unwrap();
        serde_json::from_slice(&reply.bytes().await.unwrap()).unwrap_or_default()
    };
    admin("secret/data/key", json!({ "data": { "access_token": "a-static-key-in-vault" } })).await;
    let token = admin("auth/token/create", json!({ "policies": ["root"], "ttl": "1h" })).await;
    token["auth"]["client_token"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_that_is_named_is_there_in_a_real_run_and_a_real_prometheus_reads_it() {
    let (sink, bao) = (Component::start("webhook-sink.py", &[]), Component::start("vault.sh", &[("TLS", "0")]));
    let mut world = World::new().await;
    write(&world.path("hook-secret"), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    write(&world.path("vault-token"), &vault(&bao).await);
    world.head("startup = \"warn\"");
    let hook = |name: &str, url: &str| {
        let secret = world.path("hook-secret");
        format!("[pager.channels.{name}]\nkind = \"webhook\"\nurl = \"{url}\"\nsecrets = [{{ file = {secret:?} }}]\n")
    };
    let mut tables = hook("works", sink.text("url")) + &hook("broken", "http://127.0.0.1:1/");
    tables += &format!(
        "[policies.default]\nprobe = \"*/2 * * * * *\"\n[stores.vault]\nkind = \"vault\"\naddress = \"{}\"\nmount = \"secret\"\n\
         poll_seconds = 5\nauth = {{ method = \"token\", token = {{ file = {:?} }} }}\n",
        bao.text("url"),
        world.path("vault-token"),
    );
    for (name, at) in [("key", "key#access_token"), ("missing", "nowhere#x")] {
        tables += &format!(
            "[credentials.{name}]\nprovider = \"rfc6749\"\nkind = \"api_key\"\nstore = \"vault\"\nat = \"{at}\"\n\
             [credentials.{name}.upstream]\nprobe_url = \"{}\"\n",
            world.sandbox.probe_url()
        );
    }
    world.tables(&tables);
    let good = world.granted("good", grant(3600.0), "").await;
    let dead = world.granted("dead", grant(3600.0), "").await;
    world.granted("held", grant(3600.0), "").await;
    let late = world.granted("late", grant(3.0), "").await;
    let odd = world.granted("odd", grant(3600.0), "").await;
    let wrong = world.granted("wrong", grant(3600.0), "").await;
    world.credential("nothing", "refresh_token", "");
    let admin = world.admin();
    admin.fault(fault(FaultKind::Status { status: 503, after_commit: false }, Place::Token, &late.id));
    let unheard = FaultKind::Refuse { status: 400, error: "zzz_unheard_of".into(), description: None };
    admin.fault(fault(unheard, Place::Token, &odd.id));
    let refuse = FaultKind::Refuse { status: 401, error: "invalid_client".into(), description: None };
    admin.fault(fault(refuse, Place::Token, &wrong.id));

    let running = world.launched().await;
    world.becomes("good", "fresh").await;
    let mut watcher = world.reader().await;
    watcher.send("GET /v1/watch?names=good HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(watcher.head().await.map(|got| got.status), Some(200));
    watcher.event().await.unwrap();
    world.act("good", "refresh").await;
    watcher.event().await.unwrap();
    admin.revoke(&dead.id);
    world.act("held", "hold").await;
    world.act("odd", "refresh").await;
    world.act("wrong", "refresh").await;
    for (name, state) in [
        ("dead", "revoked"),
        ("held", "held"),
        ("late", "expired"),
        ("wrong", "misconfigured"),
        ("nothing", "uninitialised"),
    ] {
        world.becomes(name, state).await;
    }
    assert_eq!(world.read("good").await.status, 200);
    assert_ne!(world.read("dead").await.status, 200);
    world.measures("credd_pages_active{severity=\"critical\"} 1").await;
    until("both channels were tried", async || {
        let text = world.asked("/metrics").await.body;
        let tried =
            ["credd_notifications_total{", "credd_notification_failures_total{", "credd_last_beat_timestamp_seconds{"];
        tried.iter().all(|name| text.contains(name)).then_some(())
    })
    .await;

    let text = world.asked("/metrics").await.body;
    let exported: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let missing: Vec<String> = named().into_iter().filter(|name| !exported.contains(name.as_str())).collect();
    assert!(missing.is_empty(), "named, and not exported by a real run: {missing:?}\n{}", world.log());
    let unset: Vec<&str> =
        Metrics::list().into_iter().map(|(name, ..)| name).filter(|name| !exported.contains(name)).collect();
    assert!(unset.is_empty(), "in the list, and set by nobody: {unset:?}\n{}", world.log());

    let prometheus = {
        let status = world.operator().await.get("/v1/status").await.json();
        let target = status["daemon"]["health"].as_str().unwrap().to_owned();
        let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboards/alerts.yaml");
        Component::start("prometheus.sh", &[("TARGETS", &target), ("RULES", rules.to_str().unwrap())])
    };
    let mut promtool = Command::new(prometheus.text("promtool"))
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let said = promtool.wait_with_output().unwrap();
    assert!(
        said.status.success(),
        "{}{}",
        String::from_utf8_lossy(&said.stdout),
        String::from_utf8_lossy(&said.stderr)
    );

    let query = async |what: &str| -> Value {
        let url = url::Url::parse_with_params(&format!("{}/api/v1/query", prometheus.text("url")), [("query", what)])
            .unwrap();
        let reply = reqwest::get(url).await.unwrap();
        serde_json::from_slice::<Value>(&reply.bytes().await.unwrap()).unwrap()["data"]["result"].clone()
    };
    until("a real Prometheus has read it", async || {
        query("up{job=\"app\"}").await.as_array()?.iter().find(|one| one["value"][1] == "1").map(drop)
    })
    .await;
    let states = query("credd_credential_state == 1").await;
    assert_eq!(states.as_array().unwrap().len(), 9, "one state each: {states}");
    until("the alert of a revoked credential", async || {
        let alerts = query("ALERTS{credential=\"dead\"}").await;
        alerts.as_array().filter(|all| !all.is_empty()).map(drop)
    })
    .await;
    assert_eq!(good.client_id, "sandbox");
    assert_eq!(running.terminate(), Some(0));
}

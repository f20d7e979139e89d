//! What a person is told: the reason as it is, and the one thing that mends it.

use std::{fs, os::unix::fs::PermissionsExt};

use credd::sandbox::FaultKind;

use crate::world::{World, binary::out, grant, until, write};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_here_is_told_as_ours_with_what_mends_it() {
    let mut world = World::new().await;
    let folder = world.path("secrets");
    fs::create_dir(&folder).unwrap();
    world.head("startup = \"warn\"");
    world.tables(&format!("[stores.files]\nkind = \"file\"\nfolder = \"{}\"", folder.display()));
    let seed = world.granted("unplaced", grant(0.05), "").await;
    world.tables = world.tables.replace("provider = \"rfc6749\"", "provider = \"microsoft_entra\"");
    let endpoint = format!("token_endpoint = \"{}\"\n", world.sandbox.token_endpoint());
    world.tables = world.tables.replace(&endpoint, "");
    for name in ["open", "rotating"] {
        write(&folder.join(name), world.admin().grant(grant(0.05)).document().expose());
    }
    fs::set_permissions(folder.join("open"), fs::Permissions::from_mode(0o644)).unwrap();
    for name in ["open", "rotating", "never"] {
        world.credential(name, "refresh_token", &format!("store = \"files\"\nat = \"{name}\""));
    }
    let running = world.launched().await;
    world.becomes("unplaced", "expired").await;
    until("the refusal of ours is known", async || {
        (world.view("unplaced").await["problem"]["cause"] == "request").then_some(())
    })
    .await;
    until("the read-only store is known", async || {
        (world.view("rotating").await["problem"]["cause"] == "writeback_denied").then_some(())
    })
    .await;
    let status = world.run(&["status"]);
    let (table, open) = (out(&status), folder.join("open"));
    let view = world.view("unplaced").await;
    assert!(view["problem"]["remedy"].as_str().unwrap().contains("set `upstream.with.tenant`"), "{view}");
    let rotating = world.view("rotating").await;
    assert!(rotating["problem"]["remedy"].as_str().unwrap().contains("writable = true"), "{rotating}");
    let closed = world.view("open").await;
    let remedy = closed["problem"]["remedy"].as_str().unwrap();
    assert!(remedy.contains(&format!("chmod 600 {}", open.display())) && !remedy.contains("new secret"), "{remedy}");
    let never = world.view("never").await;
    assert!(never["problem"]["detail"].as_str().unwrap().starts_with("no secret at"));
    // Nobody has refused anything: the word is the same for operators, readers and health.
    let health = world.asked("/health").await.json();
    let check = &health["checks"]["never:ttl"][0];
    let words = [
        &never["problem"]["failure"],
        &check["failure"]["subtype"],
        &world.read("never").await.json()["failure"]["subtype"],
    ]
    .map(|word| word.as_str().unwrap().to_owned());
    assert_eq!(words, ["not_ready"; 3], "{never} {health}");
    assert_eq!(check["links"]["help"], "https://credd.dev/runbook#uninitialised");
    for words in ["set `upstream.with.tenant`", "writable = true", "chmod 600"] {
        assert!(table.contains(words), "{words}: {table}");
    }
    let status: serde_json::Value = serde_json::from_str(&out(&world.run(&["status", "--json"]))).unwrap();
    let is_it = |page: &&serde_json::Value| page["kind"] == "client_misconfigured" && page["credential"] == "unplaced";
    let page = status["daemon"]["incidents"].as_array().unwrap().iter().find(is_it);
    let summary = page.unwrap_or_else(|| panic!("{status}"))["summary"].as_str().unwrap();
    assert!(summary.contains("no request to microsoft_entra can be made") && !summary.contains("refuses"), "{summary}");
    assert_eq!(world.admin().counters_of(&seed.id).token_calls, 0, "nothing was sent");
    assert_eq!(running.terminate(), Some(0));
}

/// RF-34, FM-11: a refresh that brings fewer scopes than are needed is told, and it is over when they are back.
#[tokio::test(flavor = "multi_thread")]
async fn rf34_a_scope_that_is_gone_is_told_until_it_is_back() {
    let mut world = World::new().await;
    world.granted("bot", grant(3600.0), "scopes = [\"read\", \"write\"]").await;
    world.start().await;
    let is_reduced =
        async |world: &World| world.view("bot").await["flags"].as_array().unwrap().contains(&"scope_reduced".into());
    assert_eq!(world.act("bot", "refresh").await.status, 200);
    assert!(!is_reduced(&world).await);
    let fewer = FaultKind::Member { name: "scope".into(), value: Some("read".into()) };
    world.admin().fault(fewer.next(1));
    assert_eq!(world.act("bot", "refresh").await.status, 200);
    assert!(is_reduced(&world).await);
    let open = world.incidents().await;
    assert_eq!(open.len(), 1, "{open:?}");
    assert_eq!((open[0].kind.as_str(), open[0].severity.as_str()), ("scope_reduced", "warning"));
    assert!(open[0].summary.contains("does not grant write"), "{}", open[0].summary);
    assert_eq!(world.act("bot", "refresh").await.status, 200);
    assert!(!is_reduced(&world).await);
    assert!(world.incidents().await.is_empty());
    let told: Vec<String> =
        world.logged("bot", "refreshed").await.into_iter().map(|entry| entry.detail.unwrap_or_default()).collect();
    for words in ["fewer scopes: write", "more scopes: write"] {
        assert!(told.iter().any(|detail| detail.contains(words)), "{words}: {told:?}");
    }
    world.stop().await;
}

/// One incident is one page and one resolve: a release that helps nobody ends nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_release_ends_no_incident_before_a_success_does() {
    let mut world = World::new().await;
    let seed = world.granted("bot", grant(3600.0), "").await;
    let running = world.launched().await;
    world.admin().revoke(&seed.id);
    world.act("bot", "refresh").await;
    world.becomes("bot", "revoked").await;
    let status = world.operator().await.get("/v1/status").await.json();
    let opened = status["daemon"]["incidents"][0]["since"].clone();
    let released = world.act("bot", "release").await;
    assert_eq!(released.status, 409, "{}", released.body);
    let view = world.view("bot").await;
    assert_eq!((&view["state"], &view["problem"]["retry_at"]), (&"revoked".into(), &serde_json::Value::Null), "{view}");
    assert_eq!(view["refresh_at"], serde_json::Value::Null, "nothing is planned for what is dead: {view}");
    let status = world.operator().await.get("/v1/status").await.json();
    assert_eq!(status["daemon"]["incidents"][0]["since"], opened, "the same incident: {status}");
    assert_eq!(world.asked("/health").await.status, 503);
    // By hand, one after another: the operator hears of it, on-call does not.
    let next = world.admin().grant(grant(3600.0));
    world.put("bot", next.document().expose()).await;
    world.becomes("bot", "fresh").await;
    assert!(!world.act("bot", "refresh").await.body.contains("so recent"));
    for _ in 0..3 {
        let again = world.act("bot", "refresh").await;
        assert!(again.status == 200 && again.body.contains("so recent"), "{}", again.body);
    }
    let status = world.operator().await.get("/v1/status").await.json();
    assert_eq!(status["daemon"]["incidents"], serde_json::json!([]), "{status}");
    assert_eq!(running.terminate(), Some(0));
}

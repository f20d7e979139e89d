//! Pages by signed webhook against a real HTTP server.

use std::{path::Path, time::Duration};

use credd::{
    credential::Secret,
    pager::{
        Action, Channel, Delivery, Message,
        webhook::{Refused, verify},
    },
};
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{bounded, world::*};
use crate::components::Component;

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);
const OLD: &str = "whsec_b2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xk";
const NEW: &str = "whsec_bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3";

fn message() -> Message {
    let mut message = Message::test(Uuid::nil(), NOW);
    (message.test, message.kind, message.credentials) = (false, "credential_revoked".into(), vec!["github-bot".into()]);
    message
}

async fn send(channel: &dyn Channel, at: Timestamp) -> Delivery {
    bounded(channel.send(Uuid::from_u128(7), &message(), at)).await
}

/// What a receiver does.
fn received(call: &Value, secrets: &[&str], now: Timestamp) -> Result<(), Refused> {
    let secrets: Vec<Secret> = secrets.iter().map(|secret| Secret::new(*secret)).collect();
    let header = |name: &str| call["headers"][name].as_str().unwrap_or_else(|| panic!("no {name}: {call}"));
    let body = call["body"].as_str().unwrap().as_bytes();
    verify(&secrets, header("webhook-id"), header("webhook-timestamp"), header("webhook-signature"), body, now)
}

#[tokio::test]
async fn a_page_is_signed_thin_and_the_same_in_every_attempt() {
    let sink = Component::start("webhook-sink.py", &[]);
    let channel = open(&webhook_settings(&sink, "/hook"), &Vault::of(&[("HOOK", OLD)]), post(None)).unwrap();
    sink_reply(&sink, json!({ "status": 503, "times": 1 })).await;
    let first = send(&*channel, NOW).await;
    assert!(matches!(first, Delivery::Later { reason: "unavailable", after: None, .. }), "{first:?}");
    let again = NOW + Duration::from_secs(400);
    assert_eq!(send(&*channel, again).await, Delivery::Accepted);

    let log = sink_log(&sink).await;
    let [one, two] = &log[..] else { panic!("{} calls", log.len()) };
    assert_eq!(one["headers"]["webhook-id"], two["headers"]["webhook-id"], "receivers know it by its id");
    assert_eq!(one["body"], two["body"]);
    assert_eq!(one["headers"]["webhook-timestamp"], "1800000000");
    assert_eq!(two["headers"]["webhook-timestamp"], "1800000400");
    assert_eq!(received(one, &[OLD], NOW), Ok(()));
    assert_eq!(received(two, &[OLD], again), Ok(()));
    assert_eq!(received(one, &[OLD], again), Err(Refused::Stale));
    assert_eq!(received(one, &[NEW], NOW), Err(Refused::Signature));
    let body = &one["json"];
    assert_eq!((&body["type"], &body["data"]["action"]), (&json!("page.opened"), &json!("trigger")));
    assert_eq!(body["data"]["credentials"], json!(["github-bot"]));
    assert_eq!(body["timestamp"], json!("2027-01-15T08:00:00Z"));
}

#[tokio::test]
async fn two_secrets_sign_during_rotation_and_are_read_anew() {
    let sink = Component::start("webhook-sink.py", &[]);
    let settings =
        webhook_settings(&sink, "/hook").replace("[{ env = \"HOOK\" }]", "[{ env = \"HOOK\" }, { env = \"NEXT\" }]");
    let vault = Vault::of(&[("HOOK", OLD), ("NEXT", NEW)]);
    let channel = open(&settings, &vault, post(None)).unwrap();
    assert_eq!(send(&*channel, NOW).await, Delivery::Accepted);
    vault.put("HOOK", NEW);
    assert_eq!(send(&*channel, NOW).await, Delivery::Accepted);
    let log = sink_log(&sink).await;
    for receiver in [OLD, NEW] {
        assert_eq!(received(&log[0], &[receiver], NOW), Ok(()), "receivers may switch at any time");
    }
    assert_eq!(received(&log[1], &[OLD], NOW), Err(Refused::Signature));
    assert_eq!(received(&log[1], &[NEW], NOW), Ok(()));
}

#[tokio::test]
async fn the_status_decides_and_redirects_are_not_followed() {
    let sink = Component::start("webhook-sink.py", &[]);
    let channel = open(&webhook_settings(&sink, "/hook"), &Vault::of(&[("HOOK", OLD)]), post(None)).unwrap();
    let elsewhere = format!("{}/elsewhere", sink.text("url"));
    for (reply, expected) in [
        (json!({ "status": 429, "headers": { "Retry-After": "7" } }), Some(("rate_limited", Some(7)))),
        (json!({ "status": 504 }), Some(("unavailable", None))),
        (json!({ "status": 410 }), None),
        (json!({ "status": 401 }), None),
        (json!({ "status": 307, "headers": { "Location": elsewhere } }), None),
        (json!({ "drop": true }), Some(("reset", None))),
    ] {
        sink_reply(&sink, reply.clone()).await;
        match (send(&*channel, NOW).await, expected) {
            (Delivery::Later { reason, after, .. }, Some(wanted)) => {
                assert_eq!((reason, after.map(|wait| wait.as_secs())), wanted, "{reply}");
            }
            (Delivery::Never { reason: "rejected", .. }, None) => {}
            (found, _) => panic!("{reply}: {found:?}"),
        }
    }
    let log = sink_log(&sink).await;
    assert_eq!(log.len(), 6);
    assert!(log.iter().all(|call| call["path"] == "/hook"));
}

#[tokio::test]
async fn a_secret_url_behind_a_private_ca_is_reached_and_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/components/tls.sh");
    assert!(std::process::Command::new(script).arg(folder.path()).status().unwrap().success());
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let sink =
        Component::start("webhook-sink.py", &[("TLS_CERT", &path("server.pem")), ("TLS_KEY", &path("server.key"))]);
    let vault = Vault::of(&[("HOOK", OLD), ("URL", &format!("{}/canary-path?canary=query\n", sink.text("url")))]);
    let settings = "kind = \"webhook\"\nurl_from = { env = \"URL\" }\nsecrets = [{ env = \"HOOK\" }]\n";
    let trusting = open(settings, &vault, post(Some(&path("ca.pem")))).unwrap();
    assert_eq!(send(&*trusting, NOW).await, Delivery::Accepted);
    let found = bounded(trusting.check()).await.unwrap();
    assert!(found.starts_with("webhook at 127.0.0.1 answers") && !found.contains("canary"), "{found}");

    let stranger = open(settings, &vault, post(None)).unwrap();
    let refused = format!("{:?}", send(&*stranger, NOW).await);
    assert!(refused.contains("connect") && !refused.contains("canary"), "{refused}");
    for bad in ["canary", "http://canary.example.com/", "ftp://canary.example.com/"] {
        vault.put("URL", bad);
        let error = bounded(trusting.check()).await.unwrap_err();
        assert!(error.contains("URL") && !error.contains("canary"), "{error}");
    }
    vault.put("HOOK", "whsec_canary");
    vault.put("URL", sink.text("url"));
    let refused = send(&*trusting, NOW).await;
    assert!(matches!(&refused, Delivery::Later { detail, .. } if !detail.contains("canary")), "{refused:?}");
}

#[tokio::test]
async fn a_check_posts_nothing() {
    let sink = Component::start("webhook-sink.py", &[]);
    let channel = open(&webhook_settings(&sink, "/hook"), &Vault::of(&[("HOOK", OLD)]), post(None)).unwrap();
    assert_eq!(bounded(channel.check()).await.unwrap(), "webhook at 127.0.0.1 answers (HTTP 200 to HEAD)");
    assert_eq!(sink_log(&sink).await.len(), 0);
}

#[test]
fn settings_that_cannot_work_are_refused_by_name() {
    let url = "url = \"https://example.com/\"";
    let secrets = "secrets = [{ env = \"A\" }]";
    for (lines, field) in [
        (secrets.to_owned(), "url"),
        (format!("{url}\nurl_from = {{ env = \"U\" }}\n{secrets}"), "url_from"),
        (format!("url = \"http://example.com/\"\n{secrets}"), "url"),
        (format!("{url}\nsecrets = []"), "secrets"),
        (format!("{url}\nsecrets = [{{ env = \"A\" }}, {{ env = \"B\" }}, {{ env = \"C\" }}]"), "secrets"),
    ] {
        let error = open(&format!("kind = \"webhook\"\n{lines}"), &Vault::default(), post(None)).map(drop).unwrap_err();
        assert!(error.starts_with(&format!("pager.channels.web.{field}: ")), "{error}");
    }
    // What the sender says of an incident's end.
    let mut over = message();
    over.action = Action::Resolve;
    assert_eq!(serde_json::to_value(&over).unwrap()["action"], "resolve");
}

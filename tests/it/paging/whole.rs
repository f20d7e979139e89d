//! From a provider's refusal to mail and webhook: the real program, a real SMTP server, a signed webhook.

use std::time::Duration;

use credd::{credential::Secret, pager::webhook};
use serde_json::Value;

use super::world::{header, mails, sink_log};
use crate::{components::Component, home::Home};

const PASSWORD: &str = "canary-smtp-password";
const HOOK: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn channels(server: &Component, sink: &Component) -> String {
    format!(
        "[pager.channels.mail]\nkind = \"email\"\nhost = \"localhost\"\nport = {}\nca = {:?}\nfrom = \"credd <credd@example.com>\"\n\
         to = [\"on-call@example.com\"]\nusername = \"user\"\npassword = {{ env = \"SMTP_PASSWORD\" }}\n\
         [pager.channels.hook]\nkind = \"webhook\"\nurl = \"{}/hook\"\nsecrets = [{{ env = \"HOOK_SECRET\" }}]\n",
        server.ready["port"],
        server.text("ca"),
        sink.text("url"),
    )
}

async fn until<T>(look: impl AsyncFn() -> Option<T>) -> T {
    let wait = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(crate::home::LIMIT, wait).await.expect("it never happened")
}

fn verified(calls: &[Value]) {
    for call in calls {
        let headers: Vec<(String, String)> = call["headers"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, value)| (name.to_ascii_lowercase(), value.as_str().unwrap().to_owned()))
            .collect();
        let get = |wanted: &str| headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str()).unwrap();
        let (id, at, signature) = (get("webhook-id"), get("webhook-timestamp"), get("webhook-signature"));
        let body = call["body"].as_str().unwrap();
        let sent = jiff::Timestamp::from_second(at.parse().unwrap()).unwrap();
        webhook::verify(&[Secret::new(HOOK)], id, at, signature, body.as_bytes(), sent).unwrap();
    }
}

/// FM-63: a revocation is one mail and one webhook, its end one of each, and a restart in between changes neither.
#[tokio::test(flavor = "multi_thread")]
async fn fm63_a_revocation_pages_once_on_each_channel_and_its_end_once_across_a_crash() {
    let server = Component::start("smtp.sh", &[("SMTP_PASS", PASSWORD)]);
    let sink = Component::start("webhook-sink.py", &[]);
    let mut home = Home::new().await;
    home.secrets =
        vec![("SMTP_PASSWORD".into(), PASSWORD.into()), ("HOOK_SECRET".into(), HOOK.into())];
    home.settings(&["bot", "other"], &channels(&server, &sink));
    let (bot, other) = (home.grant(Duration::from_secs(3600)), home.grant(Duration::from_secs(3600)));
    home.put("bot", &bot.document()).await;
    home.put("other", &other.document()).await;

    let daemon = home.start(&[]).await;
    daemon.until_state("bot", "fresh").await;
    home.sandbox.admin().revoke(&bot.id);
    daemon.until_state("bot", "revoked").await;
    until(async || (mails(&server).len() == 1 && sink_log(&sink).await.len() == 1).then_some(())).await;
    daemon.kill();

    // The next life knows that on-call was told.
    let daemon = home.start(&[]).await;
    daemon.until_state("bot", "revoked").await;
    daemon.until_metrics(|text| text.contains("credd_pages_active{severity=\"critical\"} 1")).await;
    home.put("bot", &home.grant(Duration::from_secs(3600)).document()).await;
    daemon.until_state("bot", "fresh").await;
    until(async || (mails(&server).len() == 2 && sink_log(&sink).await.len() == 2).then_some(())).await;
    daemon.until_metrics(|text| text.contains("credd_pages_active{severity=\"critical\"} 0")).await;
    let log = daemon.stop().await;
    // And nothing follows.
    let daemon = home.start(&[]).await;
    daemon.until_metrics(|text| text.contains("credd_pages_active{severity=\"critical\"} 0")).await;
    daemon.stop().await;

    let (letters, calls) = (mails(&server), sink_log(&sink).await);
    assert_eq!((letters.len(), calls.len()), (2, 2), "{log}");
    for letter in &letters {
        assert_eq!(header(letter, "X-TLS"), Some("True"));
        assert_eq!(header(letter, "Subject"), Some("[credd] bot: credential revoked"));
    }
    assert_eq!(header(&letters[1], "In-Reply-To"), header(&letters[0], "Message-ID"));
    let body = |letter: &str| letter.split_once("\n\n").unwrap().1.to_owned();
    assert!(body(&letters[0]).starts_with("OPEN, critical"), "{}", letters[0]);
    assert!(body(&letters[0]).contains("credd credential put bot"), "{}", letters[0]);
    assert!(body(&letters[1]).starts_with("RESOLVED"), "{}", letters[1]);
    verified(&calls);
    let kinds: Vec<&str> = calls.iter().map(|call| call["json"]["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["page.opened", "page.resolved"]);
}

/// The ledger cannot carry the word that it takes no writes: it goes straight to the channels.
#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_takes_no_writes_is_told_past_the_ledger() {
    let (server, sink) = (Component::start("smtp.sh", &[("SMTP_PASS", PASSWORD)]), Component::start("webhook-sink.py", &[]));
    let mut home = Home::new().await;
    home.secrets =
        vec![("SMTP_PASSWORD".into(), PASSWORD.into()), ("HOOK_SECRET".into(), HOOK.into())];
    home.settings(&["bot"], &channels(&server, &sink));
    home.put("bot", &home.grant(Duration::from_secs(3600)).document()).await;
    let daemon = home.start(&[]).await;
    daemon.until_state("bot", "fresh").await;
    daemon.until_metrics(|text| text.contains("credd_ledger_up 1")).await;

    // Somebody else holds the database: every write of ours is refused.
    use sqlx::Connection;
    let ledger = home.path("state/ledger.db");
    let mut thief = sqlx::SqliteConnection::connect(ledger.to_str().unwrap()).await.unwrap();
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut thief).await.unwrap();
    let calls = until(async || Some(sink_log(&sink).await).filter(|calls| !calls.is_empty())).await;
    until(async || (mails(&server).len() == 1).then_some(())).await;
    verified(&calls);
    assert!(calls[0]["body"].as_str().unwrap().contains("ledger_unwritable"), "{calls:?}");
    daemon.until_metrics(|text| text.contains("credd_ledger_up 0")).await;
    assert!(daemon.get("/readyz?verbose").await.contains("[-]ledger"));
    assert_eq!(daemon.get("/livez").await, "ok\n", "a restart frees no disk");

    sqlx::raw_sql("ROLLBACK").execute(&mut thief).await.unwrap();
    until(async || (daemon.get("/readyz").await == "ok\n").then_some(())).await;
    daemon.stop().await;
    assert_eq!((mails(&server).len(), sink_log(&sink).await.len()), (1, 1));
}

//! Marked secrets through everything that pages: they must come out nowhere.

use std::sync::Arc;

use serde_json::json;

use super::{
    house::{House, MINUTE},
    world::*,
};
use crate::components::Component;

/// Everything that is logged, for the test's own thread.
#[derive(Clone, Default)]
struct Log(Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn t22_canary_secrets_stand_in_no_log_metric_mail_or_payload() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);

    let (server, sink) =
        (Component::start("smtp.sh", &[("SMTP_PASS", "canary-password")]), Component::start("webhook-sink.py", &[]));
    sink_reply(&sink, json!({ "status": 429, "body": "canary-reply" })).await;
    let hook = "whsec_Y2FuYXJ5LWhvb2stc2VjcmV0LWNhbmFyeS1ob29r";
    let url = format!("{}/canary-path?key=canary-query", sink.text("url"));
    let vault = Vault::of(&[("SMTP", "canary-wrong"), ("HOOK", hook), ("URL", &url)]);
    let mail = open(&protected_mail(&server), &vault, post(None)).unwrap();
    let web = "kind = \"webhook\"\nurl_from = { env = \"URL\" }\nsecrets = [{ env = \"HOOK\" }]\n";
    let web = open(web, &vault, post(None)).unwrap();
    let house = House::new();
    house
        .live(vec![mail, web], async {
            house.revoke("bot");
            house
                .outbox
                .until(|book| book.pages.len() == 2 && book.pages.iter().all(|row| row.page.attempts == 1))
                .await;
            vault.put("SMTP", "canary-password");
            house.clock.advance(3, MINUTE).await;
            house.until_empty().await;
        })
        .await;

    let logged = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    for event in ["not delivered yet: localhost", "refused AUTH: 535", "answered 429", "delivered"] {
        assert!(logged.contains(event), "{event} is missing, so nothing is proven:\n{logged}");
    }
    let metrics = prometheus::TextEncoder::new().encode_to_string(&house.metrics.registry().gather()).unwrap();
    assert!(metrics.contains("credd_notification_failures_total{channel=\"web\",reason=\"rate_limited\"} 1"));
    let payloads: String =
        sink_log(&sink).await.iter().map(|call| format!("{} {}", call["body"], call["headers"])).collect();
    let pages = format!("{:?}", house.outbox.look(|book| book.conditions.clone()));
    let hidden = ["canary", "Y2FuYXJ5", "AHVzZXIAY2FuYXJ5"];
    for (place, text) in [
        ("log", logged),
        ("metrics", metrics),
        ("mail", mails(&server).concat()),
        ("payload", payloads),
        ("ledger", pages),
    ] {
        assert!(!text.is_empty(), "{place}");
        for canary in hidden {
            assert!(!text.contains(canary), "{canary} stands in the {place}:\n{text}");
        }
    }
}

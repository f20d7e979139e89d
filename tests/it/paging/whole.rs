//! From a provider's refusal to mail and webhook: the real program, a real SMTP server, a signed webhook.

use credd::{credential::Secret, pager::webhook};
use serde_json::Value;
use sqlx::Connection;

use super::world::{header, mails, sink_log};
use crate::{
    components::Component,
    world::{World, grant, until, write},
};

const PASSWORD: &str = "canary-smtp-password";
const HOOK: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// On-call's two ends, and a world that reaches them.
async fn scene() -> (Component, Component, World) {
    let server = Component::start("smtp.sh", &[("SMTP_PASS", PASSWORD)]);
    let sink = Component::start("webhook-sink.py", &[]);
    let mut world = World::new().await;
    write(&world.path("smtp-password"), PASSWORD);
    write(&world.path("hook-secret"), HOOK);
    world.head("startup = \"warn\"");
    world.tables(&format!(
        "[policies.default]\nprobe = \"*/2 * * * * *\"\n\
         [pager.channels.mail]\nkind = \"email\"\nhost = \"localhost\"\nport = {}\nca = {:?}\n\
         from = \"credd <credd@example.com>\"\nto = [\"on-call@example.com\"]\nusername = \"user\"\npassword = {{ file = {:?} }}\n\
         [pager.channels.hook]\nkind = \"webhook\"\nurl = \"{}/hook\"\nsecrets = [{{ file = {:?} }}]\n",
        server.ready["port"],
        server.text("ca"),
        world.path("smtp-password"),
        sink.text("url"),
        world.path("hook-secret"),
    ));
    (server, sink, world)
}

/// Each is signed, and the receiver believes it.
fn verify(calls: &[Value]) {
    for call in calls {
        let get = |wanted: &str| {
            let mut headers = call["headers"].as_object().unwrap().iter();
            headers.find(|(name, _)| name.eq_ignore_ascii_case(wanted)).unwrap().1.as_str().unwrap()
        };
        let (id, at, signature) = (get("webhook-id"), get("webhook-timestamp"), get("webhook-signature"));
        let body = call["body"].as_str().unwrap();
        let sent = jiff::Timestamp::from_second(at.parse().unwrap()).unwrap();
        webhook::verify(&[Secret::new(HOOK)], id, at, signature, body.as_bytes(), sent).unwrap();
    }
}

/// Waits until so many pages have arrived on both ways.
async fn arrived(server: &Component, sink: &Component, count: usize) -> (Vec<String>, Vec<Value>) {
    until(&format!("{count} pages on each channel"), async || {
        let (letters, calls) = (mails(server), sink_log(sink).await);
        (letters.len() >= count && calls.len() >= count).then_some((letters, calls))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn fm63_a_revocation_pages_once_on_each_channel_and_its_end_once_across_a_crash() {
    let (server, sink, mut world) = scene().await;
    let bot = world.granted("bot", grant(3600.0), "").await;
    world.granted("other", grant(3600.0), "").await;
    let running = world.launched().await;
    world.becomes("bot", "fresh").await;
    assert!(world.admin().revoke(&bot.id));
    world.becomes("bot", "revoked").await;
    arrived(&server, &sink, 1).await;
    running.kill();

    // The next life knows that on-call was told.
    let running = world.launched().await;
    world.measures("credd_pages_active{severity=\"critical\"} 1").await;
    let healed = world.put("bot", world.admin().grant(grant(3600.0)).document().expose()).await;
    assert_eq!(healed.status, 200, "{}", healed.body);
    world.becomes("bot", "fresh").await;
    arrived(&server, &sink, 2).await;
    world.measures("credd_pages_active{severity=\"critical\"} 0").await;
    assert_eq!(running.terminate(), Some(0));
    // And a third one has nothing to say.
    let running = world.launched().await;
    world.measures("credd_pages_active{severity=\"critical\"} 0").await;
    world.measures("credd_notification_queue_length{channel=\"mail\"} 0").await;
    assert_eq!(running.terminate(), Some(0));

    let (letters, calls) = (mails(&server), sink_log(&sink).await);
    assert_eq!((letters.len(), calls.len()), (2, 2), "{}", world.log());
    for letter in &letters {
        assert_eq!(header(letter, "X-TLS"), Some("True"));
        assert_eq!(header(letter, "Subject"), Some("[credd] bot: credential revoked"));
    }
    assert_eq!(header(&letters[1], "In-Reply-To"), header(&letters[0], "Message-ID"));
    let body = |letter: &str| letter.split_once("\n\n").unwrap().1.to_owned();
    assert!(body(&letters[0]).starts_with("OPEN, critical"), "{}", letters[0]);
    assert!(body(&letters[0]).contains("credd credential put bot"), "{}", letters[0]);
    assert!(body(&letters[1]).starts_with("RESOLVED"), "{}", letters[1]);
    verify(&calls);
    let kinds: Vec<&str> = calls.iter().map(|call| call["json"]["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["page.opened", "page.resolved"]);
}

/// The ledger cannot carry the word that it takes no writes: it goes straight to the channels.
#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_takes_no_writes_is_told_past_the_ledger() {
    let (server, sink, mut world) = scene().await;
    world.granted("bot", grant(3600.0), "").await;
    let running = world.launched().await;
    world.becomes("bot", "fresh").await;
    world.measures("credd_ledger_up 1").await;

    // Somebody else holds the database: every write of ours is refused.
    let ledger = world.path("state/ledger.db");
    let mut thief = sqlx::SqliteConnection::connect(ledger.to_str().unwrap()).await.unwrap();
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut thief).await.unwrap();
    let (letters, calls) = arrived(&server, &sink, 1).await;
    verify(&calls);
    assert_eq!(calls[0]["json"]["type"], "page.opened");
    assert!(letters[0].contains("ledger takes no writes"), "{}", letters[0]);
    world.measures("credd_ledger_up 0").await;
    assert!(world.asked("/readyz?verbose").await.body.contains("[-]ledger"));
    assert_eq!(world.asked("/livez").await.body, "ok\n", "a restart frees no disk");

    sqlx::raw_sql("ROLLBACK").execute(&mut thief).await.unwrap();
    until("it is ready again", async || (world.asked("/readyz").await.body == "ok\n").then_some(())).await;
    assert_eq!(running.terminate(), Some(0));
    assert_eq!((mails(&server).len(), sink_log(&sink).await.len()), (1, 1));
}

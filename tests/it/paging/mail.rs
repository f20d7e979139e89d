//! Pages by mail against a real SMTP server.

use std::time::Duration;

use credd::pager::{Action, Channel, Delivery, Message};
use jiff::Timestamp;
use tokio::{io::AsyncWriteExt, net::TcpListener};
use uuid::Uuid;

use super::{bounded, clock::HandClock, world::*};
use crate::components::Component;

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

fn message(sequence: u32, action: Action) -> Message {
    Message {
        dedup_key: "credd/3f2a".into(),
        sequence,
        action,
        severity: credd::pager::Severity::Critical,
        kind: "credential_revoked".into(),
        credentials: vec!["github-bot".into()],
        title: "github-bot: credential revoked".into(),
        summary: "github-bot was revoked".into(),
        body: "github-bot was revoked\nTo mend it: credd credential put github-bot".into(),
        since: NOW,
        at: NOW,
        test: false,
    }
}

async fn send(channel: &dyn Channel, id: u128, message: &Message) -> Delivery {
    bounded(channel.send(Uuid::from_u128(id), message, NOW)).await
}

fn reason(delivery: &Delivery) -> (&'static str, bool, &str) {
    match delivery {
        Delivery::Accepted => ("accepted", false, ""),
        Delivery::Later { reason, detail, .. } => (reason, false, detail),
        Delivery::Never { reason, detail } => (reason, true, detail),
    }
}

#[tokio::test]
async fn an_incident_is_one_thread_over_starttls_with_a_private_ca_and_a_password() {
    let server = Component::start("smtp.sh", &[("SMTP_PASS", "canary-smtp-password")]);
    let vault = Vault::of(&[("SMTP", "canary-smtp-password")]);
    let channel = open(&protected_mail(&server), &vault, post(None)).unwrap();
    let found = bounded(channel.check()).await.unwrap();
    assert!(found.contains("ready for mail, encrypted"), "{found}");
    assert_eq!(mails(&server).len(), 0, "a check pages nobody");

    for (n, action) in [(0, Action::Trigger), (1, Action::Trigger), (2, Action::Resolve)] {
        assert_eq!(send(&*channel, n.into(), &message(n, action)).await, Delivery::Accepted);
    }
    let all = mails(&server);
    let [opened, grown, over] = &all[..] else { panic!("{} mails", all.len()) };
    let root = header(opened, "Message-ID").unwrap();
    assert!(root.starts_with("<incident.") && root.ends_with("@example.com>"), "{root}");
    assert_eq!((header(opened, "In-Reply-To"), header(opened, "References")), (None, None));
    for mail in [grown, over] {
        assert_eq!((header(mail, "In-Reply-To"), header(mail, "References")), (Some(root), Some(root)));
        assert_ne!(header(mail, "Message-ID"), Some(root));
    }
    for mail in &all {
        assert_eq!(header(mail, "Subject"), Some("[credd] github-bot: credential revoked"));
        assert_eq!(header(mail, "Auto-Submitted"), Some("auto-generated"));
        assert_eq!(header(mail, "X-Auto-Response-Suppress"), Some("All"));
        assert_eq!(header(mail, "List-Id"), Some("credd pages <pages.credd.example.com>"));
        assert_eq!(header(mail, "X-TLS"), Some("True"));
        assert!(header(mail, "Content-Type").unwrap().starts_with("text/plain"));
    }
    let first_line = |mail: &str| mail.split_once("\n\n").unwrap().1.lines().next().unwrap().to_owned();
    assert_eq!(first_line(opened), "OPEN, critical, since 2027-01-15 08:00:00 UTC");
    assert_eq!(first_line(grown), "STILL OPEN, critical, since 2027-01-15 08:00:00 UTC");
    assert_eq!(first_line(over), "RESOLVED after 0 s");
}

#[tokio::test]
async fn a_repeated_attempt_is_the_same_mail() {
    let server = Component::start("smtp.sh", &[("TLS", "none")]);
    let channel = open(&mail_settings(&server, "tls = \"none\"\n"), &Vault::default(), post(None)).unwrap();
    for _ in 0..2 {
        assert_eq!(send(&*channel, 7, &message(3, Action::Trigger)).await, Delivery::Accepted);
    }
    let all = mails(&server);
    assert_eq!(header(&all[0], "Message-ID"), header(&all[1], "Message-ID"));
}

#[tokio::test]
async fn implicit_tls_and_plain_loopback_work() {
    let server = Component::start("smtp.sh", &[("TLS", "smtps")]);
    let settings = protected_mail(&server) + "tls = \"implicit\"\n";
    let channel = open(&settings, &Vault::of(&[("SMTP", "pass")]), post(None)).unwrap();
    assert_eq!(send(&*channel, 1, &message(0, Action::Trigger)).await, Delivery::Accepted);
    assert_eq!(mails(&server).len(), 1);

    let untrusted = settings.lines().filter(|line| !line.starts_with("ca")).collect::<Vec<_>>().join("\n");
    let channel = open(&untrusted, &Vault::of(&[("SMTP", "pass")]), post(None)).unwrap();
    let refused = send(&*channel, 1, &message(0, Action::Trigger)).await;
    assert_eq!(reason(&refused).0, "tls", "{refused:?}");
}

#[tokio::test]
async fn without_trust_or_encryption_no_password_and_no_mail_leaves() {
    let server = Component::start("smtp.sh", &[]);
    let vault = Vault::of(&[("SMTP", "pass")]);
    let auth = "username = \"user\"\npassword = { env = \"SMTP\" }\n";
    let stranger = open(&mail_settings(&server, auth), &vault, post(None)).unwrap();
    let refused = send(&*stranger, 1, &message(0, Action::Trigger)).await;
    let (why, _, detail) = reason(&refused);
    assert!(why == "tls" && detail.contains("STARTTLS") && detail.contains("`ca`"), "{refused:?}");
    assert_eq!(mails(&server).len(), 0);

    let stripped = Component::start("smtp.sh", &[("TLS", "none")]);
    let channel = open(&mail_settings(&stripped, auth), &vault, post(None)).unwrap();
    let refused = send(&*channel, 1, &message(0, Action::Trigger)).await;
    assert!(
        matches!(reason(&refused), ("tls", false, detail) if detail.contains("does not offer STARTTLS")),
        "{refused:?}"
    );
    assert_eq!(mails(&stripped).len(), 0);

    let far =
        "kind = \"email\"\nhost = \"192.0.2.1\"\nfrom = \"a@example.com\"\nto = [\"b@example.com\"]\ntls = \"none\"\n";
    let refused = send(&*open(far, &vault, post(None)).unwrap(), 1, &message(0, Action::Trigger)).await;
    assert!(matches!(reason(&refused), ("tls", true, detail) if detail.contains("loopback only")), "{refused:?}");
}

#[tokio::test]
async fn a_password_is_read_anew_at_each_connection() {
    let server = Component::start("smtp.sh", &[("SMTP_PASS", "canary-new")]);
    let vault = Vault::of(&[("SMTP", "canary-old")]);
    let channel = open(&protected_mail(&server), &vault, post(None)).unwrap();
    let refused = send(&*channel, 1, &message(0, Action::Trigger)).await;
    let (why, for_good, detail) = reason(&refused);
    assert_eq!((why, for_good), ("rejected", false), "{refused:?}");
    assert!(detail.contains("AUTH") && detail.contains("535") && !detail.contains("canary"), "{detail}");
    assert!(!bounded(channel.check()).await.unwrap_err().contains("canary"));

    vault.put("SMTP", "canary-new");
    assert_eq!(send(&*channel, 1, &message(0, Action::Trigger)).await, Delivery::Accepted);
    assert!(!mails(&server)[0].contains("canary"));
}

#[tokio::test]
async fn a_refused_recipient_is_for_good_unless_the_server_says_later_and_stops_nobody_else() {
    for (reply, expected) in [
        ("550 5.1.1 no such user", ("rejected", true)),
        ("451 4.7.1 greylisted", ("unavailable", false)),
        ("421 4.3.2 shutting down", ("unavailable", false)),
    ] {
        let server = Component::start("smtp.sh", &[("TLS", "none"), ("RCPT_REPLY", reply), ("FAIL_TIMES", "1")]);
        let one = mail_settings(&server, "tls = \"none\"\n");
        let channel = open(&one, &Vault::default(), post(None)).unwrap();
        let refused = send(&*channel, 1, &message(0, Action::Trigger)).await;
        let (why, for_good, detail) = reason(&refused);
        assert_eq!((why, for_good), expected, "{refused:?}");
        assert!(detail.contains(&reply[4..]) && detail.contains("on-call@example.com"), "{detail}");
        assert_eq!(send(&*channel, 1, &message(0, Action::Trigger)).await, Delivery::Accepted);
    }
    let server =
        Component::start("smtp.sh", &[("TLS", "none"), ("RCPT_REPLY", "550 5.1.1 no such user"), ("FAIL_TIMES", "1")]);
    let two = mail_settings(&server, "tls = \"none\"\n").replace("[\"on-call", "[\"gone@example.com\", \"on-call");
    let channel = open(&two, &Vault::default(), post(None)).unwrap();
    assert_eq!(send(&*channel, 1, &message(0, Action::Trigger)).await, Delivery::Accepted);
    assert_eq!(header(&mails(&server)[0], "X-Envelope-To"), Some("on-call@example.com"));
}

#[tokio::test]
async fn a_mail_that_is_refused_after_data_is_not_accepted() {
    let server =
        Component::start("smtp.sh", &[("TLS", "none"), ("DATA_REPLY", "452 4.3.1 mailbox full"), ("FAIL_TIMES", "1")]);
    let channel = open(&mail_settings(&server, "tls = \"none\"\n"), &Vault::default(), post(None)).unwrap();
    let refused = send(&*channel, 1, &message(0, Action::Trigger)).await;
    assert_eq!(reason(&refused), ("unavailable", false, reason(&refused).2));
    assert_eq!(mails(&server).len(), 0);
}

#[tokio::test]
async fn fm63_servers_that_are_away_drop_or_stall_are_asked_again_later() {
    let settings = |port: u16| {
        format!(
            "kind = \"email\"\nhost = \"127.0.0.1\"\nport = {port}\ntls = \"none\"\nfrom = \"a@example.com\"\nto = [\"b@example.com\"]\n"
        )
    };
    // Accepts, greets, and is gone.
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let channel = open(&settings(port), &Vault::default(), post(None)).unwrap();
    let message = message(0, Action::Trigger);
    let drop_one = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"220 here\r\n").await.unwrap();
    };
    let (dropped, ()) = bounded(async { tokio::join!(send(&*channel, 1, &message), drop_one) }).await;
    assert!(matches!(reason(&dropped), ("connect", false, _)), "{dropped:?}");

    // Nobody listens.
    drop(listener);
    let away = send(&*channel, 1, &message).await;
    assert!(matches!(reason(&away), ("connect", false, detail) if detail.contains("127.0.0.1")), "{away:?}");

    // No such name (two dots: refused before anybody is asked).
    let nowhere = settings(port).replace("127.0.0.1", "a..b");
    let unnamed = send(&*open(&nowhere, &Vault::default(), post(None)).unwrap(), 1, &message).await;
    assert!(matches!(reason(&unnamed), ("dns", false, _)), "{unnamed:?}");

    // Accepts the connection and never says a word.
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let clock = HandClock::new();
    let silent = toml::from_str(&settings(listener.local_addr().unwrap().port())).unwrap();
    let vault = std::sync::Arc::new(Vault::default());
    let channel = credd::pager::open("mail", &silent, vault, post(None), std::sync::Arc::new(clock.clone())).unwrap();
    let (stalled, ()) =
        bounded(async { tokio::join!(send(&*channel, 1, &message), clock.advance(1, Duration::from_secs(30))) }).await;
    assert!(matches!(reason(&stalled), ("timeout", false, _)), "{stalled:?}");
}

#[tokio::test]
async fn fm65_whatever_the_words_are_a_plain_mail_goes_out() {
    let server = Component::start("smtp.sh", &[("TLS", "none")]);
    let channel = open(&mail_settings(&server, "tls = \"none\"\n"), &Vault::default(), post(None)).unwrap();
    let bodies =
        ["", "\0\r\r\n.\r\n\u{202e}", "{{ unclosed", "ünï\u{1f511}", &"x".repeat(2_000_000), &".\n".repeat(5_000)];
    for (n, body) in bodies.iter().enumerate() {
        let mut message = message(0, Action::Trigger);
        message.title = format!("{body}\r\nBcc: evil@example.com");
        message.body = (*body).to_owned();
        assert_eq!(send(&*channel, n as u128, &message).await, Delivery::Accepted, "{n}");
    }
    let all = mails(&server);
    assert_eq!(all.len(), bodies.len());
    for mail in &all {
        assert_eq!(header(mail, "X-Envelope-To"), Some("on-call@example.com"));
        assert_eq!(header(mail, "Bcc"), None);
        assert!(header(mail, "Content-Type").unwrap().starts_with("text/plain"));
        assert!(mail.len() < 40_000, "{}", mail.len());
    }
}

#[test]
fn settings_that_cannot_work_are_refused_by_name() {
    let good = "kind = \"email\"\nhost = \"h\"\nfrom = \"a@example.com\"\nto = [\"b@example.com\"]\n";
    let open = |settings: &str| open(settings, &Vault::default(), post(None)).map(drop);
    assert_eq!(open(good), Ok(()));
    for (from, to, field) in [
        ("[\"b@example.com\"]", "[]", "pager.channels.mail.to"),
        ("b@example.com", "nobody", "pager.channels.mail.to"),
        ("a@example.com", "x\\r\\nBcc: e <a@example.com>", "pager.channels.mail.from"),
        ("a@example.com", "a@exämple.com", "pager.channels.mail.from"),
        ("\"h\"", "\"h\\r\\nQUIT\"", "pager.channels.mail.host"),
        ("to =", "username = \"u\"\nto =", "pager.channels.mail.password"),
        ("to =", "password = { env = \"P\" }\nto =", "pager.channels.mail.username"),
    ] {
        let error = open(&good.replace(from, to)).unwrap_err();
        assert!(error.starts_with(field), "{error}");
    }
}

//! The outbox between facts and channels: once per incident, whatever breaks on the way.

use std::{sync::Arc, time::Duration};

use credd::{
    incident::Message,
    oncall::{BACKLOG, Oncall, Page},
    pager::{Action, Channel},
};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    bounded,
    house::{House, MINUTE},
    outbox::Row,
    world::*,
};
use crate::components::Component;

fn said(accepted: &[(Uuid, Message)]) -> Vec<(Action, u32)> {
    accepted.iter().map(|(_, message)| (message.action, message.sequence)).collect()
}

#[tokio::test]
async fn a_revocation_reaches_mail_and_webhook_once_and_is_resolved_on_the_same_key() {
    let (server, sink) = (Component::start("smtp.sh", &[]), Component::start("webhook-sink.py", &[]));
    let vault = Vault::of(&[("SMTP", "pass"), ("HOOK", "whsec_Y2FuYXJ5LWhvb2stc2VjcmV0LWNhbmFyeS1ob29r")]);
    let mail = open(&protected_mail(&server), &vault, post(None)).unwrap();
    let web = open(&webhook_settings(&sink, "/hook"), &vault, post(None)).unwrap();
    let house = House::new();
    house
        .live(vec![mail, web], async {
            house.revoke("github-bot");
            house.outbox.until(|book| book.had.len() == 2 && book.pages.is_empty()).await;
            assert_eq!(house.metric("credd_pages_active", "severity=\"critical\""), Some(1.0));
            house.clock.advance(3, 12 * MINUTE).await;
            house.heal("github-bot");
            house.outbox.until(|book| book.had.len() == 4 && book.pages.is_empty()).await;
            house.clock.asleep(3).await;
        })
        .await;
    let (mails, calls) = (mails(&server), sink_log(&sink).await);
    assert_eq!((mails.len(), calls.len()), (2, 2));
    assert_eq!(header(&mails[1], "In-Reply-To"), header(&mails[0], "Message-ID"));
    assert!(mails[1].contains("\n\nRESOLVED after 12 min\n"), "{}", mails[1]);
    let actions: Vec<_> = calls.iter().map(|call| &call["json"]["data"]["action"]).collect();
    assert_eq!(actions, ["trigger", "resolve"]);
    assert_eq!(calls[0]["json"]["data"]["dedup_key"], calls[1]["json"]["data"]["dedup_key"]);
    for channel in ["mail", "web"] {
        let label = format!("channel=\"{channel}\"");
        assert_eq!(house.metric("credd_notifications_total", &label), Some(2.0));
        assert_eq!(house.metric("credd_notification_queue_length", &label), Some(0.0));
        assert_eq!(house.metric("credd_notification_oldest_timestamp_seconds", &label), None);
        assert_eq!(house.metric("credd_notification_last_success_timestamp_seconds", &label), Some(1_800_000_720.0));
    }
    assert_eq!(house.metric("credd_pages_active", "severity=\"critical\""), Some(0.0));
}

#[tokio::test]
async fn fm63_a_mail_server_and_a_webhook_in_trouble_get_each_incident_exactly_once() {
    let server =
        Component::start("smtp.sh", &[("TLS", "none"), ("RCPT_REPLY", "451 4.7.1 greylisted"), ("FAIL_TIMES", "2")]);
    let sink = Component::start("webhook-sink.py", &[]);
    sink_reply(&sink, json!({ "status": 500 })).await;
    sink_reply(&sink, json!({ "status": 429, "headers": { "Retry-After": "1800" } })).await;
    let vault = Vault::of(&[("HOOK", "whsec_Y2FuYXJ5LWhvb2stc2VjcmV0LWNhbmFyeS1ob29r")]);
    let mail = open(&mail_settings(&server, "tls = \"none\"\n"), &vault, post(None)).unwrap();
    let web = open(&webhook_settings(&sink, "/hook"), &vault, post(None)).unwrap();
    let house = House::new();
    let attempts = |channel: &'static str, count: u32| {
        house
            .outbox
            .until(move |book| book.pages.iter().any(|row| row.channel == channel && row.page.attempts == count))
    };
    house
        .live(vec![mail, web], async {
            house.revoke("github-bot");
            attempts("mail", 1).await;
            attempts("web", 1).await;
            house.clock.advance(3, Duration::from_secs(13)).await;
            attempts("mail", 2).await;
            attempts("web", 2).await;
            house.clock.advance(3, MINUTE).await;
            house.outbox.until(|book| book.pages.iter().all(|row| row.channel == "web")).await;
            let due = house.outbox.look(|book| book.pages[0].due);
            assert!(due.duration_since(house.clock.wall()) > jiff::SignedDuration::from_mins(28), "Retry-After counts");
            // The house looks at least once a minute, so time passes by minutes.
            for _ in 0..30 {
                house.clock.advance(3, MINUTE).await;
            }
            house.until_empty().await;
        })
        .await;
    assert_eq!(mails(&server).len(), 1);
    let ids: std::collections::BTreeSet<_> =
        sink_log(&sink).await.iter().map(|call| call["headers"]["webhook-id"].to_string()).collect();
    assert_eq!(ids.len(), 1, "whatever was repeated is known by its id");
    let failures = |labels| house.metric("credd_notification_failures_total", labels);
    assert_eq!(failures("channel=\"mail\",reason=\"unavailable\""), Some(2.0));
    assert_eq!(failures("channel=\"web\",reason=\"unavailable\""), Some(1.0));
    assert_eq!(failures("channel=\"web\",reason=\"rate_limited\""), Some(1.0));
}

#[tokio::test]
async fn fm63_after_three_failures_the_next_channel_gets_it_too() {
    let house = House::new();
    let broken = Scripted::new("a-broken", (0..9).map(|_| later()));
    house
        .live(vec![broken.clone()], async {
            house.revoke("bot");
            house.outbox.until(|book| book.pages.iter().any(|row| row.page.attempts == 1)).await;
        })
        .await;
    // Somebody adds a channel: it never had this page.
    let spare = Scripted::new("b-spare", []);
    house
        .live(vec![broken.clone(), spare.clone()], async {
            for count in 2..=3 {
                assert_eq!(spare.accepted.borrow().len(), 0);
                house.clock.advance(3, MINUTE).await;
                house.outbox.until(|book| book.pages.iter().any(|row| row.page.attempts == count)).await;
            }
            spare.until_accepted(1).await;
            let tick = async {
                loop {
                    house.clock.advance(3, MINUTE).await;
                }
            };
            tokio::select! { () = house.until_empty() => {}, () = tick => {} }
        })
        .await;
    assert_eq!(said(&spare.accepted.borrow()), [(Action::Trigger, 0)]);
    assert_eq!(said(&broken.accepted.borrow()), [(Action::Trigger, 0)]);
}

#[tokio::test]
async fn a_channel_that_refuses_for_good_hands_over_and_the_last_one_keeps_trying() {
    let house = House::new();
    let (first, second) = (Scripted::new("a", [never()]), Scripted::new("b", [never(), never(), later()]));
    let alone = House::new();
    alone
        .live(vec![second.clone()], async {
            alone.revoke("bot");
            for count in 1..=3 {
                alone.outbox.until(|book| book.pages.iter().any(|row| row.page.attempts == count)).await;
                for _ in 0..5 {
                    alone.clock.advance(2, MINUTE).await;
                }
            }
            second.until_accepted(1).await;
        })
        .await;
    house
        .live(vec![first.clone(), second.clone()], async {
            house.revoke("bot");
            second.until_accepted(2).await;
            house.until_empty().await;
        })
        .await;
    assert_eq!((first.accepted.borrow().len(), second.accepted.borrow().len()), (0, 2));
}

#[tokio::test]
async fn pages_of_a_removed_channel_are_handed_on() {
    let house = House::new();
    house
        .live(vec![Scripted::new("gone", [later(), later()])], async {
            house.revoke("bot");
            house.outbox.until(|book| book.pages.iter().any(|row| row.page.attempts == 1)).await;
        })
        .await;
    let heir = Scripted::new("heir", []);
    house.live(vec![heir.clone()], house.until_empty()).await;
    assert_eq!(said(&heir.accepted.borrow()), [(Action::Trigger, 0)]);
}

#[tokio::test]
async fn fm64_a_channel_that_hangs_slows_nobody_and_its_queue_stays_short() {
    let house = House::new();
    let (dead, alive) = (Scripted::hanging("dead"), Scripted::new("alive", []));
    house
        .live(vec![dead.clone(), alive.clone()], async {
            for round in 1..=200 {
                house.revoke("bot");
                alive.until_accepted(round * 2 - 1).await;
                house.heal("bot");
                alive.until_accepted(round * 2).await;
            }
            house.clock.asleep(2).await;
        })
        .await;
    assert_eq!(*dead.attempts.borrow(), 1, "it still hangs in the first");
    let waiting: Vec<_> = house.outbox.look(|book| book.pages.iter().map(|row| row.page.message.action).collect());
    assert_eq!(waiting, [Action::Trigger, Action::Resolve], "of 400 messages of one key");
    assert_eq!(house.metric("credd_notification_queue_length", "channel=\"alive\""), Some(0.0));
}

#[tokio::test]
async fn fm64_nothing_new_is_announced_while_too_many_pages_wait_and_nothing_is_lost() {
    let house = House::new();
    let flood = Message::test(Uuid::nil(), house.clock.wall());
    house.outbox.write(|book| {
        book.pages.extend((0..BACKLOG).map(|n| {
            let message = Message { dedup_key: format!("credd/{n}"), ..flood.clone() };
            let page = Page { id: Uuid::from_u128(n.into()), message, attempts: 0 };
            Row { channel: "elsewhere".into(), due: house.clock.wall(), page }
        }));
    });
    house.revoke("bot");
    let channel = Scripted::new("elsewhere", []);
    house
        .live(vec![channel.clone()], async {
            let told = house.outbox.until(|book| book.conditions[0].told.is_some());
            let tick = async {
                loop {
                    house.clock.advance(2, MINUTE).await;
                }
            };
            tokio::select! { () = told => {}, () = tick => {} }
        })
        .await;
    let accepted = channel.accepted.borrow();
    assert!(!accepted.is_empty(), "there was no room before");
    let waiting = house.outbox.look(|book| book.pages.clone());
    assert_eq!((accepted.len() + waiting.len()) as u64, BACKLOG + 1);
    let revoked = |message: &&Message| message.kind == "credential_revoked";
    let all = accepted.iter().map(|(_, message)| message).chain(waiting.iter().map(|row| &row.page.message));
    assert_eq!(all.filter(revoked).count(), 1);
}

#[tokio::test]
async fn a_restart_loses_no_page_and_doubles_none() {
    let house = House::new();
    house.revoke("before-the-start");
    let channel = Scripted::new("a", [later()]);
    house
        .live(vec![channel.clone()], async {
            house.outbox.until(|book| book.pages.iter().any(|row| row.page.attempts == 1)).await;
        })
        .await;
    house.revoke("between");
    house.live(vec![channel.clone()], async { channel.until_accepted(1).await }).await;
    for _ in 0..3 {
        house
            .live(vec![channel.clone()], async {
                house.clock.advance(2, MINUTE).await;
                house.clock.asleep(2).await;
                house.until_empty().await;
            })
            .await;
    }
    let accepted = channel.accepted.borrow();
    let mut names: Vec<_> = accepted.iter().flat_map(|(_, message)| message.credentials.clone()).collect();
    names.sort();
    assert_eq!(names, ["before-the-start", "between"]);
}

#[tokio::test]
async fn what_the_ledger_could_not_be_told_is_not_sent_again() {
    let house = House::new();
    house.outbox.write(|book| book.refuse_done = 3);
    let channel = Scripted::new("a", []);
    house
        .live(vec![channel.clone()], async {
            house.revoke("bot");
            for left in [2, 1, 0] {
                house.outbox.until(|book| book.refuse_done == left).await;
                house.clock.advance(2, Duration::from_secs(5)).await;
            }
            house.until_empty().await;
        })
        .await;
    assert_eq!((*channel.attempts.borrow(), channel.accepted.borrow().len()), (1, 1));
}

#[tokio::test]
async fn without_channels_facts_wait_for_one() {
    let house = House::new();
    house.revoke("bot");
    house.live(vec![], async { house.clock.asleep(1).await }).await;
    assert!(house.outbox.look(|book| book.conditions[0].told.is_none()));
    let channel = Scripted::new("a", []);
    house.live(vec![channel.clone()], async { channel.until_accepted(1).await }).await;
    assert_eq!(said(&channel.accepted.borrow()), [(Action::Trigger, 0)]);
}

#[tokio::test]
async fn a_stop_ends_every_loop() {
    let house = House::new();
    let clock = Arc::new(house.clock.clone());
    let channels: Vec<Arc<dyn Channel>> = vec![Scripted::new("a", [later()]), Scripted::new("b", [])];
    let oncall = Oncall::new(house.outbox.clone(), channels, clock, house.metrics.clone());
    let stop = CancellationToken::new();
    house.revoke("bot");
    let steps = async {
        house.outbox.until(|book| book.pages.iter().any(|row| row.page.attempts == 1)).await;
        house.clock.asleep(3).await;
        stop.cancel();
    };
    bounded(async { tokio::join!(oncall.run(&stop), steps) }).await;
    assert_eq!(house.outbox.look(|book| book.pages.len()), 1, "what was not delivered stands in the outbox");
}

use credd::{
    credential::{Generation, Secret},
    daemon::LedgerOutbox,
    incident::{Action, Announcement, Condition, Message, Severity, Told},
    ledger::{Entry, Fact, FactChange, Filter, Ledger, Put, Transition, dedup_key},
    oncall::{Due, Outbox},
};
use uuid::Uuid;

use super::bench::*;

const LATER: i64 = 1 << 30;

pub async fn of_write_backs_the_latest_wins(bench: Bench) {
    let ledger = bench.open().await;
    let (rotation, outbox) = (ledger.rotation(), ledger.outbox());
    rotation.commit(loaded("a")).await.unwrap();
    for generation in [1_i64, 2] {
        let number = generation.unsigned_abs().into();
        rotation.commit(prepared("a", number, generation + 1)).await.unwrap();
        rotation.commit(promoted("a", number, generation)).await.unwrap();
    }
    let due = outbox.due_write_backs(at(LATER)).await.unwrap();
    assert_eq!(due.len(), 1);
    assert_eq!((due[0].generation, due[0].attempt.as_u128()), (Generation(3), 2));
    assert_eq!((&due[0].material, due[0].store_version.as_deref()), (&material("3"), Some("v1")));

    outbox.write_back_later(&id("a"), at(LATER), "unreachable").await.unwrap();
    assert!(outbox.due_write_backs(at(LATER - 1)).await.unwrap().is_empty());
    let due = outbox.due_write_backs(at(LATER)).await.unwrap();
    assert_eq!((due[0].tries, due[0].error.as_deref()), (1, Some("unreachable")));

    // A newer value came while generation 3 was being carried: it stays due, against the new version.
    rotation.commit(prepared("a", 3, 4)).await.unwrap();
    rotation.commit(promoted("a", 3, 3)).await.unwrap();
    outbox.write_back_done(&id("a"), Generation(3), "v2").await.unwrap();
    let due = outbox.due_write_backs(at(LATER)).await.unwrap();
    assert_eq!((due[0].generation, due[0].tries, due[0].store_version.as_deref()), (Generation(4), 0, Some("v2")));
    let in_store = |text: &str| Some(ledger.sealer().fingerprint(material(text).root().unwrap()));
    let record = rotation.load(&id("a")).await.unwrap().unwrap();
    assert_eq!(record.store_fingerprint, in_store("3"), "the store holds generation 3");
    outbox.write_back_done(&id("a"), Generation(4), "v3").await.unwrap();
    assert!(outbox.due_write_backs(at(LATER)).await.unwrap().is_empty());
    let record = rotation.load(&id("a")).await.unwrap().unwrap();
    assert_eq!((record.store_version.as_deref(), record.store_fingerprint), (Some("v3"), in_store("4")));

    // A value that no flight brought has a stable name too.
    let edited = || Transition { write_back: true, ..step("a") };
    rotation.commit(edited()).await.unwrap();
    let first = outbox.due_write_backs(at(LATER)).await.unwrap()[0].attempt;
    rotation.commit(edited()).await.unwrap();
    assert_eq!(outbox.due_write_backs(at(LATER)).await.unwrap()[0].attempt, first);
}

fn raise(kind: &str, name: &str, second: i64) -> Fact {
    let change = FactChange::Raise { severity: "critical".into(), summary: "dead".into(), body: "why".into() };
    Fact { kind: kind.into(), credential: name.into(), group: "github".into(), change, at: at(second) }
}

fn clear(kind: &str, name: &str, second: i64) -> Fact {
    Fact { change: FactChange::Clear { why: "refreshed".into() }, ..raise(kind, name, second) }
}

pub async fn incidents_begin_and_end_once(bench: Bench) {
    let ledger = bench.open().await;
    let (rotation, incidents) = (ledger.rotation(), ledger.incidents());
    let mut changed = incidents.changed();
    let with = |fact: Fact| Transition { incidents: vec![fact], ..step("a") };
    rotation.commit(with(raise("credential_revoked", "a", 1))).await.unwrap();
    assert!(changed.has_changed().unwrap());
    changed.mark_unchanged();
    // The same again, from another place, with other words: nothing.
    incidents.facts(vec![raise("credential_revoked", "a", 2), clear("credential_expired", "a", 2)]).await.unwrap();
    assert!(!changed.has_changed().unwrap());
    let open = incidents.open().await.unwrap();
    assert_eq!(open.len(), 1);
    assert_eq!((open[0].opened_at, open[0].severity.as_str(), open[0].group.as_str()), (at(1), "critical", "github"));
    assert_eq!(open[0].dedup_key, dedup_key("credential_revoked", "a"));
    assert_eq!(open[0].dedup_key.len(), "credd/".len() + 32);
    assert_ne!(dedup_key("credential_revoked", "a"), dedup_key("credential_revoked", "b"));
    // It ends before anybody was told: nobody is told.
    rotation.commit(with(clear("credential_revoked", "a", 3))).await.unwrap();
    assert!(incidents.open().await.unwrap().is_empty());
    // It comes back under the same key, as a new incident.
    incidents.facts(vec![raise("credential_revoked", "a", 4)]).await.unwrap();
    let again = incidents.open().await.unwrap();
    assert_eq!(again[0].dedup_key, open[0].dedup_key);
    assert_ne!(again[0].seq, open[0].seq);
}

fn message(key: &str, action: Action, second: i64, word: &str) -> Message {
    Message {
        dedup_key: key.into(),
        sequence: 0,
        action,
        severity: Severity::Critical,
        kind: "credential_revoked".into(),
        credentials: vec!["a".into()],
        title: "a".into(),
        summary: word.into(),
        body: String::new(),
        since: at(0),
        at: at(second),
        test: false,
    }
}

async fn say(outbox: &dyn Outbox, number: u128, message: Message, channels: &[&str]) -> Uuid {
    let id = Uuid::from_u128(number);
    let channels: Vec<String> = channels.iter().map(|&name| name.into()).collect();
    let announcement = Announcement { message: Some(message), told: None, settled: vec![] };
    outbox.announce(id, &announcement, &channels).await.unwrap();
    id
}

fn words(due: &Due) -> Vec<&str> {
    due.pages.iter().map(|page| page.message.summary.as_str()).collect()
}

pub async fn messages_of_one_incident_leave_in_order(bench: Bench) {
    use Action::{Resolve, Trigger};
    let outbox = LedgerOutbox::new(bench.open().await);
    let first = say(&outbox, 1, message("k1", Trigger, 1, "opened"), &["chat", "mail"]).await;
    let end = say(&outbox, 2, message("k1", Resolve, 2, "over"), &["chat", "mail"]).await;
    say(&outbox, 3, message("k2", Trigger, 3, "other"), &["chat"]).await;
    let due = outbox.due_pages("chat", at(LATER)).await.unwrap();
    assert_eq!((words(&due), due.waiting, due.oldest, due.next), (vec!["opened", "other"], 3, Some(at(1)), None));
    outbox.page_later(first, "chat", at(LATER + 9)).await.unwrap();
    let due = outbox.due_pages("chat", at(LATER)).await.unwrap();
    assert_eq!((words(&due), due.waiting, due.next), (vec!["other"], 3, Some(at(LATER + 9))), "the end waits");
    let due = outbox.due_pages("chat", at(LATER + 9)).await.unwrap();
    assert_eq!((words(&due), due.pages[1].attempts), (vec!["other", "opened"], 1));
    // One channel is done with it; the other is not.
    outbox.page_done(first, "chat").await.unwrap();
    outbox.page_done(first, "chat").await.unwrap();
    assert_eq!(words(&outbox.due_pages("chat", at(LATER)).await.unwrap()), ["over", "other"]);
    assert_eq!(words(&outbox.due_pages("mail", at(LATER)).await.unwrap()), ["opened"]);
    outbox.page_done(end, "chat").await.unwrap();
    assert_eq!(outbox.unannounced().await.unwrap().backlog, 3);
    // Not due before it was decided.
    let due = outbox.due_pages("mail", at(0)).await.unwrap();
    assert_eq!((due.pages.len(), due.waiting, due.next), (0, 2, Some(at(1))));
}

pub async fn a_newer_word_takes_the_place_of_one_that_waits(bench: Bench) {
    use Action::{Resolve, Trigger};
    let outbox = LedgerOutbox::new(bench.open().await);
    let old = say(&outbox, 1, message("k", Trigger, 1, "one"), &["chat", "mail"]).await;
    say(&outbox, 2, message("k", Trigger, 2, "two"), &["chat"]).await;
    assert_eq!(words(&outbox.due_pages("chat", at(9)).await.unwrap()), ["two"]);
    // What was replaced is not handed over again by another channel.
    outbox.page_also(old, "mail", "chat", true).await.unwrap();
    let due = outbox.due_pages("chat", at(9)).await.unwrap();
    assert_eq!((words(&due), due.waiting), (vec!["two"], 1));
    assert_eq!(outbox.due_pages("mail", at(9)).await.unwrap().waiting, 0);
    // An end leaves the opening waiting; a later end replaces it; a new opening replaces both.
    say(&outbox, 3, message("k", Resolve, 3, "over"), &["chat"]).await;
    say(&outbox, 4, message("k", Resolve, 4, "over again"), &["chat"]).await;
    let due = outbox.due_pages("chat", at(9)).await.unwrap();
    assert_eq!((words(&due), due.waiting), (vec!["two"], 2));
    say(&outbox, 5, message("k", Trigger, 5, "back"), &["chat"]).await;
    let due = outbox.due_pages("chat", at(9)).await.unwrap();
    assert_eq!((words(&due), due.waiting), (vec!["back"], 1));
}

pub async fn fm63_another_channel_stands_in_once(bench: Bench) {
    use Action::{Resolve, Trigger};
    let outbox = LedgerOutbox::new(bench.open().await);
    let mut changes = outbox.changes();
    let page = say(&outbox, 1, message("k", Trigger, 1, "opened"), &["chat"]).await;
    changes.mark_unchanged();
    outbox.page_also(page, "chat", "mail", false).await.unwrap();
    changes.changed().await.unwrap();
    let due = outbox.due_pages("mail", at(1)).await.unwrap();
    assert_eq!((words(&due), due.pages[0].id, due.pages[0].attempts), (vec!["opened"], page, 0));
    outbox.page_done(page, "mail").await.unwrap();
    outbox.page_also(page, "chat", "mail", true).await.unwrap();
    assert_eq!(outbox.due_pages("mail", at(9)).await.unwrap().waiting, 0, "it had it");
    assert_eq!(outbox.unannounced().await.unwrap().backlog, 0, "and the first one is done");
    // A channel that was told of the end already is not told of the beginning.
    let late = say(&outbox, 2, message("l", Trigger, 2, "opened"), &["chat"]).await;
    say(&outbox, 3, message("l", Resolve, 3, "over"), &["chat", "mail"]).await;
    outbox.page_also(late, "chat", "mail", false).await.unwrap();
    assert_eq!(words(&outbox.due_pages("mail", at(9)).await.unwrap()), ["over"]);
}

pub async fn pages_of_removed_channels_find_another(bench: Bench) {
    use Action::Trigger;
    let outbox = LedgerOutbox::new(bench.open().await);
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    let both = say(&outbox, 1, message("k", Trigger, 1, "both"), &["old", "chat"]).await;
    say(&outbox, 2, message("l", Trigger, 2, "old alone"), &["old"]).await;
    outbox.page_done(both, "chat").await.unwrap();
    outbox.adopt(&names(&[])).await.unwrap();
    assert_eq!(outbox.due_pages("old", at(9)).await.unwrap().waiting, 2, "nobody is there to take them");
    outbox.adopt(&names(&["chat", "mail"])).await.unwrap();
    assert_eq!(outbox.due_pages("old", at(9)).await.unwrap().waiting, 0);
    assert_eq!(words(&outbox.due_pages("chat", at(9)).await.unwrap()), ["old alone"]);
    assert_eq!(words(&outbox.due_pages("mail", at(9)).await.unwrap()), ["both"]);
    outbox.adopt(&names(&["chat", "mail"])).await.unwrap();
    assert_eq!(outbox.unannounced().await.unwrap().backlog, 2);
}

pub async fn fm63_what_is_decided_is_queued_with_it(bench: Bench) {
    let ledger = bench.open().await;
    let outbox = LedgerOutbox::new(ledger.clone());
    ledger.incidents().facts(vec![raise("credential_revoked", "a", 1)]).await.unwrap();
    let known = async |ledger: &Ledger| -> Vec<Condition> {
        LedgerOutbox::new(ledger.clone()).unannounced().await.unwrap().conditions
    };
    let condition = known(&ledger).await.remove(0);
    assert_eq!((condition.raised_at, condition.severity, &condition.told), (at(1), Severity::Critical, &None));
    let told = Told { incident: condition.key.clone(), at: at(2), sequence: 0 };
    let announcement = Announcement {
        message: Some(message(&condition.key, Action::Trigger, 2, "opened")),
        told: Some((vec![condition.id], told.clone())),
        settled: vec![],
    };
    // The queue cannot take the message: then nothing is marked as told.
    bench.tamper("ALTER TABLE notice RENAME TO away").await.unwrap();
    let channels = ["chat".to_owned()];
    outbox.announce(Uuid::from_u128(1), &announcement, &channels).await.unwrap_err();
    bench.tamper("ALTER TABLE away RENAME TO notice").await.unwrap();
    assert_eq!(known(&ledger).await[0].told, None);

    outbox.announce(Uuid::from_u128(1), &announcement, &channels).await.unwrap();
    assert_eq!(known(&ledger).await[0].told, Some(told));
    ledger.incidents().facts(vec![clear("credential_revoked", "a", 9)]).await.unwrap();
    drop(outbox);
    ledger.close().await;

    // The same after a restart; the end is settled together with its message.
    let ledger = bench.open().await;
    let outbox = LedgerOutbox::new(ledger.clone());
    let ended = known(&ledger).await.remove(0);
    assert_eq!(ended.cleared, Some((at(9), "refreshed".to_owned())));
    let over = message(&ended.key, Action::Resolve, 10, "over");
    let announcement = Announcement { message: Some(over), told: None, settled: vec![ended.id] };
    outbox.announce(Uuid::from_u128(2), &announcement, &channels).await.unwrap();
    assert!(known(&ledger).await.is_empty());
    assert_eq!(words(&outbox.due_pages("chat", at(99)).await.unwrap()), ["opened"]);
    outbox.page_done(Uuid::from_u128(1), "chat").await.unwrap();
    assert_eq!(words(&outbox.due_pages("chat", at(99)).await.unwrap()), ["over"]);
}

pub async fn embedded_documents_are_compared_and_swapped(bench: Bench) {
    let ledger = bench.open().await;
    let store = ledger.embedded();
    let mut changed = store.changed();
    let text = |text: &str| Secret::new(text);
    assert_eq!(store.put("x", text("planted-canary"), Some(1)).await.unwrap(), Put::Conflict(None));
    assert_eq!(store.put("x", text("planted-canary"), None).await.unwrap(), Put::Written(1));
    assert_eq!(changed.recv().await.unwrap(), "x");
    assert_eq!(store.put("x", text("late"), None).await.unwrap(), Put::Conflict(Some(1)));
    let writers: Vec<_> = (0..16)
        .map(|number| {
            let ledger = ledger.clone();
            tokio::spawn(async move { ledger.embedded().put("x", Secret::new(number.to_string()), Some(1)).await })
        })
        .collect();
    let mut won = 0;
    for writer in writers {
        won += usize::from(writer.await.unwrap().unwrap() == Put::Written(2));
    }
    assert_eq!(won, 1);
    assert_eq!(store.list().await.unwrap(), [("x".to_owned(), 2)]);
    let said = || Entry { event: "secret_removed".into(), ..Entry::default() };
    assert_eq!(store.remove_for("x", 1, said()).await.unwrap(), Put::Conflict(Some(2)));
    assert_eq!(store.remove_for("x", 2, said()).await.unwrap(), Put::Written(3));
    // P-8: what was done is in the log, once; what was not is not.
    let told = ledger.audit().tail(&Filter { event: Some(said().event), ..Filter::default() }, 9).await.unwrap();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(store.get("x").await.unwrap(), None);
    assert!(store.list().await.unwrap().is_empty());
    // Versions go on, so an old version can never fit a new document.
    assert_eq!(store.put("x", text("again"), None).await.unwrap(), Put::Written(4));
    assert_eq!(store.get("x").await.unwrap(), Some((text("again"), 4)));
}

use credd::{
    credential::{Generation, Secret},
    ledger::{Announced, Fact, FactChange, NewPage, Put, Transition, dedup_key},
};

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

fn page(channel: &str, key: &str, message: &str) -> NewPage {
    NewPage { channel: channel.into(), dedup_key: key.into(), message: message.into() }
}

pub async fn pages_of_one_incident_leave_in_order(bench: Bench) {
    let ledger = bench.open().await;
    let outbox = ledger.outbox();
    let pages = vec![
        page("chat", "k1", "trigger"),
        page("chat", "k1", "resolve"),
        page("chat", "k2", "other"),
        page("mail", "k1", "trigger"),
    ];
    outbox.enqueue_pages(pages).await.unwrap();
    let due = async || {
        let due = outbox.due_pages(at(LATER), "chat").await.unwrap();
        due.into_iter().map(|page| (page.seq, page.message)).collect::<Vec<_>>()
    };
    let first = due().await;
    assert_eq!(first.iter().map(|(_, message)| message.as_str()).collect::<Vec<_>>(), ["trigger", "other"]);
    outbox.page_later(first[0].0, at(LATER + 9), 1).await.unwrap();
    assert_eq!(due().await.len(), 1, "the resolve waits for its trigger");
    let waiting = outbox.waiting_pages().await.unwrap();
    assert_eq!(waiting.iter().map(|w| (w.channel.as_str(), w.length)).collect::<Vec<_>>(), [("chat", 3), ("mail", 1)]);
    outbox.page_done(first[0].0).await.unwrap();
    assert_eq!(due().await[0].1, "resolve");
}

fn raise(kind: &str, name: &str, second: i64) -> Fact {
    let change = FactChange::Raise { severity: "critical".into(), summary: "dead".into(), body: "why".into() };
    Fact { kind: kind.into(), credential: id(name), group: "github".into(), change, at: at(second) }
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
    assert!(incidents.unannounced().await.unwrap().is_empty());
    // It comes back under the same key, as a new incident.
    incidents.facts(vec![raise("credential_revoked", "a", 4)]).await.unwrap();
    let again = incidents.open().await.unwrap();
    assert_eq!(again[0].dedup_key, open[0].dedup_key);
    assert_ne!(again[0].seq, open[0].seq);
}

pub async fn what_is_announced_is_queued_with_it(bench: Bench) {
    let ledger = bench.open().await;
    let (incidents, outbox) = (ledger.incidents(), ledger.outbox());
    incidents.facts(vec![raise("credential_revoked", "a", 1)]).await.unwrap();
    let told = incidents.unannounced().await.unwrap();
    let (seq, key) = (told[0].seq, told[0].dedup_key.clone());
    let begin = Announced { incident: seq, ending: false };
    // The queue cannot take the message: then nothing is marked as told.
    bench.tamper("ALTER TABLE page RENAME TO away").await.unwrap();
    assert!(incidents.announce(vec![begin], vec![page("chat", &key, "trigger")]).await.is_err());
    bench.tamper("ALTER TABLE away RENAME TO page").await.unwrap();
    assert_eq!(incidents.unannounced().await.unwrap().len(), 1);

    incidents.announce(vec![begin], vec![page("chat", &key, "trigger")]).await.unwrap();
    assert!(incidents.unannounced().await.unwrap().is_empty());
    assert_eq!(outbox.due_pages(at(LATER), "chat").await.unwrap().len(), 1);
    incidents.facts(vec![clear("credential_revoked", "a", 9)]).await.unwrap();
    let ended = incidents.unannounced().await.unwrap();
    assert_eq!((ended[0].seq, ended[0].closed_at, ended[0].why.as_deref()), (seq, Some(at(9)), Some("refreshed")));
    incidents.announce(vec![Announced { incident: seq, ending: true }], vec![]).await.unwrap();
    assert!(incidents.unannounced().await.unwrap().is_empty());
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
    assert_eq!(store.remove("x", 1).await.unwrap(), Put::Conflict(Some(2)));
    assert_eq!(store.remove("x", 2).await.unwrap(), Put::Written(3));
    assert_eq!(store.get("x").await.unwrap(), None);
    assert!(store.list().await.unwrap().is_empty());
    // Versions go on, so an old version can never fit a new document.
    assert_eq!(store.put("x", text("again"), None).await.unwrap(), Put::Written(4));
    assert_eq!(store.get("x").await.unwrap(), Some((text("again"), 4)));
}

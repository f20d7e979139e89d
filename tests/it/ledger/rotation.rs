use credd::{
    credential::{Generation, Secret},
    ledger::{Attempt, Fact, FactChange, FlightStep, LedgerError, Stage, Transition},
};
use futures_util::FutureExt;
use jiff::SignedDuration;
use uuid::Uuid;

use super::bench::*;

pub async fn a_stale_value_is_fenced_and_writes_nothing(bench: Bench) {
    let ledger = bench.open().await;
    ledger.rotation().commit(loaded("a")).await.unwrap();
    let stale = Transition {
        lifecycle: "stale".into(),
        write_back: true,
        audit: vec![entry("a", "stale")],
        value: Some(value(0, "other")),
        ..step("a")
    };
    let error = ledger.rotation().commit(stale).await.unwrap_err();
    let LedgerError::Fenced { expected, found, .. } = error else { panic!("{error}") };
    assert_eq!((expected, found), (Generation(0), Generation(1)));
    let record = ledger.rotation().load(&id("a")).await.unwrap().unwrap();
    assert_eq!((record.lifecycle.as_str(), record.generation), ("{}", Generation(1)));
    assert_eq!(record.material, Some(material("1")));
    assert_eq!(bench.number("SELECT COUNT(*) FROM audit").await, 1);
    assert_eq!(bench.number("SELECT COUNT(*) FROM write_back").await, 0);
    // The intent is fenced as well: it must aim at the next generation.
    let error = ledger.rotation().commit(prepared("a", 1, 3)).await.unwrap_err();
    assert!(matches!(error, LedgerError::Fenced { .. }), "{error}");
}

pub async fn two_flights_are_impossible(bench: Bench) {
    let ledger = bench.open().await;
    ledger.rotation().commit(loaded("a")).await.unwrap();
    let tasks: Vec<_> = (1..=16)
        .map(|number| {
            let ledger = ledger.clone();
            tokio::spawn(async move { ledger.rotation().commit(prepared("a", number, 2)).await })
        })
        .collect();
    let mut won = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(()) => won += 1,
            Err(error) => assert!(matches!(error, LedgerError::InFlight { .. }), "{error}"),
        }
    }
    assert_eq!(won, 1);
    assert_eq!(bench.number("SELECT COUNT(*) FROM audit WHERE event = 'refresh_prepared'").await, 1);
    let second = "INSERT INTO flight (attempt, credential, shard, target, presents, prepared_at, boot_id) \
                  VALUES ('x', 'a', 7, 2, '', 0, '')";
    assert!(bench.tamper(second).await.is_err(), "the database itself refuses a second open flight");
}

pub async fn a_reply_is_kept_whatever_happened_to_its_flight(bench: Bench) {
    let ledger = bench.open().await;
    let rotation = ledger.rotation();
    rotation.commit(loaded("a")).await.unwrap();
    rotation.commit(prepared("a", 1, 2)).await.unwrap();
    // Somebody else's value came in between: the fence would refuse a promotion, the capture it must not.
    rotation.commit(Transition { value: Some(value(1, "theirs")), ..step("a") }).await.unwrap();
    rotation.received(&id("a"), Uuid::from_u128(1), &reply(), at(5)).await.unwrap();
    let open = rotation.load(&id("a")).await.unwrap().unwrap().open_attempt.unwrap();
    let Stage::Received { reply: kept, at: when } = open.stage else { panic!("{:?}", open.stage) };
    assert_eq!((kept, when), (reply(), at(5)));
    // After the flight was closed, and for a flight that nobody knows.
    rotation.commit(Transition { value: None, ..promoted("a", 1, 1) }).await.unwrap();
    rotation.received(&id("a"), Uuid::from_u128(1), &reply(), at(6)).await.unwrap();
    rotation.received(&id("a"), Uuid::from_u128(99), &reply(), at(7)).await.unwrap();
    let orphans = rotation.orphans().await.unwrap();
    let found: Vec<_> = orphans.iter().map(|it| (it.attempt.as_u128(), it.credential.clone())).collect();
    assert_eq!(found, [(1, Some(id("a"))), (99, Some(id("a")))]);
    let known: Vec<_> = orphans.iter().map(|it| it.flight.as_ref().map(|flight| flight.target)).collect();
    assert_eq!(known, [Some(Generation(2)), None], "nothing is known of a flight that this ledger never saw");
    assert!(orphans.iter().all(|it| it.reply == reply()));
    assert_eq!(rotation.load(&id("a")).await.unwrap().unwrap().orphans.len(), 2);
    rotation.drop_orphans(orphans.iter().map(|it| it.attempt).collect()).await.unwrap();
    assert!(rotation.orphans().await.unwrap().is_empty());
}

pub async fn rf07_promotion_is_all_or_nothing(bench: Bench) {
    let ledger = bench.open().await;
    let rotation = ledger.rotation();
    rotation.commit(loaded("a")).await.unwrap();
    rotation.commit(prepared("a", 1, 2)).await.unwrap();
    rotation.received(&id("a"), Uuid::from_u128(1), &reply(), at(5)).await.unwrap();
    let fact = Fact {
        kind: "scope_reduced".into(),
        credential: "a".into(),
        group: "github".into(),
        change: FactChange::Raise { severity: "warning".into(), summary: "s".into(), body: "b".into() },
        at: at(5),
    };
    let step = Transition { incidents: vec![fact], ..promoted("a", 1, 1) };
    // The audit table is the last to be written: while it is away, nothing of the step may stay.
    bench.tamper("ALTER TABLE audit RENAME TO away").await.unwrap();
    let error = rotation.commit(step.clone()).await.unwrap_err();
    assert!(matches!(error, LedgerError::Unwritable(_)), "{error}");
    bench.tamper("ALTER TABLE away RENAME TO audit").await.unwrap();
    let record = rotation.load(&id("a")).await.unwrap().unwrap();
    assert_eq!(record.generation, Generation(1));
    assert!(matches!(record.open_attempt.unwrap().stage, Stage::Received { .. }));
    assert!(ledger.incidents().open().await.unwrap().is_empty());
    assert!(ledger.outbox().due_write_backs(at(1 << 30)).await.unwrap().is_empty());

    rotation.commit(step).await.unwrap();
    let record = rotation.load(&id("a")).await.unwrap().unwrap();
    assert_eq!((record.generation, record.material), (Generation(2), Some(material("2"))));
    assert!(record.open_attempt.is_none());
    assert_eq!(ledger.incidents().open().await.unwrap().len(), 1);
    assert_eq!(ledger.outbox().due_write_backs(at(1 << 30)).await.unwrap().len(), 1);
    assert_eq!(ledger.audit().verify().await.unwrap().entries, 3);
}

pub async fn rf09_writers_of_facts_never_put_an_old_value_back(bench: Bench) {
    let ledger = bench.open().await;
    ledger.rotation().commit(loaded("a")).await.unwrap();
    let facts = tokio::spawn({
        let ledger = ledger.clone();
        async move {
            for round in 0..200 {
                let facts = Transition { lifecycle: format!("probe {round}"), ..step("a") };
                ledger.rotation().commit(facts).await.unwrap();
            }
        }
    });
    for generation in 1..=100_i64 {
        let next = Transition { value: Some(value(generation, &generation.to_string())), ..step("a") };
        ledger.rotation().commit(next).await.unwrap();
        let record = ledger.rotation().load(&id("a")).await.unwrap().unwrap();
        assert_eq!(record.generation, Generation(generation + 1));
        assert_eq!(record.material, Some(material(&generation.to_string())));
    }
    facts.await.unwrap();
}

pub async fn every_step_survives_the_end_of_the_process(bench: Bench) {
    let ledger = bench.open().await;
    let rotation = ledger.rotation();
    let look = async || {
        let copy = bench.after_power_loss();
        let after = copy.open().await;
        let record = after.rotation().load_all().await.unwrap().pop().unwrap();
        after.audit().verify().await.unwrap();
        after.close().await;
        record
    };
    rotation.commit(loaded("a")).await.unwrap();
    let record = look().await;
    assert_eq!(record.store_version.as_deref(), Some("v1"));
    let root = ledger.sealer().fingerprint(material("1").root().unwrap());
    assert_eq!(record.store_fingerprint, Some(root.clone()));

    rotation.commit(prepared("a", 1, 2)).await.unwrap();
    let found = look().await.open_attempt.unwrap();
    let wrote = attempt(1, 2);
    assert!(matches!(found.stage, Stage::Prepared));
    assert_eq!(
        (found.id, found.target, found.presents, found.prepared_at, found.boot_id),
        (wrote.id, wrote.target, wrote.presents, wrote.prepared_at, wrote.boot_id)
    );
    rotation.commit(sent("a", 1)).await.unwrap();
    let Stage::Sent { deadline } = look().await.open_attempt.unwrap().stage else { panic!() };
    assert_eq!(deadline, at(60));
    rotation.received(&id("a"), Uuid::from_u128(1), &reply(), at(5)).await.unwrap();
    assert!(matches!(look().await.open_attempt.unwrap().stage, Stage::Received { .. }));
    rotation.commit(promoted("a", 1, 1)).await.unwrap();
    let record = look().await;
    assert_eq!((record.generation, record.material), (Generation(2), Some(material("2"))));
    assert!(record.open_attempt.is_none());
    assert_eq!(record.store_version.as_deref(), Some("v1"), "a value of our own keeps the store's version");
    assert_eq!(record.store_fingerprint, Some(root));
    ledger.close().await;
    assert_eq!(bench.open().await.rotation().load_all().await.unwrap()[0].generation, Generation(2));
}

pub async fn a_step_written_twice_is_written_once(bench: Bench) {
    let ledger = bench.open().await;
    let rotation = ledger.rotation();
    rotation.commit(loaded("a")).await.unwrap();
    for _ in 0..2 {
        rotation.commit(prepared("a", 1, 2)).await.unwrap();
    }
    for _ in 0..2 {
        rotation.commit(promoted("a", 1, 1)).await.unwrap();
    }
    assert_eq!(ledger.audit().verify().await.unwrap().entries, 3);
    // The same flight with another end is not the same step.
    let other = Transition {
        flight: Some(credd::ledger::FlightStep::Close { attempt: Uuid::from_u128(1), outcome: "lost" }),
        value: None,
        ..promoted("a", 1, 1)
    };
    let error = rotation.commit(other).await.unwrap_err();
    assert!(matches!(error, LedgerError::NotInFlight { .. }), "{error}");
}

pub async fn previous_values_are_kept_and_erased(bench: Bench) {
    let ledger = bench.open().await;
    let rotation = ledger.rotation();
    rotation.commit(loaded("a")).await.unwrap();
    let next = credd::ledger::NewValue { keep_previous_until: Some(at(100)), ..value(1, "2") };
    rotation.commit(Transition { value: Some(next), ..step("a") }).await.unwrap();
    rotation.sweep(at(99)).await.unwrap();
    assert_eq!(rotation.previous(&id("a")).await.unwrap(), Some(material("1")));
    rotation.sweep(at(100)).await.unwrap();
    assert_eq!(rotation.previous(&id("a")).await.unwrap(), None);
    assert_eq!(rotation.load(&id("a")).await.unwrap().unwrap().material, Some(material("2")));
}

pub async fn a_removed_credential_can_come_back_for_seven_days(bench: Bench) {
    let ledger = bench.open().await;
    let rotation = ledger.rotation();
    for name in ["a", "b"] {
        rotation.commit(loaded(name)).await.unwrap();
        rotation.remove(&id(name)).await.unwrap();
    }
    assert!(rotation.load_all().await.unwrap().is_empty());
    let record = rotation.load(&id("a")).await.unwrap().unwrap();
    assert_eq!(record.material, Some(material("1")));
    rotation.commit(step("a")).await.unwrap();
    let week = SignedDuration::from_hours(7 * 24 + 1);
    rotation.sweep(jiff::Timestamp::UNIX_EPOCH).await.unwrap();
    assert!(rotation.load(&id("b")).await.unwrap().is_some());
    // Removal is dated by the ledger's own clock, so "later" is counted from it.
    let removed_at = bench.number("SELECT MAX(removed_at) FROM credential").await;
    rotation.sweep(jiff::Timestamp::from_microsecond(removed_at).unwrap() + week).await.unwrap();
    assert!(rotation.load(&id("b")).await.unwrap().is_none());
    assert_eq!(rotation.load_all().await.unwrap().len(), 1);
    let events = ledger.audit().tail(&credd::ledger::Filter::default(), 10).await.unwrap();
    assert_eq!(events.iter().filter(|logged| logged.entry.event == "removed").count(), 2);
}

pub async fn sixty_four_writers_share_commits(bench: Bench) {
    const ROUNDS: i64 = 8;
    let ledger = bench.open().await;
    let tasks: Vec<_> = (0..64)
        .map(|number| {
            let ledger = ledger.clone();
            tokio::spawn(async move {
                let name = format!("c{number}");
                for round in 0..ROUNDS {
                    let step = Transition {
                        shard: number % 8,
                        value: Some(value(round, &format!("{number}-{round}"))),
                        audit: vec![entry(&name, "refreshed")],
                        ..step(&name)
                    };
                    ledger.rotation().commit(step).await.unwrap();
                    // A stale one in the same batch spoils it for nobody.
                    let stale = Transition { value: Some(value(round, "stale")), ..super::bench::step(&name) };
                    let error = ledger.rotation().commit(stale).await.unwrap_err();
                    assert!(matches!(error, LedgerError::Fenced { .. }), "{error}");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let records = ledger.rotation().load_all().await.unwrap();
    assert_eq!(records.len(), 64);
    for record in &records {
        let number = record.id.as_str().trim_start_matches('c');
        assert_eq!(record.generation, Generation(ROUNDS));
        assert_eq!(record.material, Some(material(&format!("{number}-{}", ROUNDS - 1))));
    }
    let verified = ledger.audit().verify().await.unwrap();
    assert_eq!((verified.entries, verified.chains), (64 * ROUNDS.unsigned_abs(), 8));
    let batches = bench.number("SELECT MAX(batch) FROM writer").await;
    assert!(batches <= 64 * ROUNDS / 4, "{batches} transactions for {} steps", 128 * ROUNDS);
}

pub async fn a_caller_that_goes_away_cancels_nothing(bench: Bench) {
    let ledger = bench.open().await;
    let rotation = ledger.rotation();
    let gone = rotation.commit(loaded("a"));
    assert!(gone.now_or_never().is_none(), "it was asked, and dropped before the answer");
    rotation.preflight().await.unwrap();
    assert_eq!(rotation.load(&id("a")).await.unwrap().unwrap().generation, Generation(1));
}

pub async fn t26_values_cannot_be_swapped_or_rolled_back(bench: Bench) {
    let ledger = bench.open().await;
    let rotation = ledger.rotation();
    for name in ["a", "b"] {
        rotation.commit(loaded(name)).await.unwrap();
    }
    rotation.commit(Transition { value: Some(value(1, "2")), ..step("b") }).await.unwrap();
    bench.tamper("UPDATE material SET generation = 3 WHERE credential = 'b'").await.unwrap();
    let error = rotation.load(&id("b")).await.unwrap_err();
    assert!(matches!(&error, LedgerError::Unusable(text) if text.contains("\"b\"")), "{error}");
    let swap = "UPDATE material SET sealed = (SELECT sealed FROM material WHERE credential = 'a'), generation = 1 \
                WHERE credential = 'b'";
    bench.tamper(swap).await.unwrap();
    assert!(rotation.load(&id("b")).await.is_err());
    assert!(rotation.load(&id("a")).await.is_ok());
}

pub async fn fm36_a_wrong_key_is_refused(bench: Bench) {
    let ledger = bench.open().await;
    ledger.rotation().commit(loaded("a")).await.unwrap();
    ledger.close().await;
    let wrong = bench.open_with_another_key().await.unwrap_err();
    assert!(matches!(&wrong, LedgerError::Unusable(text) if text.contains("ledger.key")), "{wrong}");
    bench.open().await.close().await;
    let flip = if bench.file().exists() { "zeroblob(80)" } else { "'\\x00'::bytea" };
    bench.tamper(&format!("UPDATE meta SET value = {flip}")).await.unwrap();
    let damaged = bench.try_open().await.unwrap_err();
    assert_eq!(wrong.to_string(), damaged.to_string(), "nobody learns which of both it was");
}

pub async fn a_new_key_opens_everything_and_the_old_one_nothing(bench: Bench) {
    let ledger = bench.open().await;
    let rotation = ledger.rotation();
    rotation.commit(loaded("a")).await.unwrap();
    let kept = credd::ledger::NewValue { keep_previous_until: Some(at(100)), ..value(1, "2") };
    rotation.commit(Transition { value: Some(kept), ..step("a") }).await.unwrap();
    let old_root = ledger.sealer().fingerprint(material("2").root().unwrap());
    let mut flight = prepared("a", 1, 3);
    flight.flight = Some(FlightStep::Prepare(Attempt { presents: old_root, ..attempt(1, 3) }));
    rotation.commit(flight).await.unwrap();
    rotation.received(&id("a"), Uuid::from_u128(1), &reply(), at(5)).await.unwrap();
    rotation.received(&id("a"), Uuid::from_u128(99), &reply(), at(5)).await.unwrap();
    ledger.embedded().put("x", Secret::new("document"), None).await.unwrap();
    ledger.close().await;

    // One record that does not open: then nothing is changed, whatever came before it.
    let (bend, mend) = if bench.file().exists() {
        ("substr(sealed, 2)", "x'01' || sealed")
    } else {
        ("substring(sealed from 2)", "'\\x01'::bytea || sealed")
    };
    bench.tamper(&format!("UPDATE document SET sealed = {bend}")).await.unwrap();
    let error = bench.change_key().await.unwrap_err().to_string();
    assert!(error.contains("the key was not changed"), "{error}");
    let mend = if bench.file().exists() { format!("CAST({mend} AS BLOB)") } else { mend.into() };
    bench.tamper(&format!("UPDATE document SET sealed = {mend}")).await.unwrap();
    bench.open().await.close().await;

    assert_eq!(bench.change_key().await.unwrap(), 5);
    assert!(bench.try_open().await.is_err());
    let ledger = bench.open_with_another_key().await.unwrap();
    let rotation = ledger.rotation();
    let fingerprint = |text: &str| ledger.sealer().fingerprint(material(text).root().unwrap());
    let record = rotation.load(&id("a")).await.unwrap().unwrap();
    assert_eq!((record.material, record.store_fingerprint), (Some(material("2")), Some(fingerprint("1"))));
    let open = record.open_attempt.unwrap();
    assert!(matches!(open.stage, Stage::Received { reply: kept, .. } if kept == reply()));
    assert_eq!(open.presents, fingerprint("2"));
    assert_eq!(rotation.previous(&id("a")).await.unwrap(), Some(material("1")));
    assert_eq!(rotation.orphans().await.unwrap().len(), 1);
    assert_eq!(ledger.embedded().get("x").await.unwrap(), Some((Secret::new("document"), 1)));
    let verified = ledger.audit().verify().await.unwrap();
    assert!(verified.signed && verified.entries > 0, "{verified:?}");
}

/// FM-76, FM-51: an older program meets the tables of a newer one in the middle of a rotation. It refuses them whole, and
/// what only the newer one understands stays.
pub async fn fm76_tables_of_a_newer_minor_version_are_refused_and_left_as_they_are(bench: Bench) {
    let ledger = bench.open().await;
    ledger.rotation().commit(loaded("a")).await.unwrap();
    ledger.rotation().commit(prepared("a", 1, 2)).await.unwrap();
    ledger.rotation().commit(sent("a", 1)).await.unwrap();
    ledger.close().await;
    for sql in [
        "INSERT INTO schema_version (version) SELECT MAX(version) + 1 FROM schema_version",
        "ALTER TABLE flight ADD COLUMN newer TEXT",
        "UPDATE flight SET newer = 'kept'",
        "UPDATE credential SET lifecycle = '{\"newer\":\"kept\"}'",
    ] {
        bench.tamper(sql).await.unwrap();
    }
    let file = || std::fs::read(bench.file()).ok();
    let before = file();
    for _ in 0..2 {
        let LedgerError::Unusable(text) = bench.try_open().await.unwrap_err() else { panic!() };
        assert!(text.contains("start the newer credd that last used it"), "{text}");
    }
    assert_eq!(file(), before, "the file is what it was");
    for (count, sql) in [
        (1, "SELECT COUNT(*) FROM flight WHERE newer = 'kept' AND closed_at IS NULL AND deadline IS NOT NULL"),
        (1, "SELECT COUNT(*) FROM credential WHERE lifecycle LIKE '%kept%'"),
        (1, "SELECT COUNT(*) - COUNT(DISTINCT version) + 1 FROM schema_version"),
    ] {
        assert_eq!(bench.number(sql).await, count, "{sql}");
    }
    // Whoever takes the newer program's step back finds the flight where it was.
    bench.tamper("DELETE FROM schema_version WHERE version = (SELECT MAX(version) FROM schema_version)").await.unwrap();
    let record = bench.open().await.rotation().load(&id("a")).await.unwrap().unwrap();
    assert!(matches!(record.open_attempt.unwrap().stage, Stage::Sent { .. }));
}

use std::fmt::Write as _;

use aws_lc_rs::digest;
use credd::{
    credential::Secret,
    ledger::{Broken, Filter, HOUSE, Ledger, LedgerError, Transition},
    seal::Sealer,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::bench::*;

/// Two chains, one longer than what is read at once.
async fn filled(bench: &Bench) -> Ledger {
    let ledger = bench.open().await;
    let many = (0..1200).map(|number| entry("a", &format!("event-{number}"))).collect();
    ledger.rotation().commit(Transition { audit: many, ..step("a") }).await.unwrap();
    for number in 0..5 {
        let mut entry = entry("", "started");
        entry.at = at(number);
        ledger.audit().append(HOUSE, entry).await.unwrap();
    }
    ledger
}

pub async fn t37_the_audit_log_verifies(bench: Bench) {
    let ledger = filled(&bench).await;
    let verified = ledger.audit().verify().await.unwrap();
    assert_eq!((verified.entries, verified.chains), (1205, 2));
    assert_eq!(bench.number("SELECT MIN(seq) FROM audit").await, 1);
    assert_eq!(bench.number("SELECT MAX(seq) FROM audit WHERE chain = 7").await, 1200);
    ledger.close().await;
    // The chain goes on over a restart.
    let ledger = bench.open().await;
    ledger.audit().append(HOUSE, entry("", "started")).await.unwrap();
    assert_eq!(ledger.audit().verify().await.unwrap().entries, 1206);
}

pub async fn t37_tampering_is_named(bench: Bench) {
    let ledger = filled(&bench).await;
    let table: &[(&str, &str, i64, i64)] = &[
        ("edited", "UPDATE audit SET entry = REPLACE(entry, 'event-700', 'event-7oo') WHERE chain = 7", 7, 701),
        ("deleted", "DELETE FROM audit WHERE chain = 7 AND seq = 2", 7, 2),
        ("the end cut off", "DELETE FROM audit WHERE chain = 7 AND seq > 600", 7, 601),
        ("all of it gone", "DELETE FROM audit WHERE chain = -1", -1, 1),
        ("its date changed", "UPDATE audit SET at = at + 1 WHERE chain = -1 AND seq = 3", -1, 3),
        (
            "two exchanged",
            "UPDATE audit SET seq = 9001 WHERE chain = 7 AND seq = 4; UPDATE audit SET seq = 4 WHERE chain = 7 AND \
             seq = 5; UPDATE audit SET seq = 5 WHERE chain = 7 AND seq = 9001",
            7,
            4,
        ),
        ("head forged", "UPDATE audit_head SET seq = 4 WHERE chain = -1", -1, 6),
    ];
    bench.tamper("CREATE TABLE kept AS SELECT * FROM audit").await.unwrap();
    bench.tamper("CREATE TABLE kept_head AS SELECT * FROM audit_head").await.unwrap();
    for (what, sql, chain, seq) in table {
        bench.tamper(sql).await.unwrap();
        match ledger.audit().verify().await {
            Err(Broken::Chain { chain: c, seq: s, .. }) => assert_eq!((c, s), (*chain, *seq), "{what}"),
            other => panic!("{what}: {other:?}"),
        }
        bench
            .tamper(
                "DELETE FROM audit; INSERT INTO audit SELECT * FROM kept; DELETE FROM audit_head; \
                 INSERT INTO audit_head SELECT * FROM kept_head",
            )
            .await
            .unwrap();
        ledger.audit().verify().await.unwrap();
    }
}

pub async fn the_log_is_read_and_exported(bench: Bench) {
    let ledger = filled(&bench).await;
    let one = |credential: Option<&str>, event: Option<&str>, since| Filter {
        credential: credential.map(Into::into),
        event: event.map(Into::into),
        since,
    };
    let tail = async |filter: Filter| {
        let found = ledger.audit().tail(&filter, 3).await.unwrap();
        found.into_iter().map(|logged| (logged.chain, logged.seq)).collect::<Vec<_>>()
    };
    assert_eq!(tail(Filter::default()).await, [(-1, 5), (-1, 4), (-1, 3)]);
    assert_eq!(tail(one(Some("a"), None, None)).await, [(7, 1200), (7, 1199), (7, 1198)]);
    assert_eq!(tail(one(Some("a"), Some("event-8"), None)).await, [(7, 9)]);
    assert_eq!(tail(one(None, None, Some(at(4)))).await, [(-1, 5)]);
    assert_eq!(tail(one(Some("a"), None, Some(at(1)))).await, []);

    let mut out = Vec::new();
    assert_eq!(ledger.audit().export(&mut out).await.unwrap(), 1205);
    let lines: Vec<serde_json::Value> = out
        .split(|byte| *byte == b'\n')
        .filter(|l| !l.is_empty())
        .map(|l| serde_json::from_slice(l).unwrap())
        .collect();
    assert_eq!(lines.len(), 1205);
    assert_eq!(
        (&lines[0]["chain"], &lines[0]["seq"], &lines[0]["entry"]["event"]),
        (&(-1).into(), &1.into(), &"started".into())
    );
    assert_eq!(lines[1204]["hash"].as_str().unwrap().len(), 64);
}

#[derive(Deserialize)]
struct Line {
    chain: i64,
    seq: i64,
    entry: Box<RawValue>,
}

/// What somebody does who can write the database and has no key: puts other entries in the place of the house's, and
/// computes every hash anew, as this repository tells everybody how.
async fn forge(bench: &Bench, ledger: &Ledger) {
    let mut out = Vec::new();
    ledger.audit().export(&mut out).await.unwrap();
    let bytes = |bytes: &[u8]| {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        if bench.file().exists() { format!("x'{hex}'") } else { format!("'\\x{hex}'::bytea") }
    };
    let (mut before, mut sql, mut end) = (vec![0; 32], String::new(), 0);
    for line in out.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let Line { chain, seq, entry } = serde_json::from_slice(line).unwrap();
        if chain != HOUSE {
            continue;
        }
        let entry = entry.get().replace("\"started\"", "\"nothing\"");
        let mut context = digest::Context::new(&digest::SHA256);
        for part in [b"credd audit 1".as_slice(), &chain.to_be_bytes(), &seq.to_be_bytes(), &before, entry.as_bytes()] {
            context.update(part);
        }
        before = context.finish().as_ref().to_vec();
        let hash = bytes(&before);
        writeln!(
            sql,
            "UPDATE audit SET entry = '{entry}', event = 'nothing', hash = {hash} WHERE chain = -1 AND seq = {seq};"
        )
        .unwrap();
        end = seq;
    }
    write!(sql, "UPDATE audit_head SET seq = {end}, hash = {} WHERE chain = -1;", bytes(&before)).unwrap();
    bench.tamper(&sql).await.unwrap();
}

async fn assert_broken(ledger: &Ledger, chain: i64, words: &str) {
    match ledger.audit().verify().await {
        Err(Broken::Chain { chain: found, reason, .. }) => {
            assert!(found == chain && reason.contains(words), "{found}: {reason}");
        }
        other => panic!("{words}: {other:?}"),
    }
}

pub async fn t37_a_chain_that_was_computed_anew_is_not_signed(bench: Bench) {
    let ledger = filled(&bench).await;
    assert!(ledger.audit().verify().await.unwrap().signed);
    forge(&bench, &ledger).await;
    assert_broken(&ledger, HOUSE, "not signed with this ledger's key").await;
    // Going on makes nothing good, and neither does a restart.
    ledger.audit().append(HOUSE, entry("", "started")).await.unwrap();
    assert_broken(&ledger, HOUSE, "not signed").await;
    ledger.close().await;
    let ledger = bench.open().await;
    ledger.audit().append(HOUSE, entry("", "started")).await.unwrap();
    assert_broken(&ledger, HOUSE, "not signed").await;
    ledger.close().await;
    // Nor a new key.
    bench.change_key().await.unwrap();
    let ledger = bench.open_with_another_key().await.unwrap();
    assert_broken(&ledger, HOUSE, "not signed").await;
}

pub async fn t37_a_chain_that_was_taken_away_or_put_in_is_seen(bench: Bench) {
    let ledger = filled(&bench).await;
    bench.tamper("CREATE TABLE kept AS SELECT * FROM audit").await.unwrap();
    bench.tamper("DELETE FROM audit WHERE chain = 7; DELETE FROM audit_head WHERE chain = 7").await.unwrap();
    assert_broken(&ledger, 7, "the whole chain is missing").await;
    // It does not begin anew as if nothing had been.
    ledger.rotation().commit(Transition { audit: vec![entry("a", "loaded")], ..step("a") }).await.unwrap();
    assert_broken(&ledger, 7, "not signed").await;
    bench
        .tamper("UPDATE audit SET chain = 9 WHERE chain = 7; UPDATE audit_head SET chain = 9 WHERE chain = 7")
        .await
        .unwrap();
    assert_broken(&ledger, 9, "nobody with this ledger's key has begun this chain").await;
    bench.tamper("DELETE FROM meta WHERE name = 'audit_chains'").await.unwrap();
    assert!(matches!(ledger.audit().verify().await, Err(Broken::Chains)));
}

/// As the tables were before the ends were signed; the key's check value is that of the time, where there is one.
async fn set_back(bench: &Bench, check: Option<Vec<u8>>) {
    let sql = "ALTER TABLE audit_head DROP COLUMN signature; DELETE FROM meta WHERE name = 'audit_chains'; \
               DELETE FROM schema_version WHERE version = 3";
    bench.tamper(sql).await.unwrap();
    if let Some(check) = check {
        let hex: String = check.iter().map(|byte| format!("{byte:02x}")).collect();
        let value = if bench.file().exists() { format!("x'{hex}'") } else { format!("'\\x{hex}'::bytea") };
        bench.tamper(&format!("UPDATE meta SET value = {value} WHERE name = 'key_check'")).await.unwrap();
    }
}

pub async fn t37_an_older_ledger_verifies_and_is_signed_at_the_next_start(bench: Bench) {
    filled(&bench).await.close().await;
    let key = Sealer::from_base64(&Secret::new(KEY)).unwrap();
    set_back(&bench, Some(key.seal("credd key check", b"credd key check"))).await;
    let reader = bench.open_to_read().await;
    let verified = reader.audit().verify().await.unwrap();
    assert_eq!((verified.entries, verified.signed), (1205, false), "beside the older credd that holds it");
    reader.close().await;
    let ledger = bench.open().await;
    let verified = ledger.audit().verify().await.unwrap();
    assert_eq!((verified.entries, verified.chains, verified.signed), (1205, 2, true));
    forge(&bench, &ledger).await;
    assert_broken(&ledger, HOUSE, "not signed").await;
}

pub async fn t37_nobody_makes_a_ledger_look_older_to_have_a_forged_log_signed(bench: Bench) {
    let ledger = filled(&bench).await;
    forge(&bench, &ledger).await;
    ledger.close().await;
    set_back(&bench, None).await;
    let ledger = bench.open().await;
    assert!(ledger.audit().verify().await.is_err(), "the next start has not signed it");
    ledger.audit().append(HOUSE, entry("", "started")).await.unwrap();
    assert!(ledger.audit().verify().await.is_err());
}

/// Refuses every new row of the audit log, and nothing else, as a partition of its own would that is full.
async fn fill_the_log(bench: &Bench) {
    let sqlite = "CREATE TRIGGER no_room BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'no space left'); END";
    if bench.tamper(sqlite).await.is_err() {
        bench.tamper("ALTER TABLE audit ADD CONSTRAINT no_room CHECK (false) NOT VALID").await.unwrap();
    }
}

async fn make_room_in_the_log(bench: &Bench) {
    if bench.tamper("DROP TRIGGER no_room").await.is_err() {
        bench.tamper("ALTER TABLE audit DROP CONSTRAINT no_room").await.unwrap();
    }
}

/// No value without its line in the audit log: both are in one transaction, so neither is there without the other.
pub async fn fm42_what_the_audit_log_does_not_take_has_not_happened(bench: Bench) {
    let ledger = bench.open().await;
    let rotation = ledger.rotation();
    rotation.commit(loaded("a")).await.unwrap();
    rotation.commit(prepared("a", 1, 2)).await.unwrap();
    fill_the_log(&bench).await;
    let refused = [promoted("a", 1, 1), prepared("b", 2, 1)];
    for step in refused {
        let error = rotation.commit(step).await.unwrap_err();
        assert!(matches!(error, LedgerError::Unwritable(_)), "{error}");
    }
    assert!(ledger.audit().append(HOUSE, entry("", "started")).await.is_err());
    // A reply is kept all the same: it exists only once, and is nobody's value yet.
    rotation.received(&id("a"), uuid::Uuid::from_u128(1), &reply(), at(5)).await.unwrap();
    let record = rotation.load(&id("a")).await.unwrap().unwrap();
    assert_eq!((record.generation.0, record.material), (1, Some(material("1"))));
    assert!(rotation.load(&id("b")).await.unwrap().is_none());
    assert_eq!(bench.number("SELECT COUNT(*) FROM write_back").await, 0);

    make_room_in_the_log(&bench).await;
    rotation.commit(promoted("a", 1, 1)).await.unwrap();
    assert_eq!(rotation.load(&id("a")).await.unwrap().unwrap().material, Some(material("2")));
    assert_eq!(ledger.audit().verify().await.unwrap().entries, 3);
}

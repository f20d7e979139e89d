//! Goal 13: the durable commit of a rotated token, beside appending 4 KB to a file and `fdatasync`.

use std::{fs::OpenOptions, io::Write, path::Path, sync::Arc};

use credd::{
    clock::{Clock, SystemClock},
    credential::{CredentialId, Fingerprint, Generation, Material, Secret},
    ledger::{Attempt, Entry, FlightStep, Ledger, NewValue, Place, Stage, Transition},
    seal::Sealer,
};
use futures_util::future::join_all;
use uuid::Uuid;

use super::{
    process::{self, nanoseconds},
    publishing::{TOKEN, name},
    table::{Row, Table, median, quantile, thousands, time},
};

const ROUNDS: usize = 15;
const AT_ONCE: usize = 64;

/// A ledger in that file, as the daemon opens it.
pub async fn open(path: &Path) -> Ledger {
    let key = Secret::new("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
    let sealer = Sealer::from_base64(&key).expect("32 bytes");
    Ledger::open(Place::Sqlite(path.into()), sealer, Arc::new(SystemClock)).await.expect("a ledger can be made there")
}

fn step(number: usize, event: &str) -> Transition {
    let entry = Entry {
        at: SystemClock.now().wall,
        credential: name(number),
        event: event.into(),
        trigger: "schedule".into(),
        outcome: "ok".into(),
        ..Entry::default()
    };
    Transition {
        id: CredentialId::new(&name(number)).expect("it has the form of a name"),
        shard: u16::try_from(number % 64).expect("less than 64"),
        lifecycle: format!("{{\"standing\":\"usable\",\"of\":\"{}\"}}", "x".repeat(400)),
        flight: None,
        value: None,
        write_back: false,
        incidents: vec![],
        audit: vec![entry],
    }
}

fn value(replaces: i64) -> NewValue {
    let material = Material {
        refresh_token: Some(Secret::new("r".repeat(256))),
        access_token: Some(Secret::new("a".repeat(TOKEN))),
        expires_at: Some(SystemClock.now().wall + std::time::Duration::from_secs(3600)),
        ..Material::default()
    };
    NewValue {
        replaces: Generation(replaces),
        generation: Generation(replaces + 1),
        material,
        store_version: None,
        from_store: false,
        keep_previous_until: None,
    }
}

/// A flight's name: of that credential, towards that generation.
fn attempt(number: usize, replaces: i64) -> Uuid {
    Uuid::from_u64_pair(u64::try_from(number).expect("small"), replaces.unsigned_abs())
}

/// The first value of a credential.
pub async fn load(ledger: &Ledger, number: usize) {
    let loaded = Transition { value: Some(value(0)), ..step(number, "loaded") };
    ledger.rotation().commit(loaded).await.expect("the ledger is sound");
}

/// A flight's intent and its sending, both durable: what stands in the ledger before a reply comes.
pub async fn prepare(ledger: &Ledger, number: usize, replaces: i64) {
    let intent = Attempt {
        id: attempt(number, replaces),
        target: Generation(replaces + 1),
        presents: Fingerprint::from_ledger("0123456789ab".into()),
        prepared_at: SystemClock.now().wall,
        boot_id: "boot".into(),
        stage: Stage::Prepared,
    };
    let prepared = Transition { flight: Some(FlightStep::Prepare(intent)), ..step(number, "refresh_prepared") };
    ledger.rotation().commit(prepared).await.expect("the ledger is sound");
    let deadline = SystemClock.now().wall + std::time::Duration::from_secs(60);
    let sent = FlightStep::Sent { attempt: attempt(number, replaces), deadline };
    let sent = Transition { flight: Some(sent), audit: vec![], ..step(number, "") };
    ledger.rotation().commit(sent).await.expect("the ledger is sound");
}

/// The rotated token: sealed, fenced, audited, its flight closed, and due to be written to its home store.
pub async fn promote(ledger: &Ledger, number: usize, replaces: i64) {
    let close = FlightStep::Close { attempt: attempt(number, replaces), outcome: "promoted" };
    let promoted =
        Transition { flight: Some(close), value: Some(value(replaces)), write_back: true, ..step(number, "refreshed") };
    ledger.rotation().commit(promoted).await.expect("the ledger is sound");
}

/// In each round: 64 commits one after another with an append between them, then 64 at once.
pub fn measure(table: &mut Table) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads can be started");
    let folder = process::folder();
    let (mut commits, mut appends, mut rates, mut gains) = (vec![], vec![], vec![], vec![]);
    let mut file = OpenOptions::new().create(true).append(true).open(folder.path().join("appended")).expect("ours");
    runtime.block_on(async {
        let ledger = open(&folder.path().join("ledger.db")).await;
        join_all((0..AT_ONCE).map(|number| load(&ledger, number))).await;
        for generation in (1..).step_by(2).take(ROUNDS) {
            join_all((0..AT_ONCE).map(|number| prepare(&ledger, number, generation))).await;
            let mut alone = 0;
            for number in 0..AT_ONCE {
                let begun = nanoseconds();
                promote(&ledger, number, generation).await;
                let took = nanoseconds() - begun;
                alone += took;
                commits.push(took);
                appends.push(append(&mut file));
            }
            let next = generation + 1;
            join_all((0..AT_ONCE).map(|number| prepare(&ledger, number, next))).await;
            let begun = nanoseconds();
            join_all((0..AT_ONCE).map(|number| promote(&ledger, number, next))).await;
            let together = nanoseconds() - begun;
            rates.push(AT_ONCE as f64 * 1e9 / together as f64);
            gains.push(alone as f64 / together as f64);
        }
        ledger.close().await;
    });
    let (ours, bare) = (quantile(&mut commits, 0.5), quantile(&mut appends, 0.5));
    let (tail, tail_bare) = (quantile(&mut commits, 0.99), quantile(&mut appends, 0.99));
    table.add(Row {
        goal: "13",
        what: "durable commit of a rotated token".into(),
        measured: format!("p50 {}, p99 {}", time(ours), time(tail)),
        limit: format!("append 4 KB + fdatasync: p50 {}, p99 {}", time(bare), time(tail_bare)),
        ratio: format!("{:.2}", ours / bare),
        promised: "p50 ≤ 1.5".into(),
        met: ours / bare <= 1.5,
    });
    let (gain, single) = (median(gains), 1e9 / ours);
    table.add(Row {
        goal: "13",
        what: "the same, 64 at once".into(),
        measured: format!("{} commits/s", thousands(median(rates))),
        limit: format!("one after another: {} commits/s", thousands(single)),
        ratio: format!("{gain:.1}"),
        promised: "≥ 5".into(),
        met: gain >= 5.0,
    });
}

fn append(file: &mut std::fs::File) -> u64 {
    let block = [b'x'; 4096];
    let begun = nanoseconds();
    file.write_all(&block).and_then(|()| file.sync_data()).expect("the disk takes 4 KB");
    nanoseconds() - begun
}

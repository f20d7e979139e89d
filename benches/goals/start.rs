//! Goal 11: memory of the idle daemon, and how soon it serves.

use std::time::Duration;

use super::{
    daemon::{House, Sandbox},
    process,
    table::{Row, Table, median, time},
};

const ROUNDS: usize = 7;
/// After the start: what was needed for it has been given back, and the first looks are over.
const SETTLED: Duration = Duration::from_secs(3);

/// A hundred credentials, then ten thousand.
pub fn measure(table: &mut Table) {
    let sandbox = Sandbox::start();
    let (few, of_few) = start(&sandbox, 100);
    let (many, of_many) = start(&sandbox, 10_000);
    let each = (of_many - of_few) / 9_900.0;
    let row = |what: &str, measured: String, promised: &str, met| Row {
        goal: "11",
        what: what.into(),
        measured,
        limit: "–".into(),
        ratio: "–".into(),
        promised: promised.into(),
        met,
    };
    let mib = of_few / 1024.0;
    table.add(row("idle memory (RSS), 100 credentials", format!("{mib:.1} MiB"), "≤ 25 MiB", mib <= 25.0));
    table.add(row("memory of each further credential (10,000)", format!("{each:.1} KB"), "≤ 3 KB", each <= 3.0));
    table.add(row("from start to serving, 100 credentials", time(few), "≤ 50 ms", few <= 50e6));
    table.add(row("from start to serving, 10,000 credentials", time(many), "≤ 300 ms", many <= 300e6));
}

/// Median time from the start to a token, and KiB of memory once it is idle.
fn start(sandbox: &Sandbox, credentials: usize) -> (f64, f64) {
    let house = House::build(sandbox, credentials, 1, 86_400, "");
    // The first start takes everything into the ledger.
    let (daemon, _) = house.start();
    std::thread::sleep(SETTLED);
    daemon.terminate();
    let (mut took, mut memory) = (vec![], vec![]);
    for _ in 0..ROUNDS {
        let (daemon, nanoseconds) = house.start();
        took.push(nanoseconds as f64);
        std::thread::sleep(SETTLED);
        memory.push(process::resident(daemon.id()) as f64);
        daemon.terminate();
    }
    (median(took), median(memory))
}

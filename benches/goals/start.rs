//! Goal 11: memory of the idle daemon, and how soon it serves.

use std::time::Duration;

use super::{
    daemon::{House, Sandbox},
    process,
    table::{Row, Table, median, time},
};

const ROUNDS: usize = 5;
/// After the start: what was needed for it has been given back, and the first looks are over.
const SETTLED: Duration = Duration::from_secs(3);

/// A hundred credentials, then ten thousand.
pub fn measure(table: &mut Table) {
    let sandbox = Sandbox::start();
    let (few, many) = (start(&sandbox, 100), start(&sandbox, 10_000));
    let each = (many.memory - few.memory) / 9_900.0;
    let row = |what: &str, measured: String, promised: &str, met| Row {
        goal: "11",
        what: what.into(),
        measured,
        limit: "–".into(),
        ratio: "–".into(),
        promised: promised.into(),
        met,
    };
    let mib = few.memory / 1024.0;
    table.add(row("idle memory (RSS), 100 credentials", format!("{mib:.1} MiB"), "≤ 25 MiB", mib <= 25.0));
    table.add(row("memory of each further credential (10,000)", format!("{each:.1} KB"), "≤ 3 KB", each <= 3.0));
    for (count, start, goal) in [("100", few, 50e6), ("10,000", many, 300e6)] {
        let words = format!("{}; ready after {}", time(start.serving), time(start.ready));
        let what = format!("from start to serving tokens, {count} credentials");
        table.add(row(&what, words, &format!("≤ {}", time(goal)), start.serving <= goal));
    }
}

/// Medians.
struct Started {
    serving: f64,
    ready: f64,
    /// KiB, once it is idle.
    memory: f64,
}

fn start(sandbox: &Sandbox, credentials: usize) -> Started {
    let house = House::build(sandbox, credentials, 1, 86_400, "");
    // The first start takes everything into the ledger.
    let (daemon, _) = house.start();
    std::thread::sleep(SETTLED);
    daemon.terminate();
    let (mut serving, mut ready, mut memory) = (vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        let (daemon, start) = house.start();
        serving.push(start.serving as f64);
        ready.push(start.ready as f64);
        std::thread::sleep(SETTLED);
        memory.push(process::resident(daemon.id()) as f64);
        daemon.terminate();
    }
    Started { serving: median(serving), ready: median(ready), memory: median(memory) }
}

//! A year of a thousand credentials on the simulated clock: what a step of a lifecycle costs, and the driver with it.

use std::time::Duration;

use credd::clock::{Clock, SystemClock};

use super::{
    lives::{check, run},
    table::{Row, Table, thousands},
};

const CREDENTIALS: u64 = 1_000;
const DAYS: u64 = 365;
const BEAT: Duration = Duration::from_secs(1_800);

/// Lives it on all processors; a promise that is broken ends the program.
pub fn measure(table: &mut Table) {
    let started = SystemClock.now().boot;
    let all = run(CREDENTIALS, DAYS, BEAT, 2026);
    let took = SystemClock.now().boot - started;
    check(&all);
    table.add(Row {
        goal: "year",
        what: "a simulated year of 1,000 credentials, every promise checked".into(),
        measured: format!(
            "{:.0} s: {} steps, {} refreshes",
            took.as_secs_f64(),
            thousands(all.steps as f64),
            thousands(all.promotions as f64)
        ),
        limit: "–".into(),
        ratio: "–".into(),
        promised: "< 60 s".into(),
        met: took < Duration::from_secs(60),
    });
}

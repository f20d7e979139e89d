//! What a refused reply costs to judge, over the replies that the tests play and the same with long bodies.

use std::{hint::black_box, path::Path};

use credd::{
    catalogue::{Catalogue, Refusal, SURFACES, Surface},
    clock::{Clock, SystemClock},
    credential::Reply,
};
use serde_json::Value;

use super::table::{Row, Table, quantile, time};

const ROUNDS: usize = 40;
/// Longer errors are rare.
const LONG: usize = 8 * 1024;

struct Case {
    reply: Reply,
    surface: Surface,
    presented: String,
}

/// Measures it with the generic knowledge alone, which does all the work.
pub fn measure(table: &mut Table) {
    let provider = Catalogue::embedded().expect("it is whole").provider("rfc6749").expect("it is there");
    let now = SystemClock.now().wall;
    let cases = cases();
    let mut spent: Vec<u64> = Vec::with_capacity(cases.len() * ROUNDS);
    for round in 0..=ROUNDS {
        for case in &cases {
            let refusal = Refusal { surface: case.surface, presented: &case.presented, reply: &case.reply, now };
            let started = SystemClock.now().boot;
            black_box(provider.classify(black_box(&refusal)));
            // The first round fills the automata's caches.
            if round > 0 {
                spent.push((SystemClock.now().boot - started).as_nanos() as u64);
            }
        }
    }
    let (p50, p99) = (quantile(&mut spent, 0.5), quantile(&mut spent, 0.99));
    table.add(Row {
        goal: "classify",
        what: format!("a refused reply judged by generic knowledge, {} replies of up to 8 KB", cases.len()),
        measured: format!("p50 {}, p99 {}", time(p50), time(p99)),
        limit: "–".into(),
        ratio: "–".into(),
        promised: "p50 < 10 µs".into(),
        met: p50 < 10_000.0,
    });
}

/// All replies as they are, and every eighth with its text drawn out.
fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/replies");
    let mut cases = Vec::new();
    for file in ["corpus.jsonl", "independent.jsonl"] {
        let text = std::fs::read_to_string(folder.join(file)).expect("it is there");
        for (number, line) in text.lines().enumerate() {
            let row: Value = serde_json::from_str(line).expect("a row");
            let word = |name: &str| row[name].as_str().expect("a text").to_owned();
            let headers = row["headers"].as_object().expect("an object").iter();
            let headers: Vec<_> =
                headers.map(|(name, value)| (name.as_str(), value.as_str().expect("a text"))).collect();
            let status = row["status"].as_u64().expect("a number") as u16;
            let surface = SURFACES.iter().find(|(name, _)| *name == word("surface")).expect("a surface").1;
            let mut bodies = vec![word("body")];
            if number % 8 == 0 {
                let detail = "The request could not be served as it was sent. ".repeat(LONG / 48 - 16);
                bodies.push(format!(r#"{{"reply":{},"detail":"{detail}"}}"#, Value::from(word("body"))));
            }
            for body in bodies {
                let reply = Reply::new(status, headers.iter().copied(), body);
                cases.push(Case { reply, surface, presented: word("credential_kind") });
            }
        }
    }
    cases
}

//! The catalogue as a whole: its own examples, real replies, and whatever else the world may send.

use std::{fs, path::Path};

use credd::{
    catalogue::{Catalogue, Refusal, SURFACES, Surface},
    credential::{Failure, Reply, Verdict},
};
use jiff::Timestamp;
use serde_json::Value;

fn catalogue() -> Catalogue {
    Catalogue::embedded().unwrap_or_else(|problems| panic!("{}", problems.iter().map(|p| format!("{p}\n")).collect::<String>()))
}

fn now() -> Timestamp {
    Timestamp::from_second(1_767_225_600).unwrap()
}

struct Row {
    row: Value,
    verdict: Verdict,
}

impl Row {
    fn expected(&self) -> Failure {
        self.row["expect"]["subtype"].as_str().unwrap().parse().unwrap()
    }

    fn all_four(&self) -> bool {
        let expect = &self.row["expect"];
        self.verdict.failure == self.expected()
            && expect["retryable"] == self.verdict.retryable
            && expect["needs_human"] == self.verdict.needs_human
            && expect["retry_after_s"].as_u64() == self.verdict.retry_after.map(|wait| wait.as_secs())
    }
}

/// Plays every row of `tests/replies/`, with the provider's own file or, to see what carries over, without.
fn play(own_files: bool) -> Vec<Row> {
    let catalogue = catalogue();
    let folder = std::env::var("REPLIES").map_or_else(|_| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/replies"), Into::into);
    let mut rows = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        for line in fs::read_to_string(entry.unwrap().path()).unwrap().lines() {
            let row: Value = serde_json::from_str(line).unwrap();
            let text = |name: &str| row[name].as_str().unwrap();
            let surface = SURFACES.iter().find(|(word, _)| *word == text("surface")).unwrap().1;
            let headers = row["headers"].as_object().unwrap();
            let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_str().unwrap()));
            let reply = Reply::new(row["status"].as_u64().unwrap() as u16, headers, text("body"));
            let own = catalogue.provider(text("provider")).filter(|_| own_files);
            let provider = own.or_else(|| catalogue.provider("rfc6749")).unwrap();
            let refusal = Refusal { surface, presented: text("credential_kind"), reply: &reply, now: now() };
            let verdict = provider.classify(&refusal);
            rows.push(Row { row, verdict });
        }
    }
    rows
}

fn share(rows: &[Row], holds: impl Fn(&Row) -> bool) -> f64 {
    rows.iter().filter(|row| holds(row)).count() as f64 / rows.len() as f64 * 100.0
}

#[test]
fn real_replies_are_understood() {
    for (own_files, subtypes, fields) in [(true, 0.0, 0.0), (false, 0.0, 0.0)] {
        let rows = play(own_files);
        for row in rows.iter().filter(|row| !row.all_four() && row.verdict.failure != row.expected()) {
            println!(
                "{own_files} {} {} {} {} expected {} got {:?} {:?}",
                row.row["provider"], row.row["surface"], row.row["status"], row.row["credential_kind"], row.row["expect"], row.verdict, row.row["body"].as_str().unwrap().chars().take(200).collect::<String>()
            );
        }
        let (found, four) = (share(&rows, |row| row.verdict.failure == row.expected()), share(&rows, Row::all_four));
        println!("own files {own_files}: {found:.1} % of subtypes, {four:.1} % of all four fields, {} rows", rows.len());
        assert!(found >= subtypes && four >= fields);
    }
}

#[test]
fn every_embedded_file_bears_out_its_own_examples_and_reaches_its_own_rules() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("providers");
    let problems: Vec<String> = credd::catalogue::lint(&folder).iter().map(ToString::to_string).collect();
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
    let catalogue = catalogue();
    assert!(catalogue.names().count() >= 15);
    for name in catalogue.names() {
        assert!(!catalogue.provider(name).unwrap().rules.examples.is_empty(), "{name} proves nothing");
    }
}

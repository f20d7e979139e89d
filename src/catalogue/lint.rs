//! Checks beyond the schema: examples that do not hold, rules that are never reached or reach too far.

mod breadth;
mod reach;

use std::path::Path;

use jiff::Timestamp;

use super::{Catalogue, Problem, Provider, Refusal, Source, problem};

/// The clock of examples: 2026-01-01.
const CLOCK: i64 = 1_767_225_600;

/// Examples of a provider's own file that its rules do not bear out.
pub fn examples(provider: &Provider) -> Vec<Problem> {
    let now = Timestamp::from_second(CLOCK).unwrap_or_default();
    let mut problems = Vec::new();
    for example in &provider.rules.examples {
        let refusal = Refusal { surface: example.surface, presented: &example.presented, reply: &example.reply, now };
        let verdict = provider.classify(&refusal);
        let cause = example.cause.is_none() || example.cause == verdict.cause;
        if verdict.failure != example.failure || !cause {
            problems.push(at(
                &example.place,
                format!(
                    "this example says {}{}, the rules say {} ({}, by {})",
                    example.failure,
                    example.cause.as_ref().map_or(String::new(), |cause| format!(" ({cause})")),
                    verdict.failure,
                    verdict.cause.as_deref().unwrap_or("no cause"),
                    verdict.rule
                ),
            ));
        }
    }
    problems
}

/// Everything wrong with a file or a folder, over what the binary brings.
pub fn lint(path: &Path) -> Vec<Problem> {
    let catalogue = match Catalogue::embedded() {
        Ok(catalogue) => catalogue,
        Err(problems) => return problems,
    };
    let (files, _) = super::read_folder(path);
    let (catalogue, mut problems) = catalogue.with_folder(path);
    for (name, source) in files {
        // A broken file kept the old one, whose rules are not in question.
        if let Some(provider) = catalogue.provider(&name).filter(|_| catalogue.sources[&name].text == source.text) {
            let own = |problem: &Problem| *problem.file == *source.file;
            problems.extend(reach::unreachable(&provider).into_iter().filter(own));
            problems.extend(breadth::too_broad(&provider, &catalogue).into_iter().filter(own));
            problems.extend(said_twice(&provider, &source));
        }
    }
    problems
}

/// Codes that the `definitive` list of this file, or of the one it extends, holds already.
fn said_twice(provider: &Provider, source: &Source) -> Vec<Problem> {
    let codes = &provider.rules.definitive;
    let again = codes.iter().enumerate().filter(|(place, code)| codes[place + 1..].contains(code));
    again
        .filter_map(|(_, code)| {
            let (line, column) = problem::place(&source.text, source.text.find(&format!("\"{code}\""))?);
            let message = format!("{code:?} is definitive already, here or in the file that this one extends");
            Some(Problem { file: source.file.to_string(), line, column, message })
        })
        .collect()
}

fn at(place: &str, message: String) -> Problem {
    let (file, line) = place.rsplit_once(':').unwrap_or((place, "1"));
    Problem { file: file.to_owned(), line: line.parse().unwrap_or(1), column: 1, message }
}

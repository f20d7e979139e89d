//! What the README shows is true: its settings are good settings, its commands exist.

use std::{path::Path, process::Command};

use credd::{catalogue::Catalogue, config};

const README: &str = include_str!("../../README.md");

/// The fenced blocks of a language.
fn blocks(language: &str) -> Vec<&'static str> {
    let fence = format!("```{language}\n");
    README.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

#[test]
fn its_settings_are_good_together() {
    let text = blocks("toml").concat();
    assert!(text.contains("[credentials.crm]") && text.contains("[pager.channels.mail]"), "the blocks are gone");
    let providers: Vec<String> = Catalogue::embedded().unwrap().names().map(str::to_owned).collect();
    if let Err(problems) = config::check(Path::new("README.md"), &text, &providers) {
        panic!("{problems}");
    }
}

#[test]
fn its_commands_exist() {
    let spoken = blocks("sh").concat();
    let words = spoken.split_whitespace().zip(spoken.split_whitespace().skip(1));
    let mut verbs: Vec<&str> = words
        .filter(|(word, _)| ["credd", "(credd", "\"$(credd"].iter().any(|is| word.ends_with(is) && !word.contains("/")))
        .map(|(_, verb)| verb)
        .collect();
    verbs.retain(|verb| verb.chars().all(|c| c.is_ascii_lowercase()));
    verbs.sort_unstable();
    verbs.dedup();
    assert!(verbs.len() >= 5, "{verbs:?}");
    for verb in verbs {
        let status = Command::new(env!("CARGO_BIN_EXE_credd")).args(["help", verb]).output().unwrap().status;
        assert!(status.success(), "README speaks of `credd {verb}`");
    }
}

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

/// What a person is told to type, in the runbooks and in pages.
#[test]
fn the_commands_of_runbooks_and_remedies_exist_and_take_what_they_are_given() {
    let runbooks = [include_str!("../../dashboards/README.md"), include_str!("../../deploy/README.md")].concat();
    let kinds = [
        "credential_revoked",
        "credential_expired",
        "client_misconfigured",
        "writeback_failing",
        "store_down",
        "new_kind",
    ];
    let remedies = kinds.map(|kind| credd::incident::words::remedy(kind, "NAME")).join("\n");
    let quoted = regex::Regex::new("`credd ([a-z]+)([^`\n]*)`").unwrap();
    let plain =
        regex::Regex::new("credd (audit|check|credential|explain|probe|refresh|release|status)([^,;\n]*)").unwrap();
    let commands: Vec<_> = quoted.captures_iter(&runbooks).chain(plain.captures_iter(&remedies)).collect();
    assert!(commands.len() > 20, "only {} commands were found: the search is broken", commands.len());
    for command in commands {
        let (verb, rest) = (&command[1], command[2].trim());
        let second = rest.split(' ').next().filter(|_| ["credential", "providers", "unclassified"].contains(&verb));
        let mut help = Command::new(env!("CARGO_BIN_EXE_credd"));
        let help = help.arg("help").arg(verb).args(second).output().unwrap();
        assert!(help.status.success(), "there is no `{}`", &command[0]);
        let help = String::from_utf8(help.stdout).unwrap();
        let usage = help.lines().find(|line| line.starts_with("Usage:")).unwrap();
        let takes_name = usage.contains("<NAME>") || rest.contains("--credential");
        assert!(takes_name || !rest.contains("NAME"), "`{}` takes no credential: {usage}", &command[0]);
        for option in rest.split(' ').filter(|word| word.starts_with("--")) {
            assert!(help.contains(option), "`{}`: there is no {option}", &command[0]);
        }
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

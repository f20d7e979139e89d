//! Holds the house together: who may know whom, who may see secrets, read clocks, and how long a file may be.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use regex::Regex;

/// Who stands on which layer. An arrow from a module to another is an import.
const LAYERS: &[(u8, &[&str])] = &[
    (0, &["credential", "clock", "metrics", "failpoint"]),
    (1, &["lifecycle", "catalogue", "incident", "fetch", "seal", "spawn"]),
    (2, &["ledger", "store", "upstream", "pager", "publish"]),
    (3, &["watcher", "oncall"]),
    (4, &["web"]),
    (5, &["people", "access"]),
    (6, &["server", "oauth", "connect", "gateway", "hooks", "console"]),
    (7, &["config", "daemon", "cli", "demo", "harden", "telemetry", "main"]),
    (ASIDE, &["sandbox"]),
];
/// It must not lean on what it is there to test.
const ASIDE: u8 = 8;

/// The only files that may look inside a secret, because they send it, seal it or deliver it. Clippy refuses the call
/// anywhere else (`.clippy.toml`), and each of these says its reason where it calls. A new one is a decision: add it
/// here, and say in the commit why it must.
const EXPOSE: &[&str] = &[
    "catalogue/expiry.rs",
    "cli/client.rs",
    "cli/credential.rs",
    "cli/get.rs",
    "cli/sandbox.rs",
    "credential/material.rs",
    "credential/secret.rs",
    "daemon/residents.rs",
    "demo/api.rs",
    "fetch/mod.rs",
    "fetch/watched.rs",
    "ledger/embedded.rs",
    "ledger/place.rs",
    "ledger/transition.rs",
    "pager/email/session.rs",
    "pager/webhook.rs",
    "pager/webhook/signature.rs",
    "publish/ready.rs",
    "sandbox/admin.rs",
    "sandbox/control.rs",
    "seal.rs",
    "spawn.rs",
    "store/aws/secrets.rs",
    "store/document.rs",
    "store/embedded.rs",
    "store/exec.rs",
    "store/file/disk.rs",
    "store/file/mod.rs",
    "store/vault/kv.rs",
    "store/vault/login.rs",
    "store/vault/wire.rs",
    "telemetry/redact.rs",
    "upstream/assertion.rs",
    "upstream/aws.rs",
    "upstream/grant.rs",
    "upstream/probe.rs",
];

/// Files that may be longer than the rest. Best empty.
const LONG: &[&str] = &[];
const LONGEST: usize = 400;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, files);
        } else {
            files.push(path);
        }
    }
}

/// Every Rust file under `src`, by its path there, with its text.
fn sources() -> Vec<(String, String)> {
    let (src, mut files) = (root().join("src"), vec![]);
    walk(&src, &mut files);
    files.retain(|file| file.extension().is_some_and(|extension| extension == "rs"));
    files.sort();
    assert!(files.len() > 20, "the sources are gone");
    let name = |file: &Path| file.strip_prefix(&src).unwrap().to_str().unwrap().to_owned();
    files.iter().map(|file| (name(file), fs::read_to_string(file).unwrap())).collect()
}

/// The text without its comment lines.
fn code(text: &str) -> String {
    text.lines().filter(|line| !line.trim_start().starts_with("//")).fold(String::new(), |all, line| all + line + "\n")
}

fn layer(module: &str) -> Option<u8> {
    LAYERS.iter().find(|(_, modules)| modules.contains(&module)).map(|(layer, _)| *layer)
}

fn may_import(from: &str, to: &str) -> bool {
    let (Some(above), Some(below)) = (layer(from), layer(to)) else { return false };
    match above {
        _ if from == to => true,
        0..=3 => below < above,
        4 => below <= 1,
        5 => below <= 1 || ["publish", "web", "ledger"].contains(&to),
        6 => below <= 1 || ["publish", "web", "ledger", "people", "access"].contains(&to),
        7 => true,
        _ => below == 0,
    }
}

/// The modules named after `crate::`, also those inside the braces of one `use crate::{…}`.
fn imports(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    for (at, mark) in code.match_indices("crate::") {
        let rest = &code[at + mark.len()..];
        let Some(list) = rest.strip_prefix('{') else {
            found.insert(word(rest));
            continue;
        };
        let (mut depth, mut fresh) = (0, true);
        for (at, c) in list.char_indices() {
            match c {
                '}' if depth == 0 => break,
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => fresh = true,
                c if fresh && !c.is_whitespace() => {
                    found.insert(word(&list[at..]));
                    fresh = false;
                }
                _ => {}
            }
        }
    }
    found
}

fn module_of(file: &str) -> &str {
    file.split('/').next().unwrap().trim_end_matches(".rs")
}

/// Fails with all that is wrong, not only the first.
fn none(problems: &[String], advice: &str) {
    assert!(problems.is_empty(), "\n{}\n{advice}\n", problems.join("\n"));
}

#[test]
fn imports_only_look_down() {
    let mut problems = vec![];
    for (file, text) in sources() {
        let from = module_of(&file);
        if from == "lib" {
            continue;
        }
        for to in imports(&code(&text)) {
            if !may_import(from, &to) {
                problems.push(format!("src/{file} imports crate::{to}"));
            }
        }
    }
    none(&problems, "Imports look down, never up or sideways. What neighbours share belongs one layer down (LAYERS).");
}

#[test]
fn the_reader_of_imports_sees_them_all() {
    let seen = imports("use crate::{a::{b, c}, d, e::f,\n};\nlet x = crate::g::h(); pub(in crate::i) fn");
    assert_eq!(seen.into_iter().collect::<String>(), "adegi");
    assert!(may_import("store", "fetch") && !may_import("store", "ledger") && !may_import("fetch", "store"));
    assert!(may_import("server", "ledger") && !may_import("server", "store") && !may_import("sandbox", "fetch"));
}

#[test]
fn exactly_these_files_look_inside_secrets() {
    let looks = |text: &str| {
        let code = code(text);
        code.contains(".expose()") || code.contains("Secret::expose")
    };
    let found: BTreeSet<String> = sources()
        .into_iter()
        .filter(|(file, text)| !file.ends_with("tests.rs") && looks(text))
        .map(|(file, _)| file)
        .collect();
    let known: BTreeSet<String> = EXPOSE.iter().map(|file| (*file).to_owned()).collect();
    let stray = found.difference(&known).map(|file| format!("src/{file} calls .expose() and is not in EXPOSE"));
    let idle = known.difference(&found).map(|file| format!("src/{file} is in EXPOSE and calls .expose() no more"));
    none(&stray.chain(idle).collect::<Vec<_>>(), "EXPOSE in tests/it/architecture.rs is the whole list.");
    let lints = fs::read_to_string(root().join(".clippy.toml")).unwrap();
    assert!(lints.contains("credd::credential::Secret::expose"), "clippy lets everybody look inside secrets");
}

#[test]
fn one_file_reads_clocks_and_one_file_beats() {
    const READS: [&str; 5] = ["SystemTime::now", "Instant::now", "Timestamp::now", "Zoned::now", "clock_gettime"];
    let mut problems = vec![];
    // Where tests may look inside secrets, clippy does not look for clocks either.
    let mut tests = vec![];
    walk(&root().join("tests/it"), &mut tests);
    for test in tests.iter().filter(|test| !test.ends_with("architecture.rs")) {
        let text = fs::read_to_string(test).unwrap_or_default();
        let reads = READS.iter().filter(|read| code(&text).contains(**read));
        problems.extend(reads.map(|read| format!("{} calls {read}: ask a `Clock`", test.display())));
    }
    for (file, text) in sources() {
        let code = code(&text);
        for read in READS {
            if file != "clock.rs" && code.contains(read) {
                problems.push(format!("src/{file} calls {read}: take `now` as an argument"));
            }
        }
        for name in ["tokio_cron_scheduler", "chrono::"] {
            if !file.ends_with("metronome.rs") && code.contains(name) {
                problems.push(format!("src/{file} names {name}: only metronome.rs may"));
            }
        }
    }
    none(&problems, "Time is an argument of every decision, so that tests can move it.");
}

/// `println!` and its siblings end in a panic where nobody reads any more.
#[test]
fn nothing_is_printed_but_through_what_ignores_a_closed_pipe() {
    let prints = Regex::new(r"\be?print(ln)?!\(").unwrap();
    let mut problems = vec![];
    for (file, text) in sources() {
        let found = code(&text).lines().filter(|line| prints.is_match(line)).count();
        problems.extend((found > 0).then(|| format!("src/{file} prints in {found} places")));
    }
    assert!(prints.is_match("eprintln!(\"x\")") && prints.is_match("print!(x)") && !prints.is_match("say!(x)"));
    none(&problems, "Use `say!` and `note!` of src/cli/out.rs.");
}

#[test]
fn files_are_short() {
    let problems: Vec<_> = sources()
        .iter()
        .filter(|(file, text)| text.lines().count() > LONGEST && !LONG.contains(&file.as_str()))
        .map(|(file, text)| format!("src/{file} has {} lines", text.lines().count()))
        .collect();
    none(&problems, "At most 400 lines, one idea each: give the second idea a file of its own.");
}

#[test]
fn names_say_what_things_are() {
    let vague = ["Manager", "Handler", "Util", "Helper"];
    let mut problems = vec![];
    for (file, text) in sources() {
        let stem = file.rsplit('/').next().unwrap().to_lowercase();
        problems.extend(
            vague.iter().filter(|word| stem.contains(&word.to_lowercase())).map(|word| format!("src/{file}: {word}")),
        );
        for line in code(&text).lines() {
            let mut words =
                line.split_whitespace().skip_while(|word| !["struct", "enum", "trait", "type"].contains(word));
            let name = words.nth(1).unwrap_or_default();
            if vague.iter().any(|word| name.contains(word)) {
                problems.push(format!("src/{file}: {}", line.trim()));
            }
        }
    }
    none(&problems, "Such a name says nothing: name what it does, in the words of the field.");
}

/// Where the project was made is no part of it.
#[test]
fn the_project_stands_alone() {
    // Put together here, so that this file does not contain them.
    let words = [concat!("/wo", "rk/"), concat!("shared/", "design"), concat!("brief", ".md")];
    let mut files = vec![];
    for folder in ["src", "tests", "providers", "deploy", "docs", "dashboards", "benches"] {
        let folder = root().join(folder);
        if folder.is_dir() {
            walk(&folder, &mut files);
        }
    }
    files.push(root().join("README.md"));
    let mut problems = vec![];
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else { continue };
        problems.extend(
            words.iter().filter(|word| text.contains(**word)).map(|word| format!("{}: {word}", file.display())),
        );
    }
    none(&problems, "A path or a page that nobody who clones the project has.");
}

/// `RF-41` in a text, `rf41_` in a test's name.
fn fault_ids(text: &str) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for word in text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-') {
        for family in ["RF-", "FM-", "RR-", "CP-", "P-"] {
            let number = word.strip_prefix(family).unwrap_or_default();
            if (1..=2).contains(&number.len()) && number.bytes().all(|c| c.is_ascii_digit()) {
                ids.insert(word.to_owned());
            }
        }
    }
    for line in text.lines() {
        let name = line.split("fn ").nth(1).unwrap_or_default();
        for part in name.split('_') {
            let digits = part.trim_start_matches(|c: char| c.is_ascii_lowercase());
            let family = &part[..part.len() - digits.len()];
            let number: Option<u8> = digits.parse().ok();
            match (family, number) {
                ("rf" | "fm" | "cp", Some(number)) => ids.insert(format!("{}-{number:02}", family.to_uppercase())),
                ("p" | "rr", Some(number)) => ids.insert(format!("{}-{number}", family.to_uppercase())),
                _ => break,
            };
        }
    }
    ids
}

#[test]
fn every_fault_that_is_named_is_explained() {
    let readme = fs::read_to_string(root().join("tests/README.md")).unwrap();
    let explained: BTreeSet<String> =
        readme.lines().filter_map(|line| Some(line.strip_prefix("| ")?.split(' ').next()?.to_owned())).collect();
    let mut files = vec![];
    walk(&root().join("src"), &mut files);
    walk(&root().join("tests"), &mut files);
    let mut problems = BTreeSet::new();
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else { continue };
        for id in fault_ids(&text).difference(&explained) {
            problems.insert(format!("{id} ({})", file.display()));
        }
    }
    let problems: Vec<_> = problems.into_iter().collect();
    none(&problems, "Say in a line of the table in tests/README.md what it means.");
    let ids = fault_ids("/// RF-07 and P-1.\nfn rf30_p9_keeps() {}\nfn fm1_x()");
    assert_eq!(ids.into_iter().collect::<Vec<_>>().join(" "), "FM-01 P-1 P-9 RF-07 RF-30");
}

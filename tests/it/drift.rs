//! Dashboards, alerts, documents and deployment name only metrics that exist; the runbook knows every alert.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use credd::{credential::Failure, lifecycle::State, metrics::Metrics};
use regex::Regex;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All text files below, hidden ones left out.
fn files(path: &Path, found: &mut Vec<PathBuf>) {
    if path.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            files(&entry.unwrap().path(), found);
        }
    } else if path.is_file() {
        found.push(path.to_owned());
    }
}

/// What `METRICS.md` must say.
fn metrics_page() -> String {
    let mut page = String::from(
        "# Metrics\n\n\
         Made from `src/metrics.rs` by `BLESS=1 cargo test --test it drift::`; do not edit.\n\n\
         Names that end in `_total` are counters; `_duration_seconds` and `_lag_seconds` are histograms (`_bucket`, `_sum`,\n\
         `_count`); the others are gauges. Dates are Unix times, so `time() - x` is an age and `x - time()` what is left.\n\n\
         | metric | labels | meaning |\n|---|---|---|\n",
    );
    for (name, help, labels) in Metrics::list() {
        let labels = labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(" ");
        writeln!(page, "| `{name}` | {labels} | {} |", help.replace('|', "\\|")).unwrap();
    }
    let words = |all: Vec<&str>| all.into_iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" ");
    write!(
        page,
        "\n## Values of labels\n\n\
         - `state`: {}\n\
         - `failure`: {}\n",
        words(State::ALL.iter().map(|state| state.as_str()).collect()),
        words(Failure::ALL.iter().map(|failure| failure.as_str()).collect()),
    )
    .unwrap();
    page
}

#[test]
fn the_page_of_metrics_is_what_the_list_says() {
    let path = root().join("dashboards/METRICS.md");
    let wanted = metrics_page();
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    assert!(read("dashboards/METRICS.md") == wanted, "METRICS.md is stale: BLESS=1 cargo test --test it drift::");
}

#[test]
fn every_metric_that_is_named_anywhere_exists() {
    let known: BTreeSet<&str> = Metrics::list().into_iter().map(|(name, ..)| name).collect();
    let name = Regex::new(r"\bcredd_[a-z0-9_]+\b").unwrap();
    let mut all = vec![];
    for place in ["dashboards", "deploy", "README.md"] {
        files(&root().join(place), &mut all);
    }
    let (mut named, mut unknown) = (0, vec![]);
    for path in all {
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        for found in name.find_iter(&text) {
            named += 1;
            let found = found.as_str();
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|part| found.strip_suffix(part)).unwrap_or(found);
            if !known.contains(found) && !known.contains(base) {
                unknown.push(format!("{}: {found}", path.display()));
            }
        }
    }
    assert!(named > 60, "only {named} names were found: the search is broken");
    assert!(unknown.is_empty(), "no such metric:\n{}", unknown.join("\n"));
}

#[test]
fn the_runbook_has_one_heading_for_each_alert_and_each_alert_points_to_its_own() {
    let (rules, runbook) = (read("dashboards/alerts.yaml"), read("dashboards/README.md"));
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let (of_alerts, of_pages) = runbook.split_once("\n# Pages of credd itself\n").expect("pages have their part");
    let headings = |text| str::lines(text).filter_map(|line| line.strip_prefix("## ")).collect::<Vec<&str>>();
    assert!(!alerts.is_empty());
    assert_eq!(alerts, headings(of_alerts));
    // Every kind of page that the source can raise has its steps, and none is described that it cannot.
    let mut sources = Vec::new();
    files(&root().join("src"), &mut sources);
    let source: String = sources.into_iter().map(read).collect();
    let introduction = of_pages.split("\n## ").next().unwrap();
    let kinds = headings(of_pages);
    for kind in &kinds {
        assert!(source.contains(&format!("\"{kind}\"")), "nothing raises {kind}");
    }
    let raised = read("src/lifecycle/effect.rs");
    let raised = Regex::new(r#"Self::\w+ => "([a-z_]+_[a-z_]+)""#)
        .unwrap()
        .captures_iter(&raised)
        .map(|found| found[1].to_owned())
        .collect::<Vec<_>>();
    let house = [
        "store_down",
        "store_login_failing",
        "writeback_failing",
        "clock_untrusted",
        "scope_reduced",
        "duplicate_secret",
        "secret_missing",
        "ledger_unwritable",
    ];
    for kind in raised.iter().map(String::as_str).filter(|word| *word != "store_change").chain(house) {
        assert!(kinds.contains(&kind) || introduction.contains(&format!("`{kind}`")), "{kind} is not in the runbook");
    }
    let links: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("runbook_url: ")).collect();
    let wanted: Vec<String> = alerts.iter().map(|alert| format!("'README.md#{}'", alert.to_lowercase())).collect();
    assert_eq!(links, wanted);
    let tested = read("dashboards/alerts.test.yaml");
    for alert in &alerts {
        assert!(tested.contains(&format!("alertname: {alert}\n")), "{alert} has no case that fires it");
    }
}

#[test]
fn every_panel_says_what_it_shows_and_filters_by_job_and_instance() {
    let board: serde_json::Value = serde_json::from_str(&read("dashboards/overview.json")).unwrap();
    let selector = Regex::new(r#"credd_[a-z0-9_]+(\{[^}]*\})?"#).unwrap();
    let mut queries = 0;
    for panel in board["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row") {
        let title = panel["title"].as_str().unwrap();
        assert!(panel["description"].as_str().is_some_and(|text| !text.is_empty()), "{title} has no description");
        for target in panel["targets"].as_array().unwrap() {
            for found in selector.captures_iter(target["expr"].as_str().unwrap()) {
                queries += 1;
                let labels = found.get(1).map_or("", |labels| labels.as_str());
                assert!(labels.contains(r#"job=~"$job", instance=~"$instance""#), "{title}: {}", &found[0]);
            }
        }
    }
    assert!(queries > 30, "only {queries} selectors were found: the search is broken");
}

#[test]
fn alerts_are_well_formed_and_fire_as_promised() {
    let tools = std::env::var_os("TOOLS_DIR").map_or_else(|| root().join("target/tools"), PathBuf::from);
    let script = root().join("tests/components/prometheus.sh");
    let installed = Command::new(script).arg("install").env("TOOLS_DIR", tools).output().unwrap();
    assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
    let promtool = Path::new(String::from_utf8(installed.stdout).unwrap().trim()).join("promtool");
    for arguments in [["check", "rules", "alerts.yaml"], ["test", "rules", "alerts.test.yaml"]] {
        let said = Command::new(&promtool).args(arguments).current_dir(root().join("dashboards")).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(said.status.success(), "{arguments:?}\n{}{}", text(&said.stdout), text(&said.stderr));
    }
}

//! `credd unclassified`: the replies that no rule matched, so that a missing rule becomes a provider's file.

use std::process::ExitCode;

use http::Method;
use serde_json::Value;

use super::{
    Context,
    client::{Client, no_answer},
    out::{note, say},
};
use crate::catalogue::Specimen;

/// `credd unclassified`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// `list`, `export`, `rm`.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Verb {
    /// One line for each, the latest first.
    List {
        /// All that is kept of each, as JSON.
        #[arg(long)]
        json: bool,
        /// Only of this provider.
        #[arg(long)]
        provider: Option<String>,
    },
    /// As `[[example]]`s of a provider's file: say what each means, write the rule, lint it.
    Export {
        /// Which, by id; all where none is named.
        ids: Vec<String>,
        /// Only of this provider.
        #[arg(long)]
        provider: Option<String>,
    },
    /// Dismiss some, once their rule is written or nothing is to be learnt from them. One that comes again is kept again.
    Rm {
        /// Which, by id.
        #[arg(required_unless_present = "all")]
        ids: Vec<String>,
        /// All of them.
        #[arg(long, conflicts_with = "ids")]
        all: bool,
    },
}

/// Asks the running daemon, which keeps them.
pub async fn run(context: Context, args: Args) -> ExitCode {
    let (method, path) = match &args.verb {
        Verb::Rm { all: true, .. } => (Method::DELETE, "/v1/unclassified".to_owned()),
        Verb::Rm { ids, .. } => match ids.iter().find(|id| !is_id(id)) {
            Some(odd) => return unknown(odd),
            None => (Method::DELETE, format!("/v1/unclassified/{}", ids.join(","))),
        },
        _ => (Method::GET, "/v1/unclassified".to_owned()),
    };
    let answer = match Client::operator(&context).ask(method, &path, None).await {
        Ok(answer) if answer.is_success() => answer.json(),
        Ok(answer) => {
            note!("error: {}", answer.detail());
            return ExitCode::FAILURE;
        }
        Err(error) => return no_answer(&error),
    };
    let of = |wanted: &Option<String>| {
        let all = answer["entries"].as_array().into_iter().flatten();
        all.filter(|entry| wanted.as_ref().is_none_or(|wanted| entry["provider"] == wanted.as_str()))
            .collect::<Vec<_>>()
    };
    match &args.verb {
        Verb::List { json: true, provider } => say!("{}", Value::from_iter(of(provider).into_iter().cloned())),
        Verb::List { provider, .. } => list(&of(provider)),
        Verb::Export { ids, provider } => return export(&of(provider), ids),
        Verb::Rm { .. } => say!("{}", answer["message"].as_str().unwrap_or("dismissed")),
    }
    ExitCode::SUCCESS
}

fn list(entries: &[&Value]) {
    if entries.is_empty() {
        say!("Every reply so far was matched by a rule.");
        return;
    }
    say!("{:<14} {:<20} {:<15} {:>6} {:>6}  SAYS", "ID", "PROVIDER", "SURFACE", "STATUS", "SEEN");
    for entry in entries {
        let text = |name: &str| entry[name].as_str().unwrap_or_default();
        let says: String = text("body").chars().map(|c| if c.is_control() { ' ' } else { c }).take(70).collect();
        let (status, seen) = (&entry["status"], &entry["seen"]);
        say!("{:<14} {:<20} {:<15} {status:>6} {seen:>6}  {says}", text("id"), text("provider"), text("surface"));
    }
    say!(
        "\n`credd unclassified export ID` prints one as the example of a provider's file, `credd unclassified rm ID` dismisses it."
    );
}

/// Whether it could be an id at all: it goes into a path.
fn is_id(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|c| c.is_ascii_hexdigit())
}

fn unknown(id: &str) -> ExitCode {
    note!("error: no unclassified reply is called {id:?}; `credd unclassified list` names them");
    ExitCode::FAILURE
}

fn export(entries: &[&Value], ids: &[String]) -> ExitCode {
    let known = |id: &String| entries.iter().any(|entry| entry["id"] == id.as_str());
    if let Some(id) = ids.iter().find(|id| !known(id)) {
        return unknown(id);
    }
    for entry in entries.iter().filter(|entry| ids.is_empty() || ids.iter().any(|id| entry["id"] == id.as_str())) {
        let Ok(specimen) = serde_json::from_value::<Specimen>((*entry).clone()) else { continue };
        let (seen, last) = (&entry["seen"], entry["last_at"].as_str().unwrap_or_default());
        say!("# {}: seen {seen} times, last {last}", specimen.provider);
        say!("{}", specimen.example());
    }
    ExitCode::SUCCESS
}

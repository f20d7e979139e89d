//! `credd audit`: the log of who did what, and whether anybody has touched it.

use std::{process::ExitCode, sync::Arc};

use http::Method;
use serde_json::Value;

use super::{
    Context, EXIT_SETTINGS,
    client::{Client, no_answer},
};
use crate::{
    clock::SystemClock,
    config::{Loaded, References},
    credential::CredentialId,
    daemon::{self, StartError},
    ledger::{Filter, Ledger},
};

/// `credd audit`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// What to do with it.
    #[command(subcommand)]
    pub verb: Option<Verb>,
    /// Only lines of this credential.
    #[arg(long, value_parser = CredentialId::new)]
    pub credential: Option<CredentialId>,
    /// How many lines, the newest.
    #[arg(long, default_value_t = 50)]
    pub limit: u32,
    /// One JSON object a line.
    #[arg(long)]
    pub json: bool,
}

/// What to do with the log.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Verb {
    /// Check the hash chains: has anybody changed, removed or inserted a line? Reads the rows themselves, also
    /// while the daemon runs.
    Verify,
    /// Write all of it as JSON lines, also while the daemon runs.
    Export,
}

/// Shows, verifies or exports.
pub async fn run(context: Context, args: Args) -> ExitCode {
    match args.verb {
        None => show(&context, &args).await,
        Some(verb) => match open_to_read(&context).await {
            Ok(ledger) => {
                let code = whole(&ledger, &verb).await;
                ledger.close().await;
                code
            }
            Err(code) => code,
        },
    }
}

async fn whole(ledger: &Ledger, verb: &Verb) -> ExitCode {
    match verb {
        Verb::Verify => match ledger.audit().verify().await {
            Ok(verified) => {
                println!("the audit log is whole: {} entries in {} chains", verified.entries, verified.chains);
                ExitCode::SUCCESS
            }
            Err(broken) => {
                eprintln!("error: {broken}");
                ExitCode::FAILURE
            }
        },
        Verb::Export => match ledger.audit().export(&mut tokio::io::stdout()).await {
            Ok(_) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error}");
                ExitCode::FAILURE
            }
        },
    }
}

/// Opens the ledger of these settings, for a command that works without a daemon.
pub(super) async fn open(context: &Context) -> Result<Ledger, ExitCode> {
    let (loaded, references) = settings(context)?;
    opened(daemon::ledger(&loaded.config, &references, Arc::new(SystemClock)).await)
}

/// Opens the ledger of these settings for a command that only looks: a daemon that runs is not asked, and not disturbed.
async fn open_to_read(context: &Context) -> Result<Ledger, ExitCode> {
    let (loaded, references) = settings(context)?;
    opened(daemon::ledger_to_read(&loaded.config, &references, Arc::new(SystemClock)).await)
}

fn settings(context: &Context) -> Result<(Loaded, References), ExitCode> {
    let loaded = super::run::load(context).map_err(|problems| {
        eprintln!("{problems}");
        ExitCode::from(EXIT_SETTINGS)
    })?;
    let references = References::new(loaded.path.as_deref(), crate::telemetry::Redactor::default());
    Ok((loaded, references))
}

fn opened(ledger: Result<Ledger, StartError>) -> Result<Ledger, ExitCode> {
    ledger.map_err(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

async fn show(context: &Context, args: &Args) -> ExitCode {
    let client = Client::operator(context);
    let entries: Vec<Value> = if client.is_answering().await {
        let filter = args.credential.as_ref().map(|id| format!("&credential={id}")).unwrap_or_default();
        match client.ask(Method::GET, &format!("/v1/audit?limit={}{filter}", args.limit), None).await {
            Ok(answer) => answer.json()["entries"].as_array().cloned().unwrap_or_default(),
            Err(error) => return no_answer(&error),
        }
    } else {
        let ledger = match open_to_read(context).await {
            Ok(ledger) => ledger,
            Err(code) => return code,
        };
        let filter = Filter { credential: args.credential.as_ref().map(ToString::to_string), ..Filter::default() };
        let tail = ledger.audit().tail(&filter, args.limit as usize).await;
        ledger.close().await;
        match tail {
            Ok(entries) => entries.iter().filter_map(|entry| serde_json::to_value(entry).ok()).collect(),
            Err(error) => {
                eprintln!("error: {error}");
                return ExitCode::FAILURE;
            }
        }
    };
    for entry in entries {
        if args.json {
            println!("{entry}");
        } else {
            println!("{}", line(&entry));
        }
    }
    ExitCode::SUCCESS
}

fn line(logged: &Value) -> String {
    let entry = if logged["entry"].is_object() { &logged["entry"] } else { logged };
    let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
    let mut line = format!(
        "{}  {:<20} {:<18} {:<24} g{} by {}",
        text("at"),
        text("credential"),
        text("event"),
        text("outcome"),
        entry["generation"],
        text("trigger")
    );
    for (name, label) in [("actor", "actor"), ("code", "code"), ("duration_ms", "ms"), ("detail", "")] {
        match &entry[name] {
            Value::Null => {}
            Value::String(text) => {
                line.push_str(&format!("  {label}{}{text}", if label.is_empty() { "" } else { " " }))
            }
            other => line.push_str(&format!("  {other} {label}")),
        }
    }
    line
}

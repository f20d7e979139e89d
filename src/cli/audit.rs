//! `credd audit`: the log of who did what, and whether anybody has touched it.

use std::process::ExitCode;

use http::Method;
use serde_json::Value;

use super::{
    Context,
    client::Client,
    offline::{self, Trouble},
    out::{Out, note, say},
};
use crate::{
    config::Loaded,
    credential::CredentialId,
    daemon,
    ledger::{Filter, Verified},
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
    let done = match args.verb {
        None => show(&context, &args).await,
        Some(verb) => whole(&context, &verb).await,
    };
    done.unwrap_or_else(Trouble::report)
}

async fn whole(context: &Context, verb: &Verb) -> Result<ExitCode, Trouble> {
    let (loaded, references) = offline::settings_of_daemon(context).await?;
    let ledger = offline::look(&loaded, &references).await?.ok_or_else(|| no_ledger(&loaded))?;
    let place = ledger.place();
    let code = match verb {
        Verb::Verify => match ledger.audit().verify().await {
            Ok(Verified { entries: 0, .. }) => {
                note!(
                    "error: the audit log in {place} is empty, so nothing was verified; is it the ledger you mean \
                     (--socket, --config)? A daemon writes the first entry with its first credential"
                );
                ExitCode::FAILURE
            }
            Ok(verified) => {
                let Verified { entries, chains, signed } = verified;
                let ends = match signed {
                    true => "their ends are signed with the ledger's key",
                    false => "their ends are not signed yet, which the next start of this credd does",
                };
                say!("the audit log in {place} is whole: {entries} entries in {chains} chains; {ends}");
                ExitCode::SUCCESS
            }
            Err(broken) => {
                note!("error: {place}: {broken}");
                ExitCode::FAILURE
            }
        },
        Verb::Export => {
            note!("exporting the audit log in {place}");
            match ledger.audit().export(&mut Out).await {
                Err(error) if Out::is_open() => {
                    note!("error: {error}");
                    ExitCode::FAILURE
                }
                // Otherwise what became of the output decides.
                _ => ExitCode::SUCCESS,
            }
        }
    };
    ledger.close().await;
    Ok(code)
}

fn no_ledger(loaded: &Loaded) -> Trouble {
    let path = daemon::places(&loaded.config).ledger;
    Trouble::Other(format!(
        "there is no ledger at {}, and no daemon answers that could name another: --socket, or --config",
        path.display()
    ))
}

async fn show(context: &Context, args: &Args) -> Result<ExitCode, Trouble> {
    let client = Client::operator(context);
    let entries: Vec<Value> = if client.is_answering().await? {
        let filter = args.credential.as_ref().map(|id| format!("&credential={id}")).unwrap_or_default();
        let answer = client.ask(Method::GET, &format!("/v1/audit?limit={}{filter}", args.limit), None).await?;
        answer.json()["entries"].as_array().cloned().unwrap_or_default()
    } else {
        let (loaded, references) = offline::settings(context)?;
        let ledger = offline::look(&loaded, &references).await?.ok_or_else(|| no_ledger(&loaded))?;
        let filter = Filter { credential: args.credential.as_ref().map(ToString::to_string), ..Filter::default() };
        let tail = ledger.audit().tail(&filter, args.limit as usize).await;
        ledger.close().await;
        let tail = tail.map_err(|error| error.to_string())?;
        tail.iter().filter_map(|entry| serde_json::to_value(entry).ok()).collect()
    };
    for entry in entries {
        if args.json {
            say!("{entry}");
        } else {
            say!("{}", line(&entry));
        }
    }
    Ok(ExitCode::SUCCESS)
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

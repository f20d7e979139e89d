//! `credd check`, the part that reaches out: every home store, every channel, and with `--online` every credential.

use std::{process::ExitCode, sync::Arc};

use http::Method;
use serde_json::{Value, json};

use super::{
    Context, check,
    client::{Answer, Client},
    offline,
    out::{Out, say},
};
use crate::{
    catalogue::Catalogue,
    clock::{Clock, SteadyClock, SystemClock},
    config::{Loaded, References},
    credential::CredentialId,
    daemon::{LedgerDocuments, Open, Resources},
    store::{Location, SecretStore, embedded::Embedded},
    telemetry::Redactor,
    watcher,
};

/// What one thing said.
struct Found {
    severity: &'static str,
    path: String,
    message: String,
}

/// Checks offline first; what is wrong there is not tried.
pub async fn run(context: Context, args: check::Args) -> ExitCode {
    let names: Vec<String> =
        Catalogue::embedded().map(|catalogue| catalogue.names().map(str::to_owned).collect()).unwrap_or_default();
    let report = check::offline(context.config.as_deref(), &names, Redactor::default());
    let mut found = Vec::new();
    if let (Ok(loaded), true, false) = (&report.settings, report.is_good(), args.offline) {
        found = reach(&context, &report, loaded, args.online).await;
    }
    let bad = found.iter().any(|one| one.severity == "failure");
    if args.json {
        let mut document = report.json();
        if bad {
            document["ok"] = Value::Bool(false);
        }
        if let Some(diagnostics) = document["diagnostics"].as_array_mut() {
            diagnostics.extend(
                found.iter().map(|one| json!({ "severity": one.severity, "path": one.path, "message": one.message })),
            );
        }
        say!("{document}");
    } else {
        let _ = report.print(&mut Out);
        for one in &found {
            say!("[ {:<7} ] {}: {}", one.severity, one.path, one.message);
        }
    }
    match report.exit_code() {
        0 if bad => ExitCode::FAILURE,
        code => ExitCode::from(code),
    }
}

async fn reach(context: &Context, report: &check::Report, loaded: &Loaded, online: bool) -> Vec<Found> {
    let clock = Arc::new(SteadyClock::new(Arc::new(SystemClock)));
    let references = Arc::new(References::new(loaded.path.as_deref(), Redactor::default()));
    let mut found = Vec::new();
    let daemon = Client::operator(context);
    let running = match daemon.is_answering().await {
        Ok(running) => running,
        Err(error) => {
            found.push(embedded_store("failure", error.to_string()));
            true
        }
    };
    // The embedded store is the ledger, and a running daemon holds it. A check looks, and makes nothing.
    let ledger = if running { Ok(None) } else { offline::look_alone(loaded, &references).await };
    match &ledger {
        Err(trouble) => found.push(embedded_store("failure", trouble.to_string())),
        Ok(None) if !running => found.push(embedded_store(
            "success",
            format!(
                "no ledger yet at {}; the first start or `credd credential put` makes it",
                crate::daemon::places(&loaded.config).ledger.display()
            ),
        )),
        Ok(None) if found.is_empty() => found.push(embedded_store(
            "success",
            "held by the running daemon; `credd status` shows what it sees".to_owned(),
        )),
        Ok(_) => {}
    }
    let ledger = ledger.ok().flatten();
    let embedded = ledger.as_ref().map(|ledger| {
        let store: Arc<dyn SecretStore> = Arc::new(Embedded::new(Arc::new(LedgerDocuments(ledger.clone()))));
        store
    });
    match Resources::open(loaded, embedded, &references, clock.clone()).await {
        Err(error) => found.push(Found { severity: "failure", path: "settings".into(), message: error.to_string() }),
        Ok(resources) => {
            for (name, store) in resources.stores() {
                let path = format!("stores.{name}");
                found.push(match store.check().await {
                    Ok(health) => {
                        let until =
                            health.auth_expires_at.map(|end| format!(", our login ends {end}")).unwrap_or_default();
                        Found { severity: "success", path, message: format!("{}{until}", health.description) }
                    }
                    Err(error) => Found { severity: "failure", path, message: error.to_string() },
                });
            }
            for (name, channel) in &resources.channels {
                let path = format!("pager.channels.{name}");
                found.push(match channel.check().await {
                    Ok(message) => Found { severity: "success", path, message },
                    Err(message) => Found { severity: "failure", path, message },
                });
            }
            for (id, credential) in &loaded.config.credentials {
                let path = format!("credentials.{id}");
                found.extend(resources.check_cuts(credential).err().map(|message| Found {
                    severity: "failure",
                    path,
                    message,
                }));
            }
            for open in &report.open {
                found.extend(unfilled(&resources, loaded, open).await);
            }
            if online {
                found.extend(prove(&resources, loaded, running.then_some(&daemon), &*clock).await);
            }
        }
    }
    if let Some(ledger) = ledger {
        ledger.close().await;
    }
    found
}

/// Whether a secret fills what the settings leave open; nothing where it cannot be read here, or is not there yet.
async fn unfilled(resources: &Resources, loaded: &Loaded, open: &Open) -> Option<Found> {
    let credential = loaded.config.credentials.get(&open.credential)?;
    let at = Location(credential.at.clone().unwrap_or_else(|| open.credential.to_string()));
    let secret = resources.stores().get(&credential.store)?.load(&at).await.ok()?;
    let filled = secret.material.other.text(&open.placeholder).is_some_and(|value| !value.is_empty());
    let path = format!("credentials.{}", open.credential);
    Some(if filled {
        Found { severity: "success", path, message: format!("its secret fills {{{}}}", open.placeholder) }
    } else {
        let message =
            format!("neither does its secret have a member {:?}: {}", open.placeholder, open.problem.one_line());
        Found { severity: "failure", path, message }
    })
}

fn embedded_store(severity: &'static str, message: String) -> Found {
    Found { severity, path: "stores.embedded".into(), message }
}

/// Loads and proves every credential. A daemon that runs knows better what it holds: it is asked to look. What cannot be
/// proven without spending a grant is said.
async fn prove(resources: &Resources, loaded: &Loaded, daemon: Option<&Client>, clock: &dyn Clock) -> Vec<Found> {
    let mut found = Vec::new();
    for (id, credential) in &loaded.config.credentials {
        let path = format!("credentials.{id}");
        let told = match daemon {
            Some(daemon) => told(daemon, id).await,
            None => None,
        };
        let (severity, message) = match told {
            Some(told) => told,
            None if daemon.is_some() && credential.store == "embedded" => (
                "warning",
                "the running daemon does not watch it yet: `credd credential put` and a reload do that".into(),
            ),
            None => match resources.assignment(&loaded.config, id, credential) {
                Err(error) => ("failure", error.to_string()),
                Ok(assignment) => watcher::prove(&assignment, &*resources.upstream, clock).await,
            },
        };
        found.push(Found { severity, path, message });
    }
    found
}

/// What the running daemon says of a credential after a look of its own; `None` where it does not watch it.
async fn told(daemon: &Client, id: &CredentialId) -> Option<(&'static str, String)> {
    let path = format!("/v1/credentials/{id}");
    let probed = daemon.ask(Method::POST, &format!("{path}/probe"), None).await.ok()?;
    let answer = daemon.ask(Method::GET, &path, None).await.ok().filter(Answer::is_success)?;
    let view = answer.json();
    let state = view["state"].as_str().unwrap_or_default();
    let why = view["problem"]["detail"].as_str().map(|detail| format!(": {detail}")).unwrap_or_default();
    let next = view["problem"]["remedy"].as_str().map(|remedy| format!("; {remedy}")).unwrap_or_default();
    let looked = probed.json();
    let severity = match (state, looked["failure"]["subtype"].as_str()) {
        ("expired" | "revoked" | "misconfigured" | "uninitialised", _) => "failure",
        (_, Some("upstream_unavailable" | "rate_limit_reached" | "unclassified")) => "warning",
        (_, Some(_)) => "failure",
        (_, None) => "success",
    };
    let said = looked["message"].as_str().unwrap_or("no answer");
    Some((severity, format!("{state} in the running daemon, which was asked to probe it: {said}{why}{next}")))
}

//! `credd status`: a table that people like to read.

use std::{io::IsTerminal, process::ExitCode, time::Duration};

use anstyle::{AnsiColor, Style};
use comfy_table::{ContentArrangement, Table, presets::UTF8_HORIZONTAL_ONLY};
use http::Method;
use jiff::{SignedDuration, Timestamp, Unit};
use serde_json::Value;

use super::{
    Context,
    client::{Client, no_answer},
    out::{Out, note, say},
};
use crate::{
    clock::{Clock, SystemClock},
    incident::words::one_line,
};

/// A reason longer than this is cut in the table; `--json` has all of it.
const REASON: usize = 120;

/// `credd status`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Everything that is known, as JSON.
    #[arg(long)]
    pub json: bool,
    /// Again every two seconds until interrupted.
    #[arg(long)]
    pub watch: bool,
}

/// Shows every credential, store and open incident. Exit code 1 if a required credential is bad.
pub async fn run(context: Context, args: Args) -> ExitCode {
    let client = Client::operator(&context);
    loop {
        let answer = match client.ask(Method::GET, "/v1/status", None).await {
            Ok(answer) if answer.is_success() => answer,
            Ok(answer) => {
                note!("error: {}", answer.detail());
                return ExitCode::FAILURE;
            }
            Err(error) => return no_answer(&error),
        };
        let status = answer.json();
        if args.json {
            say!("{status}");
        } else {
            if args.watch && std::io::stdout().is_terminal() {
                // Home, and clear what is below.
                say!("\x1b[H\x1b[J");
            }
            let text = show(&status, SystemClock.now().wall);
            match anstream::AutoStream::choice(&std::io::stdout()) {
                anstream::ColorChoice::Never => say!("{}", anstream::adapter::strip_str(&text)),
                _ => say!("{text}"),
            }
        }
        if !args.watch || !Out::is_open() {
            return if has_bad(&status) { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
        SystemClock.sleep(Duration::from_secs(2)).await;
    }
}

fn has_bad(status: &Value) -> bool {
    status["credentials"].as_array().into_iter().flatten().any(|view| {
        view["criticality"] == "required"
            && matches!(view["state"].as_str(), Some("expired" | "revoked" | "uninitialised"))
    })
}

fn show(status: &Value, now: Timestamp) -> String {
    let empty = Vec::new();
    let credentials = status["credentials"].as_array().unwrap_or(&empty);
    let daemon = &status["daemon"];
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["CREDENTIAL", "STATE", "LEFT", "NEXT", "PROVEN", "GEN", "PROVIDER", "STORE", "WHY"]);
    for view in credentials {
        let state = view["state"].as_str().unwrap_or_default();
        table.add_row([
            view["name"].as_str().unwrap_or_default().to_owned(),
            state.to_owned(),
            until(&view["expires_at"], now).filter(|_| state != "revoked").unwrap_or_else(|| "–".into()),
            next(view, now),
            ago(&view["last_success_at"], now),
            view["generation"].to_string(),
            view["provider"].as_str().unwrap_or_default().to_owned(),
            view["store"].as_str().unwrap_or_default().to_owned(),
            why(view),
        ]);
    }
    let mut text = if credentials.is_empty() {
        "No credential is configured. Add [credentials.NAME] to the settings; `credd schema` and deploy/credd.toml show how.\n".to_owned()
    } else {
        coloured(&table.to_string(), credentials)
    };
    for view in credentials {
        if let Some(remedy) = view["problem"]["remedy"].as_str() {
            text.push_str(&format!("{}: {remedy}\n", view["name"].as_str().unwrap_or_default()));
        }
        if let Some(error) = view["store_error"].as_str() {
            let name = view["name"].as_str().unwrap_or_default();
            text.push_str(&format!("{name}: its home store gives no usable secret: {error}\n"));
        }
    }
    for store in daemon["stores"].as_array().into_iter().flatten() {
        if store["up"] == Value::Bool(false) {
            let error = store["error"].as_str().unwrap_or_default();
            text.push_str(&format!("store {} does not answer: {error}\n", store["name"].as_str().unwrap_or_default()));
        }
        let name = store["name"].as_str().unwrap_or_default();
        match (store["auth_expires_at"].as_str(), store["login_trouble"]["reason"].as_str()) {
            (_, Some(reason)) => text.push_str(&format!("store {name}: our login cannot go on: {reason}\n")),
            (Some(end), None) => text.push_str(&format!("store {name}: our login ends {end} and is renewed before\n")),
            (None, None) => {}
        }
    }
    for incident in daemon["incidents"].as_array().into_iter().flatten() {
        let summary = incident["summary"].as_str().unwrap_or_default();
        text.push_str(&format!("open since {}: {summary}\n", ago(&incident["since"], now)));
    }
    let up = daemon["uptime_seconds"].as_i64().unwrap_or(0);
    let renewing = credentials.iter().filter(|view| !view["refresh_at"].is_null()).count();
    text.push_str(&format!(
        "credd {} (pid {}), up {}, {} of {} credentials renew themselves, health at http://{}/health",
        daemon["version"].as_str().unwrap_or_default(),
        daemon["pid"],
        span(SignedDuration::from_secs(up)),
        renewing,
        credentials.len(),
        daemon["health"].as_str().unwrap_or_default()
    ));
    text
}

/// Colours are put in after the columns were measured: their codes have no width.
fn coloured(table: &str, credentials: &[Value]) -> String {
    let mut text = String::new();
    for line in table.lines() {
        let word = credentials
            .iter()
            .filter_map(|view| view["state"].as_str())
            .find(|state| line.contains(&format!(" {state} ")));
        match word {
            Some(state) => {
                let style = colour(state);
                text.push_str(&line.replacen(&format!(" {state} "), &format!(" {style}{state}{style:#} "), 1));
            }
            None => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

fn colour(state: &str) -> Style {
    let colour = match state {
        "fresh" | "refresh_due" | "refreshing" => AnsiColor::Green,
        "degraded" | "suspect" | "outcome_unknown" | "held" | "misconfigured" => AnsiColor::Yellow,
        _ => AnsiColor::Red,
    };
    colour.on_default()
}

fn date(value: &Value) -> Option<Timestamp> {
    value.as_str()?.parse().ok()
}

fn until(value: &Value, now: Timestamp) -> Option<String> {
    let left = date(value)?.duration_since(now);
    Some(if left > SignedDuration::ZERO { span(left) } else { format!("over {}", span(left.abs())) })
}

fn ago(value: &Value, now: Timestamp) -> String {
    date(value).map_or_else(|| "never".into(), |at| format!("{} ago", span(now.duration_since(at).abs())))
}

/// The next thing that credd will do by itself.
fn next(view: &Value, now: Timestamp) -> String {
    let retry = date(&view["problem"]["retry_at"]);
    // A refresh that was due and failed comes again when the retry does.
    let refresh = date(&view["refresh_at"]).filter(|at| retry.is_none() || *at > now);
    let moments = [(refresh, "refresh"), (date(&view["probe_at"]), "probe"), (retry, "retry")];
    let soonest = moments.into_iter().filter_map(|(at, what)| Some((at?, what))).min();
    soonest.map_or_else(
        || "–".into(),
        |(at, what)| {
            format!("{what} {}", if at > now { format!("in {}", span(at.duration_since(now))) } else { "now".into() })
        },
    )
}

fn why(view: &Value) -> String {
    let flags = view["flags"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let failure = view["problem"]["failure"].as_str();
    let problem = failure.map(|failure| match view["problem"]["detail"].as_str().unwrap_or_default() {
        detail if detail.starts_with(failure) || view["state"] == "uninitialised" => one_line(detail, REASON),
        detail => one_line(&format!("{failure}: {detail}"), REASON),
    });
    let short = view["ttl_warn_seconds"].as_i64().filter(|_| view["state"] == "degraded" && problem.is_none());
    let short = short.map(|warn| format!("less than {} left", span(SignedDuration::from_secs(warn))));
    let flags = flags.map(str::to_owned);
    problem.into_iter().chain(short).chain(flags).collect::<Vec<_>>().join(", ")
}

/// Two units at most: "3h 12m", "41s".
fn span(time: SignedDuration) -> String {
    let unit = match time.as_secs() {
        ..120 => Unit::Second,
        120..172_800 => Unit::Minute,
        _ => Unit::Hour,
    };
    let rounded = time.round(unit).unwrap_or(time);
    let (days, rest) = (rounded.as_hours() / 24, SignedDuration::from_secs(rounded.as_secs() % 86_400));
    match days {
        0 => format!("{rest:#}"),
        days if rest.is_zero() => format!("{days}d"),
        days => format!("{days}d {}h", rest.as_hours()),
    }
}

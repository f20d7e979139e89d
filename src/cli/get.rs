//! `credd get NAME`: prints a token, but only when it is asked to, or piped.

use std::{
    io::{IsTerminal, Write},
    process::ExitCode,
};

use http::Method;
use serde_json::Value;

use super::{
    Context,
    client::{Client, no_answer},
    out::{Out, say},
};
use crate::credential::{CredentialId, Secret};

/// `credd get NAME`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Which credential.
    #[arg(value_parser = CredentialId::new)]
    pub name: CredentialId,
    /// Print the token on a terminal too.
    #[arg(long)]
    pub reveal: bool,
    /// Print the whole answer as JSON; it holds the token.
    #[arg(long)]
    pub json: bool,
    /// Print it as another program expects it: `aws` is what `credential_process` of the AWS CLI and SDKs reads.
    #[arg(long, value_enum, conflicts_with = "json")]
    pub format: Option<Format>,
    /// Time left that the token must have ("90s", "10m"); joins or starts a refresh.
    #[arg(long, value_name = "TIME")]
    pub min_ttl: Option<jiff::SignedDuration>,
}

/// Forms of other programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// `credential_process`, version 1.
    Aws,
}

/// Reads the token as any reader does.
pub async fn run(context: Context, args: Args) -> ExitCode {
    let query = args.min_ttl.map(|time| format!("?min_ttl={}s", time.as_secs().max(0))).unwrap_or_default();
    let path = format!("/v1/tokens/{}{query}", args.name);
    let answer = match Client::reader(&context).ask(Method::GET, &path, None).await {
        Ok(answer) => answer,
        Err(error) => return no_answer(&error),
    };
    let json = answer.json();
    if !answer.is_success() {
        eprintln!("error: {}", answer.detail());
        if let Some(next) = answer.next_step() {
            eprintln!("next: {next}");
        }
        return ExitCode::FAILURE;
    }
    let key = json["access_key_id"].is_string();
    let wrong = match args.format {
        Some(Format::Aws) if !key => Some("is no AWS access key, so there is nothing to print in that form"),
        None if key && !args.json => {
            Some("is an AWS access key, which is more than one text; add --format aws, or --json")
        }
        _ => None,
    };
    if let Some(wrong) = wrong {
        eprintln!("error: {} {wrong}", args.name);
        return ExitCode::FAILURE;
    }
    let hidden = std::io::stdout().is_terminal() && !args.reveal;
    let printed = if hidden {
        let end = json["expires_at"].as_str().unwrap_or("no known end");
        say!(
            "{}: generation {}, ends {end}; the token itself is printed with --reveal, or into a pipe",
            args.name,
            json["generation"]
        );
        Ok(())
    } else if args.json {
        print(&answer.body)
    } else if key {
        print(&credential_process(&json))
    } else {
        print(&Secret::new(json["access_token"].as_str().unwrap_or_default()))
    };
    // What became of the output is noted there.
    drop(printed);
    ExitCode::SUCCESS
}

/// <https://docs.aws.amazon.com/sdkref/latest/guide/feature-process-credentials.html>
fn credential_process(answer: &Value) -> Secret {
    let members = [
        ("AccessKeyId", "access_key_id"),
        ("SecretAccessKey", "secret_access_key"),
        ("SessionToken", "session_token"),
        ("Expiration", "expires_at"),
    ];
    let members = members.iter().filter_map(|(theirs, ours)| {
        let value = answer[*ours].as_str()?;
        Some(((*theirs).to_owned(), Value::from(value)))
    });
    let version = [("Version".to_owned(), Value::from(1))];
    Secret::new(Value::Object(version.into_iter().chain(members).collect()).to_string())
}

fn print(secret: &Secret) -> std::io::Result<()> {
    let mut out = Out;
    out.write_all(secret.expose().as_bytes())?;
    out.write_all(b"\n")?;
    out.flush()
}
#[expect(clippy::disallowed_methods, reason = "the person asked for the token")]

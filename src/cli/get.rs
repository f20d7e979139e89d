//! `credd get NAME`: prints a token, but only when it is asked to, or piped.

use std::{
    io::{IsTerminal, Write},
    process::ExitCode,
};

use http::Method;

use super::{
    Context,
    client::{Client, no_answer},
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
    /// Time left that the token must have ("90s", "10m"); joins or starts a refresh.
    #[arg(long, value_name = "TIME")]
    pub min_ttl: Option<jiff::SignedDuration>,
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
        if let Some(action) = json["failure"]["action"].as_str() {
            eprintln!("next: {action}");
        }
        return ExitCode::FAILURE;
    }
    let hidden = std::io::stdout().is_terminal() && !args.reveal;
    let printed = if hidden {
        let end = json["expires_at"].as_str().unwrap_or("no known end");
        println!(
            "{}: generation {}, ends {end}; the token itself is printed with --reveal, or into a pipe",
            args.name, json["generation"]
        );
        Ok(())
    } else if args.json {
        print(&answer.body)
    } else {
        print(&Secret::new(json["access_token"].as_str().unwrap_or_default()))
    };
    match printed {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn print(secret: &Secret) -> std::io::Result<()> {
    let mut out = std::io::stdout();
    out.write_all(secret.expose().as_bytes())?;
    out.write_all(b"\n")?;
    out.flush()
}

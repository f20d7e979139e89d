//! `credd refresh`, `probe`, `hold`, `release`: what an operator asks of one credential.

use std::process::ExitCode;

use http::Method;

use super::{
    Context,
    client::{Client, no_answer},
    out::{note, say},
};
use crate::credential::CredentialId;

/// `credd refresh NAME` and its siblings.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Which credential (`credd status` lists them).
    #[arg(value_parser = CredentialId::new)]
    pub name: CredentialId,
    /// Print the daemon's answer as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Asks the daemon, and says how it ended.
pub async fn run(context: Context, args: Args, verb: &str) -> ExitCode {
    let path = format!("/v1/credentials/{}/{verb}", args.name);
    let answer = match Client::operator(&context).ask(Method::POST, &path, None).await {
        Ok(answer) => answer,
        Err(error) => return no_answer(&error),
    };
    let json = answer.json();
    if args.json {
        say!("{json}");
    } else if answer.is_success() {
        say!("{}: {} (generation {})", args.name, json["message"].as_str().unwrap_or("done"), json["generation"]);
    } else {
        note!("error: {}: {}", args.name, answer.detail());
        if let Some(next) = answer.next_step() {
            note!("next: {next}; `credd status` shows more");
        }
    }
    if answer.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

//! `credd demo`: a minute in the life of credentials.

use std::process::ExitCode;

/// `credd demo`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {}

/// Runs it.
pub async fn run(_: Args) -> ExitCode {
    ExitCode::FAILURE
}

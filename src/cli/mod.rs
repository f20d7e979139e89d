//! The command line: a file for each verb. What talks to a running daemon does so over its sockets.
//!
//! | exit code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | it did not work; the last line says why. `status`: a required credential is expired, revoked or missing |
//! | 2 | wrong arguments |
//! | 64 | `explain`, `providers`: no such provider, or no such name |
//! | 65 | `providers lint`: a file is wrong; `explain`: the reply cannot be read |
//! | 69 | no daemon answers |
//! | 70 | a fault of credd itself |
//! | 77 | required credentials are bad and were never seen good: the daemon does not start |
//! | 78 | the settings are wrong |
//! | 141 | whoever read our output went away before its end |

mod asker;
pub mod audit;
pub mod check;
pub mod client;
pub mod credential;
mod dump;
pub mod explain;
pub mod get;
mod offline;
pub mod operate;
pub(crate) mod out;
pub mod providers;
mod reach;
mod room;
pub mod run;
pub mod sandbox;
pub mod schema;
pub mod status;
pub mod unclassified;

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{CommandFactory, Parser, Subcommand};

use self::out::{Out, note};
use crate::clock::{Clock, SystemClock};

/// The daemon does not start: required credentials are bad.
pub const EXIT_CREDENTIALS: u8 = 77;
/// The settings are wrong (`EX_CONFIG`).
pub const EXIT_SETTINGS: u8 = 78;
/// No daemon answers (`EX_UNAVAILABLE`).
pub const EXIT_NO_DAEMON: u8 = 69;

const EXIT_CODES: &str = "Exit codes: 0 done; 1 it did not work (status: a required credential is bad); 2 wrong arguments; \
64 no such provider or name; 65 a provider's file or a reply is wrong; 69 no daemon answers; 70 a fault of credd itself; 73, 74 a \
file or the output cannot be written; 77 required credentials are bad, so the daemon does not start; 78 the settings are \
wrong; 141 the output's reader went away.";

/// Owns the lifecycle of this host's credentials: loads, probes, refreshes exactly once, delivers, and pages a human
/// when one is revoked.
#[derive(Debug, Parser)]
#[command(name = "credd", version, propagate_version = true, max_term_width = 100, after_help = EXIT_CODES)]
struct Arguments {
    /// The settings; default: CREDD_CONFIG, then ~/.config/credd/credd.toml, then /etc/credd/credd.toml.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The readers' socket of the daemon; the operator's stands beside it.
    #[arg(long, global = true, value_name = "PATH", env = "CREDD_SOCKET")]
    socket: Option<PathBuf>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the daemon.
    Run(run::Args),
    /// A minute in the life of credentials, with everything in one process and nothing to set up.
    Demo(crate::demo::Args),
    /// Check the settings without starting, then reach every home store and channel.
    Check(check::Args),
    /// Print the JSON Schema of the settings.
    Schema(schema::Args),
    /// Show every credential and how it stands. Exit code 1: a required one is expired, revoked or missing.
    Status(status::Args),
    /// Print a token.
    Get(get::Args),
    /// Refresh a credential now.
    Refresh(operate::Args),
    /// Probe a credential now.
    Probe(operate::Args),
    /// Send nothing upstream for a credential until it is released.
    Hold(operate::Args),
    /// End a hold; a revoked or misconfigured credential is tried once more.
    Release(operate::Args),
    /// Manage the secrets of the embedded store.
    Credential(credential::Args),
    /// Say what an upstream's reply means, and why.
    Explain(explain::Args),
    /// Show or check what the catalogue knows of providers.
    Providers(providers::Args),
    /// Show, export or dismiss the replies that no rule matched.
    Unclassified(unclassified::Args),
    /// Show, verify or export the audit log.
    Audit(audit::Args),
    /// Run an OAuth provider and API that misbehaves on demand, to rehearse with.
    Sandbox(sandbox::SandboxArgs),
    /// Print completions for a shell.
    Completions {
        /// Which.
        shell: clap_complete::Shell,
    },
}

/// Where a verb finds settings and sockets.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// `--config`.
    pub config: Option<PathBuf>,
    /// `--socket`, or `CREDD_SOCKET`.
    pub socket: Option<PathBuf>,
}

/// Runs what the arguments ask for.
pub fn main() -> ExitCode {
    // One provider of cryptography for all of TLS; a second installation in one process is no harm.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let arguments = Arguments::parse();
    let context = Context { config: arguments.config, socket: arguments.socket };
    let now = || SystemClock.now().wall;
    let code = match arguments.verb {
        Verb::Run(args) => match room::find() {
            Ok(()) => block_on(run::run(context, args)),
            Err(why) => {
                note!("error: {why}");
                ExitCode::FAILURE
            }
        },
        Verb::Demo(args) => block_on(crate::demo::run(args)),
        Verb::Check(args) => block_on(reach::run(context, args)),
        Verb::Schema(args) => printed(schema::run(&args, &mut Out)),
        Verb::Status(args) => block_on(status::run(context, args)),
        Verb::Get(args) => block_on(get::run(context, args)),
        Verb::Refresh(args) => block_on(operate::run(context, args, "refresh")),
        Verb::Probe(args) => block_on(operate::run(context, args, "probe")),
        Verb::Hold(args) => block_on(operate::run(context, args, "hold")),
        Verb::Release(args) => block_on(operate::run(context, args, "release")),
        Verb::Credential(args) => block_on(credential::run(context, args)),
        Verb::Explain(args) => explain::run(&args, now(), &mut io::stdin().lock(), &mut Out),
        Verb::Providers(args) => providers::run(&args, &mut Out),
        Verb::Unclassified(args) => block_on(unclassified::run(context, args)),
        Verb::Audit(args) => block_on(audit::run(context, args)),
        Verb::Sandbox(args) => block_on(sandbox::run(args)),
        Verb::Completions { shell } => {
            // Into memory first: it would panic where the output ends early.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "credd", &mut script);
            printed(Out.write_all(&script))
        }
    };
    Out::ended(code)
}

fn printed(written: io::Result<()>) -> ExitCode {
    // What became of the output is noted there.
    drop(written);
    ExitCode::SUCCESS
}

fn block_on(verb: impl Future<Output = ExitCode>) -> ExitCode {
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(verb),
        Err(error) => {
            note!("error: threads cannot be started: {error}");
            ExitCode::from(70)
        }
    }
}

//! `credd run`: the daemon, its signals, and what systemd wants to hear.

use std::{process::ExitCode, sync::Arc, time::Duration};

use tokio::signal::unix::{SignalKind, signal};

use super::{Context, EXIT_CREDENTIALS, EXIT_SETTINGS, out::note};
use crate::{
    catalogue::Catalogue,
    clock::{Clock, SystemClock},
    config,
    daemon::{Daemon, Environment, StartError},
    metrics::Metrics,
    telemetry,
};

/// `credd run`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// `error`, `warn`, `info`, `debug`, or a filter; wins over the settings.
    #[arg(long, env = "CREDD_LOG")]
    pub log_level: Option<String>,
}

/// Runs until SIGTERM or SIGINT; SIGHUP reloads.
pub async fn run(context: Context, args: Args) -> ExitCode {
    let loaded = match load(&context) {
        Ok(loaded) => loaded,
        Err(problems) => {
            note!("{problems}");
            return ExitCode::from(EXIT_SETTINGS);
        }
    };
    let telemetry = match telemetry::init(&loaded.config.log, args.log_level.as_deref()) {
        Ok(telemetry) => telemetry,
        Err(error) => {
            note!("error: {error}");
            return ExitCode::from(EXIT_SETTINGS);
        }
    };
    // What a panic says may hold anything; its place is enough, from the first moment on.
    telemetry::install_panic_hook(Metrics::new());
    no_core_files();
    let environment = Environment {
        clock: Arc::new(SystemClock),
        redactor: telemetry.redactor.clone(),
        dice: Arc::new(throw),
        machine: crate::clock::machine_id(),
        telemetry: Some(telemetry),
    };
    let daemon = match Daemon::start(loaded, environment).await {
        Ok(daemon) => daemon,
        Err(error) => {
            tracing::error!("credd does not start");
            match &error {
                // As they stand where a check or a bad file prints them.
                StartError::Impossible(problems) => note!("{problems}"),
                _ => note!("error: {error}"),
            }
            return match error {
                StartError::Impossible(_) | StartError::Settings(_) => ExitCode::from(EXIT_SETTINGS),
                StartError::Environment(_) => ExitCode::FAILURE,
                StartError::Credentials(_) => ExitCode::from(EXIT_CREDENTIALS),
            };
        }
    };
    telemetry::install_panic_hook(daemon.metrics.clone());
    tell(&[sd_notify::NotifyState::Ready]);
    let outcome = follow_signals(&daemon).await;
    tell(&[sd_notify::NotifyState::Stopping]);
    daemon.stop().await;
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            note!("error: signals cannot be received: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Secrets in memory must not become a core file, nor be read by whoever traces; programs that we start inherit the
/// limit.
fn no_core_files() {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "a crash may leave a core file that holds secrets");
    }
    if let Err(error) = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }) {
        tracing::warn!(%error, "a crash may leave a core file that holds secrets");
    }
}

/// Until the signal to stop.
async fn follow_signals(daemon: &Daemon) -> std::io::Result<()> {
    let (mut terminate, mut interrupt, mut hangup) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?, signal(SignalKind::hangup())?);
    let clock = SystemClock;
    // Half of what systemd allows between two signs of life.
    let pause = sd_notify::watchdog_enabled().map(|limit| limit / 2);
    loop {
        let sleep = clock.sleep(pause.unwrap_or(Duration::from_secs(3600)));
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = hangup.recv() => reload(daemon).await,
            () = sleep => {
                if pause.is_some() && daemon.is_alive() {
                    tell(&[sd_notify::NotifyState::Watchdog]);
                }
            }
        }
    }
}

async fn reload(daemon: &Daemon) {
    // Both in one message: systemd drops a reload without its time.
    match sd_notify::NotifyState::monotonic_usec_now() {
        Ok(time) => tell(&[sd_notify::NotifyState::Reloading, time]),
        Err(error) => tracing::debug!(%error, "the service manager is not told of the reload"),
    }
    if let Some(config::Outcome::Kept(problems)) = daemon.reload.reload().await {
        tracing::error!("the settings were not taken over:\n{problems}");
    }
    tell(&[sd_notify::NotifyState::Ready]);
}

fn tell(states: &[sd_notify::NotifyState]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager could not be told");
    }
}

/// The settings of this context, checked against the built-in catalogue.
pub fn load(context: &Context) -> Result<config::Loaded, config::Problems> {
    let names: Vec<String> =
        Catalogue::embedded().map(|catalogue| catalogue.names().map(str::to_owned).collect()).unwrap_or_default();
    config::load(context.config.as_deref(), &names)
}

/// A throw of 0 to 1 from the system's randomness.
pub fn throw() -> f64 {
    let mut bytes = [0; 4];
    // Without randomness there is no jitter; everything else still works.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX)
}

//! `credd demo`: a minute in the life of credentials, with everything in one process and nothing to set up.
//!
//! A sandbox provider, the real daemon on a folder of its own, an SMTP and a webhook receiver, and a crowd of readers on
//! the socket. A script makes things go wrong; what is promised is counted on both sides, and the exit code says whether
//! all of it happened.

mod api;
mod cast;
mod crowd;
mod news;
mod reader;
mod script;
mod sinks;
mod stage;
mod summary;
mod view;

use std::{io::IsTerminal, process::ExitCode, sync::Arc, time::Duration};

use jiff::SignedDuration;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{cli::out::note, clock::SystemClock};
use script::Script;
use stage::Stage;
use view::View;

/// Below this the life of a credential cannot be shown: a revocation alone is confirmed for ten seconds.
const SHORTEST: Duration = Duration::from_secs(30);
/// What the script runs by when it is to go on until Ctrl-C.
const USUAL: Duration = Duration::from_secs(60);

/// `credd demo`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// How long, from 30s; 0 goes on until Ctrl-C
    #[arg(long = "for", value_name = "TIME", default_value = "60s", value_parser = time)]
    pub length: Duration,
    /// Lines of text instead of the live view
    #[arg(long)]
    pub plain: bool,
}

fn time(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().map(Duration::from_secs);
    let time = seconds.or_else(|| Duration::try_from(text.parse::<SignedDuration>().ok()?).ok());
    match time {
        Some(time) if time.is_zero() || time >= SHORTEST => Ok(time),
        Some(_) => Err("a credential's life takes 30s at least; 0 goes on until Ctrl-C".into()),
        None => Err("give a length of time such as 60s or 2m, or 0 to go on until Ctrl-C".into()),
    }
}

/// Runs it. Exit code 0 if all that was promised happened.
pub async fn run(args: Args) -> ExitCode {
    match perform(&args).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            note!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all that was promised happened.
async fn perform(args: &Args) -> Result<bool, String> {
    // Listened to from the beginning, so that whatever is interrupted leaves nothing behind.
    let listen = |kind| signal(kind).map_err(|error| format!("signals cannot be received: {error}"));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let stage = Stage::build(Arc::new(SystemClock)).await?;
    let live = !args.plain && std::io::stdout().is_terminal();
    let length = if args.length.is_zero() { USUAL } else { args.length };
    let view = View::new(stage.clock.clone(), live);
    view.introduce(&stage, args.length);
    let script = Arc::new(Script::new(&stage, view.clone(), length));
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    crowd::gather(&stage, &tasks, &stop);
    news::follow(&stage, &view, &tasks, &stop);
    tasks.spawn(stop.clone().run_until_cancelled_owned(api::watch_health(
        stage.api.clone(),
        stage.health_url(),
        stage.health.clone(),
        view.clone(),
    )));
    tasks.spawn(stop.clone().run_until_cancelled_owned(view.clone().draw(stage.looks())));
    let playing = script.clone();
    let forever = args.length.is_zero();
    let play = async move {
        playing.play().await;
        if forever {
            playing.view.say("That was all of the script. The readers go on; Ctrl-C ends it.");
            std::future::pending::<()>().await;
        }
        playing.until_the_end().await;
    };
    tokio::select! {
        () = play => {}
        _ = interrupt.recv() => view.say("Interrupted."),
        _ = terminate.recv() => view.say("Asked to stop."),
    }
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    view.end();
    let last = stage.close().await;
    let verdict = summary::of(&script, &last);
    view.write(&verdict.text);
    Ok(verdict.kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_is_seconds_or_a_duration_and_long_enough() {
        assert_eq!(time("60"), Ok(USUAL));
        assert_eq!(time("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(time("0"), Ok(Duration::ZERO));
        assert!(time("29s").unwrap_err().contains("30s"));
        assert!(time("soon").unwrap_err().contains("60s"));
        assert!(time("-60s").is_err());
    }
}

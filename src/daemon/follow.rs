//! Follows changed settings: all of them are in force, or nothing of them is, and only then is it said.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{Resources, StartError, house, pagers};
use crate::{
    clock::Clock,
    config::{Config, Loaded, Problem, Problems, Reloader, difference},
    failpoint,
    ledger::Ledger,
    metrics::Metrics,
    telemetry::Telemetry,
    watcher::Fleet,
};

/// What changed settings reach while a daemon runs.
pub(super) struct Follower {
    pub fleet: Arc<tokio::sync::Mutex<Option<Fleet>>>,
    pub oncall: pagers::Running,
    pub channels: house::Channels,
    pub ledger: Ledger,
    pub metrics: Metrics,
    pub clock: Arc<dyn Clock>,
    pub telemetry: Option<Telemetry>,
    pub resources: Resources,
    /// The settings in force.
    pub current: Arc<Config>,
}

impl Follower {
    /// Until stopped.
    pub async fn run(mut self, mut reloader: Reloader, stop: CancellationToken) {
        loop {
            let next = tokio::select! {
                () = stop.cancelled() => return,
                next = reloader.next() => next,
            };
            let outcome = self.take_over(&next).await;
            reloader.ended(outcome.map_err(|error| in_words(&next, error)));
        }
    }

    /// Everything that can fail comes first, beside what is in force. A store or a channel that is down is none of it: they
    /// are opened without a word to the other end (FM-78).
    async fn take_over(&mut self, next: &Loaded) -> Result<(), StartError> {
        let difference = difference(&self.current, &next.config);
        let resources = self.resources.following(next, &difference).await?;
        let assignments = resources.assignments(&next.config)?;
        if let (Some(level), Some(telemetry)) = (&difference.log_level, &self.telemetry) {
            telemetry.set_level(level).map_err(|error| StartError::Settings(format!("log.level: {error}")))?;
        }
        failpoint::reach("CP-23");
        self.resources = resources;
        if let Some(fleet) = self.fleet.lock().await.as_mut() {
            drop(fleet.watch(assignments).await);
        }
        if !difference.channels.is_empty() {
            let (ledger, metrics) = (&self.ledger, &self.metrics);
            pagers::start(&self.oncall, &self.channels, ledger, &self.resources, metrics, self.clock.clone());
        }
        self.current = next.config.clone();
        Ok(())
    }
}

/// With the place, as a start would say it.
fn in_words(loaded: &Loaded, error: StartError) -> Problems {
    match error {
        StartError::Impossible(problems) => problems,
        StartError::Settings(words) | StartError::Environment(words) => {
            let file = loaded.path.clone().unwrap_or_default();
            Problems(vec![Problem::of_file(&file, words, "correct it; the file is looked at again by itself")])
        }
        StartError::Credentials(refused) => {
            let file = loaded.path.clone().unwrap_or_default();
            Problems(vec![Problem::of_file(&file, refused.to_string(), "mend them")])
        }
    }
}

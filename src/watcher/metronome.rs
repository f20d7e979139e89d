//! The beat: cron expressions become messages to the shards. The only user of the scheduler crate, and itself watched.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::sync::mpsc;
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};
use tokio_util::sync::CancellationToken;

use crate::{clock::Clock, metrics::Metrics};

/// What the scheduler calls itself in the log. It talks about every beat.
pub const SCHEDULER: &str = "tokio_cron_scheduler";

/// Room in the scheduler's channels: the least, and for each expression. With too little it silently loses jobs that are
/// due at once, and each of its eight channels takes all of its room at once.
const ROOM: (usize, usize) = (256, 8);
/// Probes of one beat spread over the time to the next one, but at most over this.
const WIDEST_SPREAD: Duration = Duration::from_secs(300);
/// Looked at this often; two missing beats mean that the scheduler has stopped.
const WATCH: Duration = Duration::from_secs(15);

/// One beat: which cron expression, and how far its work may spread.
#[derive(Clone, Debug)]
pub struct Beat {
    /// The expression.
    pub cron: Arc<str>,
    /// How far.
    pub spread: Duration,
}

/// Turns cron expressions into beats.
pub struct Metronome {
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    beats: mpsc::UnboundedSender<Beat>,
}

impl Metronome {
    /// Beats go to that door.
    pub fn new(clock: Arc<dyn Clock>, metrics: Metrics, beats: mpsc::UnboundedSender<Beat>) -> Self {
        Self { clock, metrics, beats }
    }

    /// Runs these expressions until stopped. Where the scheduler goes quiet, it is started again, and the missing beat is made up for.
    pub async fn run(self, expressions: BTreeSet<String>, stop: CancellationToken) {
        let expressions: Vec<Arc<str>> = expressions.into_iter().map(Arc::from).collect();
        let mut started = self.clock.now();
        let mut scheduler = self.start(&expressions).await;
        let last = Arc::new(std::sync::Mutex::new(std::collections::HashMap::<Arc<str>, Duration>::new()));
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.clock.sleep(WATCH) => {}
                beat = self.next(&mut scheduler) => {
                    if let Some(cron) = beat {
                        last.lock().expect("nothing panics while it is held").insert(cron.clone(), self.clock.now().boot);
                        self.beat(&cron);
                    }
                    continue;
                }
            }
            let now = self.clock.now();
            let missing = expressions.iter().any(|cron| {
                let heard =
                    last.lock().expect("nothing panics while it is held").get(cron).copied().unwrap_or(started.boot);
                interval(cron)
                    .is_some_and(|interval| now.boot.saturating_sub(heard.max(started.boot)) > interval * 2 + WATCH)
            });
            if missing {
                tracing::error!("the scheduler has missed two beats; starting it again");
                started = now;
                scheduler = self.start(&expressions).await;
                for cron in &expressions {
                    self.beat(cron);
                }
            }
        }
    }

    fn beat(&self, cron: &Arc<str>) {
        let now = self.clock.now().wall.as_millisecond() as f64 / 1e3;
        self.metrics.credd_last_beat_timestamp_seconds.with_label_values(&["probe"]).set(now);
        let spread = interval(cron).unwrap_or(WIDEST_SPREAD).min(WIDEST_SPREAD);
        // Nobody listens any more only when the daemon stops.
        let _ = self.beats.send(Beat { cron: cron.clone(), spread });
    }

    /// The next beat. A scheduler that has ended, or that has nothing to beat for, is let go: it would answer at once,
    /// for ever. What it should have done is missed by the watch.
    async fn next(&self, scheduler: &mut Option<Running>) -> Option<Arc<str>> {
        let Some(running) = scheduler else { return std::future::pending().await };
        let beat = running.beats.recv().await;
        if beat.is_none() {
            *scheduler = None;
        }
        beat
    }

    async fn start(&self, expressions: &[Arc<str>]) -> Option<Running> {
        match Running::start(expressions).await {
            Ok(running) => Some(running),
            Err(error) => {
                tracing::error!(%error, "the scheduler does not start; probes are planned by the watch alone");
                None
            }
        }
    }
}

struct Running {
    beats: mpsc::UnboundedReceiver<Arc<str>>,
    _scheduler: JobScheduler,
}

impl Running {
    async fn start(expressions: &[Arc<str>]) -> Result<Self, JobSchedulerError> {
        let (send, beats) = mpsc::unbounded_channel();
        let scheduler = JobScheduler::new_with_channel_size(ROOM.0 + ROOM.1 * expressions.len()).await?;
        for cron in expressions {
            let (cron, send) = (cron.clone(), send.clone());
            let job = Job::new(cron.clone().as_ref(), move |_, _| {
                let _ = send.send(cron.clone());
            })?;
            scheduler.add(job).await?;
        }
        scheduler.start().await?;
        Ok(Self { beats, _scheduler: scheduler })
    }
}

/// Whether the scheduler understands an expression and finds a time at which it is due; the words of its refusal otherwise.
pub fn check_cron(expression: &str) -> Result<(), String> {
    if expression.len() > 200 || expression.split_whitespace().count() != 6 {
        return Err("six fields are needed: second, minute, hour, day, month, weekday".into());
    }
    let mut job = Job::new(expression, |_, _| {}).map_err(|error| error.to_string())?;
    match job.job_data() {
        Ok(data) if data.next_tick > 0 => Ok(()),
        _ => Err("it is never due".into()),
    }
}

/// The time between two beats, read off the expression's simple forms (`*/n`); an hour for the others.
fn interval(cron: &str) -> Option<Duration> {
    let fields: Vec<&str> = cron.split_whitespace().collect();
    let [second, minute, hour, ..] = fields.as_slice() else { return None };
    let every = |field: &str, unit: u64| match field.split_once('/') {
        Some((_, step)) => step.parse::<u64>().ok().map(|step| Duration::from_secs(step.max(1) * unit)),
        None if field == "*" => Some(Duration::from_secs(unit)),
        None => None,
    };
    every(second, 1)
        .or_else(|| every(minute, 60))
        .or_else(|| every(hour, 3600))
        .or(Some(Duration::from_secs(24 * 3600)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_read_off_the_expression() {
        for (cron, seconds) in [
            ("0 */5 * * * *", 300),
            ("*/10 * * * * *", 10),
            ("* * * * * *", 1),
            ("0 0 */2 * * *", 7200),
            ("0 0 3 * * *", 86_400),
            ("0 * * * * *", 60),
        ] {
            assert_eq!(interval(cron), Some(Duration::from_secs(seconds)), "{cron}");
        }
    }

    #[test]
    fn expressions_are_checked_by_the_scheduler_itself() {
        assert!(check_cron("0 */5 * * * *").is_ok());
        assert!(check_cron("0 */5 * *").is_err());
        assert!(check_cron("soon").is_err());
        assert!(check_cron("0 0 0 30 2 *").is_err(), "the 30th of February");
    }

    #[tokio::test]
    async fn a_scheduler_that_has_nothing_to_beat_for_is_let_go() {
        let (beats, _heard) = mpsc::unbounded_channel();
        let metronome = Metronome::new(Arc::new(crate::clock::SystemClock), Metrics::new(), beats);
        let mut scheduler = metronome.start(&[]).await;
        assert!(scheduler.is_some());
        assert_eq!(metronome.next(&mut scheduler).await, None);
        assert!(scheduler.is_none(), "it would answer at once, for ever");
    }
}

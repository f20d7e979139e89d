//! From facts in the ledger to pages in the outbox, and from there out.

mod deliver;
mod outbox;

pub use outbox::{Due, Outbox, Page, Unannounced};

use std::{sync::Arc, time::Duration};

use futures_util::future::{join, join_all};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    clock::Clock,
    incident::{self, Severity},
    metrics::Metrics,
    pager::Channel,
};

/// Nothing new is announced while more pages than this wait: the facts keep until there is room.
pub const BACKLOG: u64 = 10_000;

/// Everything is looked at this often, whoever forgot to say that something changed.
const SWEEP: Duration = Duration::from_secs(60);

/// After an error of the ledger.
const AGAIN: Duration = Duration::from_secs(5);

/// Tells on-call what the ledger's facts amount to, over all channels.
pub struct Oncall {
    outbox: Arc<dyn Outbox>,
    channels: Vec<Arc<dyn Channel>>,
    names: Vec<String>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
}

impl Oncall {
    /// Every channel gets every message; their order decides who stands in for whom.
    pub fn new(
        outbox: Arc<dyn Outbox>,
        channels: Vec<Arc<dyn Channel>>,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
    ) -> Self {
        let names = channels.iter().map(|channel| channel.name().to_owned()).collect();
        Self { outbox, channels, names, clock, metrics }
    }

    /// Runs until stopped; what is being sent then is finished first. Each channel has a loop of its own, so that one
    /// which is down keeps none of the others waiting.
    pub async fn run(&self, stop: &CancellationToken) {
        while let Err(why) = self.outbox.adopt(&self.names).await {
            tracing::error!("pages of removed channels were not handed on, trying again: {why}");
            if self.rest(AGAIN, stop).await {
                return;
            }
        }
        let channels = join_all(self.channels.iter().map(|channel| self.deliver(&**channel, stop)));
        join(self.announce(stop), channels).await;
    }

    async fn announce(&self, stop: &CancellationToken) {
        let mut changes = self.outbox.changes();
        while !stop.is_cancelled() {
            changes.mark_unchanged();
            let now = self.clock.now().wall;
            let wake = self.announce_due(now).await.unwrap_or_else(|why| {
                tracing::error!("on-call cannot be told anything, trying again: {why}");
                now.checked_add(AGAIN).ok()
            });
            self.wait(wake, now, &mut changes, stop).await;
        }
    }

    /// Makes durable what is to be said now. Answers when to look again.
    async fn announce_due(&self, now: Timestamp) -> Result<Option<Timestamp>, String> {
        let Unannounced { conditions, backlog } = self.outbox.unannounced().await?;
        let plan = incident::plan(&conditions, now);
        for severity in Severity::ALL {
            let open = plan.open.iter().filter(|one| **one == severity).count();
            self.metrics
                .credd_pages_active
                .with_label_values(&[severity.as_str()])
                .set(open.try_into().unwrap_or(i64::MAX));
        }
        for announcement in &plan.announcements {
            if let Some(message) = &announcement.message {
                if self.channels.is_empty() {
                    tracing::warn!(kind = message.kind, "{}: nobody is told, no channel is set up", message.summary);
                    continue;
                }
                if backlog >= BACKLOG {
                    tracing::error!(backlog, "{}: not announced yet, too many pages wait", message.summary);
                    continue;
                }
                tracing::info!(
                    key = message.dedup_key,
                    kind = message.kind,
                    severity = message.severity.as_str(),
                    action = ?message.action,
                    "{}",
                    message.summary
                );
            }
            self.outbox.announce(new_id(now), announcement, &self.names).await?;
        }
        Ok(plan.next)
    }

    /// Until that moment, a change, or the stop; and never longer than the sweep, because the wall clock may be set.
    async fn wait(
        &self,
        wake: Option<Timestamp>,
        now: Timestamp,
        changes: &mut watch::Receiver<()>,
        stop: &CancellationToken,
    ) {
        let time = wake.map_or(SWEEP, |wake| wake.duration_since(now).try_into().unwrap_or(Duration::ZERO).min(SWEEP));
        tokio::select! {
            () = stop.cancelled() => {}
            Ok(()) = changes.changed() => {}
            () = self.clock.sleep(time) => {}
        }
    }

    /// Whether the stop came first.
    async fn rest(&self, time: Duration, stop: &CancellationToken) -> bool {
        tokio::select! {
            () = stop.cancelled() => true,
            () = self.clock.sleep(time) => false,
        }
    }
}

/// A time-ordered id of our own clock's time.
fn new_id(now: Timestamp) -> Uuid {
    let seconds = u64::try_from(now.as_second()).unwrap_or(0);
    let nanoseconds = u32::try_from(now.subsec_nanosecond()).unwrap_or(0);
    Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, seconds, nanoseconds))
}

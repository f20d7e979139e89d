//! Carries the pages of one channel out, and waits longer each time that the channel says no.

use std::{collections::BTreeSet, panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{AGAIN, Due, Oncall, Page};
use crate::pager::{Channel, Delivery};

/// The first and the last wait between two attempts.
const FIRST: Duration = Duration::from_secs(10);
const LAST: Duration = Duration::from_secs(300);
/// After so many failures the next channel gets the page too.
const STAND_IN: u32 = 3;

/// What a channel's loop remembers; losing it costs nothing but a repeated attempt.
#[derive(Default)]
struct Memory {
    /// The channel said no: nothing is tried before.
    rest_until: Option<Timestamp>,
    /// Sent, but the ledger could not be told yet.
    sent: BTreeSet<Uuid>,
}

impl Oncall {
    /// One channel's loop.
    pub(super) async fn deliver(&self, channel: &dyn Channel, stop: &CancellationToken) {
        let mut changes = self.outbox.changes();
        let mut memory = Memory::default();
        while !stop.is_cancelled() {
            changes.mark_unchanged();
            let now = self.clock.now().wall;
            let wake = match self.deliver_due(channel, now, &mut memory, stop).await {
                Ok(wake) => wake,
                Err(why) => {
                    tracing::error!(channel = channel.name(), "the outbox cannot be used, trying again: {why}");
                    now.checked_add(AGAIN).ok()
                }
            };
            self.wait(wake, now, &mut changes, stop).await;
        }
    }

    /// Sends what is due. Answers when to look again.
    async fn deliver_due(
        &self,
        channel: &dyn Channel,
        now: Timestamp,
        memory: &mut Memory,
        stop: &CancellationToken,
    ) -> Result<Option<Timestamp>, String> {
        let Due { pages, waiting, oldest, next } = self.outbox.due_pages(channel.name(), now).await?;
        self.show_queue(channel.name(), waiting, oldest);
        if let Some(until) = memory.rest_until.filter(|until| now < *until) {
            return Ok(Some(until));
        }
        for page in &pages {
            if stop.is_cancelled() {
                return Ok(None);
            }
            if let Some(until) = self.attempt(channel, page, memory).await? {
                memory.rest_until = Some(until);
                return Ok(Some(until));
            }
        }
        // There may be more than a handful.
        Ok(if pages.is_empty() { next } else { Some(now) })
    }

    /// One attempt at one page. Answers until when the channel must be left alone, if it said no for now.
    async fn attempt(
        &self,
        channel: &dyn Channel,
        page: &Page,
        memory: &mut Memory,
    ) -> Result<Option<Timestamp>, String> {
        let (name, at) = (channel.name(), self.clock.now().wall);
        let delivery = if memory.sent.contains(&page.id) {
            Delivery::Accepted
        } else {
            // A panic of a library must not end the loop; it counts as a failure of the channel.
            AssertUnwindSafe(channel.send(page.id, &page.message, at)).catch_unwind().await.unwrap_or_else(|_| {
                Delivery::Later { reason: "panic", detail: "the channel panicked; this is a bug".into(), after: None }
            })
        };
        let stand_in =
            self.names.iter().cycle().skip_while(|other| *other != name).nth(1).filter(|other| *other != name);
        match delivery {
            Delivery::Accepted => {
                if memory.sent.insert(page.id) {
                    self.count_success(name);
                    tracing::info!(channel = name, key = page.message.dedup_key, "delivered");
                }
                self.outbox.page_done(page.id, name).await?;
                memory.sent.remove(&page.id);
                memory.rest_until = None;
                Ok(None)
            }
            Delivery::Never { reason, detail } => {
                self.count_failure(name, reason);
                tracing::error!(channel = name, key = page.message.dedup_key, reason, "not delivered: {detail}");
                match stand_in {
                    Some(other) => self.outbox.page_also(page.id, name, other, true).await?,
                    // Nobody else is there: a page is rather late than lost, and somebody may mend the channel.
                    None => self.outbox.page_later(page.id, name, later(at, LAST)).await?,
                }
                Ok(None)
            }
            Delivery::Later { reason, detail, after } => {
                self.count_failure(name, reason);
                let attempts = page.attempts.saturating_add(1);
                let wait = back_off(attempts, page.id).max(after.unwrap_or_default());
                tracing::warn!(
                    channel = name,
                    key = page.message.dedup_key,
                    reason,
                    attempts,
                    "not delivered yet: {detail}"
                );
                self.outbox.page_later(page.id, name, later(at, wait)).await?;
                if let Some(other) = stand_in.filter(|_| attempts >= STAND_IN) {
                    self.outbox.page_also(page.id, name, other, false).await?;
                }
                Ok(Some(later(at, after.unwrap_or(FIRST).max(FIRST))))
            }
        }
    }

    fn show_queue(&self, channel: &str, waiting: u64, oldest: Option<Timestamp>) {
        let labels = &[channel];
        let length = &self.metrics.credd_notification_queue_length;
        length.with_label_values(labels).set(waiting.try_into().unwrap_or(i64::MAX));
        let gauge = &self.metrics.credd_notification_oldest_timestamp_seconds;
        match oldest {
            Some(at) => gauge.with_label_values(labels).set(unix(at)),
            None => drop(gauge.remove_label_values(labels)),
        }
    }

    fn count_success(&self, channel: &str) {
        self.metrics.credd_notifications_total.with_label_values(&[channel]).inc();
        let last = &self.metrics.credd_notification_last_success_timestamp_seconds;
        last.with_label_values(&[channel]).set(unix(self.clock.now().wall));
    }

    fn count_failure(&self, channel: &str, reason: &str) {
        self.metrics.credd_notification_failures_total.with_label_values(&[channel, reason]).inc();
    }
}

/// Doubles from 10 s to 5 min, with up to a quarter more, drawn from the page's own random bits: pages that failed
/// together come back apart, and the same page at the same attempt always waits the same time.
fn back_off(attempts: u32, id: Uuid) -> Duration {
    let doubled = FIRST.saturating_mul(1_u32 << attempts.saturating_sub(1).min(5)).min(LAST * 4 / 5);
    let [.., a, b] = *id.as_bytes();
    let share = f64::from(u16::from_be_bytes([a, b]).rotate_left(attempts % 16)) / f64::from(u16::MAX);
    doubled.mul_f64(1.0 + share / 4.0)
}

fn later(at: Timestamp, wait: Duration) -> Timestamp {
    at.checked_add(wait).unwrap_or(Timestamp::MAX)
}

fn unix(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fm63_back_off_doubles_from_10_s_to_5_min() {
        for id in [Uuid::nil(), Uuid::max(), Uuid::from_u128(0x1234_5678)] {
            let waits: Vec<_> = (1..=40).map(|attempts| back_off(attempts, id)).collect();
            assert!(waits[0] >= FIRST && waits[0] <= FIRST * 5 / 4, "{waits:?}");
            assert!(waits[1] >= FIRST * 2 && waits[2] >= FIRST * 4, "{waits:?}");
            assert!(waits.iter().all(|wait| *wait <= LAST), "{waits:?}");
            assert!(waits[5..].iter().all(|wait| *wait >= LAST * 4 / 5), "{waits:?}");
        }
    }
}

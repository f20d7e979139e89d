//! On-call in a test: its outbox, its clock, its metrics.

use std::{sync::Arc, time::Duration};

use credd::{metrics::Metrics, oncall::Oncall, pager::Channel};
use tokio_util::sync::CancellationToken;

use super::{bounded, clock::HandClock, outbox::Memory};

pub const MINUTE: Duration = Duration::from_secs(60);

/// On-call over an outbox in memory; the outbox outlives it, as the ledger outlives the process.
pub struct House {
    pub outbox: Arc<Memory>,
    pub clock: HandClock,
    pub metrics: Metrics,
}

impl House {
    pub fn new() -> Self {
        Self { outbox: Arc::default(), clock: HandClock::new(), metrics: Metrics::new() }
    }

    /// Runs on-call beside the test's own steps, then stops it: one life of the process.
    pub async fn live<T>(&self, channels: Vec<Arc<dyn Channel>>, steps: impl Future<Output = T>) -> T {
        let clock = Arc::new(self.clock.clone());
        let oncall = Oncall::new(self.outbox.clone(), channels, clock, self.metrics.clone());
        let stop = CancellationToken::new();
        bounded(async {
            tokio::select! {
                biased;
                () = oncall.run(&stop) => panic!("on-call ended by itself"),
                answer = steps => answer,
            }
        })
        .await
    }

    pub fn revoke(&self, credential: &str) {
        self.outbox.raise("credential_revoked", credential, "Evidence: 401", self.clock.wall());
    }

    pub fn heal(&self, credential: &str) {
        self.outbox.clear("credential_revoked", credential, self.clock.wall());
    }

    pub async fn until_empty(&self) {
        self.outbox.until(|book| book.pages.is_empty()).await;
    }

    /// What Prometheus would be told.
    pub fn metric(&self, name: &str, labels: &str) -> Option<f64> {
        let text = prometheus::TextEncoder::new().encode_to_string(&self.metrics.registry().gather()).unwrap();
        let line = format!("{name}{{{labels}}} ");
        text.lines().find_map(|found| found.strip_prefix(&line)?.parse().ok())
    }
}

//! `/metrics`: the text that Prometheus reads.

mod credentials;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared, WeakShared},
};
use prometheus::{
    TextEncoder,
    core::{Collector, MetricVec, MetricVecBuilder},
};

use crate::{credential::CredentialId, metrics::Metrics, publish::Subscriber};

/// Media type of the text format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Removes what is kept of a credential that is no longer published.
pub fn forget(metrics: &Metrics, name: &CredentialId) {
    let Metrics {
        credd_probes_total,
        credd_probe_failures_total,
        credd_refresh_attempts_total,
        credd_refresh_failures_total,
        credd_refresh_coalesced_total,
        credd_rotations_total,
        credd_token_requests_total,
        credd_token_request_failures_total,
        ..
    } = metrics;
    for tally in
        [credd_probes_total, credd_refresh_attempts_total, credd_refresh_coalesced_total, credd_token_requests_total]
    {
        tally.forget(name.as_str());
    }
    for counter in [
        credd_probe_failures_total,
        credd_refresh_failures_total,
        credd_rotations_total,
        credd_token_request_failures_total,
    ] {
        remove(counter, name);
    }
}

fn remove<B: MetricVecBuilder>(family: &MetricVec<B>, name: &CredentialId) {
    for collected in family.collect() {
        for metric in collected.get_metric() {
            let labels: HashMap<&str, &str> =
                metric.get_label().iter().map(|label| (label.name(), label.value())).collect();
            if labels.get("credential") == Some(&name.as_str()) {
                let _ = family.remove(&labels);
            }
        }
    }
}

/// Encodes the registry away from the request workers, once for all who ask at the same time.
#[derive(Clone, Debug)]
pub struct Scrape {
    metrics: Metrics,
    subscriber: Subscriber,
    cap: usize,
    dropped: Arc<AtomicUsize>,
    under_way: Arc<Mutex<Option<WeakShared<Encoding>>>>,
}

type Encoding = BoxFuture<'static, Bytes>;

impl Scrape {
    /// Of these metrics and of what is published, with at most that many series of credentials; beyond it, a credential
    /// keeps its expiry and its state.
    pub fn new(metrics: Metrics, subscriber: Subscriber, cap: usize) -> Self {
        Self { metrics, subscriber, cap, dropped: Arc::default(), under_way: Arc::default() }
    }

    /// The text.
    pub async fn text(&self) -> Bytes {
        self.encoding().await
    }

    fn encoding(&self) -> Shared<Encoding> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let joined = under_way.as_ref().and_then(WeakShared::upgrade).filter(|encoding| encoding.peek().is_none());
        joined.unwrap_or_else(|| {
            let scrape = self.clone();
            let encoding = tokio::task::spawn_blocking(move || scrape.encode());
            let encoding = encoding.map(Result::unwrap_or_default).boxed().shared();
            *under_way = encoding.downgrade();
            encoding
        })
    }

    fn encode(&self) -> Bytes {
        process(&self.metrics);
        let mut credentials = String::new();
        let dropped = credentials::write(&self.metrics, &self.subscriber.slots(), self.cap, &mut credentials);
        let before = self.dropped.swap(dropped, Ordering::Relaxed);
        self.metrics.credd_metrics_series_dropped_total.inc_by(dropped.saturating_sub(before) as u64);
        let mut text = credentials.into_bytes();
        if let Err(error) =
            prometheus::Encoder::encode(&TextEncoder::new(), &self.metrics.registry().gather(), &mut text)
        {
            tracing::error!(%error, "metrics could not be encoded; this is a bug");
        }
        text.into()
    }
}

/// What the kernel says of this process. Where `/proc` is hidden, these stay as they are.
fn process(metrics: &Metrics) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok());
    if let Some(kilobytes) = resident {
        let kilobytes: i64 = kilobytes;
        metrics.credd_process_resident_memory_bytes.set(kilobytes * 1024);
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        // One of them is the one that lists them.
        metrics.credd_process_open_fds.set(i64::try_from(open.count()).unwrap_or(i64::MAX) - 1);
    }
    if let Some(second) = started() {
        metrics.credd_process_start_time_seconds.set(second);
    }
}

/// Unix time at which this process started: boot time and the 22nd field of its `stat`, in hundredths of a second.
fn started() -> Option<i64> {
    let own = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name in brackets, which may hold anything.
    let ticks: i64 = own.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    let host = std::fs::read_to_string("/proc/stat").ok()?;
    let boot: i64 = host.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(boot + ticks / 100)
}

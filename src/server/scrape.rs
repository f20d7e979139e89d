//! `/metrics`: what each credential shows, set when it is published, and the text that Prometheus reads.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared, WeakShared},
};
use jiff::Timestamp;
use prometheus::{
    GaugeVec, TextEncoder,
    core::{Collector, MetricVec, MetricVecBuilder},
};

use crate::{
    credential::{CredentialId, Kind},
    lifecycle::State,
    metrics::Metrics,
    publish::{Change, View},
};

/// Media type of the text format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Series that one credential makes, about.
const SERIES: usize = 37;
/// Series of a credential beyond the cap: its expiry and its states.
const KEPT: usize = 13;

/// Keeps each credential's gauges at what was published last.
#[derive(Debug)]
pub struct Exporter {
    metrics: Metrics,
    cap: usize,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    full: usize,
    /// Beyond the cap: expiry and state only.
    thin: HashSet<CredentialId>,
}

impl Exporter {
    /// With at most that many series of credentials; beyond it, a credential keeps its expiry and its state.
    pub fn new(metrics: Metrics, cap: usize) -> Self {
        Self { metrics, cap, known: Mutex::default() }
    }

    /// Follows a change of what is published; made to be the publisher's observer.
    pub fn apply(&self, change: Change<'_>) {
        match change {
            Change::Set { before, after } => {
                if self.is_full(&after.name, before.is_none()) {
                    export(&self.metrics, before, after);
                } else {
                    essentials(&self.metrics, before, after);
                }
            }
            Change::Removed(view) => {
                let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
                if !known.thin.remove(&view.name) {
                    known.full = known.full.saturating_sub(1);
                }
                drop(known);
                forget(&self.metrics, &view.name);
            }
        }
    }

    fn is_full(&self, name: &CredentialId, is_new: bool) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if !is_new {
            return !known.thin.contains(name);
        }
        if (known.full + 1) * SERIES <= self.cap {
            known.full += 1;
            return true;
        }
        known.thin.insert(name.clone());
        self.metrics.credd_metrics_series_dropped_total.inc_by((SERIES - KEPT) as u64);
        false
    }
}

/// Sets a credential's gauges from what is published of it, touching only what changed since `before`.
pub fn export(metrics: &Metrics, before: Option<&View>, view: &View) {
    essentials(metrics, before, view);
    let (name, part) = (view.name.as_str(), part(view.kind));
    let info = |view: &View| {
        let criticality = match view.criticality {
            crate::publish::Criticality::Required => "required",
            crate::publish::Criticality::Optional => "optional",
            crate::publish::Criticality::Ignore => "ignore",
        };
        [name, view.kind.as_str(), &view.store, &view.provider, criticality].map(str::to_owned)
    };
    let gone = before.map(info).filter(|labels| *labels != info(view));
    if let Some(labels) = gone {
        let _ = metrics.credd_credential_info.remove_label_values(&labels);
    }
    metrics.credd_credential_info.with_label_values(&info(view)).set(1);
    let source = |view: &View| word(&view.expiry_source);
    if let Some(old) = before.map(source).filter(|old| *old != source(view)) {
        let _ = metrics.credd_credential_expiry_source_info.remove_label_values(&[name, part, &old]);
    }
    metrics.credd_credential_expiry_source_info.with_label_values(&[name, part, &source(view)]).set(1);
    for flag in before.map_or(&[][..], |before| &before.flags).iter().filter(|flag| !view.flags.contains(flag)) {
        metrics.credd_credential_flag.with_label_values(&[name, flag]).set(0);
    }
    for flag in &view.flags {
        metrics.credd_credential_flag.with_label_values(&[name, flag]).set(1);
    }
    let ends = &metrics.credd_credential_expiration_timestamp_seconds;
    date(ends, &[name, "refresh"], view.refresh_expires_at);
    date(ends, &[name, "client_secret"], view.client_secret_expires_at);
    let dates: [(&GaugeVec, Option<Timestamp>); 7] = [
        (&metrics.credd_credential_renewal_timestamp_seconds, view.refresh_at),
        (&metrics.credd_credential_issued_timestamp_seconds, view.issued_at),
        (&metrics.credd_credential_last_probe_timestamp_seconds, view.last_probe_at),
        (&metrics.credd_credential_next_probe_timestamp_seconds, view.probe_at),
        (&metrics.credd_credential_last_success_timestamp_seconds, view.last_success_at),
        (&metrics.credd_credential_last_rotation_timestamp_seconds, view.last_rotation_at),
        (&metrics.credd_credential_state_change_timestamp_seconds, Some(view.since)),
    ];
    for (gauge, at) in dates {
        date(gauge, &[name], at);
    }
    metrics.credd_credential_generation.with_label_values(&[name]).set(view.generation.0);
    if before.is_none() {
        // From 0, so that the first increase is seen as one.
        metrics.credd_probes_total.with_label_values(&[name]);
        metrics.credd_refresh_attempts_total.with_label_values(&[name]);
        metrics.credd_refresh_coalesced_total.with_label_values(&[name]);
        metrics.credd_token_requests_total.with_label_values(&[name, "uds"]);
    }
}

/// Expiry and state: what every credential shows, however many there are.
fn essentials(metrics: &Metrics, before: Option<&View>, view: &View) {
    let name = view.name.as_str();
    date(&metrics.credd_credential_expiration_timestamp_seconds, &[name, part(view.kind)], view.expires_at);
    let states = &metrics.credd_credential_state;
    match before.map(|before| before.state) {
        None => State::ALL.iter().for_each(|state| states.with_label_values(&[name, state.as_str()]).set(0)),
        Some(old) => states.with_label_values(&[name, old.as_str()]).set(0),
    }
    states.with_label_values(&[name, view.state.as_str()]).set(1);
}

/// Removes every series of a credential.
pub fn forget(metrics: &Metrics, name: &CredentialId) {
    let Metrics {
        credd_credential_info,
        credd_credential_state,
        credd_credential_flag,
        credd_credential_expiration_timestamp_seconds,
        credd_credential_expiry_source_info,
        credd_credential_renewal_timestamp_seconds,
        credd_credential_issued_timestamp_seconds,
        credd_credential_generation,
        credd_credential_last_probe_timestamp_seconds,
        credd_credential_next_probe_timestamp_seconds,
        credd_credential_last_success_timestamp_seconds,
        credd_credential_last_rotation_timestamp_seconds,
        credd_credential_state_change_timestamp_seconds,
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
    for gauge in [credd_credential_info, credd_credential_state, credd_credential_flag] {
        remove(gauge, name);
    }
    for gauge in [credd_credential_expiry_source_info, credd_credential_generation] {
        remove(gauge, name);
    }
    for gauge in [
        credd_credential_expiration_timestamp_seconds,
        credd_credential_renewal_timestamp_seconds,
        credd_credential_issued_timestamp_seconds,
        credd_credential_last_probe_timestamp_seconds,
        credd_credential_next_probe_timestamp_seconds,
        credd_credential_last_success_timestamp_seconds,
        credd_credential_last_rotation_timestamp_seconds,
        credd_credential_state_change_timestamp_seconds,
    ] {
        remove(gauge, name);
    }
    for counter in [
        credd_probes_total,
        credd_probe_failures_total,
        credd_refresh_attempts_total,
        credd_refresh_failures_total,
        credd_refresh_coalesced_total,
        credd_rotations_total,
        credd_token_requests_total,
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

/// A date that is not known is absent: 0 would be 1970.
fn date(gauge: &GaugeVec, labels: &[&str], at: Option<Timestamp>) {
    match at {
        Some(at) => gauge.with_label_values(labels).set(at.as_duration().as_secs_f64()),
        None => {
            let _ = gauge.remove_label_values(labels);
        }
    }
}

fn part(kind: Kind) -> &'static str {
    if kind.is_refreshable() { "access" } else { "key" }
}

/// The word that serde writes.
fn word(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// Encodes the registry away from the request workers, once for all who ask at the same time.
#[derive(Clone, Debug)]
pub struct Scrape {
    metrics: Metrics,
    under_way: Arc<Mutex<Option<WeakShared<Encoding>>>>,
}

type Encoding = BoxFuture<'static, Bytes>;

impl Scrape {
    /// Of these metrics.
    pub fn new(metrics: Metrics) -> Self {
        Self { metrics, under_way: Arc::default() }
    }

    /// The text.
    pub async fn text(&self) -> Bytes {
        self.encoding().await
    }

    fn encoding(&self) -> Shared<Encoding> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let joined = under_way.as_ref().and_then(WeakShared::upgrade).filter(|encoding| encoding.peek().is_none());
        joined.unwrap_or_else(|| {
            let metrics = self.metrics.clone();
            let encoding = tokio::task::spawn_blocking(move || encode(&metrics));
            let encoding = encoding.map(Result::unwrap_or_default).boxed().shared();
            *under_way = encoding.downgrade();
            encoding
        })
    }
}

fn encode(metrics: &Metrics) -> Bytes {
    process(metrics);
    let mut text = Vec::new();
    if let Err(error) = prometheus::Encoder::encode(&TextEncoder::new(), &metrics.registry().gather(), &mut text) {
        tracing::error!(%error, "metrics could not be encoded; this is a bug");
    }
    text.into()
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

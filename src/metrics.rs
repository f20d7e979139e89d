//! Every exported metric in one list. The doc comment of a field is its help text.
//!
//! Dates, not seconds left: `time() - x` needs no update loop, and a stuck daemon cannot look healthy.
//! Labels come from enums and from names of the settings; never a URL, a subject or a token.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use prometheus::{
    GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

const CALLS: &[f64] = &[0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
const QUICK: &[f64] = &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5];

macro_rules! metrics {
    ($($(#[doc = $help:literal])+ $name:ident: $kind:ident $([$($label:literal),*])? $(in $buckets:ident)?;)+) => {
        /// All metrics, made and registered together.
        #[derive(Clone, Debug)]
        pub struct Metrics {
            registry: Registry,
            $($(#[doc = $help])+ pub $name: $kind,)+
        }

        impl Metrics {
            /// A registry of its own: nothing is global.
            pub fn new() -> Self {
                let registry = Registry::new();
                $(let $name = metrics!(@make $kind, stringify!($name), concat!($($help),+).trim(), $([$($label),*])? $(in $buckets)?);
                metrics!(@register $kind, registry, $name);)+
                Self { registry, $($name,)+ }
            }

            /// Name and help of each metric, in the order of the list.
            pub fn list() -> Vec<(&'static str, &'static str, &'static [&'static str])> {
                vec![$((stringify!($name), concat!($($help),+).trim(), metrics!(@labels $([$($label),*])?))),+]
            }
        }
    };
    (@labels) => { &[] };
    (@labels [$($label:literal),*]) => { &[$($label),*] };
    // These are written at the scrape, from what is published.
    (@register Described, $registry:ident, $made:ident) => {};
    (@register Tally, $registry:ident, $made:ident) => {};
    (@register $kind:ident, $registry:ident, $made:ident) => {
        $registry.register(Box::new($made.clone())).expect("names in the list are unique and well-formed");
    };
    (@make Described, $name:expr, $help:expr, [$($label:literal),*]) => { Described { name: $name, help: $help, labels: &[$($label),*] } };
    (@make Tally, $name:expr, $help:expr, [$($label:literal),*]) => {
        Tally { described: Described { name: $name, help: $help, labels: &[$($label),*] }, counts: Arc::default() }
    };
    (@make IntCounter, $name:expr, $help:expr,) => { IntCounter::new($name, $help).expect("well-formed") };
    (@make IntGauge, $name:expr, $help:expr,) => { IntGauge::new($name, $help).expect("well-formed") };
    (@make Histogram, $name:expr, $help:expr, in $buckets:ident) => {
        Histogram::with_opts(HistogramOpts::new($name, $help).buckets($buckets.to_vec())).expect("well-formed")
    };
    (@make HistogramVec, $name:expr, $help:expr, [$($label:literal),*] in $buckets:ident) => {
        HistogramVec::new(HistogramOpts::new($name, $help).buckets($buckets.to_vec()), &[$($label),*]).expect("well-formed")
    };
    (@make $kind:ident, $name:expr, $help:expr, [$($label:literal),*]) => {
        $kind::new(Opts::new($name, $help), &[$($label),*]).expect("well-formed")
    };
}

metrics! {
    // Per credential: gauges and plain counters, never a histogram.

    /// What a credential is; always 1.
    credd_credential_info: Described["credential", "kind", "store", "provider", "criticality"];
    /// 1 for the state that the credential is in, 0 for the others.
    credd_credential_state: Described["credential", "state"];
    /// 1 while the flag holds, absent otherwise (rate_limited, store_stale, writeback_pending, unsaved, scope_reduced, clock_untrusted).
    credd_credential_flag: Described["credential", "flag"];
    /// Unix time at which that part ends (access, refresh, key, client_secret); absent when unknown or never.
    credd_credential_expiration_timestamp_seconds: Described["credential", "part"];
    /// How the expiry of that part is known; always 1.
    credd_credential_expiry_source_info: Described["credential", "part", "expiry_source"];
    /// Unix time at which the next proactive refresh is due.
    credd_credential_renewal_timestamp_seconds: Described["credential"];
    /// Unix time at which the value now served was issued.
    credd_credential_issued_timestamp_seconds: Described["credential"];
    /// Counts the values of a credential; it rises at each change.
    credd_credential_generation: Described["credential"];
    /// Unix time of the last finished probe, whatever it said.
    credd_credential_last_probe_timestamp_seconds: Described["credential"];
    /// Unix time at which the next probe is due; absent where none is.
    credd_credential_next_probe_timestamp_seconds: Described["credential"];
    /// Unix time of the last probe or refresh that proved the value good.
    credd_credential_last_success_timestamp_seconds: Described["credential"];
    /// Unix time of the last change of value.
    credd_credential_last_rotation_timestamp_seconds: Described["credential"];
    /// Unix time since which the credential is in its state.
    credd_credential_state_change_timestamp_seconds: Described["credential"];
    /// Probes finished.
    credd_probes_total: Tally["credential"];
    /// Probes that did not say yes, by failure.
    credd_probe_failures_total: IntCounterVec["credential", "reason"];
    /// Refresh requests sent upstream.
    credd_refresh_attempts_total: Tally["credential"];
    /// Refreshes that brought no new value, by failure.
    credd_refresh_failures_total: IntCounterVec["credential", "reason"];
    /// Callers that joined a refresh already under way.
    credd_refresh_coalesced_total: Tally["credential"];
    /// Changes of value, by cause (refresh, store_change, operator, orphan).
    credd_rotations_total: IntCounterVec["credential", "cause"];
    /// Token reads answered with a token.
    credd_token_requests_total: Tally["credential", "interface"];
    /// Token reads answered with a refusal, by reason.
    credd_token_request_failures_total: IntCounterVec["credential", "interface", "reason"];

    // Per provider, home store and channel.

    /// How long upstream calls take.
    credd_upstream_request_duration_seconds: HistogramVec["provider", "operation"] in CALLS;
    /// Refusals and failures of upstreams, by what they mean.
    credd_upstream_failures_total: IntCounterVec["provider", "failure"];
    /// Replies that no rule matched: the catalogue has a gap.
    credd_upstream_unclassified_total: IntCounterVec["provider", "status_class"];
    /// Whether the home store answered last time; absent until it was asked.
    credd_store_up: IntGaugeVec["store", "store_kind"];
    /// Unix time of the last complete answer of the home store.
    credd_store_last_sync_timestamp_seconds: GaugeVec["store"];
    /// Errors of the home store, by reason.
    credd_store_errors_total: IntCounterVec["store", "reason"];
    /// Unix time at which our own login to the home store ends.
    credd_store_auth_expiration_timestamp_seconds: GaugeVec["store"];
    /// From a new value's commit to the moment when the last live watcher was told.
    credd_token_delivery_lag_seconds: HistogramVec["interface"] in QUICK;
    /// Live watchers.
    credd_subscribers: IntGaugeVec["interface"];
    /// Messages that a channel accepted.
    credd_notifications_total: IntCounterVec["channel"];
    /// Attempts that a channel did not accept, by reason.
    credd_notification_failures_total: IntCounterVec["channel", "reason"];
    /// Messages waiting for a channel.
    credd_notification_queue_length: IntGaugeVec["channel"];
    /// Unix time of the oldest waiting message; absent when none waits.
    credd_notification_oldest_timestamp_seconds: GaugeVec["channel"];
    /// Unix time of the last message that the channel accepted.
    credd_notification_last_success_timestamp_seconds: GaugeVec["channel"];
    /// Incidents open now.
    credd_pages_active: IntGaugeVec["severity"];

    // The process.

    /// What runs here; always 1.
    credd_build_info: IntGaugeVec["version", "features"];
    /// Whether the last look at the settings file found it in force, or made it so; 0: it was refused, and the old settings stay.
    credd_config_last_reload_successful: IntGauge;
    /// Faults in the files of the provider folder; as long as there are any, all of the settings that held before stay in force.
    credd_provider_file_problems: IntGauge;
    /// Unix time at which settings last took effect, by a start or a reload.
    credd_config_last_reload_success_timestamp_seconds: IntGauge;
    /// Credentials in the settings, by home store.
    credd_credentials: IntGaugeVec["store"];
    /// Unix time of the last beat of the metronome.
    credd_last_beat_timestamp_seconds: GaugeVec["beat"];
    /// From the moment when work was due to the moment when it began.
    credd_scheduler_lag_seconds: Histogram in QUICK;
    /// Whether the ledger took the last write.
    credd_ledger_up: IntGauge;
    /// 1 while the wall clock has jumped so far that time since boot alone decides.
    credd_clock_untrusted: IntGauge;
    /// Jumps of the wall clock of more than 5 s that were noticed.
    credd_clock_steps_total: IntCounter;
    /// How long the ledger takes.
    credd_ledger_operation_duration_seconds: HistogramVec["operation"] in QUICK;
    /// Tasks that panicked; anything but 0 is a bug.
    credd_panics_total: IntCounterVec["component"];
    /// Series left out because the cap was reached.
    credd_metrics_series_dropped_total: IntCounter;
    /// Resident memory, in bytes.
    credd_process_resident_memory_bytes: IntGauge;
    /// Open file descriptors.
    credd_process_open_fds: IntGauge;
    /// Unix time at which the process started.
    credd_process_start_time_seconds: IntGauge;
}

/// A family of series that nobody keeps: they are written at each scrape, from what is published of each credential.
/// Kept in a registry they would be most of the memory that a credential takes.
#[derive(Clone, Copy, Debug)]
pub struct Described {
    /// The metric's name.
    pub name: &'static str,
    /// What it means.
    pub help: &'static str,
    /// The names of its labels, in order.
    pub labels: &'static [&'static str],
}

/// Counters by credential, and by one word where the family has a second label.
#[derive(Clone, Debug)]
pub struct Tally {
    /// The family.
    pub described: Described,
    counts: Arc<Mutex<Counts>>,
}

type Counts = HashMap<Arc<str>, Vec<(&'static str, Arc<AtomicU64>)>>;

impl Tally {
    /// The counter itself, for who counts often: counting takes no lock.
    pub fn of(&self, credential: &str, word: &'static str) -> Arc<AtomicU64> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if !counts.contains_key(credential) {
            counts.insert(credential.into(), Vec::with_capacity(1));
        }
        let known = counts.get_mut(credential).expect("it was put there");
        if let Some((_, count)) = known.iter().find(|(known, _)| *known == word) {
            return count.clone();
        }
        let count = Arc::new(AtomicU64::new(0));
        known.push((word, count.clone()));
        count
    }

    /// Counts one more.
    pub fn inc(&self, credential: &str, word: &'static str) {
        self.of(credential, word).fetch_add(1, Ordering::Relaxed);
    }

    /// How many so far, by word.
    pub fn counts(&self, credential: &str) -> Vec<(&'static str, u64)> {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let known = counts.get(credential).into_iter().flatten();
        known.map(|(word, count)| (*word, count.load(Ordering::Relaxed))).collect()
    }

    /// How many so far, whatever the word.
    pub fn total(&self, credential: &str) -> u64 {
        self.counts(credential).iter().map(|(_, count)| count).sum()
    }

    /// Forgets a credential.
    pub fn forget(&self, credential: &str) {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).remove(credential);
    }
}

impl Metrics {
    /// The registry, for the encoder.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

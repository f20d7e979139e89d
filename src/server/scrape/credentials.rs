//! The series of credentials, written from what is published of them: none is kept between two scrapes.

use std::{fmt::Write, sync::Arc};

use jiff::Timestamp;

use crate::{
    credential::{ExpirySource, Kind},
    lifecycle::State,
    metrics::{Described, Metrics, Tally},
    publish::{Criticality, Slot, View},
};

/// Which date of a credential a family shows.
type DateOf = fn(&View) -> Option<Timestamp>;

/// Series that one credential makes, about.
const SERIES: usize = 37;
/// Series of a credential beyond the cap: its expiry and its states.
const KEPT: usize = 13;

/// Writes all families of credentials. Those beyond the cap, by name, show their expiry and their state only. Answers
/// how many series that leaves out.
pub fn write(metrics: &Metrics, slots: &[Arc<Slot>], cap: usize, text: &mut String) -> usize {
    let views: Vec<_> = slots.iter().map(|slot| slot.current()).collect();
    let views: Vec<&View> = views.iter().map(|edition| &edition.view).collect();
    let full = views.len().min(cap / SERIES);
    let shown = &views[..full];
    gauges(metrics, &views, shown, text);
    for (tally, word) in [
        (&metrics.credd_probes_total, ""),
        (&metrics.credd_refresh_attempts_total, ""),
        (&metrics.credd_refresh_coalesced_total, ""),
        (&metrics.credd_token_requests_total, "uds"),
    ] {
        count(tally, word, shown, text);
    }
    (views.len() - full) * (SERIES - KEPT)
}

fn gauges(metrics: &Metrics, all: &[&View], shown: &[&View], text: &mut String) {
    let mut family = Family::new(text, metrics.credd_credential_info, "gauge");
    for view in shown {
        let criticality = match view.criticality {
            Criticality::Required => "required",
            Criticality::Optional => "optional",
            Criticality::Ignore => "ignore",
        };
        family.line(&[view.name.as_str(), view.kind.as_str(), &view.store, &view.provider, criticality], 1.0);
    }
    family.next(metrics.credd_credential_state);
    for view in all {
        for state in State::ALL {
            family.line(&[view.name.as_str(), state.as_str()], f64::from(u8::from(state == view.state)));
        }
    }
    family.next(metrics.credd_credential_flag);
    for view in shown {
        for flag in &view.flags {
            family.line(&[view.name.as_str(), flag], 1.0);
        }
    }
    family.next(metrics.credd_credential_expiration_timestamp_seconds);
    for view in all {
        family.date(&[view.name.as_str(), part(view.kind)], view.expires_at);
    }
    for view in shown {
        family.date(&[view.name.as_str(), "refresh"], view.refresh_expires_at);
        family.date(&[view.name.as_str(), "client_secret"], view.client_secret_expires_at);
    }
    family.next(metrics.credd_credential_expiry_source_info);
    for view in shown {
        let name = view.name.as_str();
        family.line(&[name, part(view.kind), &word(&view.expiry_source)], 1.0);
        if let Some(source) = view.refresh_expires_at.and(view.refresh_expiry_source) {
            family.line(&[name, "refresh", &word(&source)], 1.0);
        }
        if view.client_secret_expires_at.is_some() {
            family.line(&[name, "client_secret", &word(&ExpirySource::Configured)], 1.0);
        }
    }
    family.next(metrics.credd_credential_generation);
    for view in shown {
        family.line(&[view.name.as_str()], view.generation.0 as f64);
    }
    let dates: [(Described, DateOf); 7] = [
        (metrics.credd_credential_renewal_timestamp_seconds, |view| view.refresh_at),
        (metrics.credd_credential_issued_timestamp_seconds, |view| view.issued_at),
        (metrics.credd_credential_last_probe_timestamp_seconds, |view| view.last_probe_at),
        (metrics.credd_credential_next_probe_timestamp_seconds, |view| view.probe_at),
        (metrics.credd_credential_last_success_timestamp_seconds, |view| view.last_success_at),
        (metrics.credd_credential_last_rotation_timestamp_seconds, |view| view.last_rotation_at),
        (metrics.credd_credential_state_change_timestamp_seconds, |view| Some(view.since)),
    ];
    for (described, at) in dates {
        family.next(described);
        for view in shown {
            family.date(&[view.name.as_str()], at(view));
        }
    }
}

/// From 0, so that the first increase is seen as one.
fn count(tally: &Tally, word: &'static str, shown: &[&View], text: &mut String) {
    let mut family = Family::new(text, tally.described, "counter");
    for view in shown {
        let counts = tally.counts(view.name.as_str());
        let none = [(word, 0)];
        for (word, count) in if counts.is_empty() { &none[..] } else { &counts } {
            let labels = [view.name.as_str(), word];
            family.line(&labels[..tally.described.labels.len()], *count as f64);
        }
    }
}

/// One family of the text format. Its head comes with its first series: without one there is no family.
struct Family<'t> {
    text: &'t mut String,
    described: Described,
    kind: &'static str,
    begun: bool,
}

impl<'t> Family<'t> {
    fn new(text: &'t mut String, described: Described, kind: &'static str) -> Self {
        Self { text, described, kind, begun: false }
    }

    fn next(&mut self, described: Described) {
        (self.described, self.begun) = (described, false);
    }

    /// A date that is not known is absent: 0 would be 1970.
    fn date(&mut self, labels: &[&str], at: Option<Timestamp>) {
        if let Some(at) = at {
            self.line(labels, at.as_duration().as_secs_f64());
        }
    }

    fn line(&mut self, values: &[&str], value: f64) {
        let Described { name, help, labels } = self.described;
        if !std::mem::replace(&mut self.begun, true) {
            let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {}\n", self.kind);
        }
        self.text.push_str(name);
        for (number, (label, value)) in labels.iter().zip(values).enumerate() {
            self.text.push(if number == 0 { '{' } else { ',' });
            self.text.push_str(label);
            self.text.push_str("=\"");
            escape(value, self.text);
            self.text.push('"');
        }
        let _ = writeln!(self.text, "}} {value}");
    }
}

/// As the text format has it: backslash, quote and line feed.
fn escape(value: &str, text: &mut String) {
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
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

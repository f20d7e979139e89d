//! Probes: a cheap authenticated request in a task of its own, and what it showed.

use std::{panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt;

use super::{Assignment, Message, Shard, effects::Note, flight::panicked, interpret, watched::Watched};
use crate::{
    catalogue::{Refusal, Surface, presented},
    clock::Now,
    credential::{CredentialId, Failure, Generation, Reply, Verdict},
    fetch::Exchange,
    lifecycle::{Event, Trigger},
    upstream::Unmakable,
};

/// How a probe ended, as its task reports it.
pub(super) struct Look {
    pub generation: Generation,
    pub trigger: Trigger,
    pub sent_at: Now,
    pub landed_at: Now,
    pub result: Result<Exchange, Unmakable>,
}

impl Shard {
    /// Sends a probe in a task of its own.
    pub(super) fn send_probe(&mut self, id: &CredentialId, trigger: Trigger) {
        let Some(watched) = self.watched.get(id) else { return };
        let Some(subject) = watched.subject() else { return };
        let (house, back, id) = (self.house.clone(), self.back.clone(), id.clone());
        let generation = watched.life.generation;
        // Not one of the flights: it spends nothing, and a stop does not wait for it.
        tokio::spawn(async move {
            let sent_at = house.clock.now();
            let result = AssertUnwindSafe(house.upstream.probe(&subject, sent_at.wall)).catch_unwind().await;
            let result = result.unwrap_or_else(|_| Ok(panicked()));
            let landed_at = house.clock.now();
            let look = Box::new(Look { generation, trigger, sent_at, landed_at, result });
            let _ = back.send(Message::Probed { id, look });
        });
    }

    /// A probe came back.
    pub(super) async fn probed(&mut self, id: &CredentialId, look: Look) {
        let Some(watched) = self.watched.get_mut(id) else { return };
        let provider = watched.assignment.provider.clone();
        let duration = Duration::try_from(look.landed_at.wall.duration_since(look.sent_at.wall)).unwrap_or_default();
        let metrics = &self.house.metrics;
        metrics
            .credd_upstream_request_duration_seconds
            .with_label_values(&[&provider.name, "probe"])
            .observe(duration.as_secs_f64());
        metrics.credd_probes_total.inc(id.as_str(), "");
        let (outcome, verdict) =
            interpret::probe(&provider, watched.assignment.kind, &watched.assignment.upstream, &look);
        if look.generation == watched.life.generation {
            // What was said of an older value is nothing to those who wait.
            watched.last_verdict.clone_from(&verdict);
        }
        if let Some(verdict) = &verdict {
            self.count_failure(id, verdict, "probe", look.result.as_ref().ok());
        }
        let note = Note { verdict, duration: Some(duration), ..Note::of("probed", look.trigger) };
        self.happen(id, Event::Probed { generation: look.generation, outcome }, note).await;
        self.end_of_flight(id);
    }

    /// Counts a refusal of a refresh or a probe.
    pub(super) fn count_failure(
        &self,
        id: &CredentialId,
        verdict: &Verdict,
        operation: &str,
        exchange: Option<&Exchange>,
    ) {
        let metrics = &self.house.metrics;
        let Some(watched) = self.watched.get(id) else { return };
        let provider = &watched.assignment.provider.name;
        metrics.credd_upstream_failures_total.with_label_values(&[provider.as_str(), verdict.failure.as_str()]).inc();
        let by_credential = if operation == "probe" {
            &metrics.credd_probe_failures_total
        } else {
            &metrics.credd_refresh_failures_total
        };
        by_credential.with_label_values(&[id.as_str(), verdict.failure.as_str()]).inc();
        if let (Failure::Unclassified, Some(Exchange::Replied(reply))) = (verdict.failure, exchange) {
            let surface = if operation == "probe" { Surface::Probe } else { Surface::TokenEndpoint };
            self.unclassified(watched, surface, reply);
        }
    }

    /// A rule is missing: counted, and kept for whoever writes it.
    pub(super) fn unclassified(&self, watched: &Watched, surface: Surface, reply: &Reply) {
        let Assignment { provider, kind, .. } = watched.assignment.as_ref();
        let class = format!("{}xx", reply.status / 100);
        self.house.metrics.credd_upstream_unclassified_total.with_label_values(&[&provider.name, &class]).inc();
        let (presented, now) = (presented(*kind, surface), self.house.clock.now().wall);
        self.house.keep_unclassified(&provider.name, &Refusal { surface, presented, reply, now });
    }
}

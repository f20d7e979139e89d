//! When something is due, and how long it must wait.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    effect::{Effect, Incident, Trigger},
    machine::{Flight, Lifecycle, Standing, Suspicion, Witness},
    plan::Policy,
};
use crate::clock::Now;

const FIVE_MINUTES: Duration = Duration::from_secs(300);

impl Lifecycle {
    /// What the time alone asks for. Called after every event; asking twice changes nothing.
    pub(super) fn due(&mut self, now: Now, policy: &Policy) -> Vec<Effect> {
        if self.is_held() {
            return vec![];
        }
        let effects = match (&self.standing, &self.flight) {
            _ if self.spares_its_grant() => vec![],
            (Standing::Suspect(suspicion), Flight::Grounded) if suspicion.confirm_at <= now.wall => {
                match suspicion.by {
                    Witness::TokenEndpoint => self.take_off(Trigger::Schedule, now, policy),
                    Witness::Api => self.probe(Trigger::Schedule, now, policy),
                }
            }
            (Standing::Usable | Standing::Misconfigured, Flight::Grounded) if self.refresh_is_due(now, policy) => {
                self.take_off(Trigger::Schedule, now, policy)
            }
            (_, Flight::Lost { retry_at, .. }) if *retry_at <= now.wall => {
                self.take_off(Trigger::Recovery, now, policy)
            }
            _ => vec![],
        };
        if effects.is_empty() { self.probe_if_due(now, policy) } else { effects }
    }

    /// When a tick could next change anything.
    pub fn next_deadline(&self, now: Now, policy: &Policy) -> Option<Timestamp> {
        let mut moments = Vec::with_capacity(8);
        if !self.spares_its_grant() {
            match (&self.standing, &self.flight) {
                (Standing::Suspect(Suspicion { confirm_at, by: Witness::Api, .. }), Flight::Grounded) => {
                    moments.extend((policy.has_probe && !self.probes.out).then_some(*confirm_at));
                }
                (Standing::Suspect(suspicion), Flight::Grounded) => {
                    moments.extend(Some(suspicion.confirm_at).max(self.patience(policy)));
                }
                (Standing::Usable | Standing::Misconfigured | Standing::Suspect(_), Flight::Lost { retry_at, .. }) => {
                    moments.extend(Some(*retry_at).max(self.not_before))
                }
                (Standing::Usable | Standing::Misconfigured, Flight::Grounded) => {
                    moments.extend(self.refresh_moment(policy))
                }
                _ => {}
            }
        }
        if !self.is_held() {
            moments.extend(self.probes.next_at);
        }
        if let Standing::Suspect(suspicion) = &self.standing {
            moments.extend(Some(suspicion.since + super::pages::UNCONFIRMED).filter(|at| *at > now.wall));
        }
        if let Some(validity) = &self.validity {
            let (warn, fail) = (policy.warn_below(validity.life), policy.fail_below(validity.life));
            // The words change at these moments; a moment that is over needs no tick.
            let turns = validity
                .expires_at
                .into_iter()
                .flat_map(|end| [Some(end), end.checked_sub(warn).ok(), end.checked_sub(fail).ok()]);
            moments.extend(turns.flatten().chain(validity.refresh_at).filter(|at| *at > now.wall));
        }
        moments.into_iter().min()
    }

    fn refresh_moment(&self, policy: &Policy) -> Option<Timestamp> {
        if !policy.kind.is_refreshable() || self.standing == Standing::Uninitialised {
            return None;
        }
        // A value that ends unplanned (its first exchange, one without a known end) is due at once.
        let planned = self.validity.as_ref().and_then(|validity| validity.refresh_at).unwrap_or(Timestamp::MIN);
        let patience = self.trouble.as_ref().filter(|trouble| trouble.refreshes > 0).map(|trouble| trouble.retry_at);
        [Some(planned), patience, self.patience(policy)].into_iter().flatten().max()
    }

    /// Until when no flight may begin, but an operator's.
    pub(super) fn patience(&self, policy: &Policy) -> Option<Timestamp> {
        self.not_before.max(self.apart(policy))
    }

    fn refresh_is_due(&self, now: Now, policy: &Policy) -> bool {
        self.refresh_moment(policy).is_some_and(|at| at <= now.wall)
    }

    /// RF-41: at most three refreshes in one reported life, and a third of it (at most 60 s) apart; one in five
    /// minutes where the lifetime is missing or malformed. Until when the next one must wait.
    fn apart(&self, policy: &Policy) -> Option<Timestamp> {
        let newest = *self.refreshed.first()?;
        let life = self.validity.as_ref().and_then(|validity| validity.life);
        match life.filter(|_| !self.lifetime_repaired) {
            None => Some(later(newest, FIVE_MINUTES)),
            Some(life) => {
                // A grant that dies unused is kept alive within a token's life, however long that is (RF-37).
                let window = policy.refresh_idle.map_or(life, |idle| life.min(idle / 2));
                let gap = later(newest, Duration::from_secs(60).min(life / 3));
                let third = self.refreshed.get(2).map(|third| later(*third, window));
                Some(third.map_or(gap, |third: Timestamp| third.max(gap)))
            }
        }
    }

    /// Whether the limiter alone keeps a refresh back that is otherwise due. Told once: it lasts until a sound
    /// lifetime comes, or refreshes are again further apart than the limiter holds them.
    pub(super) fn is_throttled(&self, now: Now, policy: &Policy) -> bool {
        let due = self.validity.as_ref().and_then(|validity| validity.refresh_at).is_some_and(|at| at <= now.wall);
        let held_back = due
            && policy.kind.is_refreshable()
            && self.flight == Flight::Grounded
            && (self.lifetime_repaired || self.refreshed.len() >= 3)
            && self.apart(policy).is_some_and(|at| at > now.wall);
        let life = self.validity.as_ref().and_then(|validity| validity.life);
        let lately = self.lifetime_repaired
            || (self.refreshed.get(2).zip(life))
                .is_some_and(|(third, life)| later(*third, life.saturating_add(life / 10)) > now.wall);
        held_back || (lately && self.open.contains(&Incident::RefreshThrottled))
    }
}

/// A moment that much later, or the end of time: absurd lifetimes must not stop the daemon.
pub(super) fn later(at: Timestamp, time: Duration) -> Timestamp {
    at.checked_add(time).unwrap_or(Timestamp::MAX)
}

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
    /// All that the time alone asks for. Called after every event; asking twice changes nothing, and nothing that is
    /// due is left for the next tick.
    pub(super) fn due(&mut self, now: Now, policy: &Policy) -> Vec<Effect> {
        if self.is_held() {
            return vec![];
        }
        let mut effects = match (&self.standing, &self.flight) {
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
        effects.extend(self.probe_if_due(now, policy));
        effects
    }

    /// When a tick could next change anything.
    pub fn next_deadline(&self, now: Now, policy: &Policy) -> Option<Timestamp> {
        let flight = if self.spares_its_grant() { None } else { self.flight_moment(policy) };
        let probe = if self.is_held() { None } else { self.probe_moment(now, policy) };
        let acts = [flight, probe];
        let unconfirmed = match &self.standing {
            Standing::Suspect(suspicion) => Some(suspicion.since + super::pages::UNCONFIRMED),
            _ => None,
        };
        // The words change at these moments; a moment that is over needs no tick.
        let turns = self.validity.as_ref().map_or([None; 4], |validity| {
            let (warn, fail) = (policy.warn_below(validity.life), policy.fail_below(validity.life));
            let before = |time: Duration| validity.expires_at?.checked_sub(time).ok();
            [validity.expires_at, before(warn), before(fail), validity.refresh_at]
        });
        let turns = turns.into_iter().chain([unconfirmed]).flatten().filter(|at| *at > now.wall);
        acts.into_iter().flatten().chain(turns).min()
    }

    /// When the next flight is due, if one is.
    fn flight_moment(&self, policy: &Policy) -> Option<Timestamp> {
        match (&self.standing, &self.flight) {
            (Standing::Suspect(Suspicion { confirm_at, by: Witness::Api, .. }), Flight::Grounded) => {
                (policy.has_probe && !self.probes.out).then_some(*confirm_at)
            }
            (Standing::Suspect(suspicion), Flight::Grounded) => Some(suspicion.confirm_at).max(self.patience(policy)),
            (Standing::Usable | Standing::Misconfigured | Standing::Suspect(_), Flight::Lost { retry_at, .. }) => {
                Some(*retry_at).max(self.not_before)
            }
            (Standing::Usable | Standing::Misconfigured, Flight::Grounded) => self.refresh_moment(policy),
            _ => None,
        }
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
    pub fn patience(&self, policy: &Policy) -> Option<Timestamp> {
        self.not_before.max(self.apart(policy))
    }

    fn refresh_is_due(&self, now: Now, policy: &Policy) -> bool {
        self.refresh_moment(policy).is_some_and(|at| at <= now.wall)
    }

    /// Whether the limiter would hold a refresh back now, if nobody had asked for it.
    pub fn was_refreshed_lately(&self, now: Now, policy: &Policy) -> bool {
        self.apart(policy).is_some_and(|at| at > now.wall)
    }

    /// RF-41: at most three refreshes in one reported life, and a third of it (at most 60 s) apart; one in five
    /// minutes where the lifetime is missing or malformed. Until when the next one must wait.
    fn apart(&self, policy: &Policy) -> Option<Timestamp> {
        let newest = self.refreshed[0]?;
        let life = self.validity.as_ref().and_then(|validity| validity.life);
        match life.filter(|_| !self.lifetime_repaired) {
            None => Some(later(newest, FIVE_MINUTES)),
            Some(life) => {
                // A grant that dies unused is kept alive within a token's life, however long that is (RF-37).
                let window = policy.refresh_idle.map_or(life, |idle| life.min(idle / 2));
                let gap = later(newest, Duration::from_secs(60).min(life / 3));
                let third = self.refreshed[2].map(|third| later(third, window));
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
            && (self.lifetime_repaired || self.refreshed[2].is_some())
            && self.apart(policy).is_some_and(|at| at > now.wall);
        let lately = || {
            let life = self.validity.as_ref().and_then(|validity| validity.life);
            let third = self.refreshed[2].zip(life);
            self.lifetime_repaired
                || third.is_some_and(|(third, life)| later(third, life.saturating_add(life / 10)) > now.wall)
        };
        held_back || (self.open.contains(Incident::RefreshThrottled) && lately())
    }
}

/// A moment that much later, or the end of time: absurd lifetimes must not stop the daemon.
pub(super) fn later(at: Timestamp, time: Duration) -> Timestamp {
    at.checked_add(time).unwrap_or(Timestamp::MAX)
}

//! When something is due, and how long it must wait.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    effect::{Effect, Incident, Trigger},
    machine::{Flight, Lifecycle, Standing, Suspicion, Witness},
    plan::{Policy, signed},
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
        let unconfirmed = match &self.standing {
            Standing::Suspect(suspicion) => Some(suspicion.since + super::pages::UNCONFIRMED),
            _ => None,
        };
        let refresh = self.validity.as_ref().and_then(|validity| validity.refresh_at);
        // The words change at these moments; a moment that is over needs no tick.
        let turns = [unconfirmed, refresh, self.next_threshold(now, policy)];
        let turns = turns.into_iter().flatten().filter(|at| *at > now.wall);
        turns.chain(flight).chain(probe).min()
    }

    /// When the value's time left next crosses a threshold: that of the warning, that of the failure, or nothing left.
    fn next_threshold(&self, now: Now, policy: &Policy) -> Option<Timestamp> {
        let validity = self.validity.as_ref()?;
        let end = validity.expires_at?;
        let (warn, fail) = (policy.warn_below(validity.life), policy.fail_below(validity.life));
        let left = end.as_duration() - now.wall.as_duration();
        let next = [warn, fail, Duration::ZERO].map(signed).into_iter().filter(|below| *below < left).max()?;
        Timestamp::from_duration(end.as_duration() - next).ok()
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

    /// A value that ends unplanned (its first exchange, one without a known end) is due at once.
    fn planned(&self) -> Timestamp {
        self.validity.as_ref().and_then(|validity| validity.refresh_at).unwrap_or(Timestamp::MIN)
    }

    fn refresh_moment(&self, policy: &Policy) -> Option<Timestamp> {
        if !policy.kind.is_refreshable() || self.standing == Standing::Uninitialised {
            return None;
        }
        let patience = self.trouble.as_ref().filter(|trouble| trouble.refreshes > 0).map(|trouble| trouble.retry_at);
        Some(self.planned()).max(patience).max(self.patience(policy))
    }

    /// Until when no flight may begin, but an operator's.
    pub fn patience(&self, policy: &Policy) -> Option<Timestamp> {
        self.not_before.max(self.apart(policy))
    }

    fn refresh_is_due(&self, now: Now, policy: &Policy) -> bool {
        // Asked with every event, and hardly ever due.
        self.planned() <= now.wall && self.refresh_moment(policy).is_some_and(|at| at <= now.wall)
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
    Timestamp::from_duration(at.as_duration().saturating_add(signed(time))).unwrap_or(Timestamp::MAX)
}

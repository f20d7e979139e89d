//! The flight: from the decision to refresh to a new value, or to the reason why there is none.

use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::{
    doubt::Doubt,
    effect::{Effect, Trigger},
    event::{Commit, Loaded, Origin, Promoted},
    machine::{Flight, Lifecycle, Standing, Suspicion, Trouble, Validity, Witness},
    plan::{Policy, signed},
    schedule::later,
};
use crate::{
    clock::Now,
    credential::{ExpirySource, Failure, Verdict},
};

/// A misconfigured client is tried again this often.
const MISCONFIGURED_RETRY: Duration = Duration::from_secs(15 * 60);
/// Where no end is known, a refreshable credential is renewed this often (RF-27).
const UNKNOWN_LIFE_REFRESH: Duration = Duration::from_secs(3600);

impl Lifecycle {
    /// The one place where a flight begins. What forbids one is written here and nowhere else.
    pub(super) fn take_off(&mut self, trigger: Trigger, now: Now, policy: &Policy) -> Vec<Effect> {
        if matches!(self.standing, Standing::Revoked { .. }) { vec![] } else { self.present(trigger, now, policy) }
    }

    /// The same for a grant that may be dead: a person wants to know.
    pub(super) fn present(&mut self, trigger: Trigger, now: Now, policy: &Policy) -> Vec<Effect> {
        let grounded = matches!(self.flight, Flight::Grounded | Flight::Lost { .. });
        let standing = self.standing != Standing::Uninitialised;
        let patience = match trigger {
            Trigger::Operator => None,
            // The grace of a lost reply does not wait for the limiter; what the provider asked for still holds.
            Trigger::Recovery => self.not_before,
            _ => self.patience(policy),
        };
        let patient = patience.is_none_or(|at| at <= now.wall);
        if !(grounded && standing && patient) || self.spares_its_grant() || !policy.kind.is_refreshable() {
            return vec![];
        }
        self.flight = Flight::Prepared { attempt: None };
        self.sent_at = None;
        self.superseded = false;
        if trigger != Trigger::Recovery {
            self.asked = matches!(trigger, Trigger::Operator | Trigger::Refusal);
        }
        vec![Effect::Prepare(trigger)]
    }

    pub(super) fn prepared(&mut self, attempt: Uuid) -> Vec<Effect> {
        if let Flight::Prepared { attempt: name @ None } = &mut self.flight {
            *name = Some(attempt);
            // It presents what is held now, whatever came between the decision and the intent.
            self.superseded = false;
        }
        vec![]
    }

    pub(super) fn sent(&mut self, deadline: Timestamp, now: Now) -> Vec<Effect> {
        if let Flight::Prepared { attempt: Some(attempt) } = self.flight {
            self.flight = Flight::Sent { attempt, deadline };
            self.sent_at = Some(now.wall);
        }
        vec![]
    }

    pub(super) fn received(&mut self) -> Vec<Effect> {
        if let Flight::Sent { attempt, .. } = self.flight {
            self.flight = Flight::Received { attempt };
        }
        vec![]
    }

    /// Nothing was sent, for a reason of ours (the ledger, a key that does not sign, a breaker).
    pub(super) fn aborted(
        &mut self,
        verdict: Verdict,
        retry_at: Option<Timestamp>,
        now: Now,
        dice: f64,
        policy: &Policy,
    ) -> Vec<Effect> {
        if !self.is_in_flight() {
            return vec![];
        }
        self.flight = Flight::Grounded;
        match retry_at {
            // Somebody else's turn (a breaker, a bucket): no failure of this credential.
            Some(at) => self.not_before = Some(at),
            None => self.note_refresh_trouble(verdict, now, dice, policy),
        }
        self.look_again_later(now, dice, policy);
        self.still_lost(now, dice, policy);
        vec![]
    }

    /// The same flight, flown another way. Where it may not fly now, its own time comes.
    pub(super) fn turned(&mut self, now: Now, dice: f64, policy: &Policy) -> Vec<Effect> {
        if !self.is_in_flight() {
            return vec![];
        }
        self.flight = Flight::Grounded;
        let effects = self.present(Trigger::Recovery, now, policy);
        if effects.is_empty() {
            self.look_again_later(now, dice, policy);
            self.still_lost(now, dice, policy);
        }
        effects
    }

    pub(super) fn loaded(&mut self, loaded: &Loaded, now: Now, dice: f64, policy: &Policy) -> Vec<Effect> {
        // A flight that is out presents what was there before; its outcome is fenced by the generation in the ledger.
        if matches!(self.flight, Flight::Lost { .. }) {
            self.flight = Flight::Grounded;
        }
        self.superseded = self.is_in_flight();
        self.lost = None;
        if loaded.origin != Origin::Held {
            // What came is newer than what was rolled back; whose it is, a person must say.
            self.doubt = self.doubt.filter(|doubt| *doubt == Doubt::Cloned);
            self.from_orphan = loaded.origin == Origin::Orphan;
        }
        self.generation = loaded.generation;
        self.standing = Standing::Usable;
        self.trouble = None;
        self.not_before = None;
        self.lifetime_repaired = false;
        self.refreshed = [None; 3];
        self.ever_proven = self.was_proven();
        self.probes = super::machine::Probes { last_at: self.probes.last_at, ..Default::default() };
        self.validity = loaded.has_token.then(|| {
            let life = loaded.expires_at.map(|end| positive(end.duration_since(now.wall)));
            validity(now, loaded.expires_at, life, loaded.source, loaded.refresh_expires_at, dice, policy)
        });
        if let Some(validity) = &mut self.validity {
            // Loaded, not issued: how much of its life is over is unknown, so only the date counts.
            validity.issued_boot = None;
        }
        self.probe(Trigger::StoreChange, now, policy)
    }

    pub(super) fn promoted(&mut self, promoted: &Promoted, now: Now, dice: f64, policy: &Policy) -> Vec<Effect> {
        if promoted.generation <= self.generation {
            return vec![];
        }
        self.flight = Flight::Grounded;
        self.generation = promoted.generation;
        self.standing = Standing::Usable;
        self.trouble = None;
        self.not_before = None;
        self.lost = None;
        self.doubt = self.doubt.filter(|doubt| *doubt == Doubt::Cloned);
        self.from_orphan = false;
        if self.lifetime_repaired && !promoted.repaired {
            // The limiter counts within one reported lifetime, and this is the first of these.
            self.refreshed = [None; 3];
        }
        self.lifetime_repaired = promoted.repaired;
        self.last_life = promoted.life.or(self.last_life);
        // One that somebody asked for says nothing of the provider's lifetimes, and is not counted against them.
        let earlier = if std::mem::take(&mut self.asked) { &self.refreshed[1..] } else { &self.refreshed[..2] };
        self.refreshed = [Some(now.wall), earlier[0], earlier[1]];
        let refresh_ends = promoted.refresh_expires_at.or_else(|| {
            let before = self.validity.as_ref()?;
            Some((before.refresh_expires_at?, before.refresh_source.unwrap_or(ExpirySource::Unknown)))
        });
        let sent = promoted.sent_at;
        let expires_at = promoted.life.and_then(|life| sent.wall.checked_add(life).ok());
        self.validity = Some(validity(sent, expires_at, promoted.life, promoted.source, refresh_ends, dice, policy));
        let on_trial = self.probes.on_trial_until.is_some_and(|until| until > now.wall);
        self.probes.failures = 0;
        if on_trial {
            // The API refused the old value; whether it accepts the new one decides between expired and revoked.
            self.look_before_the_next_refresh(now);
        } else {
            // A token endpoint that hands out a token has proven the grant. A probe that was due by now and found no
            // place, because a value of a minute is renewed as soon as it has settled, is answered by that.
            self.proven(now);
            self.probes.next_at = self.probes.next_at.filter(|at| *at > now.wall);
        }
        vec![]
    }

    pub(super) fn failed(
        &mut self,
        verdict: Verdict,
        commit: Commit,
        now: Now,
        dice: f64,
        policy: &Policy,
    ) -> Vec<Effect> {
        if !self.is_in_flight() {
            return vec![];
        }
        self.flight = Flight::Grounded;
        let about_the_grant = verdict.failure == Failure::CredentialRevoked || commit == Commit::Ambiguous;
        if matches!(self.standing, Standing::Revoked { .. }) || (self.superseded && about_the_grant) {
            // A dead grant stays dead, and the fate of one that was replaced meanwhile is nobody's concern.
            return vec![];
        }
        if commit == Commit::Ambiguous && policy.kind.spends_grant() {
            self.lost(verdict, now, dice, policy);
            return vec![];
        }
        let effects = self.refused_or_unanswered(verdict, commit, now, dice, policy);
        self.still_lost(now, dice, policy);
        effects
    }

    fn refused_or_unanswered(
        &mut self,
        verdict: Verdict,
        commit: Commit,
        now: Now,
        dice: f64,
        policy: &Policy,
    ) -> Vec<Effect> {
        match verdict.failure {
            Failure::CredentialRevoked if policy.kind.is_refreshable() => {
                self.grant_refused(verdict, now, dice, policy)
            }
            Failure::ClientMisconfigured | Failure::InsufficientScope if !verdict.retryable => {
                self.note_refresh_trouble(verdict, now, dice, policy);
                self.misconfigured(now);
                vec![]
            }
            _ => {
                // No verdict on the grant: what a suspicion was waiting for did not come.
                self.look_again_later(now, dice, policy);
                let five_in_a_row = verdict.failure == Failure::CredentialRejected
                    && self.trouble.as_ref().is_some_and(|trouble| {
                        trouble.refreshes >= 4
                            && now.wall.duration_since(trouble.since) >= jiff::SignedDuration::from_mins(15)
                    });
                self.note_refresh_trouble(verdict, now, dice, policy);
                if five_in_a_row {
                    self.misconfigured(now);
                }
                if commit == Commit::Doubtful {
                    self.spare_the_grant(now, policy);
                }
                vec![]
            }
        }
    }

    fn misconfigured(&mut self, now: Now) {
        if let Some(trouble) = &mut self.trouble {
            trouble.retry_at = now.wall + MISCONFIGURED_RETRY;
        }
        self.standing = Standing::Misconfigured;
    }

    fn look_again_later(&mut self, now: Now, dice: f64, policy: &Policy) {
        if let Standing::Suspect(suspicion) = &mut self.standing {
            suspicion.confirm_at = now.wall + policy.back_off(3, None, None, dice).max(Duration::from_secs(5));
        }
    }

    /// The provider refused the grant itself. First the home store is asked for a newer one (RF-15), then, unless the
    /// code is definitive, the provider once more.
    fn grant_refused(&mut self, verdict: Verdict, now: Now, dice: f64, policy: &Policy) -> Vec<Effect> {
        let definitive = verdict.definitive;
        let (confirmed, since) = match &self.standing {
            Standing::Suspect(earlier) if earlier.by == Witness::TokenEndpoint => {
                (earlier.confirm_at <= now.wall, earlier.since)
            }
            _ => (false, now.wall),
        };
        // RR-4: the grant did not die of itself, its successor was lost on the way.
        let rotated_away = self.lost.take().is_some()
            || (self.trouble.as_ref()).is_some_and(|trouble| trouble.verdict.cause.as_deref() == Some(ROTATION_LOST));
        let cause = if rotated_away { Some(ROTATION_LOST.into()) } else { verdict.cause.clone() };
        self.note_refresh_trouble(Verdict { cause, ..verdict }, now, dice, policy);
        if confirmed {
            self.standing = Standing::Revoked { since: now.wall };
            return vec![];
        }
        let confirm_at = now.wall + Duration::from_secs(5).mul_f64(1.0 + dice);
        self.standing = Standing::Suspect(Suspicion { since, confirm_at, definitive, by: Witness::TokenEndpoint });
        vec![Effect::Reload]
    }

    /// The home store has nothing newer: what was definitive is now certain.
    pub(super) fn unchanged(&mut self, now: Now) -> Vec<Effect> {
        if matches!(&self.standing, Standing::Suspect(suspicion) if suspicion.definitive) {
            self.standing = Standing::Revoked { since: now.wall };
        }
        vec![]
    }

    pub(super) fn note_refresh_trouble(&mut self, verdict: Verdict, now: Now, dice: f64, policy: &Policy) {
        let (since, refreshes) =
            self.trouble.as_ref().map_or((now.wall, 0), |trouble| (trouble.since, trouble.refreshes));
        let refreshes = refreshes.saturating_add(1);
        let left = self.validity.as_ref().and_then(|validity| validity.left(now));
        let life = self.validity.as_ref().and_then(|validity| validity.life);
        let mut retry_at = now.wall + policy.back_off(refreshes, left, life, dice);
        if verdict.failure == Failure::RateLimitReached || verdict.retry_after.is_some() {
            let wait = verdict.retry_after.unwrap_or(Duration::from_secs(60));
            retry_at = now.wall + wait.clamp(Duration::from_secs(1), Duration::from_secs(3600));
            self.not_before = Some(retry_at);
        }
        // Whatever the pause, one try is made when little is left (RF-24, P-5).
        if let Some(moment) = self.mandatory_moment().filter(|moment| *moment > now.wall && *moment < retry_at) {
            retry_at = moment;
            self.not_before = self.not_before.map(|until| until.min(moment));
        }
        self.trouble = Some(Trouble { since, refreshes, verdict: verdict.into(), retry_at });
    }

    pub(super) fn wanted(&mut self, min_ttl: Duration, now: Now, policy: &Policy) -> Vec<Effect> {
        let wanted = signed(min_ttl);
        let enough = match &self.validity {
            None => false,
            Some(validity) => validity.left(now).is_none_or(|left| left > jiff::SignedDuration::ZERO && left >= wanted),
        };
        // A lost request and a suspicion have their own times; a reader's impatience must not shorten them.
        if enough || self.flight != Flight::Grounded || matches!(self.standing, Standing::Suspect(_)) {
            return vec![];
        }
        let patience = self.trouble.as_ref().filter(|trouble| trouble.refreshes > 0).map(|trouble| trouble.retry_at);
        if patience.is_some_and(|at| at > now.wall) {
            return vec![];
        }
        self.take_off(Trigger::Reader, now, policy)
    }
}

/// The cause of a revocation that follows a lost reply.
const ROTATION_LOST: &str = "rotation_lost";

fn positive(left: jiff::SignedDuration) -> Duration {
    Duration::try_from(left).unwrap_or(Duration::ZERO)
}

fn validity(
    issued: Now,
    expires_at: Option<Timestamp>,
    life: Option<Duration>,
    source: ExpirySource,
    refresh_ends: Option<(Timestamp, ExpirySource)>,
    dice: f64,
    policy: &Policy,
) -> Validity {
    let by_expiry = expires_at.zip(life).map(|(end, life)| end - policy.refresh_lead(life, dice));
    let by_idleness = policy.refresh_idle.map(|idle| later(issued.wall, (idle / 3).mul_f64(1.0 - 0.1 * dice)));
    let blind = expires_at.is_none().then(|| issued.wall + UNKNOWN_LIFE_REFRESH.mul_f64(1.0 - 0.1 * dice));
    let refresh_at =
        if policy.kind.is_refreshable() { [by_expiry, by_idleness, blind].into_iter().flatten().min() } else { None };
    // Where nobody tells, the provider's own limit counts from when the grant came to us: it ends then at the latest.
    let at_most = policy.refresh_absolute.filter(|_| policy.kind.spends_grant());
    let refresh_ends = refresh_ends.or(at_most.map(|limit| (later(issued.wall, limit), ExpirySource::Assumed)));
    Validity {
        issued_at: issued.wall,
        issued_boot: Some(issued.boot),
        expires_at,
        life,
        source,
        refresh_expires_at: refresh_ends.map(|(end, _)| end),
        refresh_source: refresh_ends.map(|(_, source)| source),
        refresh_at,
    }
}

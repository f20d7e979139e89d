//! The flight: from the decision to refresh to a new value, or to the reason why there is none.

use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::{
    machine::{
        Commit, Effect, Flight, Lifecycle, Loaded, Promoted, Standing, Suspicion, Trigger, Trouble, Validity, Witness,
    },
    plan::{Policy, mandatory_window},
};
use crate::{
    clock::Now,
    credential::{ExpirySource, Failure, Rotation, Verdict},
};

const FIVE_MINUTES: Duration = Duration::from_secs(300);
/// A misconfigured client is tried again this often (FAULTS §2.2 rule 5).
const MISCONFIGURED_RETRY: Duration = Duration::from_secs(15 * 60);
/// Where no end is known, a refreshable credential is renewed this often (RF-27).
const UNKNOWN_LIFE_REFRESH: Duration = Duration::from_secs(3600);

impl Lifecycle {
    /// What the time alone asks for. Called after every event; asking twice changes nothing.
    pub(super) fn due(&mut self, now: Now, policy: &Policy) -> Vec<Effect> {
        if self.held {
            return vec![];
        }
        match (&self.standing, &self.flight) {
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
            _ => self.probe_if_due(now, policy),
        }
    }

    /// When a tick could next change anything.
    pub fn next_deadline(&self, now: Now, policy: &Policy) -> Option<Timestamp> {
        let mut moments = Vec::with_capacity(8);
        if !self.held {
            match (&self.standing, &self.flight) {
                (Standing::Suspect(Suspicion { confirm_at, by: Witness::Api, .. }), _) => {
                    moments.extend((!self.probes.out).then_some(*confirm_at));
                }
                (Standing::Suspect(suspicion), Flight::Grounded) => {
                    moments.extend(Some(suspicion.confirm_at).max(self.patience()));
                }
                (_, Flight::Lost { retry_at, .. }) => moments.extend(Some(*retry_at).max(self.patience())),
                (Standing::Usable | Standing::Misconfigured, Flight::Grounded) => {
                    moments.extend(self.refresh_moment(policy))
                }
                _ => {}
            }
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
        [Some(planned), patience, self.patience()].into_iter().flatten().max()
    }

    /// Until when no flight may begin, but an operator's.
    fn patience(&self) -> Option<Timestamp> {
        self.not_before.max(self.apart())
    }

    fn refresh_is_due(&self, now: Now, policy: &Policy) -> bool {
        self.refresh_moment(policy).is_some_and(|at| at <= now.wall)
    }

    /// RF-41: at most three refreshes in one reported life, and a third of it (at most 60 s) apart; one in five
    /// minutes where the lifetime is missing or malformed. Until when the next one must wait.
    fn apart(&self) -> Option<Timestamp> {
        let newest = *self.refreshed.first()?;
        let life = self.validity.as_ref().and_then(|validity| validity.life);
        match life.filter(|_| !self.lifetime_repaired) {
            None => Some(newest + FIVE_MINUTES),
            Some(life) => {
                let gap = newest + Duration::from_secs(60).min(life / 3);
                let third = self.refreshed.get(2).map(|third| *third + life);
                Some(third.map_or(gap, |third| third.max(gap)))
            }
        }
    }

    /// Whether the limiter alone keeps a refresh back that is otherwise due (one page tells why).
    pub(super) fn is_throttled(&self, now: Now, policy: &Policy) -> bool {
        let due = self.validity.as_ref().and_then(|validity| validity.refresh_at).is_some_and(|at| at <= now.wall);
        due && policy.kind.is_refreshable()
            && self.flight == Flight::Grounded
            && self.refreshed.len() >= 3
            && self.apart().is_some_and(|at| at > now.wall)
    }

    /// The one place where a flight begins. What forbids one is written here and nowhere else.
    pub(super) fn take_off(&mut self, trigger: Trigger, now: Now, policy: &Policy) -> Vec<Effect> {
        let grounded = matches!(self.flight, Flight::Grounded | Flight::Lost { .. });
        let standing = !matches!(self.standing, Standing::Uninitialised | Standing::Revoked { .. });
        let patient = trigger == Trigger::Operator || self.patience().is_none_or(|at| at <= now.wall);
        if !(grounded && standing && patient) || self.held || !policy.kind.is_refreshable() {
            return vec![];
        }
        self.flight = Flight::Prepared { attempt: None };
        vec![Effect::Prepare(trigger)]
    }

    pub(super) fn prepared(&mut self, attempt: Uuid) -> Vec<Effect> {
        if let Flight::Prepared { attempt: name @ None } = &mut self.flight {
            *name = Some(attempt);
        }
        vec![]
    }

    pub(super) fn sent(&mut self, deadline: Timestamp) -> Vec<Effect> {
        if let Flight::Prepared { attempt: Some(attempt) } = self.flight {
            self.flight = Flight::Sent { attempt, deadline };
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
        vec![]
    }

    pub(super) fn loaded(&mut self, loaded: &Loaded, now: Now, dice: f64, policy: &Policy) -> Vec<Effect> {
        // A flight that is out presents what was there before; its outcome is fenced by the generation in the ledger.
        if matches!(self.flight, Flight::Lost { .. }) {
            self.flight = Flight::Grounded;
        }
        self.generation = loaded.generation;
        self.standing = Standing::Usable;
        self.trouble = None;
        self.not_before = None;
        self.lifetime_repaired = false;
        self.refreshed.clear();
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
        self.lifetime_repaired = promoted.repaired;
        self.last_life = promoted.life.or(self.last_life);
        self.refreshed.insert(0, now.wall);
        self.refreshed.truncate(3);
        let refresh_ends = promoted.refresh_expires_at.or_else(|| self.validity.as_ref()?.refresh_expires_at);
        let sent = promoted.sent_at;
        let expires_at = promoted.life.and_then(|life| sent.wall.checked_add(life).ok());
        self.validity = Some(validity(sent, expires_at, promoted.life, promoted.source, refresh_ends, dice, policy));
        let on_trial = self.probes.on_trial_until.is_some_and(|until| until > now.wall);
        self.probes.failures = 0;
        if on_trial {
            // The API refused the old value; whether it accepts the new one decides between expired and revoked.
            self.probes.next_at = Some(now.wall + super::probing::SETTLING);
        } else {
            // A token endpoint that hands out a token has proven the grant.
            self.probes.proven_at = Some(now.wall);
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
        if commit == Commit::Ambiguous && policy.kind.spends_grant() {
            return self.lost(verdict, now, dice, policy);
        }
        match verdict.failure {
            Failure::CredentialRevoked if policy.kind.is_refreshable() => {
                self.grant_refused(verdict, now, dice, policy)
            }
            Failure::ClientMisconfigured | Failure::InsufficientScope if !verdict.retryable => {
                self.note_refresh_trouble(verdict, now, dice, policy);
                if let Some(trouble) = &mut self.trouble {
                    trouble.retry_at = now.wall + MISCONFIGURED_RETRY;
                }
                self.standing = Standing::Misconfigured;
                vec![]
            }
            _ => {
                // No verdict on the grant: what a suspicion was waiting for did not come.
                if let Standing::Suspect(suspicion) = &mut self.standing {
                    suspicion.confirm_at = now.wall + policy.back_off(3, None, None, dice).max(Duration::from_secs(5));
                }
                let five_in_a_row = verdict.failure == Failure::CredentialRejected
                    && self.trouble.as_ref().is_some_and(|trouble| {
                        trouble.refreshes >= 4
                            && now.wall.duration_since(trouble.since) >= jiff::SignedDuration::from_mins(15)
                    });
                self.note_refresh_trouble(verdict, now, dice, policy);
                if five_in_a_row {
                    self.standing = Standing::Misconfigured;
                }
                if commit == Commit::Doubtful {
                    self.spare_the_grant(now, policy);
                }
                vec![]
            }
        }
    }

    /// The provider refused the grant itself. First the home store is asked for a newer one (RF-15), then, unless the
    /// code is definitive, the provider once more.
    fn grant_refused(&mut self, verdict: Verdict, now: Now, dice: f64, policy: &Policy) -> Vec<Effect> {
        let definitive = verdict.definitive;
        let confirmed = matches!(
            &self.standing,
            Standing::Suspect(suspicion) if suspicion.by == Witness::TokenEndpoint && suspicion.confirm_at <= now.wall
        );
        self.note_refresh_trouble(verdict, now, dice, policy);
        if confirmed {
            self.standing = Standing::Revoked { since: now.wall };
            return vec![];
        }
        let confirm_at = now.wall + Duration::from_secs(5).mul_f64(1.0 + dice);
        self.standing =
            Standing::Suspect(Suspicion { since: now.wall, confirm_at, definitive, by: Witness::TokenEndpoint });
        vec![Effect::Reload]
    }

    /// The home store has nothing newer: what was definitive is now certain.
    pub(super) fn unchanged(&mut self, now: Now) -> Vec<Effect> {
        if matches!(&self.standing, Standing::Suspect(suspicion) if suspicion.definitive) {
            self.standing = Standing::Revoked { since: now.wall };
        }
        vec![]
    }

    /// A request was sent and no reply is durable: when may the old grant be presented again? (RR-3, RR-5)
    fn lost(&mut self, verdict: Verdict, now: Now, dice: f64, policy: &Policy) -> Vec<Effect> {
        let tries = match &self.trouble {
            Some(trouble) if trouble.verdict.cause.as_deref() == Some(LOST) => trouble.refreshes,
            _ => 0,
        };
        let since = match &self.trouble {
            Some(trouble) if tries > 0 => trouble.since,
            _ => now.wall,
        };
        let verdict = Verdict { cause: Some(LOST.into()), ..verdict };
        self.note_refresh_trouble(verdict, now, dice, policy);
        let retry_at = self.present_again_at(since, tries, now, dice, policy);
        self.flight = Flight::Lost { since, retry_at, tries };
        vec![]
    }

    pub(super) fn present_again_at(
        &self,
        since: Timestamp,
        tries: u32,
        now: Now,
        dice: f64,
        policy: &Policy,
    ) -> Timestamp {
        let left = self.validity.as_ref().and_then(|validity| validity.left(now));
        let life = self.validity.as_ref().and_then(|validity| validity.life);
        let back_off = || now.wall + policy.back_off(tries.max(1), left, life, dice);
        let waited = now.wall.duration_since(since);
        let in_grace = jiff::SignedDuration::try_from(policy.grace.saturating_sub(Duration::from_secs(5)))
            .is_ok_and(|grace| waited < grace);
        match policy.rotation {
            Rotation::None | Rotation::Sporadic | Rotation::UntilFirstUse => {
                if tries == 0 {
                    now.wall
                } else {
                    back_off()
                }
            }
            Rotation::Grace if in_grace => {
                if tries == 0 {
                    now.wall
                } else {
                    back_off()
                }
            }
            Rotation::Unknown if tries == 0 => now.wall,
            Rotation::Strict if !policy.reuse_kills_access_token && tries == 0 => now.wall,
            // Do not gamble early: serve what lives, and present the old grant once little is left to protect.
            Rotation::Strict | Rotation::Grace | Rotation::Unknown => self.mandatory_moment().map_or_else(
                back_off,
                |moment| {
                    if moment > now.wall { moment } else { back_off() }
                },
            ),
        }
    }

    /// A 5xx from a strict provider: it probably did not rotate, but nothing is presented before the mandatory window.
    fn spare_the_grant(&mut self, now: Now, policy: &Policy) {
        let moment = self.mandatory_moment().filter(|moment| *moment > now.wall);
        if policy.rotation == Rotation::Strict
            && let (Some(moment), Some(trouble)) = (moment, &mut self.trouble)
        {
            trouble.retry_at = trouble.retry_at.max(moment);
        }
    }

    fn mandatory_moment(&self) -> Option<Timestamp> {
        let validity = self.validity.as_ref()?;
        validity.expires_at?.checked_sub(mandatory_window(validity.life.unwrap_or(Duration::from_secs(3600)))).ok()
    }

    fn note_refresh_trouble(&mut self, verdict: Verdict, now: Now, dice: f64, policy: &Policy) {
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
        self.trouble = Some(Trouble { since, refreshes, verdict, retry_at });
    }

    pub(super) fn wanted(&mut self, min_ttl: Duration, now: Now, policy: &Policy) -> Vec<Effect> {
        let wanted = jiff::SignedDuration::try_from(min_ttl).unwrap_or(jiff::SignedDuration::MAX);
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

/// The cause of trouble whose request was lost.
pub(super) const LOST: &str = "outcome_unknown";

fn positive(left: jiff::SignedDuration) -> Duration {
    Duration::try_from(left).unwrap_or(Duration::ZERO)
}

fn validity(
    issued: Now,
    expires_at: Option<Timestamp>,
    life: Option<Duration>,
    source: ExpirySource,
    refresh_expires_at: Option<Timestamp>,
    dice: f64,
    policy: &Policy,
) -> Validity {
    let by_expiry = expires_at.zip(life).map(|(end, life)| end - policy.refresh_lead(life, dice));
    let by_idleness = policy.refresh_idle.map(|idle| issued.wall + (idle / 3).mul_f64(1.0 - 0.1 * dice));
    let blind = expires_at.is_none().then(|| issued.wall + UNKNOWN_LIFE_REFRESH.mul_f64(1.0 - 0.1 * dice));
    let refresh_at =
        if policy.kind.is_refreshable() { [by_expiry, by_idleness, blind].into_iter().flatten().min() } else { None };
    Validity {
        issued_at: issued.wall,
        issued_boot: Some(issued.boot),
        expires_at,
        life,
        source,
        refresh_expires_at,
        refresh_at,
    }
}

//! Probes and refusals: what the API says of the value that is served.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{
    effect::{Effect, Trigger},
    event::Probed,
    machine::{Flight, Lifecycle, Standing, Suspicion, Trouble, Witness},
    plan::Policy,
    schedule::later,
};
use crate::{
    clock::Now,
    credential::{ExpirySource, Failure, Generation, Verdict},
};

/// Some providers reject a new token for a while after issue (RF-33): no probe inside this time.
pub(super) const SETTLING: Duration = Duration::from_secs(30);
/// A probe has its answer within this time.
const LOOK: Duration = Duration::from_secs(10);
/// A refusal by the API makes at most one refresh in this time (FM-10).
const REFUSAL_GAP: Duration = Duration::from_secs(600);
/// Probes of failing credentials come at most this seldom (FM-13).
const MOST_QUIET: Duration = Duration::from_secs(3600);
/// A static key is revoked after two refusals this far apart.
const SECOND_LOOK: Duration = Duration::from_secs(30);
/// How long after a refusal-made refresh the next refusal means that the grant itself is dead.
const TRIAL: Duration = Duration::from_secs(600);

impl Lifecycle {
    /// A beat of the policy: plan a probe at this credential's own place in it.
    pub(super) fn beat(&mut self, offset: Duration, now: Now, policy: &Policy) -> Vec<Effect> {
        let quiet = self.probes.quiet_until.is_some_and(|until| until > now.wall)
            // A suspicion has its own second look; more looks before it decide nothing (RF-16).
            || matches!(self.standing, Standing::Suspect(_));
        if !quiet && self.probes.next_at.is_none() && self.can_probe(now, policy) {
            self.probes.next_at = Some(later(now.wall, offset));
        }
        vec![]
    }

    fn may_probe(&self) -> bool {
        !self.is_held()
            && self.validity.is_some()
            && !matches!(self.standing, Standing::Uninitialised | Standing::Revoked { .. })
    }

    /// The end of a refreshable value is known without asking; a static one may have been prolonged.
    fn can_probe(&self, now: Now, policy: &Policy) -> bool {
        let over = self.left(now).is_some_and(|left| left <= SignedDuration::ZERO);
        policy.has_probe && self.may_probe() && !(over && policy.kind.is_refreshable())
    }

    /// When the planned probe goes out, if it does: not while another is out, and not while the value settles.
    pub(super) fn probe_moment(&self, now: Now, policy: &Policy) -> Option<Timestamp> {
        let planned = self.probes.next_at?;
        if self.probes.out || !self.can_probe(now, policy) {
            return None;
        }
        let moment = planned.max(self.settled_at().unwrap_or(planned));
        let end = self.validity.as_ref()?.expires_at.filter(|_| policy.kind.is_refreshable());
        end.is_none_or(|end| moment < end).then_some(moment)
    }

    pub(super) fn probe_if_due(&mut self, now: Now, policy: &Policy) -> Vec<Effect> {
        if self.probes.next_at.is_none() {
            return vec![];
        }
        if !self.can_probe(now, policy) {
            // What was planned for a value that is over, or dead, goes with it.
            self.probes.next_at = None;
        }
        match self.probe_moment(now, policy) {
            Some(moment) if moment <= now.wall => self.probe(Trigger::Schedule, now, policy),
            _ => vec![],
        }
    }

    pub(super) fn probe(&mut self, trigger: Trigger, now: Now, policy: &Policy) -> Vec<Effect> {
        self.probes.next_at = None;
        if self.probes.out || !self.can_probe(now, policy) {
            return vec![];
        }
        self.probes.out = true;
        vec![Effect::Probe(trigger)]
    }

    /// The value that is on trial is looked at once it has settled. A short-lived one would be renewed before that, and
    /// the trial never end: its refresh waits for the look, but not into the time in which refreshes are tried hard.
    pub(super) fn look_before_the_next_refresh(&mut self, now: Now) {
        let look = now.wall + SETTLING;
        self.probes.next_at = Some(look);
        let hard = self.mandatory_moment();
        if let Some(refresh_at) = self.validity.as_mut().and_then(|validity| validity.refresh_at.as_mut()) {
            let wait = look + LOOK;
            *refresh_at = (*refresh_at).max(hard.map_or(wait, |hard| wait.min(hard)));
        }
    }

    /// When the next probe may go out, for people and metrics; `None` where none is planned, or none may go.
    pub fn next_probe_at(&self, now: Now, policy: &Policy) -> Option<Timestamp> {
        let planned = self.probes.next_at.filter(|_| self.can_probe(now, policy))?;
        Some(planned.max(self.settled_at().unwrap_or(planned)))
    }

    fn settled_at(&self) -> Option<Timestamp> {
        Some(self.refreshed[0]? + SETTLING)
    }

    /// Time left to the current value, if its end is known.
    pub fn left(&self, now: Now) -> Option<SignedDuration> {
        self.validity.as_ref()?.left(now)
    }

    pub(super) fn probed(&mut self, generation: Generation, outcome: Probed, now: Now, policy: &Policy) -> Vec<Effect> {
        self.probes.out = false;
        self.probes.last_at = Some(now.wall);
        // Whoever released a key that is dead wants to know whether it is; nothing but a success changes anything.
        let revived = matches!((&self.standing, &outcome), (Standing::Revoked { .. }, Probed::Works(_)))
            && !policy.kind.is_refreshable()
            && !self.is_held();
        if generation != self.generation || !(self.may_probe() || revived) || !policy.has_probe {
            return vec![];
        }
        // This one was it.
        self.probes.next_at = self.probes.next_at.filter(|at| *at > now.wall);
        match outcome {
            Probed::Works(expiry) => self.works(expiry, now, policy),
            Probed::No(verdict) => self.api_said_no(verdict, Trigger::Schedule, now, policy),
        }
    }

    fn works(&mut self, expiry: Option<(Timestamp, ExpirySource)>, now: Now, policy: &Policy) -> Vec<Effect> {
        self.probes.failures <<= 1;
        self.probes.quiet = None;
        self.probes.quiet_until = None;
        self.probes.on_trial_until = None;
        self.proven(now);
        if matches!(&self.standing, Standing::Suspect(suspicion) if suspicion.by == Witness::Api)
            || (matches!(self.standing, Standing::Misconfigured | Standing::Revoked { .. })
                && !policy.kind.is_refreshable())
        {
            self.standing = Standing::Usable;
        }
        if self.trouble.as_ref().is_some_and(|trouble| trouble.refreshes == 0) {
            self.trouble = None;
        }
        if let (Some((end, source)), Some(validity)) = (expiry, &mut self.validity)
            && (!policy.kind.is_refreshable() || validity.expires_at.is_none())
        {
            validity.expires_at = Some(end);
            validity.source = source;
        }
        vec![]
    }

    /// Somebody prolonged a static key, or found out when it ends. What can be renewed says so itself.
    pub(super) fn ends(&mut self, end: Option<Timestamp>, source: ExpirySource, policy: &Policy) -> Vec<Effect> {
        if let Some(validity) = self.validity.as_mut().filter(|_| !policy.kind.is_refreshable()) {
            validity.expires_at = end;
            validity.life =
                end.map(|end| Duration::try_from(end.duration_since(validity.issued_at)).unwrap_or_default());
            validity.source = source;
        }
        vec![]
    }

    /// A reader's call was refused. A value that is already history says nothing about its successor.
    pub(super) fn refused(
        &mut self,
        generation: Generation,
        verdict: Verdict,
        now: Now,
        policy: &Policy,
    ) -> Vec<Effect> {
        if generation != self.generation || !self.may_probe() {
            return vec![];
        }
        self.api_said_no(verdict, Trigger::Refusal, now, policy)
    }

    fn api_said_no(&mut self, verdict: Verdict, trigger: Trigger, now: Now, policy: &Policy) -> Vec<Effect> {
        let refused = matches!(
            verdict.failure,
            Failure::CredentialExpired | Failure::CredentialRejected | Failure::CredentialRevoked
        );
        if let Standing::Suspect(suspicion) = &mut self.standing
            && !refused
            && suspicion.by == Witness::Api
            && suspicion.confirm_at <= now.wall
        {
            // The second look saw nothing: look again later, not at once.
            suspicion.confirm_at = now.wall + verdict.retry_after.unwrap_or_default().clamp(SECOND_LOOK, MOST_QUIET);
        }
        match verdict.failure {
            Failure::CredentialExpired | Failure::CredentialRejected | Failure::CredentialRevoked => {
                if policy.kind.is_refreshable() {
                    self.value_refused(verdict, trigger, now, policy)
                } else {
                    self.key_refused(verdict, trigger, now, policy)
                }
            }
            Failure::RateLimitReached => {
                // A reader's own limit says nothing about our probes.
                if trigger == Trigger::Schedule {
                    self.be_quiet(verdict.retry_after, now);
                    self.note_probe_trouble(verdict, now);
                }
                vec![]
            }
            Failure::InsufficientScope | Failure::ClientMisconfigured => {
                if trigger == Trigger::Schedule {
                    self.note_probe_trouble(verdict, now);
                }
                vec![]
            }
            Failure::UpstreamUnavailable | Failure::NotACredentialFailure | Failure::Unclassified => {
                if trigger == Trigger::Schedule {
                    self.probes.failures = (self.probes.failures << 1) | 1;
                    // Hysteresis: two of the last three (FM-14). A value that nothing has proven yet has no good name
                    // that a single silence could not touch.
                    let again = (self.probes.failures & 0b111).count_ones() >= 2;
                    if again {
                        self.be_quiet(verdict.retry_after, now);
                    }
                    if again || self.probes.proven_at.is_none() {
                        self.note_probe_trouble(verdict, now);
                    }
                }
                vec![]
            }
        }
    }

    /// The API refused a value that can be renewed: one refresh decides, at most one in ten minutes.
    fn value_refused(&mut self, verdict: Verdict, trigger: Trigger, now: Now, policy: &Policy) -> Vec<Effect> {
        if let Some(until) = self.settled_at().filter(|until| *until > now.wall) {
            // RF-33: the new value is still on its way through the provider's replicas.
            self.probes.next_at = Some(until);
            return vec![];
        }
        if self.probes.on_trial_until.is_some_and(|until| until > now.wall) {
            if self.probes.refused == Some(self.generation) {
                // The refresh that decides has brought no value yet: the same refusal again proves nothing.
                self.note_probe_trouble(verdict, now);
                return vec![];
            }
            // Refused, renewed, refused again. Seen by our own probe, not by hearsay.
            if trigger == Trigger::Schedule {
                self.probes.on_trial_until = None;
                self.note_probe_trouble(Verdict { cause: Some("rejected_after_refresh".into()), ..verdict }, now);
                self.standing = Standing::Revoked { since: now.wall };
                return vec![];
            }
            return self.probe(Trigger::Refusal, now, policy);
        }
        let recently = self.refreshed[0].is_some_and(|at| at + REFUSAL_GAP > now.wall);
        if recently || self.flight != Flight::Grounded {
            self.note_probe_trouble(verdict, now);
            return self.probe_again(trigger, now, policy);
        }
        self.probes.on_trial_until = Some(now.wall + TRIAL);
        self.probes.refused = Some(self.generation);
        let effects = self.take_off(Trigger::Refusal, now, policy);
        if effects.is_empty() {
            self.probes.on_trial_until = None;
            self.note_probe_trouble(verdict, now);
        } else if let Some(refresh_at) = self.validity.as_mut().and_then(|validity| validity.refresh_at.as_mut()) {
            // If this one fails it is tried again by back-off, not at the moment that was planned for a good value.
            *refresh_at = now.wall.min(*refresh_at);
        }
        effects
    }

    fn probe_again(&mut self, trigger: Trigger, now: Now, policy: &Policy) -> Vec<Effect> {
        if trigger == Trigger::Refusal { self.probe(Trigger::Refusal, now, policy) } else { vec![] }
    }

    /// The API refused a static key: a second look, and the home store, decide.
    fn key_refused(&mut self, verdict: Verdict, trigger: Trigger, now: Now, policy: &Policy) -> Vec<Effect> {
        if trigger == Trigger::Refusal {
            // Hearsay: we look ourselves, at once.
            return self.probe(Trigger::Refusal, now, policy);
        }
        match &self.standing {
            Standing::Suspect(suspicion) if suspicion.by == Witness::Api => {
                if now.wall.duration_since(suspicion.since) >= SignedDuration::try_from(SECOND_LOOK).unwrap_or_default()
                {
                    self.note_probe_trouble(verdict, now);
                    self.standing = Standing::Revoked { since: now.wall };
                }
                vec![]
            }
            _ => {
                let definitive = verdict.definitive;
                self.note_probe_trouble(verdict, now);
                let confirm_at = now.wall + SECOND_LOOK;
                self.standing =
                    Standing::Suspect(Suspicion { since: now.wall, confirm_at, definitive, by: Witness::Api });
                vec![Effect::Reload]
            }
        }
    }

    fn be_quiet(&mut self, asked: Option<Duration>, now: Now) {
        let quiet = self.probes.quiet.map_or(SECOND_LOOK * 10, |quiet| (quiet * 2).min(MOST_QUIET));
        self.probes.quiet = Some(quiet);
        self.probes.quiet_until = Some(now.wall + quiet.max(asked.unwrap_or_default()).min(MOST_QUIET));
    }

    fn note_probe_trouble(&mut self, verdict: Verdict, now: Now) {
        let (since, refreshes) =
            self.trouble.as_ref().map_or((now.wall, 0), |trouble| (trouble.since, trouble.refreshes));
        // What probes see must not move the next refresh.
        let retry_at = match &self.trouble {
            Some(trouble) if refreshes > 0 => trouble.retry_at,
            _ => self.probes.quiet_until.unwrap_or(now.wall + Duration::from_secs(300)),
        };
        self.trouble = Some(Trouble { since, refreshes, verdict: verdict.into(), retry_at });
    }
}

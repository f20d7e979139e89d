//! Which incidents a credential's condition calls for. What is open is compared with it after every event, so none
//! is forgotten and none is raised twice.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{
    effect::{Effect, Incident, Incidents},
    machine::{Lifecycle, Standing},
    plan::Policy,
    state::State,
};
use crate::{clock::Now, credential::Rotation};

/// A revocation is confirmed for at most this long before on-call is told of it.
pub(super) const UNCONFIRMED: Duration = Duration::from_secs(60);

impl Lifecycle {
    pub(super) fn pages(&mut self, state: State, now: Now, policy: &Policy) -> Vec<Effect> {
        let wanted = self.incidents(state, now, policy);
        if wanted == self.open {
            return vec![];
        }
        let raised = wanted.without(self.open).map(Effect::Raise);
        let cleared = self.open.without(wanted).map(Effect::Clear);
        let effects = raised.chain(cleared).collect();
        self.open = wanted;
        effects
    }

    fn incidents(&self, state: State, now: Now, policy: &Policy) -> Incidents {
        let mut wanted = Incidents::default();
        let long_suspect = |since: Timestamp| now.wall.duration_since(since) >= SignedDuration::from_secs(60);
        match &self.standing {
            Standing::Revoked { .. } => {
                wanted.insert(Incident::CredentialRevoked);
                // Revoked explains all the rest.
                return wanted;
            }
            Standing::Suspect(suspicion) if long_suspect(suspicion.since) => {
                wanted.insert(Incident::CredentialRevoked);
            }
            Standing::Misconfigured => {
                wanted.insert(Incident::ClientMisconfigured);
            }
            _ => {}
        }
        let grave = match policy.rotation {
            Rotation::Strict | Rotation::Unknown => true,
            Rotation::Grace => self.lost.is_some_and(|loss| !loss.in_grace(now.wall, policy)),
            Rotation::None | Rotation::Sporadic | Rotation::UntilFirstUse => false,
        };
        // One refusal is not the answer yet: it stays open until the second look.
        let undecided =
            matches!(self.standing, Standing::Suspect(_)) && self.open.contains(Incident::RotationOutcomeUnknown);
        if undecided || self.lost.is_some_and(|loss| grave || loss.tries > 0) {
            wanted.insert(Incident::RotationOutcomeUnknown);
        }
        let others = [self.doubt_incident(), self.from_orphan.then_some(Incident::OrphanPromoted)];
        others.into_iter().flatten().for_each(|incident| wanted.insert(incident));
        let throttled = self.is_throttled(now, policy);
        if throttled {
            wanted.insert(Incident::RefreshThrottled);
        }
        // What ends between two refreshes that the limiter holds apart is told once, as that.
        if state == State::Expired && !(throttled && self.trouble.is_none()) {
            wanted.insert(Incident::CredentialExpired);
        }
        wanted
    }
}

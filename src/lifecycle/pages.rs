//! Which incidents a credential's condition calls for. What is open is compared with it after every event, so none
//! is forgotten and none is raised twice.

use std::{collections::BTreeSet, time::Duration};

use jiff::{SignedDuration, Timestamp};

use super::{
    machine::{Effect, Flight, Incident, Lifecycle, Standing},
    plan::Policy,
    state::State,
};
use crate::{clock::Now, credential::Rotation};

/// A revocation is confirmed for at most this long before on-call is told of it.
pub(super) const UNCONFIRMED: Duration = Duration::from_secs(60);

impl Lifecycle {
    pub(super) fn pages(&mut self, now: Now, policy: &Policy) -> Vec<Effect> {
        let wanted = self.incidents(now, policy);
        let raised = wanted.difference(&self.open).map(|incident| Effect::Raise(*incident));
        let cleared = self.open.difference(&wanted).map(|incident| Effect::Clear(*incident));
        let effects = raised.chain(cleared).collect();
        self.open = wanted;
        effects
    }

    fn incidents(&self, now: Now, policy: &Policy) -> BTreeSet<Incident> {
        let mut wanted = BTreeSet::new();
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
        if let Flight::Lost { tries, .. } = self.flight
            && (tries > 0 || self.lost_is_grave(policy))
        {
            wanted.insert(Incident::RotationOutcomeUnknown);
        }
        // It stays open while the recovery's own request is out.
        if self.is_in_flight() && self.open.contains(&Incident::RotationOutcomeUnknown) {
            wanted.insert(Incident::RotationOutcomeUnknown);
        }
        if self.state(now, policy) == State::Expired {
            wanted.insert(Incident::CredentialExpired);
        }
        if self.is_throttled(now, policy) {
            wanted.insert(Incident::RefreshThrottled);
        }
        wanted
    }

    fn lost_is_grave(&self, policy: &Policy) -> bool {
        matches!(policy.rotation, Rotation::Strict | Rotation::Unknown)
    }
}

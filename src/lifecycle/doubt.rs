//! Reasons of our own to leave a grant alone, although nobody has refused it: somebody else may have spent it.

use serde::{Deserialize, Serialize};

use super::{
    effect::{Effect, Incident},
    machine::Lifecycle,
};

/// Why the grant that is held must not be presented. A person ends it, or material that is certainly newer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Doubt {
    /// The ledger is older than what it had reached (RF-49): its grant was spent since, and to present it once more may
    /// kill what came of it.
    RolledBack,
    /// Another daemon may own the same grant (RF-50): one of the two must be silent, and that is the younger.
    Cloned,
}

impl Lifecycle {
    pub(super) fn doubted(&mut self, doubt: Doubt) -> Vec<Effect> {
        self.doubt = Some(doubt);
        vec![]
    }

    /// Why the grant is left alone, if it is.
    pub fn doubt(&self) -> Option<Doubt> {
        self.doubt
    }

    /// Nothing goes upstream at all.
    pub fn is_held(&self) -> bool {
        self.held || self.doubt == Some(Doubt::Cloned)
    }

    /// The grant is not presented; probes are another matter.
    /// Whether the grant is not presented although nobody has refused it.
    pub fn is_doubted(&self) -> bool {
        self.doubt.is_some()
    }

    pub(super) fn spares_its_grant(&self) -> bool {
        self.held || self.doubt.is_some()
    }

    pub(super) fn doubt_incident(&self) -> Option<Incident> {
        self.doubt.map(|doubt| match doubt {
            Doubt::RolledBack => Incident::LedgerRolledBack,
            Doubt::Cloned => Incident::DuplicateOwner,
        })
    }
}

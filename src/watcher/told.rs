//! What on-call is told of a secret in its home store, beside what the lifecycle tells: once, and until it is over, also
//! across restarts.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::Shard;
use crate::{
    credential::CredentialId,
    ledger::{Fact, FactChange, Incident},
};

/// The home store gives it the secret of another (FM-75).
pub(super) const DUPLICATE_SECRET: &str = "duplicate_secret";
/// The home store has its secret no longer (FM-18).
pub(super) const SECRET_MISSING: &str = "secret_missing";

const KINDS: [&str; 2] = [DUPLICATE_SECRET, SECRET_MISSING];

/// Incidents of these kinds that are open, or as good as that; shared by all shards.
#[derive(Debug, Default)]
pub(super) struct Told(Mutex<HashSet<(&'static str, CredentialId)>>);

impl Told {
    /// Begins with what was told in an earlier life.
    pub fn new(open: &[Incident]) -> Self {
        let ours = open.iter().filter_map(|incident| {
            let kind = KINDS.into_iter().find(|kind| *kind == incident.kind)?;
            Some((kind, CredentialId::new(&incident.credential).ok()?))
        });
        Self(Mutex::new(ours.collect()))
    }

    /// Nothing is open of that one.
    pub fn forget(&self, id: &CredentialId) {
        self.all().retain(|(_, told)| told != id);
    }

    fn all(&self) -> MutexGuard<'_, HashSet<(&'static str, CredentialId)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shard {
    /// Tells it, unless that was done.
    pub(super) fn raise(&self, id: &CredentialId, kind: &'static str, severity: &str, summary: &str, body: &str) {
        if self.house.told.all().insert((kind, id.clone())) {
            let (severity, summary, body) = (severity.to_owned(), summary.to_owned(), body.to_owned());
            self.tell(id, kind, FactChange::Raise { severity, summary, body });
        }
    }

    /// It is over, if it was told.
    pub(super) fn clear(&self, id: &CredentialId, kind: &'static str, why: &str) {
        let was_told = self.house.told.all().remove(&(kind, id.clone()));
        if was_told {
            self.tell(id, kind, FactChange::Clear { why: why.to_owned() });
        }
    }

    fn tell(&self, id: &CredentialId, kind: &str, change: FactChange) {
        let Some(watched) = self.watched.get(id) else { return };
        let (group, at) = (watched.assignment.provider.name.clone(), self.house.clock.now().wall);
        self.house.untold.add(vec![Fact { kind: kind.to_owned(), credential: id.to_string(), group, change, at }]);
    }
}

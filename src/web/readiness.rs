//! Whether the daemon is ready: named latches that its parts hold while they are not.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// All latches. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<String, usize>>>);

/// Holds a latch; dropping it lets go.
#[must_use = "the latch is let go as soon as this is dropped"]
#[derive(Debug)]
pub struct Guard {
    latches: Readiness,
    name: String,
}

impl Readiness {
    /// Not ready, as far as this part is concerned, until the guard is dropped (`ledger`, `store/vault-main`, `draining`).
    pub fn hold(&self, name: impl Into<String>) -> Guard {
        let name = name.into();
        *self.latches().entry(name.clone()).or_default() += 1;
        Guard { latches: self.clone(), name }
    }

    /// Every part that ever held a latch, and whether it is ready.
    pub fn parts(&self) -> Vec<(String, bool)> {
        self.latches().iter().map(|(name, held)| (name.clone(), *held == 0)).collect()
    }

    /// Whether nobody holds a latch.
    pub fn is_ready(&self) -> bool {
        self.latches().values().all(|held| *held == 0)
    }

    /// A part is gone for good (a store that left the settings).
    pub fn forget(&self, name: &str) {
        self.latches().remove(name);
    }

    fn latches(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(held) = self.latches.latches().get_mut(&self.name) {
            *held = held.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_means_that_no_latch_is_held() {
        let readiness = Readiness::default();
        assert!(readiness.is_ready());
        let (ledger, socket) = (readiness.hold("ledger"), readiness.hold("socket"));
        drop(ledger);
        assert_eq!(readiness.parts(), [("ledger".into(), true), ("socket".into(), false)]);
        drop(socket);
        assert!(readiness.is_ready());
        let _again = readiness.hold("ledger");
        assert!(!readiness.is_ready());
    }
}

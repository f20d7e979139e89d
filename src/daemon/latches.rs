//! `/readyz` and the home stores: a latch for each, held until the store has answered once, or what it holds is known from
//! the ledger. One that falls silent later makes nobody unready: what is known goes on being served.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    publish::View,
    watcher::StoreReport,
    web::{Guard, Readiness},
};

/// The latches, by store.
pub(super) struct StoreLatches {
    readiness: Readiness,
    held: BTreeMap<String, Option<Guard>>,
}

impl StoreLatches {
    /// At the start: whatever is not known yet is waited for.
    pub fn new(readiness: Readiness, stores: &[StoreReport], views: &[View]) -> Self {
        let held = stores.iter().map(|store| (store.name.clone(), Some(readiness.hold(latch(&store.name))))).collect();
        let mut latches = Self { readiness, held };
        latches.follow(stores, views);
        latches
    }

    /// Lets go of those that are known by now, and forgets those that nobody uses any more. One that came by a reload is
    /// listed, and not waited for: the daemon serves already.
    pub fn follow(&mut self, stores: &[StoreReport], views: &[View]) {
        for store in stores {
            let held = self.held.entry(store.name.clone()).or_insert_with(|| {
                drop(self.readiness.hold(latch(&store.name)));
                None
            });
            if held.is_some() && is_known(store, views) {
                *held = None;
            }
        }
        let used: BTreeSet<&str> = stores.iter().map(|store| store.name.as_str()).collect();
        let readiness = &self.readiness;
        self.held.retain(|name, held| {
            let stays = used.contains(name.as_str());
            if !stays {
                *held = None;
                readiness.forget(&latch(name));
            }
            stays
        });
    }
}

fn latch(store: &str) -> String {
    format!("store/{store}")
}

fn is_known(store: &StoreReport, views: &[View]) -> bool {
    store.last_sync_at.is_some() || !views.iter().any(|view| view.generation.0 == 0 && view.store == store.name)
}

//! Home stores as health shows them, and what is wrong with them, as on-call is told of it: one that does not answer, and a
//! login of ours that ends.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::{
    incident::words::Details,
    ledger::{Fact, FactChange, Incident},
    server::health::{StoreState, Stores},
    watcher::StoreReport,
};

/// What health may know of them.
pub(super) fn for_health(reports: impl Fn() -> Vec<StoreReport> + Send + Sync + 'static) -> Stores {
    let state = |report: StoreReport| StoreState { name: report.name, up: report.up, response_ms: report.response_ms };
    Stores::new(move || reports().into_iter().map(state).collect())
}

/// Conditions that are open, by kind and store.
pub(super) type Known = BTreeSet<(&'static str, String)>;

/// A condition that a store can be in.
struct Condition {
    kind: &'static str,
    /// Since when it holds, if it does.
    since: fn(&StoreReport) -> Option<Timestamp>,
    /// Whether it is known to be over; a store that was not asked yet says nothing.
    over: fn(&StoreReport) -> bool,
    words: fn(&StoreReport) -> Words<'_>,
    why_over: &'static str,
}

/// What on-call reads.
struct Words<'r> {
    summary: String,
    details: Details<'r>,
}

const CONDITIONS: [Condition; 2] = [
    Condition {
        kind: "store_down",
        since: |report| report.down_since,
        over: |report| report.up == Some(true),
        words: |report| Words {
            summary: format!("home store {} does not answer", report.name),
            details: Details {
                evidence: report.error.as_deref().unwrap_or(""),
                tried: "it is asked again at its interval; known values are served meanwhile, and refreshes go on",
                affected: "changes made there are not seen, and rotated secrets wait in the ledger",
                remedy: "make the store reachable for credd again; credd check --online names the reason",
            },
        },
        why_over: "it answers again",
    },
    Condition {
        kind: "store_login_failing",
        since: |report| report.login_trouble.as_ref().map(|trouble| trouble.since),
        over: |report| report.login_trouble.is_none(),
        words: |report| Words {
            summary: format!("credd's own login to home store {} ends, and nothing renews it", report.name),
            details: Details {
                evidence: report.login_trouble.as_ref().map_or("", |trouble| &trouble.reason),
                tried: "it is renewed, and got anew, as long as the store allows; the next try is within 30 s",
                affected: "when it has ended, changes made there are not seen, and rotated secrets wait in the ledger",
                remedy: "give credd a new login (`auth` of that store in the settings), or raise the max TTL of its role; \
                         a new token in the same file is found by itself",
            },
        },
        why_over: "the login works again",
    },
];

/// What the ledger knows.
pub(super) fn known(open: &[Incident]) -> Known {
    let kind = |incident: &Incident| CONDITIONS.iter().map(|it| it.kind).find(|kind| *kind == incident.kind);
    open.iter().filter_map(|incident| Some((kind(incident)?, incident.group.clone()))).collect()
}

/// What changed since the ledger was told, and what it knows then.
pub(super) fn facts(mut known: Known, reports: &[StoreReport], now: Timestamp) -> (Vec<Fact>, Known) {
    let reports: BTreeMap<&str, &StoreReport> = reports.iter().map(|report| (report.name.as_str(), report)).collect();
    let mut facts = Vec::new();
    known.retain(|(kind, name)| {
        let stays = reports.contains_key(name.as_str());
        if !stays {
            facts.push(fact(kind, name, clear("it was removed from the settings"), now));
        }
        stays
    });
    for (name, report) in reports {
        for condition in &CONDITIONS {
            let open = (condition.kind, name.to_owned());
            match (condition.since)(report) {
                Some(since) if known.insert(open.clone()) => {
                    let Words { summary, details } = (condition.words)(report);
                    let body = details.text(condition.kind, name);
                    let change = FactChange::Raise { severity: "warning".into(), summary, body };
                    facts.push(fact(condition.kind, name, change, since));
                }
                None if (condition.over)(report) && known.remove(&open) => {
                    facts.push(fact(condition.kind, name, clear(condition.why_over), now));
                }
                _ => {}
            }
        }
    }
    (facts, known)
}

fn clear(why: &str) -> FactChange {
    FactChange::Clear { why: why.to_owned() }
}

fn fact(kind: &str, store: &str, change: FactChange, at: Timestamp) -> Fact {
    Fact { kind: kind.to_owned(), credential: format!("store {store}"), group: store.to_owned(), change, at }
}

//! Incidents: what on-call is told once and until it ends. Pure.
//!
//! Conditions of one kind and group are one incident. Everything that must be remembered of it stands in its
//! conditions (`told`), so that a restart finds the same incident and tells nothing twice.

pub mod hygiene;
mod message;
pub mod words;

pub use message::{Action, Message, Severity};

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use words::{date, lasted, mend_all, names, one_line, plain, spoken, without_mend};

/// A condition of one credential as the ledger keeps it, from its raising until it is settled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// The ledger's number; rises.
    pub id: i64,
    /// The ledger's dedup key of kind and credential (`credd/3f2a…`); free of time, host and generation.
    pub key: String,
    /// `credential_revoked`, …
    pub kind: String,
    /// Whom it is about.
    pub credential: String,
    /// Conditions of one kind and group are one incident (the provider).
    pub group: String,
    /// How bad.
    pub severity: Severity,
    /// One line.
    pub summary: String,
    /// Evidence, what was tried, the remedy ([`words::Details::text`]).
    pub body: String,
    /// Since when.
    pub raised_at: Timestamp,
    /// Until when, and why it ended.
    pub cleared: Option<(Timestamp, String)>,
    /// The incident that it was told under; `None` until a message mentions it.
    pub told: Option<Told>,
}

/// What an incident remembers, in each condition that it tells of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// The key of the incident: that of the condition which opened it.
    pub incident: String,
    /// When its last message was decided.
    pub at: Timestamp,
    /// The number of that message.
    pub sequence: u32,
}

/// One decision, to be made durable in one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// What on-call is told; `None` when there is nothing to tell.
    pub message: Option<Message>,
    /// Conditions that now belong to the incident, and what they remember of it.
    pub told: Option<(Vec<i64>, Told)>,
    /// Conditions that are over and done: they are not asked about again.
    pub settled: Vec<i64>,
}

/// What is to be done now, and when to look again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In the order in which they should be made durable.
    pub announcements: Vec<Announcement>,
    /// The next moment at which something falls due by time alone.
    pub next: Option<Timestamp>,
    /// Severities of the incidents that are open once the announcements are made.
    pub open: Vec<Severity>,
}

/// Decides for all conditions that are not settled. The same input gives the same answer; an extra call does nothing.
pub fn plan(conditions: &[Condition], now: Timestamp) -> Plan {
    let open: BTreeSet<(&str, &str)> =
        conditions.iter().filter(|c| c.cleared.is_none()).map(|c| (&*c.kind, &*c.credential)).collect();
    let explained = |c: &Condition| {
        hygiene::EXPLAINED_BY.iter().any(|(kind, by)| c.kind == *kind && open.contains(&(*by, &*c.credential)))
    };
    let mut groups: BTreeMap<(&str, &str), Group> = BTreeMap::new();
    for condition in conditions {
        let group = groups.entry((&condition.kind, &condition.group)).or_default();
        match (&condition.told, &condition.cleared) {
            (Some(_), _) => group.told.push(condition),
            (None, Some(_)) => group.passed.push(condition.id),
            (None, None) if explained(condition) => {}
            (None, None) => group.waiting.push(condition),
        }
    }
    let mut plan = Plan::default();
    for group in groups.values() {
        group.decide(now, &mut plan);
    }
    plan
}

/// The conditions of one kind and group.
#[derive(Default)]
struct Group<'a> {
    /// Of the open incident.
    told: Vec<&'a Condition>,
    /// Not told yet.
    waiting: Vec<&'a Condition>,
    /// Over before anybody was told: nothing to say.
    passed: Vec<i64>,
}

impl Group<'_> {
    fn decide(&self, now: Timestamp, plan: &mut Plan) {
        if !self.passed.is_empty() {
            plan.announcements.push(Announcement { message: None, told: None, settled: self.passed.clone() });
        }
        let (due, pending): (Vec<&Condition>, Vec<&Condition>) =
            self.waiting.iter().partition(|c| c.raised_at + hygiene::of(&c.kind).pending <= now);
        for condition in pending {
            plan.look_again(condition.raised_at + hygiene::of(&condition.kind).pending);
        }
        match self.told.iter().filter_map(|c| c.told.as_ref()).max_by_key(|told| told.sequence) {
            None => self.open(&due, now, plan),
            Some(told) => self.carry_on(told, &due, now, plan),
        }
    }

    /// The first message of an incident.
    fn open(&self, due: &[&Condition], now: Timestamp, plan: &mut Plan) {
        let Some(opener) = due.iter().min_by_key(|c| (c.raised_at, c.id)) else { return };
        let told = Told { incident: opener.key.clone(), at: now, sequence: 0 };
        plan.tell(trigger(opener, due, &told), due.iter().map(|c| c.id).collect(), told);
    }

    /// An incident that on-call knows of: it grows, repeats, or ends.
    fn carry_on(&self, told: &Told, due: &[&Condition], now: Timestamp, plan: &mut Plan) {
        // The oldest of its key: the same one until the incident ends, whatever came back in between.
        let opener = self.told.iter().filter(|c| c.key == told.incident).min_by_key(|c| c.id);
        let Some(opener) = opener.or(self.told.first()) else { return };
        let known: BTreeSet<&str> = self.told.iter().map(|c| &*c.credential).collect();
        let (again, new): (Vec<&Condition>, Vec<&Condition>) = due.iter().partition(|c| known.contains(&*c.credential));
        if !again.is_empty() {
            // It was told, ended, and is back before the incident was over: the same incident, no second page.
            let ids = again.iter().map(|c| c.id).collect();
            plan.announcements.push(Announcement { message: None, told: Some((ids, told.clone())), settled: vec![] });
        }
        let open: Vec<&Condition> = self.told.iter().copied().filter(|c| c.cleared.is_none()).chain(again).collect();
        let all: Vec<&Condition> = open.iter().copied().chain(new.iter().copied()).collect();
        if all.is_empty() {
            return self.end(opener, told, now, plan);
        }
        let batch = told.at + hygiene::GROUP_WAIT;
        let repeat = told.at + hygiene::REPEAT;
        let critical = open.iter().any(|c| c.severity == Severity::Critical);
        if (!new.is_empty() && batch <= now) || (critical && repeat <= now) {
            let next = Told { incident: told.incident.clone(), at: now, sequence: told.sequence + 1 };
            let ids = new.iter().map(|c| c.id).chain([opener.id]).collect();
            return plan.tell(trigger(opener, &all, &next), ids, next);
        }
        plan.open.extend(worst(&open));
        if !new.is_empty() {
            plan.look_again(batch);
        }
        if critical {
            plan.look_again(repeat);
        }
    }

    /// All is over: say so once the hold has passed.
    fn end(&self, opener: &Condition, told: &Told, now: Timestamp, plan: &mut Plan) {
        let cleared = |c: &Condition| c.cleared.as_ref().map_or(c.raised_at, |(at, _)| *at);
        let last = self.told.iter().copied().max_by_key(|c| cleared(c)).unwrap_or(opener);
        let due = cleared(last) + hygiene::of(&opener.kind).hold;
        if now < due {
            plan.open.extend(worst(&self.told));
            return plan.look_again(due);
        }
        let why = last.cleared.as_ref().map_or("", |(_, why)| why.as_str());
        let credentials: BTreeSet<String> = self.told.iter().map(|c| c.credential.clone()).collect();
        let credentials: Vec<String> = credentials.into_iter().collect();
        let title = title(opener);
        let body = format!(
            "Over since {}, after {}: {}.\nIt was about: {}",
            date(cleared(last)),
            lasted(cleared(last).duration_since(opener.raised_at)),
            if why.is_empty() { "the condition is gone" } else { why },
            names(&credentials),
        );
        let message = Message {
            dedup_key: told.incident.clone(),
            sequence: told.sequence + 1,
            action: Action::Resolve,
            severity: worst(&self.told).unwrap_or(Severity::Info),
            kind: opener.kind.clone(),
            summary: format!("{title}: over"),
            title,
            credentials,
            body: plain(&body, 8_000),
            since: opener.raised_at,
            at: now,
            test: false,
        };
        let settled = self.told.iter().map(|c| c.id).collect();
        plan.announcements.push(Announcement { message: Some(message), told: None, settled });
    }
}

impl Plan {
    fn tell(&mut self, message: Message, ids: Vec<i64>, told: Told) {
        self.open.push(message.severity);
        if message.severity == Severity::Critical {
            self.look_again(told.at + hygiene::REPEAT);
        }
        self.announcements.push(Announcement { message: Some(message), told: Some((ids, told)), settled: vec![] });
    }

    fn look_again(&mut self, at: Timestamp) {
        self.next = Some(self.next.map_or(at, |next| next.min(at)));
    }
}

fn worst(conditions: &[&Condition]) -> Option<Severity> {
    conditions.iter().map(|c| c.severity).max()
}

fn title(opener: &Condition) -> String {
    one_line(&format!("{}: {}", opener.credential, spoken(&opener.kind)), 120)
}

/// A message that opens an incident, adds to it or repeats it; `all` are its open conditions.
fn trigger(opener: &Condition, all: &[&Condition], told: &Told) -> Message {
    let first = all.iter().min_by_key(|c| (c.raised_at, c.id)).copied().unwrap_or(opener);
    let credentials: BTreeSet<String> = all.iter().map(|c| c.credential.clone()).collect();
    let credentials: Vec<String> = credentials.into_iter().collect();
    let summary = match credentials.len() {
        1 => first.summary.clone(),
        several => format!("{several} credentials of {}: {}", opener.group, spoken(&opener.kind)),
    };
    let since = format!("{} ({})", date(opener.raised_at), lasted(told.at.duration_since(opener.raised_at)));
    let body = match credentials.len() {
        1 => format!("{summary}\nSince: {since}\n{}", first.body),
        _ => format!(
            "{summary}\nSince: {since}\nCredentials: {}\n\n{}\nThe first of them: {}\n{}",
            names(&credentials),
            mend_all(&all.iter().map(|c| (&*c.credential, &*c.body)).collect::<Vec<_>>()),
            first.summary,
            without_mend(&first.body)
        ),
    };
    Message {
        dedup_key: told.incident.clone(),
        sequence: told.sequence,
        action: Action::Trigger,
        severity: worst(all).unwrap_or(opener.severity),
        kind: opener.kind.clone(),
        credentials,
        title: title(opener),
        summary: one_line(&summary, 300),
        body: plain(&body, 8_000),
        since: opener.raised_at,
        at: told.at,
        test: false,
    }
}

#[cfg(test)]
mod tests;

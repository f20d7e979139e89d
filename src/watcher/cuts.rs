//! Cuts: credentials with a value of their own that may do less, made of another one's grant. They live in its shard,
//! by the same rules; what they do not have is a death of their own, because the grant is their whole's.

use jiff::{SignedDuration, Timestamp};

use super::{Assignment, Shard, effects::Note, interpret::Refreshed, watched::Watched};
use crate::{
    catalogue::{NarrowBy, Tokens, scopes},
    clock::Now,
    credential::{CredentialId, Failure, Verdict},
    lifecycle::{Commit, Event, Standing, State, Trigger},
    publish::Published,
};

/// A cut of a dead whole looks again this much later.
const WAIT: SignedDuration = SignedDuration::from_secs(60);
/// A whole that was renewed or proven so lately is not doubted again.
const PROVEN_LATELY: SignedDuration = SignedDuration::from_secs(5);

impl Shard {
    /// From now on it goes with its whole.
    pub(super) fn join_whole(&mut self, assignment: &Assignment) {
        if let Some(whole) = &assignment.whole {
            self.cuts.entry(whole.clone()).or_default().insert(assignment.id.clone());
        }
    }

    pub(super) fn leave_whole(&mut self, assignment: &Assignment) {
        if let Some(whole) = &assignment.whole
            && let Some(cuts) = self.cuts.get_mut(whole)
        {
            cuts.remove(&assignment.id);
            if cuts.is_empty() {
                self.cuts.remove(whole);
            }
        }
    }

    pub(super) fn cuts_of(&self, whole: &CredentialId) -> Vec<CredentialId> {
        self.cuts.get(whole).into_iter().flatten().cloned().collect()
    }

    /// The whole, if this is a cut of a dead one.
    pub(super) fn dead_whole(&self, watched: &Watched, now: Now) -> Option<&Watched> {
        let whole = self.watched.get(watched.assignment.whole.as_ref()?)?;
        (whole.state(now) == State::Revoked).then_some(whole)
    }

    /// What readers, health and metrics see: of a cut, the death of its whole before anything of its own.
    pub(super) fn published(&self, watched: &Watched, now: Now) -> Published {
        let mut published = watched.published(now);
        if let Some(whole) = self.dead_whole(watched, now) {
            let whole = whole.published(now).view;
            published.token = None;
            (published.view.state, published.view.since) = (whole.state, whole.since);
            published.view.problem = whole.problem;
        }
        published
    }

    /// Begins a flight, unless this is a cut of a dead whole: nothing more is asked of a dead grant, and what mends the
    /// whole mends the cut.
    pub(super) async fn take_off(&mut self, id: &CredentialId, trigger: Trigger) {
        let now = self.house.clock.now();
        if self.watched.get(id).is_none_or(|watched| self.dead_whole(watched, now).is_none()) {
            return self.prepare(id, trigger).await;
        }
        let verdict = Verdict::of(Failure::UpstreamUnavailable, "whole_revoked");
        let event = Event::Aborted { verdict, retry_at: Some(now.wall + WAIT) };
        self.happen(id, event, Note::quiet(trigger)).await;
    }

    /// The whole lives again: cuts that had given up, or waited for it, are tried once more. A cut that still holds the
    /// dead secret is not: it is told of the new one by the home store, as its whole was.
    pub(super) async fn revive_cuts(&mut self, whole: &CredentialId) {
        for cut in self.cuts_of(whole) {
            let now = self.house.clock.now();
            let root = |id| Some(self.watched.get(id)?.material.as_ref()?.root()?.clone());
            let Some(watched) = self.watched.get(&cut).filter(|_| root(&cut) == root(whole)) else { continue };
            let (event, note) = match watched.life.standing() {
                Standing::Revoked { .. } => (Event::Mended, Note::of("mended", Trigger::StoreChange)),
                _ if !watched.life.is_servable(now) => (Event::RefreshNow, Note::quiet(Trigger::StoreChange)),
                _ => continue,
            };
            Box::pin(self.happen(&cut, event, note)).await;
        }
    }

    /// A refusal of the grant, met by a cut, is its whole's affair: the whole proves itself, and the cut waits for that.
    pub(super) async fn refused_the_whole(&mut self, cut: &CredentialId, verdict: Verdict) -> Verdict {
        let of_the_grant = matches!(
            verdict.failure,
            Failure::CredentialRevoked | Failure::CredentialRejected | Failure::CredentialExpired
        );
        let whole = self.watched.get(cut).and_then(|watched| watched.assignment.whole.clone());
        let Some(whole) = whole.filter(|_| of_the_grant) else { return verdict };
        let now = self.house.clock.now().wall;
        if let Some(watched) = self.watched.get(&whole)
            && !is_proven_lately(watched, now)
        {
            let event = if watched.assignment.kind.is_refreshable() { Event::RefreshNow } else { Event::ProbeNow };
            Box::pin(self.happen(&whole, event, Note::quiet(Trigger::Refusal))).await;
        }
        let evidence = format!("{}: {}", verdict.failure, verdict.evidence);
        Verdict { evidence, ..Verdict::of(Failure::UpstreamUnavailable, "whole_in_doubt") }
    }
}

fn is_proven_lately(watched: &Watched, now: Timestamp) -> bool {
    let issued = watched.life.validity().map(|validity| validity.issued_at);
    let proven = watched.life.probes().proven_at;
    issued.max(proven).is_some_and(|at| at + PROVEN_LATELY > now)
}

/// A provider that grants more scopes than were asked for has not narrowed the token: it is kept from its reader.
pub(super) fn held_to_its_width(outcome: Refreshed, assignment: &Assignment) -> Refreshed {
    let by_scope = assignment.provider.narrow.as_ref().is_some_and(|narrowing| narrowing.by == NarrowBy::Scope);
    let narrow = assignment.upstream.narrow.as_ref().filter(|_| by_scope);
    let Some(asked) = narrow.and_then(|narrow| narrow.texts("scopes")) else { return outcome };
    let more = |tokens: &Tokens| {
        // RFC 6749 §5.1: left out where it is what was asked for.
        let granted = tokens.scope.as_deref().map(scopes).unwrap_or_default();
        granted.into_iter().find(|scope| !asked.contains(&scope.as_str()))
    };
    let Refreshed::Tokens(tokens) = &outcome else { return outcome };
    let Some(scope) = more(tokens) else { return outcome };
    let evidence = format!("the provider granted {scope:?}, which was not asked for");
    let verdict = Verdict { evidence, ..Verdict::of(Failure::ClientMisconfigured, "not_narrowed") };
    Refreshed::No { verdict, commit: Commit::NotCommitted }
}

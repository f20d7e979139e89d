//! Whether the grant that the ledger holds may be presented at all: it may be older than what it had reached (RF-49), or
//! another daemon may own it as well (RF-50).

use std::time::Duration;

use super::{Message, Shard, effects::Note, watched::Watched};
use crate::{
    credential::{CredentialId, Failure, Generation, Material, Verdict},
    ledger::Reached,
    lifecycle::{Doubt, Event, Trigger},
};

/// A refresh waits so long for the home store's first word, and no longer: a store that is down never prevents one.
const FIRST_WORD: Duration = Duration::from_secs(5);
/// No grant is refreshed so often; a higher number in a home store is not ours.
const ABSURD: i64 = 1 << 53;

impl Shard {
    /// Before the home store was asked, nobody knows whether the ledger holds the newest grant. A refresh that was
    /// decided so early goes on when the store has answered.
    pub(super) fn waits_for_its_home(&mut self, id: &CredentialId, trigger: Trigger) -> bool {
        let Some(watched) = self.watched.get_mut(id).filter(|watched| !watched.looked && watched.rotates()) else {
            return false;
        };
        watched.decided = Some(trigger);
        let (house, back, id) = (self.house.clone(), self.back.clone(), id.clone());
        tokio::spawn(async move {
            house.clock.sleep(FIRST_WORD).await;
            let _ = back.send(Message::StoreSilent(id));
        });
        true
    }

    /// The home store has said what it has to say; what it brought has been taken over.
    pub(super) async fn looked(&mut self, id: &CredentialId) {
        let Some(watched) = self.watched.get_mut(id) else { return };
        watched.looked = true;
        let decided = watched.decided.take();
        let mut doubt = watched.life.doubt();
        if doubt.is_none() && self.is_behind(id) {
            let detail = "the ledger is older than what it had reached, and its home store has nothing newer";
            let note = Note { detail: Some(detail.to_owned()), ..Note::of("rolled_back", Trigger::Recovery) };
            self.happen(id, Event::Doubted(Doubt::RolledBack), note).await;
            doubt = Some(Doubt::RolledBack);
        }
        match (decided, doubt) {
            (None, _) => {}
            (Some(trigger), None) => Box::pin(self.prepare(id, trigger)).await,
            (Some(trigger), Some(_)) => {
                // Nothing failed, and nothing is tried again until the doubt is over.
                let verdict = Verdict::of(Failure::UpstreamUnavailable, "in_doubt");
                let event = Event::Aborted { verdict, retry_at: Some(self.house.clock.now().wall) };
                self.happen(id, event, Note::quiet(trigger)).await;
                self.end_of_flight(id);
            }
        }
    }

    pub(super) fn was_read(&mut self, id: &CredentialId) {
        if let Some(watched) = self.watched.get_mut(id) {
            watched.was_read = true;
        }
    }

    fn reached(&self, watched: &Watched) -> Option<Reached> {
        self.house.ledger.rotation().reached(&watched.assignment.id).filter(|_| watched.rotates())
    }

    fn is_behind(&self, id: &CredentialId) -> bool {
        let Some(watched) = self.watched.get(id).filter(|watched| watched.material.is_some()) else { return false };
        self.reached(watched).is_some_and(|mark| watched.life.generation < mark.generation)
    }

    /// The number of a value that is newer than all that was ever reached.
    pub(super) fn next_generation(&self, watched: &Watched) -> Generation {
        let mark = self.reached(watched).map(|mark| mark.generation);
        watched.life.generation.max(mark.unwrap_or_default()).next()
    }

    /// The number of a value from the home store, and whether it is one that was overtaken as well. A value that we
    /// wrote there has its own number, so that the same value never has two.
    pub(super) fn numbered(&self, watched: &Watched, theirs: &Material) -> (Generation, bool) {
        let mark = self.reached(watched);
        let ours = watched.material.as_ref().and_then(|ours| ours.grant_id.as_ref());
        let grants = [ours, mark.as_ref().and_then(|mark| mark.grant.as_ref())];
        let same_grant = theirs.grant_id.is_some() && grants.contains(&theirs.grant_id.as_ref());
        let told = theirs.generation.filter(|told| same_grant && watched.life.generation < *told && told.0 < ABSURD);
        match (told, &mark) {
            (Some(told), Some(mark)) => (told, told < mark.generation),
            (Some(told), None) => (told, false),
            (None, _) if self.is_spent(watched, theirs) => (watched.life.generation.next(), true),
            (None, _) => (self.next_generation(watched), false),
        }
    }

    /// Whether this is a token that we have spent ourselves: an older value of ours that came back.
    pub(super) fn is_spent(&self, watched: &Watched, theirs: &Material) -> bool {
        let token = theirs.refresh_token.as_ref().map(|token| self.house.ledger.sealer().fingerprint(token));
        token.is_some_and(|token| self.reached(watched).is_some_and(|mark| mark.has_spent(&token)))
    }

    /// A later value of our own grant that we have not written, while we run: a second daemon has a copy of our ledger.
    pub(super) fn is_a_rivals(&self, id: &CredentialId, theirs: &Material) -> bool {
        let Some(watched) = self.watched.get(id).filter(|watched| watched.was_read && watched.rotates()) else {
            return false;
        };
        let same_grant = watched.material.as_ref().is_some_and(|ours| ours.grant_id == theirs.grant_id);
        same_grant
            && theirs.grant_id.is_some()
            && theirs.generation.is_some_and(|told| told > watched.life.generation && told.0 < ABSURD)
    }

    /// One of two that own a grant must be silent: this one.
    pub(super) async fn is_perhaps_a_clone(&mut self, id: &CredentialId, why: &str) {
        let known = |watched: &Watched| watched.life.doubt() == Some(Doubt::Cloned);
        if self.watched.get(id).is_none_or(|watched| !watched.rotates() || known(watched)) {
            return;
        }
        let note = Note { detail: Some(why.to_owned()), ..Note::of("held", Trigger::Recovery) };
        self.happen(id, Event::Doubted(Doubt::Cloned), note).await;
    }

    /// An operator vouches for what the ledger holds.
    pub(super) async fn vouch(&self, id: &CredentialId) {
        let Some(watched) = self.watched.get(id).filter(|watched| watched.life.doubt().is_some()) else { return };
        self.house.ledger.rotation().vouch(id, watched.life.generation).await;
    }
}

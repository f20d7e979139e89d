//! The end of a flight that brought tokens: durable first, then published.

use std::{sync::Arc, time::Duration};

use jiff::SignedDuration;
use uuid::Uuid;

use super::{
    LoadReason, Message, Shard, breadth,
    effects::Note,
    flight::Landing,
    interpret,
    saving::{Promotion, save},
};
use crate::{
    credential::{CredentialId, ExpirySource, Failure, Fingerprint, Generation, Material, Verdict},
    ledger::{FlightStep, NewValue, SUPERSEDED},
    lifecycle::{Event, Promoted, Trigger},
};

/// The previous value is kept, sealed, this long.
pub(super) const KEEP_PREVIOUS: SignedDuration = SignedDuration::from_hours(24);
/// After so long without a durable write, a new value is published all the same, marked `unsaved`.
pub(super) const UNSAVED_AFTER: Duration = Duration::from_secs(2);

impl Shard {
    /// Makes the tokens of a flight the value of their credential.
    pub(super) async fn promote(
        &mut self,
        id: &CredentialId,
        landing: &Landing,
        duration: Duration,
        tokens: crate::catalogue::Tokens,
    ) {
        let Landing { attempt, trigger, sent_at, captured, .. } = *landing;
        // The capture has waited as long for a ledger that did not take it.
        let patience = if captured { UNSAVED_AFTER } else { Duration::ZERO };
        let Some(watched) = self.watched.get(id) else { return };
        let old = watched.material.clone().unwrap_or_default();
        let generation = watched.life.generation.next();
        let mut material = interpret::renewed(&old, &tokens, sent_at, generation, attempt);
        let mut tokens = tokens;
        if !tokens.is_bearer() {
            // RF-35: the new grant is kept, the token is not handed to readers who would send it as a bearer token.
            tracing::error!(credential = %id, token_type = tokens.token_type, "the provider's token type is not one that credd can deliver");
            material.access_token.clone_from(&old.access_token);
            material.token_type.clone_from(&old.token_type);
            material.expires_at = old.expires_at;
            let left =
                old.expires_at.map(|end| Duration::try_from(end.duration_since(sent_at.wall)).unwrap_or_default());
            tokens.lifetime = left.or(Some(Duration::ZERO));
        }
        let scope_before = old.scope.clone();
        let write_back = tokens.refresh_token.as_ref().is_some_and(|new| old.refresh_token.as_ref() != Some(new));
        let value = NewValue {
            replaces: watched.life.generation,
            generation,
            material: material.clone(),
            store_version: None,
            from_store: false,
            keep_previous_until: Some(self.house.clock.now().wall + KEEP_PREVIOUS),
        };
        let told = tokens.refresh_lifetime.is_some();
        let event = Event::Promoted(Promoted {
            generation,
            sent_at,
            life: tokens.lifetime,
            source: tokens.lifetime_source,
            // What the reply does not tell stays as it was known.
            refresh_expires_at: material.refresh_expires_at.filter(|_| told).map(|end| (end, ExpirySource::Response)),
            repaired: tokens.repaired,
        });
        let scope_after = material.scope.clone();
        let changed = scope_before != scope_after;
        let note = Note {
            attempt: Some(attempt),
            duration: Some(duration),
            detail: breadth::difference(scope_before.as_deref(), scope_after.as_deref()),
            scope_before: scope_before.filter(|_| changed),
            scope_after: scope_after.filter(|_| changed),
            flight: Some(FlightStep::Close { attempt, outcome: "promoted" }),
            value: Some(value),
            write_back,
            ..Note::of("refreshed", trigger)
        };
        if let Some(watched) = self.watched.get_mut(id) {
            watched.client = watched.presenting_client().map(str::to_owned);
        }
        let Some(mut decided) = self.decide(id, event.clone(), note) else { return };
        let Some(transition) = decided.transition.take() else { return };
        let older = self.house.untold.set_aside(&transition.incidents);
        let id = id.clone();
        let mut saved = Box::pin(save(self.house.clone(), transition));
        let promotion = Promotion { id: id.clone(), attempt, trigger, generation, write_back, decided, older };
        let is_saved = tokio::select! {
            biased;
            is_saved = &mut saved => Some(is_saved),
            () = self.house.clock.sleep(patience) => None,
        };
        match is_saved {
            Some(is_saved) => Box::pin(self.promoted(promotion, is_saved)).await,
            None => {
                self.publish_unsaved(&id, &material, &event);
                self.goes_on_saving(promotion, saved);
            }
        }
    }

    /// Whether the home store brought another grant while that flight was out: the operator's wins.
    pub(super) fn is_replaced(&self, id: &CredentialId, target: Generation, presented: &Fingerprint) -> bool {
        let Some(watched) = self.watched.get(id) else { return false };
        let root = watched.material.as_ref().and_then(|material| material.root());
        watched.assignment.kind.spends_grant()
            && watched.life.generation.next() != target
            && root.map(|root| self.house.ledger.sealer().fingerprint(root)).as_ref() != Some(presented)
    }

    /// The reply is kept, it may hold the only living token of the old grant; the new one has not failed and need not wait.
    pub(super) async fn superseded(&mut self, id: &CredentialId, attempt: Uuid, trigger: Trigger) {
        let note = Note {
            attempt: Some(attempt),
            flight: Some(FlightStep::Close { attempt, outcome: SUPERSEDED }),
            detail: Some("its grant was replaced in the home store meanwhile; the reply is kept".to_owned()),
            ..Note::of("refresh_superseded", trigger)
        };
        let (verdict, now) = (Verdict::of(Failure::Unclassified, "superseded"), self.house.clock.now().wall);
        let event = Event::Aborted { verdict, retry_at: Some(now) };
        if let Err(error) = self.step(id, event.clone(), note).await {
            tracing::error!(credential = %id, %error, "a superseded refresh was not written; recovery will close it");
            self.happen(id, event, Note::quiet(trigger)).await;
        }
        if let Some(watched) = self.watched.get_mut(id) {
            let generation = watched.life.generation;
            watched.orphans.push((attempt, generation));
        }
        self.end_of_flight(id);
    }

    /// Withholding a token that exists helps nobody, and the old one may be dead already.
    fn publish_unsaved(&mut self, id: &CredentialId, material: &Material, event: &Event) {
        let now = self.house.clock.now();
        let dice = (self.house.dice)();
        let Some(watched) = self.watched.get_mut(id) else { return };
        if watched.flags.unsaved {
            return;
        }
        let (mut life, held) = (watched.life.clone(), watched.material.clone());
        life.step(event.clone(), now, dice, &watched.assignment.policy);
        watched.flags.unsaved = true;
        let durable = std::mem::replace(&mut watched.life, life);
        watched.material = Some(Arc::new(material.clone()));
        self.house.publisher.set(watched.published(now));
        // What is durable stays the truth of this shard; only the readers are ahead.
        watched.life = durable;
        watched.material = held;
    }

    /// Whoever waited for the flight is told.
    pub(super) fn end_of_flight(&mut self, id: &CredentialId) {
        let Some(watched) = self.watched.get_mut(id) else { return };
        if !watched.life.is_in_flight() {
            watched.answer_all();
            if watched.leaving {
                let _ = self.back.send(Message::Forget(id.clone()));
            } else if std::mem::take(&mut watched.look_again) {
                self.load(id, LoadReason::Changed);
            }
        }
        self.publish(id);
    }
}

//! Kept replies, looked at again.
//!
//! One that nobody could read is read anew at each start, because a corrected provider file or a newer program may
//! understand it (RR-2). Those of flights that were overtaken are the last resort of a credential whose own grant is
//! refused (RR-6, and the sibling check of RR-4): the newest that works takes its place.

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures_util::FutureExt;
use jiff::Timestamp;
use uuid::Uuid;

use super::{
    Assignment, Message, Shard, adopt,
    effects::Note,
    flight::panicked,
    interpret::{self, Refreshed},
    probe::Look,
    promote::KEEP_PREVIOUS,
    watched::{LostFlight, Watched},
};
use crate::{
    catalogue::{Tokens, issued_at},
    clock::Now,
    credential::{CredentialId, Failure, Generation, Material, Value},
    ledger::{Attempt, FlightStep, NewValue, Orphan, Stage, UNREADABLE},
    lifecycle::{Event, Origin, Probed, Standing, Trigger},
};

/// A kept reply that brings a grant.
struct Candidate {
    attempt: Uuid,
    /// As its provider dates it.
    issued_at: Timestamp,
    material: Material,
}

impl Shard {
    /// RR-2: if the reply to the last flight can be read now, that flight is opened again, and recovery promotes it.
    pub(super) async fn reread(&mut self, id: &CredentialId, orphans: Vec<Orphan>) -> Option<Attempt> {
        let watched = self.watched.get_mut(id)?;
        let next = watched.life.generation.next();
        let target = |orphan: &Orphan| orphan.flight.as_ref().map_or(next, |flight| flight.target);
        watched.orphans = orphans.iter().map(|orphan| (orphan.attempt, target(orphan))).collect();
        let root = watched.material.as_ref()?.root()?;
        let presented = self.house.ledger.sealer().fingerprint(root);
        let last = orphans.into_iter().rev().find(|orphan| {
            let flight = orphan.flight.as_ref();
            flight.is_some_and(|it| it.outcome == UNREADABLE && it.target == next && it.presents == presented)
        })?;
        let flight = last.flight?;
        if let Refreshed::No { verdict, .. } = read(watched, &last.reply, flight.prepared_at) {
            let (attempt, sent_at, unreadable) = (last.attempt, flight.prepared_at, Some(verdict.evidence));
            let how = "it was answered with success, and the answer could not be read".to_owned();
            watched.lost = Some(LostFlight { attempt, sent_at, how, unreadable });
            return None;
        }
        match self.house.ledger.rotation().reopen(last.attempt).await {
            Ok(true) => Some(Attempt {
                id: last.attempt,
                target: flight.target,
                presents: flight.presents,
                prepared_at: flight.prepared_at,
                boot_id: self.house.boot_id.clone(),
                stage: Stage::Received { reply: last.reply, at: last.received_at },
            }),
            Ok(false) => None,
            Err(error) => {
                tracing::error!(credential = %id, %error, "a kept reply can be read now, and the ledger does not take it; the next start tries again");
                None
            }
        }
    }

    /// At a start: for a credential whose own grant was refused before.
    pub(super) async fn try_orphans_of_the_refused(&mut self, id: &CredentialId) {
        if self.watched.get(id).is_some_and(|watched| !watched.orphans.is_empty() && is_refused(watched)) {
            self.try_orphans(id, Vec::new()).await;
        }
    }

    /// The provider has refused the grant, and the home store has no newer one: does a kept reply? The newest comes
    /// first; those whose token was refused are out of the question.
    pub(super) async fn try_orphans(&mut self, id: &CredentialId, refused: Vec<Uuid>) {
        let found = match self.newest_orphan(id, &refused).await {
            Ok(found) => found,
            Err(error) => {
                // No verdict: what is kept was not looked at.
                tracing::error!(credential = %id, %error, "kept replies could not be read");
                return;
            }
        };
        let Some(candidate) = found else {
            self.happen(id, Event::Unchanged, Note::quiet(Trigger::Refusal)).await;
            return;
        };
        let Some(watched) = self.watched.get(id) else { return };
        let now = self.house.clock.now();
        let lives = candidate.material.expires_at.is_none_or(|end| end > now.wall);
        if !(watched.assignment.policy.has_probe && lives) {
            // Nothing can tell but its grant; and the one in its place is refused anyway.
            self.take_orphan(id, candidate).await;
            return;
        }
        let Some(mut subject) = watched.subject() else { return };
        subject.material = Arc::new(candidate.material);
        let (house, back, id) = (self.house.clone(), self.back.clone(), id.clone());
        let (attempt, generation) = (candidate.attempt, watched.life.generation);
        tokio::spawn(async move {
            let sent_at = house.clock.now();
            let result = AssertUnwindSafe(house.upstream.probe(&subject, sent_at.wall)).catch_unwind().await;
            let result = result.unwrap_or_else(|_| Ok(panicked()));
            let landed_at = house.clock.now();
            let look = Box::new(Look { generation, trigger: Trigger::Recovery, sent_at, landed_at, result });
            let _ = back.send(Message::OrphanProbed { id, attempt, refused, look });
        });
    }

    /// Only a refusal rules a candidate out: where the API gives no answer, its grant must tell.
    pub(super) async fn orphan_probed(&mut self, id: &CredentialId, attempt: Uuid, mut refused: Vec<Uuid>, look: Look) {
        let Some(watched) = self.watched.get(id) else { return };
        if look.generation != watched.life.generation || !is_refused(watched) {
            return;
        }
        let (outcome, verdict) = {
            let Assignment { provider, kind, upstream, .. } = watched.assignment.as_ref();
            interpret::probe(provider, *kind, upstream, &look)
        };
        let dead = |verdict: &crate::credential::Verdict| {
            matches!(
                verdict.failure,
                Failure::CredentialExpired | Failure::CredentialRevoked | Failure::CredentialRejected
            )
        };
        if matches!(outcome, Probed::No(_)) && verdict.as_ref().is_some_and(dead) {
            let note = Note { attempt: Some(attempt), verdict, ..Note::of("orphan_refused", Trigger::Recovery) };
            self.happen(id, Event::Tick, note).await;
            refused.push(attempt);
            return self.try_orphans(id, refused).await;
        }
        match self.newest_orphan(id, &refused).await {
            Ok(Some(candidate)) if candidate.attempt == attempt => self.take_orphan(id, candidate).await,
            Ok(_) => {}
            Err(error) => tracing::error!(credential = %id, %error, "kept replies could not be read"),
        }
    }

    async fn newest_orphan(
        &self,
        id: &CredentialId,
        refused: &[Uuid],
    ) -> Result<Option<Candidate>, crate::ledger::LedgerError> {
        let Some(watched) = self.watched.get(id).filter(|watched| !watched.orphans.is_empty()) else { return Ok(None) };
        let orphans = self.house.ledger.rotation().orphans().await?;
        let ours = orphans
            .into_iter()
            .filter(|orphan| orphan.credential.as_ref() == Some(id) && !refused.contains(&orphan.attempt));
        let candidates = ours.filter_map(|orphan| self.candidate(watched, &orphan));
        Ok(candidates.max_by_key(|candidate| candidate.issued_at))
    }

    /// What the reply would make of the credential; nothing, if it brings no grant, or the one that is held.
    fn candidate(&self, watched: &Watched, orphan: &Orphan) -> Option<Candidate> {
        let sent_at = orphan.flight.as_ref().map_or(orphan.received_at, |flight| flight.prepared_at);
        let Refreshed::Tokens(tokens) = read(watched, &orphan.reply, sent_at) else { return None };
        let tokens: Tokens = *tokens;
        let held = watched.material.as_deref()?;
        let brings = tokens.refresh_token.as_ref().is_some_and(|token| held.refresh_token.as_ref() != Some(token));
        if !(brings && tokens.is_bearer() && watched.assignment.kind.spends_grant()) {
            return None;
        }
        let Value::Token(token) = &tokens.value else { return None };
        let issued_at = issued_at(token, &orphan.reply).unwrap_or(orphan.received_at);
        let sent_at = Now { wall: sent_at, boot: self.house.clock.now().boot };
        let generation = self.next_generation(watched);
        let mut material = interpret::renewed(held, &tokens, sent_at, generation, orphan.attempt);
        let fingerprint = held.root().map(|root| self.house.ledger.sealer().fingerprint(root));
        if orphan.flight.as_ref().map(|flight| &flight.presents) != fingerprint.as_ref() {
            // It was not bought with the grant that is held, so it is of another.
            material.grant_id = material.attempt_id.clone();
        }
        Some(Candidate { attempt: orphan.attempt, issued_at, material })
    }

    async fn take_orphan(&mut self, id: &CredentialId, candidate: Candidate) {
        let Some(watched) = self.watched.get(id) else { return };
        let now = self.house.clock.now().wall;
        let Candidate { attempt, issued_at, material } = candidate;
        let generation = self.next_generation(watched);
        let facts = adopt::facts(generation, &material, &watched.assignment, Origin::Orphan, now);
        let value = NewValue {
            replaces: watched.life.generation,
            generation,
            material,
            store_version: None,
            from_store: false,
            keep_previous_until: Some(now + KEEP_PREVIOUS),
        };
        let note = Note {
            attempt: Some(attempt),
            flight: Some(FlightStep::Take(attempt)),
            value: Some(value),
            write_back: true,
            detail: Some(format!("the reply of {issued_at}, which had been kept, takes the place of a refused grant")),
            ..Note::of("orphan_promoted", Trigger::Recovery)
        };
        if let Err(error) = self.step(id, Event::Loaded(facts), note).await {
            tracing::error!(credential = %id, %error, "a kept reply could not be taken over; the next refusal tries again");
            return;
        }
        if let Some(watched) = self.watched.get_mut(id) {
            watched.orphans.retain(|(kept, _)| *kept != attempt);
            (watched.last_verdict, watched.lost) = (None, None);
            watched.write_back_wanted = generation;
        }
        self.flag(id, |flags| flags.writeback_pending = true);
        self.house.metrics.credd_rotations_total.with_label_values(&[id.as_str(), "orphan"]).inc();
        self.house.stores.write_back_soon();
        self.end_of_flight(id);
    }

    /// A refresh has brought that generation, so the one before it was good: what was to make an earlier one, or the
    /// same, is needed no more.
    pub(super) async fn forget_orphans(&mut self, id: &CredentialId, generation: Generation) {
        let Some(watched) = self.watched.get_mut(id) else { return };
        let (stay, go): (Vec<_>, Vec<_>) = watched.orphans.drain(..).partition(|(_, target)| *target >= generation);
        watched.orphans = stay;
        if go.is_empty() {
            return;
        }
        let attempts = go.iter().map(|(attempt, _)| *attempt).collect();
        if let Err(error) = self.house.ledger.rotation().drop_orphans(attempts).await {
            tracing::warn!(credential = %id, %error, "kept replies that nobody needs any more stay in the ledger");
            if let Some(watched) = self.watched.get_mut(id) {
                watched.orphans.extend(go);
            }
        }
    }
}

fn is_refused(watched: &Watched) -> bool {
    matches!(watched.life.standing(), Standing::Suspect(_) | Standing::Revoked { .. })
}

fn read(watched: &Watched, reply: &crate::credential::Reply, sent_at: Timestamp) -> Refreshed {
    let assignment = &watched.assignment;
    interpret::reply_to_refresh(&assignment.provider, assignment.kind, reply, sent_at, watched.life.last_life)
}

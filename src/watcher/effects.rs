//! One step of one credential: ask the lifecycle, make the answer durable, then carry it out.

use std::time::Duration;

use jiff::SignedDuration;
use uuid::Uuid;

use super::{LoadReason, Shard, breadth, house::Patience, kept, page};
use crate::{
    clock::Now,
    credential::{CredentialId, Fingerprint, Verdict},
    ledger::{Entry, Fact, FactChange, FlightStep, LedgerError, NewValue, Transition},
    lifecycle::{Effect, Event, Lifecycle, State, Trigger},
};

/// What the log and the audit trail say of a step.
#[derive(Clone, Debug)]
pub(super) struct Note {
    /// `None` for steps that are no news by themselves (time passed).
    pub event: Option<&'static str>,
    pub trigger: Trigger,
    pub actor: Option<String>,
    pub attempt: Option<Uuid>,
    pub verdict: Option<Verdict>,
    pub duration: Option<Duration>,
    pub scope_before: Option<String>,
    pub scope_after: Option<String>,
    pub detail: Option<String>,
    pub flight: Option<FlightStep>,
    pub value: Option<NewValue>,
    pub write_back: bool,
}

impl Note {
    pub fn quiet(trigger: Trigger) -> Self {
        Self {
            event: None,
            trigger,
            actor: None,
            attempt: None,
            verdict: None,
            duration: None,
            scope_before: None,
            scope_after: None,
            detail: None,
            flight: None,
            value: None,
            write_back: false,
        }
    }

    pub fn of(event: &'static str, trigger: Trigger) -> Self {
        Self { event: Some(event), ..Self::quiet(trigger) }
    }
}

/// A step that was decided and has not happened yet.
pub(super) struct Decided {
    now: Now,
    life: Lifecycle,
    stepped: SignedDuration,
    effects: Vec<Effect>,
    value: Option<NewValue>,
    /// What was held before a new value.
    held: Option<Fingerprint>,
    before: State,
    new_material: bool,
    spends: bool,
    /// To be durable before anybody sees any of it, if the step is worth a line.
    pub transition: Option<Transition>,
}

impl Shard {
    /// Steps the lifecycle and carries out what it asks for. Whatever the step changes is durable before anybody sees
    /// it; when the ledger refuses, the step has not happened, and the error says so.
    pub(super) async fn step(&mut self, id: &CredentialId, event: Event, note: Note) -> Result<(), LedgerError> {
        let must = note.flight.is_some() || note.value.is_some();
        let Some(mut decided) = self.decide(id, event, note) else { return Ok(()) };
        if let Some(transition) = decided.transition.take() {
            let incidents = transition.incidents.clone();
            let older = self.house.untold.set_aside(&incidents);
            let house = self.house.clone();
            let write = async move { house.ledger.rotation().commit(transition).await };
            // Where the ledger decides whether it happened, that must be known.
            let written = if must { write.await } else { self.house.patiently(write, Patience::Quiet).await };
            if let Err(error) = written {
                if must {
                    self.house.untold.add(older);
                    return Err(error);
                }
                // Nothing was spent: the picture in memory is the better one, and the next step writes it. On-call is
                // told by itself, because no later step would tell it again.
                self.house.untold.add(incidents);
                tracing::error!(credential = %id, %error, "the ledger did not take a step of the lifecycle");
            }
        }
        self.carry_out(id, decided).await;
        Ok(())
    }

    /// What the lifecycle makes of an event. Nothing has happened yet; `None` where nothing of that name is watched.
    pub(super) fn decide(&self, id: &CredentialId, event: Event, note: Note) -> Option<Decided> {
        let now = self.house.clock.now();
        if let Some(value) = &note.value {
            self.house.learn(&value.material);
        }
        // Whoever is told of a dead whole need not hear of its cuts one by one.
        let held = note.value.is_some().then(|| self.held(id)).flatten();
        let told_already = self.watched.get(id).is_some_and(|watched| self.dead_whole(watched, now).is_some());
        let cuts = self.cuts_of(id);
        let watched = self.watched.get(id)?;
        let before = watched.state(now);
        let word_before = watched.life.since();
        let mut life = watched.life.clone();
        let new_material = matches!(event, Event::Loaded(_));
        let stepped = self.house.clock.stepped();
        let by = stepped - watched.stepped;
        let mut effects = if by.is_zero() {
            vec![]
        } else {
            life.step(Event::ClockStepped(by), now, (self.house.dice)(), &watched.assignment.policy)
        };
        effects.extend(life.step(event, now, (self.house.dice)(), &watched.assignment.policy));
        let state_changed = life.since() != word_before;
        let mut incidents: Vec<Fact> =
            effects.iter().filter_map(|effect| page::fact(effect, watched, &life, now.wall, &note)).collect();
        incidents.retain(|fact| !told_already || matches!(fact.change, FactChange::Clear { .. }));
        // One value in many has fewer scopes than its credential needs; the next may have them again.
        let value = note.value.as_ref().filter(|_| watched.assignment.whole.is_none());
        incidents.extend(value.map(|value| breadth::fact(&watched.assignment, &value.material, now.wall)));
        let state = life.state(now, &watched.assignment.policy);
        if before != State::Revoked && state == State::Revoked {
            incidents.extend(cuts.iter().map(|cut| page::explained(cut, watched, now.wall)));
        }
        let spends = note.flight.is_some();
        let is_news = note.event.is_some() || spends || note.value.is_some();
        let transition = (is_news || state_changed || !incidents.is_empty()).then(|| {
            let entry = entry(id, &note, &life, before, state, now.wall);
            tell(&entry, state);
            Transition {
                id: id.clone(),
                shard: self.number,
                lifecycle: kept::write(&life, watched.client.as_deref(), &self.house.boot_id, &self.house.machine, now),
                flight: note.flight.clone(),
                value: note.value.clone(),
                write_back: note.write_back,
                incidents,
                audit: vec![entry],
            }
        });
        let value = note.value;
        Some(Decided { now, life, stepped, effects, value, held, before, new_material, spends, transition })
    }

    /// The step has happened.
    pub(super) async fn carry_out(&mut self, id: &CredentialId, decided: Decided) {
        let Some(watched) = self.watched.get_mut(id) else { return };
        watched.life = decided.life;
        watched.stepped = decided.stepped;
        if decided.new_material {
            (watched.way, watched.left) = Default::default();
        }
        if let Some(value) = decided.value {
            watched.material = Some(value.material.into());
            self.watched.get(id).into_iter().for_each(|watched| self.owns(watched));
            self.lets_go(id, decided.held, decided.spends);
        }
        let now = decided.now;
        let revived =
            decided.before == State::Revoked && self.watched.get(id).is_some_and(|w| w.state(now) != State::Revoked);
        for effect in decided.effects {
            match effect {
                Effect::Publish => self.publish(id),
                Effect::Reload => self.load(id, LoadReason::Sibling),
                Effect::Probe(trigger) => self.send_probe(id, trigger),
                Effect::Prepare(trigger) => Box::pin(self.take_off(id, trigger)).await,
                Effect::Raise(_) | Effect::Clear(_) => {}
            }
        }
        if revived {
            self.revive_cuts(id).await;
        }
        self.schedule(id, now);
    }

    /// A step that spends nothing: whatever the ledger says, it has happened.
    pub(super) async fn happen(&mut self, id: &CredentialId, event: Event, note: Note) {
        if let Err(error) = self.step(id, event, note).await {
            tracing::error!(credential = %id, %error, "a step of the lifecycle was not written");
        }
    }

    pub(super) fn publish(&mut self, id: &CredentialId) {
        let now = self.house.clock.now();
        // What befalls a whole befalls its cuts.
        for id in [id.clone()].into_iter().chain(self.cuts_of(id)) {
            if let Some(watched) = self.watched.get(&id).filter(|watched| !watched.leaving) {
                self.house.publisher.set(self.published(watched, now));
            }
        }
    }
}

fn entry(
    id: &CredentialId,
    note: &Note,
    life: &crate::lifecycle::Lifecycle,
    before: crate::lifecycle::State,
    after: crate::lifecycle::State,
    at: jiff::Timestamp,
) -> Entry {
    let verdict = note.verdict.as_ref();
    let moved = (before != after).then(|| format!("{before} → {after}"));
    let why = verdict.and_then(|verdict| verdict.cause.clone());
    let detail: Vec<String> = [moved, why, note.detail.clone()].into_iter().flatten().collect();
    Entry {
        at,
        credential: id.to_string(),
        event: note.event.unwrap_or("state").to_owned(),
        trigger: note.trigger.as_str().to_owned(),
        actor: note.actor.clone(),
        generation: life.generation,
        attempt: note.attempt,
        scope_before: note.scope_before.clone(),
        scope_after: note.scope_after.clone(),
        code: verdict.and_then(|verdict| verdict.code.clone()),
        outcome: verdict.map_or("ok", |verdict| verdict.failure.as_str()).to_owned(),
        duration_ms: note.duration.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
        detail: (!detail.is_empty()).then(|| detail.join("; ")),
    }
}

/// The log line: the same facts as the audit entry, loud when a person may have to act.
fn tell(entry: &Entry, state: crate::lifecycle::State) {
    use crate::lifecycle::State as S;
    let attempt = entry.attempt.map(|attempt| attempt.to_string());
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                credential = entry.credential,
                event = entry.event,
                state = %state,
                trigger = entry.trigger,
                actor = entry.actor,
                generation = entry.generation.0,
                attempt,
                scope_before = entry.scope_before,
                scope_after = entry.scope_after,
                code = entry.code,
                outcome = entry.outcome,
                duration_ms = entry.duration_ms,
                detail = entry.detail,
                "lifecycle"
            )
        };
    }
    match state {
        S::Revoked | S::Expired => line!(error),
        S::Degraded | S::Suspect | S::OutcomeUnknown | S::Misconfigured => line!(warn),
        _ => line!(info),
    }
}

//! One step of one credential: ask the lifecycle, make the answer durable, then carry it out.

use std::time::Duration;

use uuid::Uuid;

use super::{LoadReason, Shard, kept};
use crate::{
    credential::{CredentialId, Failure, Verdict},
    ledger::{Entry, Fact, FactChange, FlightStep, LedgerError, NewValue, Transition},
    lifecycle::{Effect, Event, Incident, State, Trigger},
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

impl Shard {
    /// Steps the lifecycle and carries out what it asks for. Whatever the step changes is durable before anybody sees
    /// it; when the ledger refuses, the step has not happened, and the error says so.
    pub(super) async fn step(&mut self, id: &CredentialId, event: Event, note: Note) -> Result<(), LedgerError> {
        let now = self.house.clock.now();
        if let Some(value) = &note.value {
            self.house.learn(&value.material);
        }
        // Whoever is told of a dead whole need not hear of its cuts one by one.
        let told_already = self.watched.get(id).is_some_and(|watched| self.dead_whole(watched, now).is_some());
        let Some(watched) = self.watched.get_mut(id) else { return Ok(()) };
        let before = watched.state(now);
        let word_before = watched.life.since();
        let mut life = watched.life.clone();
        let effects = life.step(event, now, (self.house.dice)(), &watched.assignment.policy);
        let state_changed = life.since() != word_before;
        let mut incidents: Vec<Fact> =
            effects.iter().filter_map(|effect| fact(effect, watched, &life, now.wall, &note)).collect();
        incidents.retain(|fact| !told_already || matches!(fact.change, FactChange::Clear { .. }));
        let is_news = note.event.is_some() || note.flight.is_some() || note.value.is_some();
        if is_news || state_changed || !incidents.is_empty() {
            let state = life.state(now, &watched.assignment.policy);
            let entry = entry(id, &note, &life, before, state, now.wall);
            tell(&entry, state);
            let transition = Transition {
                id: id.clone(),
                shard: self.number,
                lifecycle: kept::write(&life, &self.house.boot_id),
                flight: note.flight.clone(),
                value: note.value.clone(),
                write_back: note.write_back,
                incidents,
                audit: vec![entry],
            };
            let must = note.flight.is_some() || note.value.is_some();
            if let Err(error) = self.house.ledger.rotation().commit(transition).await {
                if must {
                    return Err(error);
                }
                // Nothing was spent: the picture in memory is the better one, and the next step writes it.
                tracing::error!(credential = %id, %error, "the ledger did not take a step of the lifecycle");
            }
        }
        watched.life = life;
        if let Some(value) = note.value {
            watched.material = Some(value.material.into());
        }
        let revived = before == State::Revoked && self.watched.get(id).is_some_and(|w| w.state(now) != State::Revoked);
        for effect in effects {
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
        self.schedule(id);
        Ok(())
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

fn fact(
    effect: &Effect,
    watched: &super::Watched,
    life: &crate::lifecycle::Lifecycle,
    at: jiff::Timestamp,
    note: &Note,
) -> Option<Fact> {
    let (incident, change) = match effect {
        Effect::Raise(incident) => (*incident, raise(*incident, watched, life)),
        Effect::Clear(incident) => {
            let why = note.event.map_or("it passed", |event| match event {
                "refreshed" => "refreshed",
                "loaded" => "new material in its home store",
                "probed" => "a probe succeeded",
                "released" => "an operator released it",
                other => other,
            });
            (*incident, FactChange::Clear { why: why.to_owned() })
        }
        _ => return None,
    };
    let assignment = &watched.assignment;
    let group = if incident == Incident::ClientMisconfigured {
        assignment.endpoint()
    } else {
        assignment.provider.name.clone()
    };
    // A cut's grant is its whole's: one death, one incident.
    let grant = assignment.whole.as_ref().filter(|_| incident == Incident::CredentialRevoked);
    let credential = grant.unwrap_or(&assignment.id).to_string();
    Some(Fact { kind: incident.as_str().to_owned(), credential, group, change, at })
}

/// What a page says: what, the evidence, what credd already tried, and the one command that mends it.
fn raise(incident: Incident, watched: &super::Watched, life: &crate::lifecycle::Lifecycle) -> FactChange {
    let assignment = &watched.assignment;
    let (name, provider) = (&assignment.id, &assignment.provider.name);
    let end = life.validity().and_then(|validity| validity.expires_at);
    let until = end.map_or_else(|| "it has no known end".to_owned(), |end| format!("it ends at {end}"));
    let (severity, summary, tried, mend) = match incident {
        Incident::CredentialRevoked => (
            "critical",
            format!("{name} was revoked by {provider}"),
            "credd asked the home store for a newer secret and the provider once more, then stopped calling."
                .to_owned(),
            watched.remedy(),
        ),
        Incident::RotationOutcomeUnknown => (
            "critical",
            format!("{name}: a refresh was sent to {provider} and its reply was lost"),
            format!(
                "The current token is served meanwhile ({until}); credd presents the old grant once more when it is safe."
            ),
            format!("if it does not resolve by itself, re-authorise: {}", watched.remedy()),
        ),
        Incident::CredentialExpired => (
            "critical",
            format!("{name} has expired and could not be refreshed"),
            "credd goes on trying.".to_owned(),
            format!("credd status, then: credd refresh {name}"),
        ),
        Incident::ClientMisconfigured => (
            "warning",
            format!("{provider} refuses the client of {name}"),
            "credd tries again every 15 minutes and when the settings or the secret change.".to_owned(),
            format!("correct the client's id, secret or scopes, then: credd release {name}"),
        ),
        Incident::RefreshThrottled => (
            "warning",
            format!("{name}: {provider} hands out lifetimes that are malformed or absurd"),
            "credd limits its refreshes so that the grant is not burnt.".to_owned(),
            format!("look at the provider's answers: credd audit --credential {name}"),
        ),
    };
    let evidence = life.trouble().map_or_else(String::new, |trouble| {
        let verdict = &trouble.verdict;
        let failure =
            if incident == Incident::CredentialRevoked { Failure::CredentialRevoked } else { verdict.failure };
        format!(
            "Evidence: {failure}{}{} (rule {})\n",
            verdict.code.as_ref().map_or_else(String::new, |code| format!(", code {code}")),
            if verdict.evidence.is_empty() { String::new() } else { format!(", {}", verdict.evidence) },
            verdict.rule
        )
    });
    let body = format!(
        "Credential: {name}\nProvider: {provider}\nHome store: {}\n{evidence}Tried: {tried}\nTo mend it: {mend}\n",
        assignment.store_name
    );
    FactChange::Raise { severity: severity.to_owned(), summary, body }
}

//! Prepare, send, capture, promote (FAULTS §4.2): the request runs in a task of its own and reports to its shard.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt;
use jiff::SignedDuration;
use uuid::Uuid;

use super::{Admission, House, LoadReason, Message, Shard, cuts, effects::Note, interpret};
use crate::{
    clock::Now,
    credential::{CredentialId, Failure, Fingerprint, Generation, Material, Reply, Rotation, Verdict},
    failpoint,
    fetch::Exchange,
    ledger::{Attempt, FlightStep, LedgerError, NewValue, SUPERSEDED, Stage, UNREADABLE},
    lifecycle::{Commit, Event, Promoted, Trigger},
    upstream::Unmakable,
};

/// After the sending, the call is certainly dead: 30 s of budget and 30 s for the server (FAULTS §8).
const DEAD_AFTER: SignedDuration = SignedDuration::from_secs(60);
/// No await inside a flight is longer (RF-11).
const WATCHDOG: Duration = Duration::from_secs(40);
/// The previous value is kept, sealed, this long (FAULTS §4.2 step 12).
const KEEP_PREVIOUS: SignedDuration = SignedDuration::from_hours(24);
/// After so long without a durable write, a new value is published all the same, marked `unsaved`.
const UNSAVED_AFTER: Duration = Duration::from_secs(2);

/// How a flight ended, as its task reports it.
pub(super) struct Landing {
    pub attempt: Uuid,
    /// The generation that it was to bring.
    pub target: Generation,
    /// Of the grant that it presented.
    pub presented: Fingerprint,
    pub trigger: Trigger,
    pub sent_at: Now,
    pub landed_at: Now,
    pub result: Result<Exchange, Unmakable>,
}

impl Shard {
    /// Steps 3 to 6: everything that could fail after the provider commits is tried before, then the intent and the
    /// sending are made durable, then the request goes out.
    pub(super) async fn prepare(&mut self, id: &CredentialId, trigger: Trigger) {
        let now = self.house.clock.now();
        let Some(watched) = self.watched.get(id) else { return };
        let endpoint = watched.assignment.endpoint();
        let admission = self.house.admit(&endpoint, id, now.wall);
        if let Admission::Wait(until) = admission {
            let verdict = Verdict::of(Failure::UpstreamUnavailable, "paced");
            self.happen(id, Event::Aborted { verdict, retry_at: Some(until) }, Note::quiet(trigger)).await;
            return;
        }
        let Some((subject, root)) = watched.subject().and_then(|subject| {
            let root = subject.material.root()?.clone();
            Some((subject, root))
        }) else {
            let verdict = Verdict::of(Failure::ClientMisconfigured, "no_material");
            self.abort(id, verdict, trigger, None).await;
            return;
        };
        let rotates = watched.assignment.kind.spends_grant() && watched.assignment.provider.rotation != Rotation::None;
        if rotates && let Some(reason) = watched.read_only.clone() {
            // A rotated refresh token that cannot go home would live in the ledger alone (FM-20).
            let verdict = Verdict { evidence: reason, ..Verdict::of(Failure::ClientMisconfigured, "writeback_denied") };
            self.abort(id, verdict, trigger, None).await;
            return;
        }
        if let Err(error) = self.house.ledger.rotation().preflight().await {
            self.abort(id, unwritable(&error), trigger, None).await;
            return;
        }
        failpoint::reach("CP-02");
        let attempt = new_attempt(now);
        let generation = self.watched.get(id).map(|watched| watched.life.generation).unwrap_or_default();
        let (target, presented) = (generation.next(), self.house.ledger.sealer().fingerprint(&root));
        let intent = Attempt {
            id: attempt,
            target,
            presents: presented.clone(),
            prepared_at: now.wall,
            boot_id: self.house.boot_id.clone(),
            stage: Stage::Prepared,
        };
        let note = Note {
            attempt: Some(attempt),
            flight: Some(FlightStep::Prepare(intent)),
            ..Note::of("refresh_prepared", trigger)
        };
        if let Err(error) = self.step(id, Event::Prepared(attempt), note).await {
            self.abort(id, unwritable(&error), trigger, None).await;
            return;
        }
        failpoint::reach("CP-04");
        let deadline = self.house.clock.now().wall + DEAD_AFTER;
        let note = Note {
            attempt: Some(attempt),
            flight: Some(FlightStep::Sent { attempt, deadline }),
            ..Note::of("refresh_sent", trigger)
        };
        if let Err(error) = self.step(id, Event::Sent(deadline), note).await {
            self.abort(id, unwritable(&error), trigger, Some(attempt)).await;
            return;
        }
        failpoint::reach("CP-05");
        self.house.metrics.credd_refresh_attempts_total.with_label_values(&[id.as_str()]).inc();
        let (house, back, id) = (self.house.clone(), self.back.clone(), id.clone());
        let flight = async move {
            let sent_at = house.clock.now();
            let call = house.upstream.refresh(&subject, sent_at.wall);
            let result = tokio::select! {
                result = AssertUnwindSafe(call).catch_unwind() => result.unwrap_or_else(|_| Ok(panicked())),
                () = house.clock.sleep(WATCHDOG) => Ok(Exchange::Ambiguous(crate::fetch::Trouble {
                    reason: "timeout",
                    detail: "no answer within the budget of a flight".into(),
                })),
            };
            failpoint::reach("CP-11");
            let landed_at = house.clock.now();
            if let Ok(Exchange::Replied(reply)) = &result {
                capture(&house, &id, attempt, reply).await;
            }
            failpoint::reach("CP-13");
            let landing = Box::new(Landing { attempt, target, presented, trigger, sent_at, landed_at, result });
            // The shard outlives its flights: the fleet drains them first.
            let _ = back.send(Message::Flown { id, landing });
        };
        self.house.flights.spawn(self.air.track_future(flight));
    }

    /// Nothing was sent, for a reason of ours.
    async fn abort(&mut self, id: &CredentialId, verdict: Verdict, trigger: Trigger, attempt: Option<Uuid>) {
        if let Some(watched) = self.watched.get_mut(id) {
            watched.last_verdict = Some(verdict.clone());
        }
        let note = Note {
            verdict: Some(verdict.clone()),
            attempt,
            flight: attempt.map(|attempt| FlightStep::Close { attempt, outcome: "aborted" }),
            ..Note::of("refresh_aborted", trigger)
        };
        if self.step(id, Event::Aborted { verdict: verdict.clone(), retry_at: None }, note).await.is_err() {
            // The ledger does not write at all: the intent stays, and recovery closes it (RR-1).
            self.happen(id, Event::Aborted { verdict, retry_at: None }, Note::quiet(trigger)).await;
        }
        self.end_of_flight(id);
    }

    /// Steps 9 and 10, or the reason why there is no new value.
    pub(super) async fn flown(&mut self, id: &CredentialId, landing: Landing) {
        let Some(watched) = self.watched.get_mut(id) else { return };
        let provider = watched.assignment.provider.clone();
        let duration =
            Duration::try_from(landing.landed_at.wall.duration_since(landing.sent_at.wall)).unwrap_or_default();
        let observe =
            self.house.metrics.credd_upstream_request_duration_seconds.with_label_values(&[&provider.name, "refresh"]);
        observe.observe(duration.as_secs_f64());
        let outcome = interpret::refresh(&provider, watched.assignment.kind, &landing, watched.life.last_life);
        let outcome = cuts::held_to_its_width(outcome, &watched.assignment);
        let endpoint = watched.assignment.endpoint();
        let (attempt, trigger) = (landing.attempt, landing.trigger);
        let replied = matches!(&landing.result, Ok(Exchange::Replied(reply)) if reply.is_success());
        match outcome {
            interpret::Refreshed::Tokens(tokens) => {
                self.house.note_answer(&endpoint, landing.landed_at.wall, true);
                self.house.join(&endpoint, id, tokens.lifetime, landing.landed_at.wall);
                if self.is_replaced(id, landing.target, &landing.presented) {
                    self.superseded(id, attempt, trigger).await;
                    return;
                }
                self.promote(id, attempt, trigger, landing.sent_at, duration, *tokens).await;
            }
            interpret::Refreshed::No { verdict, commit } => {
                self.house.note_answer(
                    &endpoint,
                    landing.landed_at.wall,
                    verdict.failure != Failure::UpstreamUnavailable,
                );
                self.count_failure(id, &verdict, "refresh");
                let verdict = self.refused_the_whole(id, verdict).await;
                if let Some(watched) = self.watched.get_mut(id) {
                    watched.last_verdict = Some(verdict.clone());
                }
                let outcome = match commit {
                    Commit::Ambiguous if replied => UNREADABLE,
                    Commit::Ambiguous => "lost",
                    Commit::NotSent => "not_sent",
                    Commit::NotCommitted | Commit::Doubtful => "refused",
                };
                let note = Note {
                    attempt: Some(attempt),
                    verdict: Some(verdict.clone()),
                    duration: Some(duration),
                    flight: Some(FlightStep::Close { attempt, outcome }),
                    ..Note::of("refresh_failed", trigger)
                };
                let event = Event::Failed { verdict, commit };
                if let Err(error) = self.step(id, event.clone(), note).await {
                    tracing::error!(credential = %id, %error, "a refused refresh was not written; recovery will close it");
                    self.happen(id, event, Note::quiet(trigger)).await;
                }
                self.end_of_flight(id);
            }
        }
    }

    async fn promote(
        &mut self,
        id: &CredentialId,
        attempt: Uuid,
        trigger: Trigger,
        sent_at: Now,
        duration: Duration,
        tokens: crate::catalogue::Tokens,
    ) {
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
            material: material.clone(),
            store_version: None,
            from_store: false,
            keep_previous_until: Some(self.house.clock.now().wall + KEEP_PREVIOUS),
        };
        let event = Event::Promoted(Promoted {
            generation,
            sent_at,
            life: tokens.lifetime,
            source: tokens.lifetime_source,
            refresh_expires_at: material.refresh_expires_at,
            repaired: tokens.repaired,
        });
        let scope_after = material.scope.clone();
        let changed = scope_before != scope_after;
        let note = Note {
            attempt: Some(attempt),
            duration: Some(duration),
            scope_before: scope_before.filter(|_| changed),
            scope_after: scope_after.filter(|_| changed),
            flight: Some(FlightStep::Close { attempt, outcome: "promoted" }),
            value: Some(value),
            write_back,
            ..Note::of("refreshed", trigger)
        };
        let mut pause = Duration::from_millis(250);
        let began = self.house.clock.now();
        loop {
            match self.step(id, event.clone(), note.clone()).await {
                Ok(()) => break,
                Err(LedgerError::Fenced { .. }) => return self.superseded(id, attempt, trigger).await,
                Err(error) => {
                    // The provider has rotated: the token is held here and in the capture, and we never give up.
                    tracing::error!(credential = %id, %error, "the ledger refuses a new token; trying again");
                    let now = self.house.clock.now();
                    if now.boot.saturating_sub(began.boot) >= UNSAVED_AFTER {
                        self.publish_unsaved(id, &material, &event);
                    }
                    // It waits for the ledger, and is not stuck.
                    (self.house.alive)(self.number);
                    self.house.clock.sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(5));
                }
            }
        }
        failpoint::reach("CP-15");
        self.flag(id, |flags| {
            flags.unsaved = false;
            flags.writeback_pending |= write_back;
        });
        if let Some(watched) = self.watched.get_mut(id) {
            watched.last_verdict = None;
            if write_back {
                watched.write_back_wanted = generation.max(watched.write_back_wanted);
            }
        }
        self.house.metrics.credd_rotations_total.with_label_values(&[id.as_str(), "refresh"]).inc();
        if write_back {
            self.house.stores.write_back_soon();
        }
        failpoint::reach("CP-16");
        self.end_of_flight(id);
    }

    /// Whether the home store brought another grant while that flight was out: the operator's wins (FAULTS §4.4).
    pub(super) fn is_replaced(&self, id: &CredentialId, target: Generation, presented: &Fingerprint) -> bool {
        let Some(watched) = self.watched.get(id) else { return false };
        let root = watched.material.as_ref().and_then(|material| material.root());
        watched.assignment.kind.spends_grant()
            && watched.life.generation.next() != target
            && root.map(|root| self.house.ledger.sealer().fingerprint(root)).as_ref() != Some(presented)
    }

    /// The reply is kept, it may hold the only living token of the old grant; the new one has not failed and need not wait.
    async fn superseded(&mut self, id: &CredentialId, attempt: Uuid, trigger: Trigger) {
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
        self.end_of_flight(id);
    }

    /// Withholding a token that exists helps nobody, and the old one may be dead already (FAULTS §4.2, last paragraph).
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

/// A bug ended the call: whatever it had sent may have been taken (FM-69).
pub(super) fn panicked() -> Exchange {
    Exchange::Ambiguous(crate::fetch::Trouble { reason: "panic", detail: "credd panicked during the call".into() })
}

/// Step 8: the reply is durable before anybody reads it. Never given up; after all, it exists only once.
async fn capture(house: &House, id: &CredentialId, attempt: Uuid, reply: &Reply) {
    let mut pause = Duration::from_millis(250);
    loop {
        let now = house.clock.now();
        match house.ledger.rotation().received(attempt, reply, now.wall).await {
            Ok(()) => return,
            Err(error) => tracing::error!(credential = %id, %error, "a reply could not be captured; trying again"),
        }
        if pause >= UNSAVED_AFTER {
            // The shard holds the reply from here on, publishes it unsaved, and goes on trying; should the process die
            // before that helps, the spilled copy is carried into the ledger at the next start.
            if let Err(error) = house.ledger.rotation().spill(attempt, reply, now.wall).await {
                tracing::error!(credential = %id, %error, "a reply could not be kept beside the ledger either");
            }
            return;
        }
        house.clock.sleep(pause).await;
        pause *= 2;
    }
}

fn unwritable(error: &LedgerError) -> Verdict {
    Verdict { evidence: error.to_string(), ..Verdict::of(Failure::UpstreamUnavailable, "ledger_unwritable") }
}

/// A time-ordered name, made from our own clock.
fn new_attempt(now: Now) -> Uuid {
    let (seconds, nanos) = (now.wall.as_second(), now.wall.subsec_nanosecond());
    Uuid::new_v7(uuid::Timestamp::from_unix(
        uuid::NoContext,
        u64::try_from(seconds).unwrap_or(0),
        u32::try_from(nanos).unwrap_or(0),
    ))
}

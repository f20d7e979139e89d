//! Prepare, send, capture, promote: the request runs in a task of its own and reports to its shard.

use std::{panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt;
use jiff::SignedDuration;
use uuid::Uuid;

use super::{
    Admission, Message, Shard, capture::capture, cuts, effects::Note, house::Patience, interpret, watched::LostFlight,
};
use crate::{
    clock::Now,
    credential::{CredentialId, Failure, Fingerprint, Generation, Verdict},
    failpoint,
    fetch::Exchange,
    ledger::{Attempt, FlightStep, LedgerError, Stage, UNREADABLE, UNVERIFIED},
    lifecycle::{Commit, Event, Trigger},
    upstream::Unmakable,
};

/// After the sending, the call is certainly dead: 30 s of budget and 30 s for the server.
const DEAD_AFTER: SignedDuration = SignedDuration::from_secs(60);
/// No await inside a flight is longer (RF-11).
const WATCHDOG: Duration = Duration::from_secs(40);

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
    /// Whether the token of a doubtful reply works, once the API was asked.
    pub works: Option<bool>,
    /// Whether the ledger has its reply, if one came.
    pub captured: bool,
}

impl Shard {
    /// Steps 3 to 6: everything that could fail after the provider commits is tried before, then the intent and the
    /// sending are made durable, then the request goes out.
    pub(super) async fn prepare(&mut self, id: &CredentialId, trigger: Trigger) {
        if self.waits_for_its_home(id, trigger) {
            return;
        }
        if self.asks_whether_it_may_write(id, trigger) {
            // Who asked first takes off first: the runtime would run the question that was asked last before all others.
            tokio::task::yield_now().await;
            return;
        }
        let now = self.house.clock.now();
        let Some(watched) = self.watched.get(id) else { return };
        let endpoint = watched.assignment.endpoint();
        let admission = self.house.admit(&endpoint, id, now.wall);
        if let Admission::Wait(until) = admission {
            let verdict = Verdict::of(Failure::UpstreamUnavailable, "paced");
            self.happen(id, Event::Aborted { verdict, retry_at: Some(until) }, Note::quiet(trigger)).await;
            return;
        }
        let Some((subject, root)) = watched.request().and_then(|subject| {
            let root = subject.material.root()?.clone();
            Some((subject, root))
        }) else {
            let verdict = Verdict::of(Failure::ClientMisconfigured, "no_material");
            self.abort(id, verdict, trigger, None).await;
            return;
        };
        if let Some((bound, now)) = watched.client.as_deref().zip(watched.presenting_client())
            && bound != now
        {
            // RF-18: a grant belongs to its client. Under another it would be refused as if it were dead.
            let evidence = format!("the grant was given to client {bound}, and the settings now name client {now}");
            let verdict = Verdict { evidence, ..Verdict::of(Failure::ClientMisconfigured, "client_binding") };
            return self.is_not_sent(id, verdict, trigger).await;
        }
        if watched.rotates()
            && let Some(reason) = watched.read_only.clone()
        {
            // A rotated refresh token that cannot go home would live in the ledger alone (FM-20).
            let verdict = Verdict { evidence: reason, ..Verdict::of(Failure::ClientMisconfigured, "writeback_denied") };
            self.abort(id, verdict, trigger, None).await;
            return;
        }
        let house = self.house.clone();
        let writable = async move { house.ledger.rotation().preflight().await };
        if let Err(error) = self.house.patiently(writable, Patience::Decisive).await {
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
        self.house.metrics.credd_refresh_attempts_total.inc(id.as_str(), "");
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
            let captured = match &result {
                Ok(Exchange::Replied(reply)) => capture(&house, &id, attempt, reply).await,
                _ => true,
            };
            failpoint::reach("CP-13");
            let works = None;
            let landing = Landing { attempt, target, presented, trigger, sent_at, landed_at, result, works, captured };
            let landing = Box::new(landing);
            // The shard outlives its flights: the fleet drains them first.
            let _ = back.send(Message::Flown { id, landing });
        };
        self.house.flights.spawn(self.air.track_future(flight));
    }

    /// Nothing can be sent before a person corrects the client.
    async fn is_not_sent(&mut self, id: &CredentialId, verdict: Verdict, trigger: Trigger) {
        if let Some(watched) = self.watched.get_mut(id) {
            watched.last_verdict = Some(verdict.clone());
            self.house.came_to_nothing(&watched.assignment.endpoint(), id);
        }
        let note = Note { verdict: Some(verdict.clone()), ..Note::of("refresh_aborted", trigger) };
        self.happen(id, Event::Failed { verdict, commit: Commit::NotSent }, note).await;
        self.end_of_flight(id);
    }

    /// Nothing was sent, for a reason of ours.
    async fn abort(&mut self, id: &CredentialId, verdict: Verdict, trigger: Trigger, attempt: Option<Uuid>) {
        if let Some(watched) = self.watched.get_mut(id) {
            watched.last_verdict = Some(verdict.clone());
            self.house.came_to_nothing(&watched.assignment.endpoint(), id);
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
        let endpoint = watched.assignment.endpoint();
        let observe =
            self.house.metrics.credd_upstream_request_duration_seconds.with_label_values(&[&provider.name, "refresh"]);
        if landing.works.is_none() {
            observe.observe(duration.as_secs_f64());
        }
        let outcome = interpret::refresh(&provider, watched.assignment.kind, &landing, watched.life.last_life);
        let outcome = cuts::held_to_its_width(outcome, &watched.assignment);
        let doubtful = matches!(outcome, interpret::Refreshed::Doubtful { .. });
        let (landing, outcome) = match outcome {
            interpret::Refreshed::Doubtful { tokens, verdict } => {
                let Some(known) = self.doubt(id, landing, tokens, verdict) else { return };
                known
            }
            certain => (landing, certain),
        };
        let (attempt, trigger) = (landing.attempt, landing.trigger);
        let replied = matches!(&landing.result, Ok(Exchange::Replied(reply)) if reply.is_success());
        match outcome {
            interpret::Refreshed::Tokens(tokens) => {
                self.house.note_answer(&endpoint, id, landing.landed_at.wall, true);
                self.house.join(&endpoint, id, tokens.lifetime, landing.landed_at.wall);
                if self.is_replaced(id, landing.target, &landing.presented) {
                    self.superseded(id, attempt, trigger).await;
                    return;
                }
                Box::pin(self.promote(id, &landing, duration, *tokens)).await;
            }
            interpret::Refreshed::Doubtful { .. } => {}
            interpret::Refreshed::No { verdict, commit } => {
                self.house.note_answer(
                    &endpoint,
                    id,
                    landing.landed_at.wall,
                    verdict.failure != Failure::UpstreamUnavailable,
                );
                let turned = self.watched.get_mut(id).is_some_and(|watched| watched.turn(&verdict));
                if !turned {
                    self.count_failure(id, &verdict, "refresh", landing.result.as_ref().ok());
                }
                let verdict = self.refused_the_whole(id, verdict).await;
                let unread = commit == Commit::Ambiguous && replied;
                if let Some(watched) = self.watched.get_mut(id) {
                    watched.last_verdict = Some(verdict.clone());
                    if commit == Commit::Ambiguous {
                        let (sent_at, how) = (landing.sent_at.wall, verdict.evidence.clone());
                        let unreadable = unread.then(|| verdict.evidence.clone());
                        let lost = LostFlight { attempt, sent_at, how, unreadable };
                        // Its attempts to learn what had become of the first are not what a person must look for.
                        let first = watched.lost.take().filter(|_| watched.life.is_lost() && !unread);
                        watched.lost = Some(first.unwrap_or(lost));
                        watched.orphans.extend(unread.then_some((attempt, landing.target)));
                    }
                }
                let outcome = match commit {
                    Commit::Ambiguous if unread => UNREADABLE,
                    Commit::Ambiguous => "lost",
                    Commit::NotSent => "not_sent",
                    Commit::Doubtful if doubtful => UNVERIFIED,
                    Commit::NotCommitted | Commit::Doubtful => "refused",
                };
                let note = Note {
                    attempt: Some(attempt),
                    verdict: Some(verdict.clone()),
                    duration: Some(duration),
                    flight: Some(FlightStep::Close { attempt, outcome }),
                    ..Note::of(if turned { "refresh_turned" } else { "refresh_failed" }, trigger)
                };
                let event = if turned { Event::Turned } else { Event::Failed { verdict, commit } };
                if let Err(error) = self.step(id, event.clone(), note).await {
                    tracing::error!(credential = %id, %error, "a refused refresh was not written; recovery will close it");
                    self.happen(id, event, Note::quiet(trigger)).await;
                }
                self.end_of_flight(id);
            }
        }
    }
}

/// A bug ended the call: whatever it had sent may have been taken (FM-69).
pub(super) fn panicked() -> Exchange {
    Exchange::Ambiguous(crate::fetch::Trouble { reason: "panic", detail: "credd panicked during the call".into() })
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

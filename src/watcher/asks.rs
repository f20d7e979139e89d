//! What faces ask of a shard, and how they are answered.

use tokio::sync::oneshot;

use super::{
    Shard,
    effects::Note,
    interpret,
    watched::{Waiting, Wants},
};
use crate::{
    credential::{CredentialId, Failure, Verdict},
    lifecycle::{Event, Standing, Trigger},
    publish::{Answer, Ask},
};

impl Shard {
    pub(super) async fn asked(&mut self, ask: Ask) {
        let id = ask.credential().clone();
        if !self.watched.contains_key(&id) {
            // The door closes without an answer; the face says that there is no such credential.
            return;
        }
        match ask {
            Ask::Refused { generation, surface, reply, actor, answer, .. } => {
                let now = self.house.clock.now();
                let Some(watched) = self.watched.get(&id) else { return };
                let assignment = &watched.assignment;
                let verdict = interpret::refusal(&assignment.provider, assignment.kind, surface, &reply, now.wall);
                let Some(verdict) = verdict else {
                    self.answer(&id, answer, true, None, "the reply says nothing against the credential");
                    return;
                };
                if verdict.failure == Failure::Unclassified {
                    self.unclassified(watched, surface, &reply);
                }
                if generation != watched.life.generation {
                    self.answer(&id, answer, false, Some(verdict), "that generation is history; use the current one");
                    return;
                }
                let note = Note {
                    actor: Some(actor),
                    verdict: Some(verdict.clone()),
                    ..Note::of("refused", Trigger::Refusal)
                };
                self.happen(&id, Event::Refused { generation, verdict: verdict.clone() }, note).await;
                self.wait_or_answer(&id, answer, Wants::Proof, Some(verdict), "noted");
            }
            Ask::Wanted { min_ttl, answer, .. } => {
                self.joins(&id);
                self.happen(&id, Event::Wanted(min_ttl), Note::quiet(Trigger::Reader)).await;
                let why = self.why_not(&id, Wants::Value, false);
                self.wait_or_answer(&id, answer, Wants::Value, None, &why);
            }
            Ask::Refresh { actor, answer, .. } => {
                self.joins(&id);
                let now = self.house.clock.now();
                let often = self.watched.get(&id).is_some_and(|watched| {
                    watched.life.was_refreshed_lately(now, &watched.assignment.policy) && !watched.life.is_in_flight()
                });
                self.note_operator(&id, "refresh_asked", actor, Event::RefreshNow).await;
                let wants = if often { Wants::ValueAgain } else { Wants::Value };
                let why = self.why_not(&id, Wants::Value, true);
                self.wait_or_answer(&id, answer, wants, None, &why);
            }
            Ask::Probe { actor, answer, .. } => {
                self.note_operator(&id, "probe_asked", actor, Event::ProbeNow).await;
                let why = self.why_not(&id, Wants::Proof, true);
                self.wait_or_answer(&id, answer, Wants::Proof, None, &why);
            }
            Ask::Hold { actor, answer, .. } => {
                // A cut calls with the same grant.
                for cut in self.cuts_of(&id) {
                    self.note_operator(&cut, "held", actor.clone(), Event::Hold).await;
                }
                self.note_operator(&id, "held", actor, Event::Hold).await;
                self.answer(&id, answer, true, None, "held: nothing goes upstream until it is released");
            }
            Ask::Release { actor, answer, .. } => {
                let tried_again = self.watched.get(&id).is_some_and(|watched| {
                    matches!(watched.life.standing(), Standing::Revoked { .. } | Standing::Misconfigured)
                });
                self.vouch(&id).await;
                for cut in self.cuts_of(&id) {
                    self.note_operator(&cut, "released", actor.clone(), Event::Release).await;
                }
                self.note_operator(&id, "released", actor, Event::Release).await;
                if tried_again {
                    self.wait_or_answer(
                        &id,
                        answer,
                        Wants::Proof,
                        None,
                        "released; it is tried again as soon as it can be",
                    );
                } else {
                    self.answer(&id, answer, true, None, "released");
                }
            }
        }
    }

    async fn note_operator(&mut self, id: &CredentialId, event: &'static str, actor: String, happening: Event) {
        let note = Note { actor: Some(actor), ..Note::of(event, Trigger::Operator) };
        self.happen(id, happening, note).await;
    }

    fn why_not(&self, id: &CredentialId, wants: Wants, by_operator: bool) -> String {
        let now = self.house.clock.now();
        self.watched.get(id).map(|watched| watched.why_not(wants, by_operator, now)).unwrap_or_default()
    }

    fn joins(&self, id: &CredentialId) {
        if self.watched.get(id).is_some_and(|watched| watched.life.is_in_flight()) {
            self.house.metrics.credd_refresh_coalesced_total.inc(id.as_str(), "");
        }
    }

    /// Whoever asked shares the end of what is out; if nothing is that could help, there is nothing to wait for.
    fn wait_or_answer(
        &mut self,
        id: &CredentialId,
        answer: oneshot::Sender<Answer>,
        wants: Wants,
        verdict: Option<Verdict>,
        otherwise: &str,
    ) {
        let Some(watched) = self.watched.get_mut(id) else { return };
        if watched.life.is_in_flight() || (wants == Wants::Proof && watched.life.probes().out) {
            let generation = watched.life.generation;
            watched.waiting.push(Waiting { answer, wants, verdict, generation });
        } else {
            let verdict = verdict.or_else(|| watched.life.trouble().map(|trouble| Verdict::clone(&trouble.verdict)));
            self.answer(id, answer, false, verdict, otherwise);
        }
    }

    fn answer(
        &self,
        id: &CredentialId,
        answer: oneshot::Sender<Answer>,
        done: bool,
        verdict: Option<Verdict>,
        message: &str,
    ) {
        let Some(watched) = self.watched.get(id) else { return };
        let generation = watched.life.generation;
        let _ = answer.send(Answer { done, generation, verdict, message: message.to_owned() });
    }
}

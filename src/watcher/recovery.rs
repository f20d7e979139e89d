//! What a flight found in the ledger becomes: at the start, and after a panic.

use super::{Shard, effects::Note, watched::LostFlight};
use crate::{
    credential::CredentialId,
    ledger::{Attempt, FlightStep, SUPERSEDED, Stage},
    lifecycle::{Event, Found, Trigger},
};

impl Shard {
    /// The recovery rules (RR-1 to RR-8): the same machine, entered with what the ledger remembers.
    pub(super) async fn recover(&mut self, id: &CredentialId, open: Option<Attempt>) {
        let Some(attempt) = open else {
            self.happen(id, Event::Found(Found::Nothing), Note::quiet(Trigger::Recovery)).await;
            return;
        };
        let now = self.house.clock.now();
        let close = |outcome| Some(FlightStep::Close { attempt: attempt.id, outcome });
        let note = |flight, detail: &str| Note {
            attempt: Some(attempt.id),
            flight,
            detail: Some(detail.to_owned()),
            ..Note::of("recovered", Trigger::Recovery)
        };
        let replaced = self.is_replaced(id, attempt.target, &attempt.presents);
        let stepped = match attempt.stage {
            Stage::Sent { .. } if replaced => {
                // Whatever became of it, it was not this grant that was presented.
                let note = note(close(SUPERSEDED), "its grant was replaced in the home store meanwhile");
                self.step(id, Event::Found(Found::Prepared), note).await
            }
            Stage::Prepared => {
                self.step(id, Event::Found(Found::Prepared), note(close("aborted"), "nothing was sent")).await
            }
            Stage::Sent { deadline } => {
                // The ledger is locked by one process, so a call of this boot died with its process.
                let dead_at = if attempt.boot_id == self.house.boot_id { now.wall } else { deadline };
                let found = Found::Sent { prepared_at: attempt.prepared_at, dead_at };
                if let Some(watched) = self.watched.get_mut(id) {
                    let how = "credd or its machine ended before a reply was durable".to_owned();
                    let lost = LostFlight { attempt: attempt.id, sent_at: attempt.prepared_at, how, unreadable: None };
                    watched.lost = Some(lost);
                }
                self.step(id, Event::Found(found), note(close("lost"), "a request was sent and no reply is durable"))
                    .await
            }
            Stage::Received { reply, at } => {
                let found = Event::Found(Found::Received { attempt: attempt.id });
                self.happen(id, found, Note::quiet(Trigger::Recovery)).await;
                let landing = super::flight::Landing {
                    attempt: attempt.id,
                    target: attempt.target,
                    presented: attempt.presents,
                    trigger: Trigger::Recovery,
                    // Its life counts from the sending; the intent's time is the earliest that can be.
                    sent_at: crate::clock::Now { wall: attempt.prepared_at, boot: now.boot },
                    landed_at: crate::clock::Now { wall: at, boot: now.boot },
                    result: Ok(crate::fetch::Exchange::Replied(reply)),
                    works: None,
                    captured: true,
                };
                Box::pin(self.flown(id, landing)).await;
                Ok(())
            }
        };
        if let Err(error) = stepped {
            tracing::error!(credential = %id, %error, "a flight found in the ledger could not be closed; the next start tries again");
        }
    }
}

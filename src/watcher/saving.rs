//! A new value that the ledger has not taken yet, while its readers have it already: its credential waits for the ledger,
//! and the others of the shard go on.

use std::{sync::Arc, time::Duration};

use uuid::Uuid;

use super::{House, Message, Shard, effects::Decided, effects::Note};
use crate::{
    credential::{CredentialId, Generation},
    failpoint,
    ledger::{Fact, LedgerError, Transition},
    lifecycle::{Event, Trigger},
    publish::Ask,
};

/// Between two attempts at a ledger that refuses, doubled from the first to the last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// A value that a flight brought, on its way into the ledger.
pub(super) struct Promotion {
    pub id: CredentialId,
    pub attempt: Uuid,
    pub trigger: Trigger,
    pub generation: Generation,
    pub write_back: bool,
    /// The step that it is, which happens when it is durable.
    pub decided: Decided,
    /// Words for on-call that this step overtakes, if it happens.
    pub older: Vec<Fact>,
}

/// What waits until it is durable.
pub(super) struct Saving {
    promotion: Box<Promotion>,
    /// All that reached the credential, or one with the same grant, since then, in its order.
    held: Vec<Knock>,
}

/// What comes in at a shard's doors.
pub(super) enum Knock {
    Message(Message),
    Ask(Ask),
}

impl Knock {
    fn whose(&self) -> Option<&CredentialId> {
        match self {
            Self::Message(message) => message.whose(),
            Self::Ask(ask) => Some(ask.credential()),
        }
    }
}

/// A whole and its cuts share a grant, and what befalls the one befalls the others.
fn family(id: &CredentialId) -> &str {
    id.whole().unwrap_or(id.as_str())
}

/// Has a new value written, however long that takes: the provider has rotated, the token is held here and in the capture,
/// and we never give up. False where another grant has taken its place in the ledger.
///
/// A ledger that hangs keeps what it was asked, and does it in its turn; one that refuses is asked again.
pub(super) async fn save(house: Arc<House>, transition: Transition) -> bool {
    let mut pause = PAUSES.0;
    loop {
        match house.ledger.rotation().commit(transition.clone()).await {
            Ok(()) => return true,
            Err(LedgerError::Fenced { .. }) => return false,
            Err(error) => {
                tracing::error!(credential = %transition.id, %error, "the ledger refuses a new token; trying again");
            }
        }
        house.clock.sleep(pause).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}

impl Shard {
    /// Takes in what came, or puts it aside until the value of its credential is durable.
    pub(super) async fn take_in(&mut self, knock: Knock) {
        if let Some(saving) = knock.whose().and_then(|id| self.saving.get_mut(family(id))) {
            return saving.held.push(knock);
        }
        match knock {
            Knock::Message(message) => Box::pin(self.receive(message)).await,
            Knock::Ask(ask) => self.asked(ask).await,
        }
    }

    /// Whether it, or one with the same grant, waits for the ledger.
    pub(super) fn is_saving(&self, id: &CredentialId) -> bool {
        self.saving.contains_key(family(id))
    }

    /// From here on it is written in a task of its own, which a stop waits for.
    pub(super) fn goes_on_saving(&mut self, promotion: Promotion, save: impl Future<Output = bool> + Send + 'static) {
        let (id, back) = (promotion.id.clone(), self.back.clone());
        let saving = Saving { promotion: Box::new(promotion), held: Vec::new() };
        self.saving.insert(family(&id).to_owned(), saving);
        let save = async move {
            let saved = save.await;
            let _ = back.send(Message::Saved { id, saved });
        };
        self.house.flights.spawn(self.air.track_future(save));
    }

    /// It is durable, or never will be; then what was put aside has its turn.
    pub(super) async fn saved(&mut self, id: &CredentialId, saved: bool) {
        let Some(Saving { promotion, held }) = self.saving.remove(family(id)) else { return };
        self.promoted(*promotion, saved).await;
        // What fell due meanwhile was passed over.
        let doubted = self.time.1;
        let kin: Vec<CredentialId> = self.watched.keys().filter(|kin| family(kin) == family(id)).cloned().collect();
        for kin in kin {
            self.happen(&kin, Event::Tick, Note::quiet(Trigger::Schedule)).await;
            self.flag(&kin, |flags| flags.clock_untrusted = doubted);
        }
        for knock in held {
            Box::pin(self.take_in(knock)).await;
        }
    }

    /// Step 10, or the end of a flight whose grant was replaced.
    pub(super) async fn promoted(&mut self, promotion: Promotion, saved: bool) {
        let Promotion { id, attempt, trigger, generation, write_back, decided, older } = promotion;
        if !saved {
            self.house.untold.add(older);
            // Readers go back to what holds.
            self.flag(&id, |flags| flags.unsaved = false);
            return self.superseded(&id, attempt, trigger).await;
        }
        self.carry_out(&id, decided).await;
        failpoint::reach("CP-15");
        self.flag(&id, |flags| {
            flags.unsaved = false;
            flags.writeback_pending |= write_back;
        });
        if let Some(watched) = self.watched.get_mut(&id) {
            (watched.last_verdict, watched.left, watched.lost) = (None, None, None);
            if write_back {
                watched.write_back_wanted = generation.max(watched.write_back_wanted);
            }
        }
        self.house.metrics.credd_rotations_total.with_label_values(&[id.as_str(), "refresh"]).inc();
        if write_back {
            self.house.stores.write_back_soon();
        }
        failpoint::reach("CP-16");
        self.forget_orphans(&id, generation).await;
        self.end_of_flight(&id);
    }

    /// After a panic nothing is known but what the ledger says; what was put aside is still to be heard.
    pub(super) fn forgets_what_it_saves(&mut self) {
        for (_, Saving { held, .. }) in self.saving.drain() {
            for knock in held {
                if let Knock::Message(message) = knock {
                    let _ = self.back.send(message);
                }
            }
        }
    }
}

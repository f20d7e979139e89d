//! How a credential begins to be watched: what the ledger knows is shown first, and what it had not finished is taken up
//! when all are shown.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::oneshot;

use super::{Assignment, LoadReason, Shard, adopt::facts, effects::Note, kept, watched::Watched};
use crate::{
    credential::CredentialId,
    ledger::{Attempt, Orphan, Record, Stage},
    lifecycle::{self, Event, Origin, Trigger},
};

/// What the ledger had not finished.
#[derive(Debug)]
pub(super) struct Unfinished {
    open: Option<Attempt>,
    orphans: Vec<Orphan>,
}

/// Whose turn comes first when many are taken up (FM-79).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Turn {
    /// The reply is there, since then: it needs nobody.
    Received(Timestamp),
    /// A request is certainly dead at that moment.
    Sent(Timestamp),
    /// Nothing was sent.
    Prepared(Timestamp),
    /// Nothing was begun.
    Rest,
}

impl Turn {
    /// By what the ledger knows.
    pub fn of(record: Option<&Record>) -> Self {
        match record.and_then(|record| record.open_attempt.as_ref()) {
            Some(Attempt { stage: Stage::Received { at, .. }, .. }) => Self::Received(*at),
            Some(Attempt { stage: Stage::Sent { deadline }, .. }) => Self::Sent(*deadline),
            Some(Attempt { stage: Stage::Prepared, prepared_at, .. }) => Self::Prepared(*prepared_at),
            None => Self::Rest,
        }
    }

    /// Whether there is a newer value than the one that is shown.
    pub fn brings_a_value(self) -> bool {
        matches!(self, Self::Received(_))
    }
}

impl Shard {
    /// Begins to watch: what the ledger knows is served at once.
    pub(super) async fn watch(
        &mut self,
        assignment: Arc<Assignment>,
        record: Option<Box<Record>>,
        shown: Option<oneshot::Sender<()>>,
        first_look: Option<oneshot::Sender<()>>,
    ) {
        let now = self.house.clock.now();
        let id = assignment.id.clone();
        if self.watched.contains_key(&id) {
            // It was on its way out, and its flight is still in the air: it stays.
            return Box::pin(self.change(assignment)).await;
        }
        // One that was removed not long ago comes back to the value that it had.
        let record = match record {
            Some(record) => Some(record),
            None => self.house.ledger.rotation().load(&id).await.unwrap_or_else(|error| {
                tracing::error!(credential = %id, %error, "what the ledger knows of this credential could not be read");
                None
            }).map(Box::new),
        };
        self.join_whole(&assignment);
        let mut watched = Watched::new(assignment, self.house.clock.stepped());
        watched.flags.clock_untrusted = self.house.clock.is_doubted();
        watched.first_look = first_look;
        let (mut unfinished, mut begins_anew, mut moved) = (Unfinished { open: None, orphans: vec![] }, false, false);
        if let Some(record) = record {
            let life = kept::revived(&record, &self.house.boot_id, now);
            begins_anew = life.is_none();
            watched.client = kept::client(&record);
            moved = kept::is_of_another_machine(&record, &self.house.machine);
            watched.life = life.unwrap_or_else(|| lifecycle::Lifecycle::at(record.generation));
            if let Some(material) = &record.material {
                self.house.learn(material);
            }
            watched.material = record.material.map(Arc::new);
            watched.store_version = record.store_version;
            watched.store_fingerprint = record.store_fingerprint;
            unfinished = Unfinished { open: record.open_attempt, orphans: record.orphans };
        }
        watched.unfinished = Some(Box::new(unfinished));
        self.house.join(&watched.assignment.endpoint(), &id, watched.life.last_life, now.wall);
        let value = watched.material.clone().filter(|_| begins_anew);
        let facts = value.map(|material| {
            facts(watched.life.generation, &material, &watched.assignment, Origin::HomeStore, now.wall)
        });
        self.owns(&watched);
        self.watched.insert(id.clone(), Box::new(watched));
        if let Some(facts) = facts {
            self.happen(&id, Event::Loaded(facts), Note::of("loaded", Trigger::Recovery)).await;
        }
        if moved {
            self.is_perhaps_a_clone(&id, "its ledger was used on another machine before").await;
        }
        self.publish(&id);
        if let Some(shown) = shown {
            let _ = shown.send(());
        }
    }

    /// Takes up what the ledger had not finished, once, and asks the home store for what is new.
    pub(super) async fn take_up(&mut self, id: &CredentialId) {
        let Some(unfinished) = self.watched.get_mut(id).and_then(|watched| watched.unfinished.take()) else { return };
        let Unfinished { open, orphans } = *unfinished;
        let now = self.house.clock.now();
        let open = match open {
            Some(open) => Some(open),
            None => self.reread(id, orphans).await,
        };
        self.recover(id, open).await;
        self.try_orphans_of_the_refused(id).await;
        self.load(id, LoadReason::Start);
        self.schedule(id, now);
    }
}

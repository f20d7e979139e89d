//! How material comes to a credential from its home store, whenever it changed there, and what its settings change.

use futures_util::FutureExt;
use jiff::Timestamp;
use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use super::{Assignment, FromStore, LoadReason, Message, Shard, breadth, effects::Note, told::SECRET_MISSING};
use crate::{
    credential::{CredentialId, ExpirySource, Generation, Material},
    ledger::NewValue,
    lifecycle::{self, Event, Origin, Trigger},
    store::{Loaded, StoreError},
};

impl Shard {
    /// Its settings changed: what is watched stays, and no watcher is dropped.
    pub(super) async fn change(&mut self, assignment: Arc<Assignment>) {
        let id = assignment.id.clone();
        let now = self.house.clock.now();
        let Some(watched) = self.watched.get_mut(&id) else {
            self.watch(assignment, None, None, None).await;
            return self.take_up(&id).await;
        };
        watched.leaving = false;
        let moved = watched.assignment.store_name != assignment.store_name || watched.assignment.at != assignment.at;
        let (old, new) = (watched.assignment.endpoint(), assignment.endpoint());
        let other_end = watched.assignment.expires_at != assignment.expires_at;
        let other_scopes = watched.assignment.scopes != assignment.scopes;
        watched.assignment = assignment;
        let breadth = watched.material.as_ref().filter(|_| other_scopes);
        let breadth = breadth.map(|material| breadth::fact(&watched.assignment, material, now.wall));
        let material = watched.material.as_ref().filter(|_| other_end);
        let end = material.map(|material| expiry(material, &watched.assignment, now.wall));
        (watched.way, watched.left) = Default::default();
        if moved {
            watched.store_version = None;
            watched.store_fingerprint = None;
        }
        let life = watched.life.last_life;
        self.house.leave(&old, &id);
        self.house.join(&new, &id, life, now.wall);
        if matches!(watched.life.standing(), lifecycle::Standing::Misconfigured) {
            // S-MIS is left by a changed client configuration.
            self.happen(&id, Event::Mended, Note::of("mended", Trigger::StoreChange)).await;
        }
        if let Some((end, source)) = end {
            self.happen(&id, Event::Ends(end, source), Note::of("changed", Trigger::Operator)).await;
        }
        self.house.untold.add(breadth.into_iter().collect());
        self.load(&id, LoadReason::Changed);
        self.publish(&id);
        self.schedule(&id, now);
    }

    /// Its settings are gone. The ledger keeps a tombstone; readers hear that it was removed.
    /// A flight that is out is brought home first, because its reply may hold a token that exists only once (FM-72).
    pub(super) async fn forget(&mut self, id: &CredentialId) {
        self.house.publisher.remove(id);
        if let Some(watched) = self.watched.get_mut(id)
            && watched.life.is_in_flight()
        {
            watched.leaving = true;
            return;
        }
        let Some(watched) = self.watched.remove(id) else { return };
        self.deadlines.set(id, watched.deadline, None);
        self.house.leave(&watched.assignment.endpoint(), id);
        self.leave_whole(&watched.assignment);
        self.gives_up(id, &watched);
        // What is open of it ends with the removal; should it come back, it is told anew.
        self.house.told.forget(id);
        self.house.untold.forget(id.as_str());
        if let Err(error) = self.house.ledger.rotation().remove(id).await {
            tracing::error!(credential = %id, %error, "the ledger did not take the removal of a credential");
        }
    }

    /// Asks the home store, in a task of its own.
    pub(super) fn load(&mut self, id: &CredentialId, why: LoadReason) {
        let Some(watched) = self.watched.get(id) else { return };
        let assignment = watched.assignment.clone();
        let (back, id, turn) = (self.back.clone(), id.clone(), self.house.stores.turn(id));
        let clock = self.house.clock.clone();
        // Not one of the flights: a stop does not wait for a store that hangs.
        tokio::spawn(async move {
            let _turn = turn.lock_owned().await;
            let (at, asked) = (&assignment.at, clock.now().boot);
            let reading = async {
                let loaded = assignment.at_home().await?;
                Ok(Box::new(FromStore { loaded, read_only: assignment.store.read_only(at).await }))
            };
            let result = AssertUnwindSafe(reading).catch_unwind().await;
            let panicked = |_| {
                Err(StoreError::Unreachable {
                    path: at.0.clone(),
                    reason: "credd panicked while it read it; this is a bug".into(),
                })
            };
            let result = result.unwrap_or_else(panicked);
            let took = clock.now().boot.saturating_sub(asked);
            let _ = back.send(Message::Loaded { id, why, result, took });
        });
    }

    /// The home store answered.
    pub(super) async fn loaded(
        &mut self,
        id: &CredentialId,
        why: LoadReason,
        result: Result<Box<FromStore>, StoreError>,
        took: Duration,
    ) {
        let Some(watched) = self.watched.get_mut(id) else { return };
        let store_name = watched.assignment.store_name.clone();
        let (store, now) = (watched.assignment.store.clone(), self.house.clock.now().wall);
        // What else may go wrong is this one secret's trouble, not the store's.
        let answered = match &result {
            Ok(_) => Some(None),
            Err(StoreError::NotFound { .. } | StoreError::Malformed { .. }) => Some(None),
            Err(error @ StoreError::Unreachable { .. }) => Some(Some(error.to_string())),
            Err(_) => None,
        };
        if let Some(trouble) = answered {
            self.house.stores.report(&store_name, &store, (now, took), trouble, &self.house.metrics);
        }
        let loaded = match result {
            Ok(loaded) => loaded,
            Err(error) => return self.nothing_from_home(id, &store_name, error).await,
        };
        let claimed = match self.claims(id, &loaded.loaded.material) {
            Ok(claimed) => claimed,
            Err(owner) => return self.refuse_anothers(id, &loaded.loaded.material, owner).await,
        };
        self.has_its_own(id);
        self.clear(id, SECRET_MISSING, "its home store has a secret for it again");
        self.house.stores.seen(id, &loaded.loaded.version);
        let FromStore { loaded, read_only } = *loaded;
        if let Some(watched) = self.watched.get_mut(id) {
            watched.store_error = None;
            watched.read_only = read_only;
        }
        self.house.stores.is_stale(id, false);
        self.flag(id, |flags| flags.store_stale = false);
        if self.is_news(id, &loaded) {
            let rival = self.is_a_rivals(id, &loaded.material);
            self.adopt(id, loaded, why).await;
            self.was_read(id);
            if rival {
                self.is_perhaps_a_clone(id, "somebody else has advanced this grant").await;
            }
        } else {
            self.store_holds(id, &loaded).await;
            self.was_read(id);
            if why == LoadReason::Sibling {
                self.try_orphans(id, Vec::new()).await;
            }
        }
        self.lets_go(id, claimed, true);
        self.looked(id).await;
        self.first_look_over(id);
    }

    /// Our own value, or an older one, under a version that we did not know: a process that died between the store's yes
    /// and our note of it left that behind (CP-17), and the next write must be compared with what is there.
    async fn store_holds(&mut self, id: &CredentialId, loaded: &Loaded) {
        let root = loaded.material.root().map(|root| self.house.ledger.sealer().fingerprint(root));
        let Some(watched) = self.watched.get_mut(id) else { return };
        let version = &loaded.version.0;
        if watched.store_version.as_ref() == Some(version) && watched.store_fingerprint == root {
            return;
        }
        if let Err(error) = self.house.ledger.outbox().store_holds(id, version, root.as_ref()).await {
            tracing::error!(credential = %id, %error, "the ledger did not take the home store's version; it is looked at again");
            self.house.stores.unseen(id);
            return;
        }
        watched.store_version = Some(version.clone());
        watched.store_fingerprint = root;
    }

    /// Whether a store's document is somebody else's newer word, or only our own (or an older one) come back.
    fn is_news(&self, id: &CredentialId, loaded: &Loaded) -> bool {
        let Some(watched) = self.watched.get(id) else { return false };
        let Some(ours) = &watched.material else { return true };
        let theirs = &loaded.material;
        let fingerprint =
            |material: &Material| material.root().map(|root| self.house.ledger.sealer().fingerprint(root));
        let same_client = theirs.is_of_same_client(ours);
        if fingerprint(theirs) == fingerprint(ours) {
            // The same grant: only a new client, or a static key's own facts, are news.
            let same_facts = watched.assignment.kind.is_refreshable() || theirs.expires_at == ours.expires_at;
            return !(same_client && same_facts);
        }
        if watched.store_fingerprint.is_some() && fingerprint(theirs) == watched.store_fingerprint {
            // What lay there when we last looked: our own newer value is still on its way home.
            return !same_client;
        }
        let same_grant = theirs.grant_id.is_some() && theirs.grant_id == ours.grant_id;
        if same_grant && theirs.attempt_id.is_some() && theirs.attempt_id == ours.attempt_id {
            // Our latest document with another token in it: somebody else rotated the grant and left our marks alone.
            return true;
        }
        if watched.life.doubt().is_none() && self.is_spent(watched, theirs) {
            return false;
        }
        let older = theirs.generation.is_some_and(|generation| generation <= watched.life.generation);
        !(same_grant && older)
    }

    /// Takes over what the home store holds: durable first, then published.
    async fn adopt(&mut self, id: &CredentialId, loaded: Loaded, why: LoadReason) {
        let Some(watched) = self.watched.get(id) else { return };
        let now = self.house.clock.now();
        let (generation, below) = self.numbered(watched, &loaded.material);
        let mut material = loaded.material;
        // What lies in the store, whatever becomes of it here.
        let fingerprint = material.root().map(|root| self.house.ledger.sealer().fingerprint(root));
        let mut overtaken = false;
        if let Some(ours) = &watched.material
            && watched.assignment.kind.spends_grant()
            && material.refresh_token.is_some()
            && let root = ours.root().map(|root| self.house.ledger.sealer().fingerprint(root))
            && (fingerprint == watched.store_fingerprint || fingerprint == root)
        {
            if watched.life.is_in_flight() {
                // The grant stays, and what the flight brings belongs to it: one after the other.
                if let Some(watched) = self.watched.get_mut(id) {
                    watched.look_again = true;
                }
                return;
            }
            // Only the client changed there; the tokens beside it are ones that we have renewed, or spent, since.
            overtaken = fingerprint != root;
            material = Material {
                client_id: material.client_id,
                client_secret: material.client_secret,
                client_secret_next: material.client_secret_next,
                client_secret_expires_at: material.client_secret_expires_at,
                private_key: material.private_key,
                other: material.other,
                generation: Some(generation),
                ..Material::clone(ours)
            };
        }
        let ours = watched
            .material
            .as_ref()
            .and_then(|ours| ours.root())
            .map(|root| self.house.ledger.sealer().fingerprint(root));
        let held = ours.is_some() && material.root().map(|root| self.house.ledger.sealer().fingerprint(root)) == ours;
        let origin = if held || below { Origin::Held } else { Origin::HomeStore };
        let event = Event::Loaded(facts(generation, &material, &watched.assignment, origin, now.wall));
        let value = NewValue {
            replaces: watched.life.generation,
            generation,
            material,
            store_version: Some(loaded.version.0.clone()),
            // The spent token that still lies there is not the one that is taken over.
            from_store: !overtaken,
            keep_previous_until: Some(now.wall + jiff::SignedDuration::from_hours(24)),
        };
        let note = Note { value: Some(value), write_back: overtaken, ..Note::of("loaded", why.trigger()) };
        let client = self.watched.get_mut(id).filter(|_| !held).and_then(|watched| watched.client.take());
        match self.step(id, event, note).await {
            Ok(()) => {
                if let Some(watched) = self.watched.get_mut(id) {
                    watched.store_version = Some(loaded.version.0);
                    watched.store_fingerprint = fingerprint;
                    (watched.last_verdict, watched.lost) = (None, None);
                    watched.write_back_wanted = if overtaken { generation } else { Generation::default() };
                    watched.flags.writeback_pending = overtaken;
                }
                let cause = if why == LoadReason::Start { "load" } else { "store_change" };
                self.house.metrics.credd_rotations_total.with_label_values(&[id.as_str(), cause]).inc();
                self.publish(id);
            }
            Err(error) => {
                tracing::error!(credential = %id, %error, "new material could not be made durable; it is loaded again at the next poll");
                if let Some(watched) = self.watched.get_mut(id) {
                    watched.client = watched.client.take().or(client);
                }
                self.house.stores.unseen(id);
            }
        }
    }

    /// If nothing is out that could still prove the credential, the start need not wait for it.
    pub(super) fn first_look_over(&mut self, id: &CredentialId) {
        let Some(watched) = self.watched.get_mut(id) else { return };
        if !watched.life.is_in_flight() && !watched.life.probes().out {
            watched.answer_all();
        }
    }
}

/// What the lifecycle is told of a value that came from elsewhere.
pub(super) fn facts(
    generation: Generation,
    material: &Material,
    assignment: &Assignment,
    origin: Origin,
    now: Timestamp,
) -> lifecycle::Loaded {
    let (expires_at, source) = expiry(material, assignment, now);
    lifecycle::Loaded {
        generation,
        has_token: material.value(assignment.kind).is_some(),
        expires_at,
        source,
        refresh_expires_at: material.refresh_expires_at.map(|end| (end, ExpirySource::Configured)),
        origin,
    }
}

fn expiry(material: &Material, assignment: &Assignment, now: Timestamp) -> (Option<Timestamp>, ExpirySource) {
    match (material.expires_at.or(assignment.expires_at), &material.access_token) {
        (Some(end), _) => (Some(end), ExpirySource::Configured),
        (None, Some(token)) => crate::catalogue::jwt_expiry(token)
            .filter(|end| assignment.kind.is_refreshable() || *end > now)
            .map_or((None, ExpirySource::Unknown), |end| (Some(end), ExpirySource::Jwt)),
        (None, None) => (None, ExpirySource::Unknown),
    }
}

//! Which credential holds which secret (FM-75). A home store that suddenly gives one credential the secret of another is
//! not believed: readers of the one would be served the other's, and one refresh token would be spent by two.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{Message, Shard, Watched, told::DUPLICATE_SECRET};
use crate::{
    credential::{CredentialId, Fingerprint, Kind, Material, MaterialError, Secret},
    store::StoreError,
};

/// Shared by all shards.
#[derive(Debug, Default)]
pub(super) struct Owners(Mutex<Books>);

#[derive(Debug, Default)]
struct Books {
    owner: HashMap<Fingerprint, Owner>,
    /// Who was refused what, to be looked at again when its owner lets it go.
    refused: HashMap<CredentialId, Fingerprint>,
    /// What was let go without being spent, so that it may be had.
    free: HashSet<Fingerprint>,
}

#[derive(Clone, Debug)]
struct Owner {
    id: CredentialId,
    shares: bool,
}

impl Owners {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It is that credential's from now on, unless it is another's: then whose.
    fn claim(&self, secret: Fingerprint, new: Owner) -> Result<(), CredentialId> {
        let mut books = self.books();
        match books.owner.get(&secret) {
            Some(owner) if owner.id != new.id && !(owner.shares || new.shares) => return Err(owner.id.clone()),
            Some(owner) if owner.id != new.id => {}
            _ => {
                books.free.remove(&secret);
                books.owner.insert(secret, new);
            }
        }
        Ok(())
    }

    /// Whether nobody need be asked whose it was.
    fn is_free_or_of(&self, secret: &Fingerprint, id: &CredentialId) -> bool {
        let books = self.books();
        books.free.contains(secret) || books.owner.get(secret).is_some_and(|owner| owner.id == *id)
    }

    /// It is that credential's no longer, and whether it was spent by it. Answers who was refused it.
    fn release(&self, secret: &Fingerprint, id: &CredentialId, spent: bool) -> Vec<CredentialId> {
        let mut books = self.books();
        if books.owner.get(secret).is_none_or(|owner| owner.id != *id) {
            return vec![];
        }
        books.owner.remove(secret);
        if !spent {
            books.free.insert(secret.clone());
        }
        books.refused.extract_if(|_, wanted| wanted == secret).map(|(id, _)| id).collect()
    }
}

/// What makes a credential of that kind: the client of several grants may be the same, and so may a signing key.
fn own_secret(kind: Kind, material: &Material) -> Option<&Secret> {
    match kind {
        Kind::RefreshToken => material.refresh_token.as_ref(),
        Kind::ApiKey | Kind::Pat => material.access_token.as_ref(),
        Kind::AwsAccessKey => material.access_key.as_ref().map(|key| &key.secret),
        Kind::ClientCredentials | Kind::JwtBearer | Kind::AwsSession => None,
    }
}

impl Shard {
    fn mark_of(&self, watched: &Watched, material: &Material) -> Option<Fingerprint> {
        // A cut's grant is its whole's.
        let secret = own_secret(watched.assignment.kind, material).filter(|_| watched.assignment.whole.is_none())?;
        Some(self.house.ledger.sealer().fingerprint(secret))
    }

    /// What it holds is its own.
    pub(super) fn owns(&self, watched: &Watched) {
        if let Some(mark) = watched.material.as_ref().and_then(|material| self.mark_of(watched, material)) {
            // Two that have held the same since before anybody looked go on as they are.
            let _ = self.house.owners.claim(mark, owner(watched));
        }
    }

    /// Claims what its home store gave, until it is let go; whose it is, if it is another's.
    pub(super) fn claims(&self, id: &CredentialId, theirs: &Material) -> Result<Option<Fingerprint>, CredentialId> {
        let Some(watched) = self.watched.get(id) else { return Ok(None) };
        let mark = self.mark_of(watched, theirs);
        if let Some(mark) = &mark {
            // Only where it takes the place of another: a ledger that knows nothing yet has nothing to protect.
            let may_be_spent = watched.assignment.kind.spends_grant()
                && watched.material.is_some()
                && !self.house.owners.is_free_or_of(mark, id);
            if may_be_spent && let Some(owner) = self.house.ledger.rotation().spent_by_another(id, mark) {
                return Err(owner);
            }
            self.house.owners.claim(mark.clone(), owner(watched))?;
        }
        Ok(mark)
    }

    /// What it holds now.
    pub(super) fn held(&self, id: &CredentialId) -> Option<Fingerprint> {
        let watched = self.watched.get(id)?;
        self.mark_of(watched, watched.material.as_ref()?)
    }

    /// A secret that it held, or claimed, and that may not be what it holds now; and whether it was spent.
    pub(super) fn lets_go(&self, id: &CredentialId, mark: Option<Fingerprint>, spent: bool) {
        if let Some(mark) = mark
            && self.held(id).as_ref() != Some(&mark)
        {
            self.tell_the_refused(self.house.owners.release(&mark, id, spent));
        }
    }

    /// Its settings are gone.
    pub(super) fn gives_up(&self, id: &CredentialId, watched: &Watched) {
        self.house.owners.books().refused.remove(id);
        if let Some(mark) = watched.material.as_ref().and_then(|material| self.mark_of(watched, material)) {
            self.tell_the_refused(self.house.owners.release(&mark, id, false));
        }
    }

    fn tell_the_refused(&self, refused: Vec<CredentialId>) {
        for id in refused {
            if let Some(home) = self.house.stores.home(&id) {
                let _ = home.inbox.send(Message::StoreChanged(id));
            }
        }
    }

    /// The home store gave what is another credential's: the value before it stays.
    pub(super) async fn refuse_anothers(&mut self, id: &CredentialId, material: &Material, owner: CredentialId) {
        let Some(watched) = self.watched.get(id) else { return };
        let (path, store) = (watched.assignment.at.0.clone(), watched.assignment.store_name.clone());
        let mark = self.mark_of(watched, material);
        self.house.owners.books().refused.extend(mark.map(|mark| (id.clone(), mark)));
        // The next look tells of it again.
        self.house.stores.unseen(id);
        let summary = format!("{id}: {store} gives it the secret of {owner}");
        let body = format!(
            "Credential: {id}\nHome store: {store} (at {path})\nEvidence: the same secret is in use as {owner}\n\
             Tried: It was not taken over. Readers keep the value that they had, if there was one.\n\
             To mend it: put the right secret into {store} at {path}; a static key that both may use needs \
             `shared = true` in [credentials.{id}]\n"
        );
        self.raise(id, DUPLICATE_SECRET, "critical", &summary, &body);
        let reason = MaterialError::Anothers(owner);
        self.nothing_from_home(id, &store, StoreError::Malformed { path, reason }).await;
    }

    /// The home store gives it a secret of its own.
    pub(super) fn has_its_own(&self, id: &CredentialId) {
        self.house.owners.books().refused.remove(id);
        self.clear(id, DUPLICATE_SECRET, "it has a secret of its own again");
    }
}

fn owner(watched: &Watched) -> Owner {
    let assignment = &watched.assignment;
    // What two would spend is never shared, whatever the settings say.
    Owner { id: assignment.id.clone(), shares: assignment.shared && !assignment.kind.spends_grant() }
}

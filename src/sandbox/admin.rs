//! The operator's hand on a sandbox, without HTTP: what tests and the demo hold.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;

use super::{
    Shared,
    fault::Fault,
    record::{CallRecord, Counters, Totals},
    terms::{Client, NewGrant, NewKey},
};
use crate::credential::Secret;

/// A grant's first pair of tokens, and what a home store needs beside them.
#[derive(Clone, Debug)]
pub struct Seed {
    /// What the log and faults call it.
    pub id: String,
    /// Whose it is.
    pub client_id: String,
    /// The client's secret, if it has one.
    pub client_secret: Option<Secret>,
    /// Generation 1.
    pub refresh_token: Secret,
    /// Number 1.
    pub access_token: Secret,
    /// When the access token ends.
    pub expires_at: Timestamp,
    /// Granted scopes.
    pub scope: String,
}

impl Seed {
    /// The document for a home store.
    #[expect(clippy::disallowed_methods, reason = "the document that a home store is filled with")]
    pub fn document(&self) -> Secret {
        let mut object = serde_json::json!({
            "client_id": self.client_id,
            "refresh_token": self.refresh_token.expose(),
            "access_token": self.access_token.expose(),
            "expires_at": self.expires_at.to_string(),
            "scope": self.scope,
        });
        if let Some(secret) = &self.client_secret {
            object["client_secret"] = secret.expose().into();
        }
        Secret::new(object.to_string())
    }
}

/// Mints, revokes, breaks, looks.
#[derive(Clone, Debug)]
pub struct Admin {
    shared: Arc<Shared>,
}

impl Admin {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Adds a client or replaces it (a new secret, a new key).
    pub fn client(&self, client: Client) {
        self.shared.state().authority.clients.insert(client.id.clone(), client);
    }

    /// A grant with its first pair of tokens.
    pub fn grant(&self, terms: NewGrant) -> Seed {
        let now = self.shared.clock.now();
        let mut state = self.shared.state();
        let client_secret = state.authority.clients.get(&terms.client).and_then(|client| client.secret.clone());
        let (client_id, scope) = (terms.client.clone(), terms.scope.clone());
        let (id, minted) = state.authority.grant(terms, now);
        Seed {
            id,
            client_id,
            client_secret,
            refresh_token: Secret::new(minted.refresh_token.map(|(text, _)| text).unwrap_or_default()),
            access_token: Secret::new(minted.access_token),
            expires_at: now.wall + minted.lifetime,
            scope,
        }
    }

    /// A static key, with its id.
    pub fn key(&self, terms: &NewKey) -> (String, Secret) {
        let now = self.shared.clock.now();
        let (id, key) = self.shared.state().authority.key(terms, now);
        (id, Secret::new(key))
    }

    /// Kills a grant with all its tokens, a key, or the tokens of `client:ID`. Whether there is one.
    pub fn revoke(&self, id: &str) -> bool {
        self.shared.state().authority.revoke(id)
    }

    /// Arms a fault; the number clears it.
    pub fn fault(&self, fault: Fault) -> u64 {
        self.shared.state().faults.arm(fault)
    }

    /// Disarms a fault. Whether it was armed.
    pub fn clear(&self, fault: u64) -> bool {
        self.shared.state().faults.clear(fault)
    }

    /// Disarms all faults.
    pub fn clear_all(&self) {
        self.shared.state().faults.clear_all();
    }

    /// The armed faults.
    pub fn faults(&self) -> BTreeMap<u64, Fault> {
        self.shared.state().faults.armed().clone()
    }

    /// The newest calls, oldest first.
    pub fn log(&self) -> Vec<CallRecord> {
        self.shared.state().log.calls().cloned().collect()
    }

    /// The calls of one grant or key.
    pub fn log_of(&self, grant: &str) -> Vec<CallRecord> {
        self.shared.state().log.calls().filter(|call| call.grant.as_deref() == Some(grant)).cloned().collect()
    }

    /// What was counted since the start.
    pub fn counters(&self) -> Totals {
        self.shared.state().log.totals.clone()
    }

    /// What was counted of one grant or key.
    pub fn counters_of(&self, grant: &str) -> Counters {
        self.shared.state().log.totals.of(grant)
    }

    /// The grant of a refresh token, and its generation there.
    #[expect(clippy::disallowed_methods, reason = "compared with what was issued")]
    pub fn find(&self, refresh_token: &Secret) -> Option<(String, u64)> {
        let state = self.shared.state();
        state.authority.find(refresh_token.expose()).map(|(id, generation)| (id.to_owned(), generation))
    }

    /// Whether this refresh token is the unspent one of a living grant: nothing was lost.
    #[expect(clippy::disallowed_methods, reason = "compared with what was issued")]
    pub fn is_live(&self, refresh_token: &Secret) -> bool {
        let now = self.shared.clock.now();
        self.shared.state().authority.is_live(refresh_token.expose(), now)
    }
}

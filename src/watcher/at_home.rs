//! What a credential's home store gives, and what is done where that is nothing usable: the last good value stays.

use super::{Assignment, Shard, effects::Note, told::SECRET_MISSING};
use crate::{
    catalogue::ClientAuthentication,
    credential::CredentialId,
    lifecycle::{Event, Trigger},
    store::{Loaded, StoreError},
};

impl Assignment {
    /// What its home store holds. A secret that a credential of this kind cannot be made of is none (FM-74).
    pub(super) async fn at_home(&self) -> Result<Loaded, StoreError> {
        let mut loaded = self.store.load(&self.at).await?;
        let public = self.provider.token.client_authentication == ClientAuthentication::None;
        let fits = loaded.material.fits(self.kind, public);
        fits.map_err(|reason| StoreError::Malformed { path: self.at.0.clone(), reason })?;
        if self.whole.is_some() {
            // A value that lies there is its whole's, and may do more.
            loaded.material = loaded.material.root_alone();
        }
        Ok(loaded)
    }
}

impl Shard {
    /// The home store gave nothing usable: the last known value is kept and served (FM-15, FM-18, FM-74).
    pub(super) async fn nothing_from_home(&mut self, id: &CredentialId, store: &str, error: StoreError) {
        tracing::warn!(credential = %id, store, %error, "the home store gave no usable secret");
        self.house.metrics.credd_store_errors_total.with_label_values(&[store, error.reason()]).inc();
        let refused = matches!(error, StoreError::Malformed { .. }).then(|| error.to_string());
        let Some(watched) = self.watched.get_mut(id) else { return };
        let is_gone = matches!(error, StoreError::NotFound { .. }) && watched.material.is_some();
        // Told once, however often the poller finds it there.
        let is_news = watched.store_error.as_ref() != Some(&error);
        watched.store_error = Some(error);
        self.house.stores.is_stale(id, true);
        if is_gone {
            self.is_missing(id);
        }
        if let Some(detail) = refused.filter(|_| is_news) {
            let note = Note { detail: Some(detail), ..Note::of("secret_refused", Trigger::StoreChange) };
            self.happen(id, Event::Tick, note).await;
        }
        self.flag(id, |flags| flags.store_stale = true);
        self.publish(id);
        self.looked(id).await;
        self.first_look_over(id);
    }

    /// Somebody deleted it, or moved it (FM-18). What is known is kept, and a person should know that nothing else keeps it.
    fn is_missing(&self, id: &CredentialId) {
        let Some(watched) = self.watched.get(id) else { return };
        let (store, at) = (&watched.assignment.store_name, &watched.assignment.at.0);
        let summary = format!("{id}: {store} has its secret no longer");
        let body = format!(
            "Credential: {id}\nHome store: {store}\nEvidence: there is nothing at {at}\n\
             Tried: The last known value is kept in the ledger, served, and refreshed as before.\n\
             To mend it: restore the secret at {at}, or take [credentials.{id}] out of the settings\n"
        );
        self.raise(id, SECRET_MISSING, "warning", &summary, &body);
    }
}

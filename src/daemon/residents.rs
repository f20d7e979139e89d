//! Who lives in the embedded store, so that a secret which its credential cannot be made of is refused at the door.

use super::{StartError, resources};
use crate::{
    catalogue::{ClientAuthentication, Provider},
    config::Config,
    credential::{CredentialId, Kind, Material, Secret},
    store::{self, Location, StoreError},
    watcher::Fleet,
};

/// The credentials whose home is the embedded store: where each lies, and what it must find there.
#[derive(Debug, Default)]
pub struct Residents(Vec<(Location, Kind, bool)>);

impl Residents {
    /// As the settings say.
    pub fn of_settings(config: &Config) -> Result<Self, StartError> {
        let (catalogue, _) = resources::catalogue(config)?;
        let here = config.credentials.iter().filter(|(_, credential)| credential.store == EMBEDDED);
        let found = here.filter_map(|(id, credential)| {
            let at = credential.at.clone().unwrap_or_else(|| id.to_string());
            Some((Location(at), credential.kind, is_public(&*catalogue.provider(&credential.provider)?)))
        });
        Ok(Self(found.collect()))
    }

    /// As they are watched now.
    pub(super) fn of_fleet(fleet: &Fleet) -> Self {
        let here = fleet.assignments().filter(|watched| watched.store_name == EMBEDDED && watched.whole.is_none());
        Self(here.map(|watched| (watched.at.clone(), watched.kind, is_public(&watched.provider))).collect())
    }

    /// Whether a document may be put there under that name. What nobody has claimed yet must only be material.
    #[expect(clippy::disallowed_methods, reason = "the document is read before it is taken in")]
    pub fn admit(&self, name: &CredentialId, document: &Secret) -> Result<(), String> {
        let text = document.expose().as_bytes();
        Material::parse(text).map_err(|error| format!("{name}: {error}"))?;
        for (at, kind, public) in self.0.iter().filter(|(at, ..)| at.split().0 == name.as_str()) {
            let material = match store::read(text, at) {
                Ok(material) => material,
                Err(StoreError::NotFound { .. }) => continue,
                Err(error) => return Err(error.to_string()),
            };
            material
                .fits(*kind, *public)
                .map_err(|error| format!("{}: {error}; nothing was stored, and what was there before stays", at.0))?;
        }
        Ok(())
    }
}

const EMBEDDED: &str = "embedded";

fn is_public(provider: &Provider) -> bool {
    provider.token.client_authentication == ClientAuthentication::None
}

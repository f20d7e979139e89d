//! HashiCorp Vault: KV v2 (and v1, read-only).
//!
//! What our policy needs for a secret `app` in the mount `secret`: `read` on `secret/data/app` and on
//! `secret/metadata/app` (changes are found there, without reading values); to write back, `update` on `secret/data/app`.

mod kv;
mod login;
mod wire;

use std::{path::PathBuf, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::{kv::Kv, login::Login, wire::Wire};
use super::{Loaded, Location, LoginTrouble, SecretStore, StoreError, StoreHealth, Version, unusable};
use crate::{
    clock::Clock,
    credential::{Material, Reference, Resolve},
};

/// `[stores.NAME] kind = "vault"`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// `https://vault.example.com:8200`
    pub address: url::Url,
    /// Enterprise or OpenBao namespace.
    #[serde(default)]
    pub namespace: Option<String>,
    /// PEM file of a private CA.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// Where the KV engine is mounted; locations are paths below it.
    #[serde(default = "secret")]
    pub mount: String,
    /// How credd logs in.
    pub auth: Auth,
    /// Seconds between two looks for changes.
    #[serde(default = "thirty")]
    pub poll_seconds: u64,
}

/// How credd logs in to Vault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "method", rename_all = "snake_case", deny_unknown_fields)]
pub enum Auth {
    /// With a token; credd renews it while Vault allows.
    Token {
        /// The token.
        token: Reference,
    },
    /// AppRole.
    #[serde(rename = "approle", alias = "app_role")]
    AppRole {
        /// Mount of the method.
        #[serde(default)]
        mount: Option<String>,
        /// The role's id.
        role_id: Reference,
        /// Its secret.
        secret_id: Reference,
    },
    /// The pod's service-account JWT.
    Kubernetes {
        /// Mount of the method.
        #[serde(default)]
        mount: Option<String>,
        /// Role in Vault.
        role: String,
        /// The JWT; default: the pod's own file.
        #[serde(default)]
        jwt: Option<Reference>,
    },
    /// User name and password.
    Userpass {
        /// Mount of the method.
        #[serde(default)]
        mount: Option<String>,
        /// User.
        username: String,
        /// Password.
        password: Reference,
    },
}

fn secret() -> String {
    "secret".into()
}

fn thirty() -> u64 {
    30
}

/// A home store in Vault.
#[derive(Debug)]
pub struct Vault {
    kv: Kv,
    poll: Duration,
}

impl Vault {
    /// Checks the settings and reads the private CA; Vault itself is asked at the first question.
    pub fn new(
        name: &str,
        settings: &Settings,
        resolve: Arc<dyn Resolve>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StoreError> {
        let wire = Arc::new(Wire::new(settings).map_err(|reason| unusable(name, &reason))?);
        let login = Login::new(name, settings.auth.clone(), Arc::clone(&wire), resolve, Arc::clone(&clock));
        let mount = settings.mount.trim_matches('/');
        wire::fits(mount).map_err(|reason| unusable(name, &format!("`mount` {reason}")))?;
        Ok(Self {
            kv: Kv::new(mount.to_owned(), wire, login, clock),
            poll: Duration::from_secs(settings.poll_seconds.max(1)),
        })
    }
}

impl SecretStore for Vault {
    fn kind(&self) -> &'static str {
        "vault"
    }

    fn load<'a>(&'a self, at: &'a Location) -> BoxFuture<'a, Result<Loaded, StoreError>> {
        Box::pin(self.kv.load(at))
    }

    fn versions<'a>(&'a self, at: &'a [Location]) -> BoxFuture<'a, Vec<Result<Version, StoreError>>> {
        Box::pin(self.kv.versions(at))
    }

    fn write<'a>(
        &'a self,
        at: &'a Location,
        material: &'a Material,
        expected: &'a Version,
        attempt: Uuid,
    ) -> BoxFuture<'a, Result<Version, StoreError>> {
        Box::pin(self.kv.write(at, material, expected, attempt))
    }

    fn read_only<'a>(&'a self, at: &'a Location) -> BoxFuture<'a, Option<String>> {
        Box::pin(self.kv.read_only(at))
    }

    fn check(&self) -> BoxFuture<'_, Result<StoreHealth, StoreError>> {
        Box::pin(async move {
            let description = self.kv.describe().await?;
            Ok(StoreHealth { description, auth_expires_at: self.auth_expires_at() })
        })
    }

    /// Keeps our own login alive. Vault tells of no change by itself.
    fn run(&self, _: mpsc::Sender<Location>, stop: CancellationToken) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.kv.login.keep() => {}
            }
        })
    }

    fn poll_interval(&self) -> Option<Duration> {
        Some(self.poll)
    }

    fn auth_expires_at(&self) -> Option<Timestamp> {
        self.kv.login.expires_at()
    }

    fn login_trouble(&self) -> Option<LoginTrouble> {
        self.kv.login.trouble()
    }
}

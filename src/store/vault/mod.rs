//! HashiCorp Vault: KV v2 (and v1, read-only).

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::credential::Reference;

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

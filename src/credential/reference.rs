//! Where a secret of the settings comes from: never the value itself.

use std::{fmt, path::PathBuf};

use futures_util::future::BoxFuture;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Secret;

/// Points at a secret: `{ file = "/run/keys/x" }`, `{ env = "X" }` or `{ store = "vault-main", at = "smtp#password" }`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Reference {
    /// A file with mode 0600 or tighter; read anew at each use, so that a rotated file counts at once.
    File(FileReference),
    /// An environment variable of the daemon.
    Env(EnvReference),
    /// A secret in one of the home stores.
    Store(StoreReference),
}

/// `{ file = "…" }`
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileReference {
    /// Path of the file; relative to the settings file.
    pub file: PathBuf,
}

/// `{ env = "…" }`
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnvReference {
    /// Name of the variable.
    pub env: String,
}

/// `{ store = "…", at = "…" }`
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StoreReference {
    /// Name of a home store in `[stores]`, or `embedded`.
    pub store: String,
    /// Where in it; after `#`, the key inside a secret that holds several.
    pub at: String,
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(FileReference { file }) => write!(f, "file {}", file.display()),
            Self::Env(EnvReference { env }) => write!(f, "environment variable {env}"),
            Self::Store(StoreReference { store, at }) => write!(f, "{at} in store {store}"),
        }
    }
}

/// Fetches what a reference points at. The parts of the house hold references and ask at each use.
pub trait Resolve: Send + Sync + fmt::Debug {
    /// The secret, or a sentence that names the place, the reason and the next step.
    fn resolve<'a>(&'a self, reference: &'a Reference) -> BoxFuture<'a, Result<Secret, String>>;
}

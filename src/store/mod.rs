//! Home stores: where the operator keeps secrets. One port, one contract, one suite of tests over all of them.

pub mod aws;
mod document;
mod each;
pub mod embedded;
pub mod exec;
pub mod file;
pub mod vault;

pub use document::read;

use std::{fmt, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use jiff::Timestamp;

use crate::{
    clock::Clock,
    credential::{Material, MaterialError, Resolve},
};

/// Where in its store a secret lies: a path (Vault, file), a name or ARN (AWS), a credential's name (embedded, exec);
/// after `#`, the key inside a secret that holds several.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Location(pub String);

/// A store's own name for one state of a secret (Vault's version, AWS's version id, a file's digest). Opaque; equal means unchanged.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Version(pub String);

/// A secret as it was read.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What it holds.
    pub material: Material,
    /// Which state of it.
    pub version: Version,
}

/// Why a store said no. The variants differ in who acts; none of them holds a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// There is nothing there (any more). The last known value is kept (FM-18).
    #[error("no secret at {path}")]
    NotFound {
        /// Where.
        path: String,
    },
    /// We may not.
    #[error("{path}: not allowed ({reason})")]
    Denied {
        /// Where.
        path: String,
        /// What the store said.
        reason: String,
    },
    /// No answer, or an answer that says "later".
    #[error("{path}: no answer ({reason})")]
    Unreachable {
        /// Where.
        path: String,
        /// What happened.
        reason: String,
    },
    /// The store asks for patience.
    #[error("{path}: the store asks to wait")]
    Throttled {
        /// Where.
        path: String,
        /// How long, if it says.
        retry_after: Option<Duration>,
    },
    /// There is something, and it is no material.
    #[error("{path}: {reason}")]
    Malformed {
        /// Where.
        path: String,
        /// Why.
        reason: MaterialError,
    },
    /// Somebody else wrote since we read: nothing was written.
    #[error("{path}: changed since it was read")]
    Conflict {
        /// Where.
        path: String,
    },
    /// This store cannot be written (KV v1, a store whose settings say so).
    #[error("{path}: read-only ({reason})")]
    ReadOnly {
        /// Where.
        path: String,
        /// Why.
        reason: String,
    },
}

impl StoreError {
    /// The reason code of the metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "not_found",
            Self::Denied { .. } => "denied",
            Self::Unreachable { .. } => "unreachable",
            Self::Throttled { .. } => "throttled",
            Self::Malformed { .. } => "malformed",
            Self::Conflict { .. } => "conflict",
            Self::ReadOnly { .. } => "read_only",
        }
    }
}

/// What `credd check` and health say of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreHealth {
    /// For a person: "Vault 1.19 at https://…, KV v2 at secret/".
    pub description: String,
    /// When our own login ends (Vault token, AWS session), where it does.
    pub auth_expires_at: Option<Timestamp>,
}

/// Our own login to a store ends, and nothing renews it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct LoginTrouble {
    /// Since when that is known.
    pub since: Timestamp,
    /// Why, for a person.
    pub reason: String,
}

/// The contract of every home store.
pub trait SecretStore: Send + Sync + fmt::Debug {
    /// `vault`, `aws`, `embedded`, `exec`, `file`.
    fn kind(&self) -> &'static str;
    /// Reads a secret with its version.
    fn load<'a>(&'a self, at: &'a Location) -> BoxFuture<'a, Result<Loaded, StoreError>>;
    /// The current versions, found by listing or by metadata, never by reading values where the store can avoid it.
    /// One answer for each location, in order.
    fn versions<'a>(&'a self, at: &'a [Location]) -> BoxFuture<'a, Vec<Result<Version, StoreError>>>;
    /// Writes if, and only if, the store still holds `expected` (compare-and-swap), and answers the new version.
    /// The document carries `attempt` as its `attempt_id`; the same write once more finds it there and is harmless.
    fn write<'a>(
        &'a self,
        at: &'a Location,
        material: &'a Material,
        expected: &'a Version,
        attempt: uuid::Uuid,
    ) -> BoxFuture<'a, Result<Version, StoreError>>;
    /// Why this store can never write that location back, if so.
    fn read_only<'a>(&'a self, at: &'a Location) -> BoxFuture<'a, Option<String>>;
    /// Reaches the store and says what was found.
    fn check(&self) -> BoxFuture<'_, Result<StoreHealth, StoreError>>;
    /// Runs until cancelled: keeps our own login alive, and reports changes that the store tells by itself (a watched file).
    fn run(
        &self,
        changed: tokio::sync::mpsc::Sender<Location>,
        stop: tokio_util::sync::CancellationToken,
    ) -> BoxFuture<'_, ()>;
    /// How often `versions` should be asked; `None` for a store that tells by itself.
    fn poll_interval(&self) -> Option<Duration>;
    /// When our own login ends, as far as is known without asking the store.
    fn auth_expires_at(&self) -> Option<Timestamp> {
        None
    }
    /// Why our own login cannot go on, if so. Known before it ends, so that a person can act while the store still answers.
    fn login_trouble(&self) -> Option<LoginTrouble> {
        None
    }
}

/// Opens a home store of the settings. Nothing is asked of it yet: a store that is down never prevents a start.
/// `name` is its name in the settings, for messages.
pub async fn open(
    name: &str,
    settings: &Settings,
    resolve: Arc<dyn Resolve>,
    clock: Arc<dyn Clock>,
) -> Result<Arc<dyn SecretStore>, StoreError> {
    let store: Arc<dyn SecretStore> = match settings {
        Settings::Vault(settings) => Arc::new(vault::Vault::new(name, settings, resolve, clock)?),
        #[cfg(feature = "aws")]
        Settings::Aws(settings) => Arc::new(aws::AwsSecrets::new(settings, clock)),
        #[cfg(not(feature = "aws"))]
        Settings::Aws(_) => return Err(unusable(name, "this credd was built without the feature `aws`")),
        Settings::Exec(settings) => Arc::new(exec::Exec::new(name, settings, clock)?),
        Settings::File(settings) => Arc::new(file::Files::new(settings, clock)),
    };
    Ok(store)
}

/// Settings that cannot work, whatever the store says.
fn unusable(name: &str, reason: &str) -> StoreError {
    StoreError::Denied { path: format!("[stores.{name}]"), reason: reason.into() }
}

/// A home store in the settings: `[stores.NAME]`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Settings {
    /// HashiCorp Vault, or anything that speaks its API.
    Vault(vault::Settings),
    /// AWS Secrets Manager.
    Aws(aws::Settings),
    /// Any other store, through a command that speaks JSON.
    Exec(exec::Settings),
    /// Watched files.
    File(file::Settings),
}

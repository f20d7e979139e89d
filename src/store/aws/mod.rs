//! AWS Secrets Manager.
//!
//! What the daemon's role needs: `GetSecretValue` and `DescribeSecret`; `ListSecrets`, so that changes of all secrets are
//! found in one question; to write back, `PutSecretValue` and `UpdateSecretVersionStage`.

#[cfg(feature = "aws")]
mod refusal;
#[cfg(feature = "aws")]
mod secrets;

#[cfg(feature = "aws")]
pub use secrets::AwsSecrets;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[stores.NAME] kind = "aws"`. Credentials and endpoint come from the standard chain (environment, profile, web identity, IMDS).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Instead of the standard chain's.
    pub region: Option<String>,
    /// Profile of the shared configuration.
    pub profile: Option<String>,
    /// Instead of AWS's own; also `AWS_ENDPOINT_URL`.
    pub endpoint: Option<url::Url>,
    /// Seconds between two looks for changes.
    pub poll_seconds: u64,
    /// At most one write of a secret in this many seconds: AWS keeps all versions of the last 24 hours and
    /// counts them against a quota. Only the latest value is written; the ledger is ahead meanwhile.
    pub coalesce_seconds: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { region: None, profile: None, endpoint: None, poll_seconds: 300, coalesce_seconds: 600 }
    }
}

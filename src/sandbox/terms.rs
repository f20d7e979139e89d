//! What clients, grants and keys are to be like. All times are seconds in JSON, and may be fractions.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::profile::Profile;
use crate::credential::Secret;

/// An OAuth client.
#[derive(Clone, Debug, Deserialize)]
pub struct Client {
    /// `client_id`.
    pub id: String,
    /// `client_secret`; a client without one is public.
    #[serde(default)]
    pub secret: Option<Secret>,
    /// PEM of the public key that checks its assertions.
    #[serde(default)]
    pub public_key: Option<String>,
    /// How long access tokens of its own live (`client_credentials`, assertions).
    #[serde(default = "hour", with = "seconds")]
    pub access_ttl: Duration,
    /// So many grants live at once; a further one silently kills the oldest (RF-38).
    #[serde(default)]
    pub max_grants: Option<usize>,
}

impl Default for Client {
    /// `sandbox` with the secret `sandbox-secret`.
    fn default() -> Self {
        Self {
            id: "sandbox".into(),
            secret: Some(Secret::new("sandbox-secret")),
            public_key: None,
            access_ttl: hour(),
            max_grants: None,
        }
    }
}

/// What a grant is to be like. Times in seconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NewGrant {
    /// Whose it is.
    pub client: String,
    /// What becomes of used refresh tokens.
    pub profile: Profile,
    /// How long access tokens live.
    #[serde(with = "seconds")]
    pub access_ttl: Duration,
    /// How long a refresh token lives that nobody uses; rotation begins it anew.
    #[serde(with = "optional_seconds")]
    pub refresh_ttl: Option<Duration>,
    /// How long the grant lives, whatever happens.
    #[serde(with = "optional_seconds")]
    pub grant_ttl: Option<Duration>,
    /// Granted scopes.
    pub scope: String,
    /// A new access token ends the older ones at once.
    pub single_access: bool,
    /// A refresh brings the same access token again until it ends (RF-32).
    pub same_access: bool,
    /// The API refuses a new access token for so long (RF-33).
    #[serde(with = "seconds")]
    pub settling: Duration,
    /// The API says in `x-token-expires-at` when the presented token ends.
    pub expiry_header: bool,
}

impl Default for NewGrant {
    fn default() -> Self {
        Self {
            client: "sandbox".into(),
            profile: Profile::default(),
            access_ttl: hour(),
            refresh_ttl: None,
            grant_ttl: None,
            scope: "read write".into(),
            single_access: false,
            same_access: false,
            settling: Duration::ZERO,
            expiry_header: false,
        }
    }
}

/// What a static key is to be like.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NewKey {
    /// How long it lives, in seconds; for ever where absent.
    #[serde(with = "optional_seconds")]
    pub ttl: Option<Duration>,
    /// The API says in `x-token-expires-at` when it ends.
    pub expiry_header: bool,
}

fn hour() -> Duration {
    Duration::from_secs(3600)
}

mod seconds {
    use super::*;
    pub(super) fn serialize<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(time.as_secs_f64())
    }
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        Duration::try_from_secs_f64(f64::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

mod optional_seconds {
    use super::*;
    pub(super) fn serialize<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        time.map(|time| time.as_secs_f64()).serialize(serializer)
    }
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        let seconds = Option::<f64>::deserialize(deserializer)?;
        seconds.map(Duration::try_from_secs_f64).transpose().map_err(serde::de::Error::custom)
    }
}

//! The faces that deliver and report: the socket, health, metrics, and the operator's own socket.

pub mod admin;
pub mod health;
pub mod scrape;
pub mod socket;
mod unavailable;

use std::{net::SocketAddr, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::credential::Reference;

/// `[server]`: where credd listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Health and metrics, plain HTTP: they carry no secret.
    pub health: SocketAddr,
    /// Bearer token for details that name readers, where `health` is not on loopback. Without one, details stay on loopback.
    pub details_token: Option<Reference>,
    /// The readers' socket. Default: `/run/credd/credd.sock`, or below `$XDG_RUNTIME_DIR` for a user; `CREDD_SOCKET` overrides.
    /// The operator's `admin.sock` stands beside it.
    pub socket: Option<PathBuf>,
    /// Mode of the readers' socket; who may read what is decided by `readers`, not by the mode.
    pub socket_mode: String,
    /// Connections that one user may have to the readers' socket at once.
    pub connections_per_uid: usize,
    /// Which state makes `/health` fail, beside an expired or revoked required credential.
    pub fail_on: FailOn,
}

/// From which state on `/health` answers 503 for a required credential.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailOn {
    /// Degraded or worse.
    Degraded,
    /// Expired, revoked, uninitialised, or under `ttl_fail`.
    #[default]
    Expired,
    /// Revoked only.
    Revoked,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            health: SocketAddr::from(([127, 0, 0, 1], 7421)),
            details_token: None,
            socket: None,
            socket_mode: "0666".into(),
            connections_per_uid: 1024,
            fail_on: FailOn::default(),
        }
    }
}

/// A length of time in a query: seconds as a number, or a duration (`30s`, `2m`).
fn duration(name: &str, text: &str) -> Result<std::time::Duration, String> {
    let seconds = text.parse::<u64>().ok().map(std::time::Duration::from_secs);
    seconds
        .or_else(|| std::time::Duration::try_from(text.parse::<jiff::SignedDuration>().ok()?).ok())
        .ok_or_else(|| format!("`{name}` must be seconds or a duration like 30s or 2m"))
}

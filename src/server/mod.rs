//! The faces that deliver and report: the socket, health, metrics, and the operator's own socket.

pub mod admin;
pub mod health;
pub mod scrape;
pub mod socket;
mod unavailable;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

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
    /// The readers' socket. Default: `/run/credd/credd.sock`; for a user `$XDG_RUNTIME_DIR/credd/credd.sock`, or, without
    /// `XDG_RUNTIME_DIR`, in a folder of the user's own: `/tmp/credd-UID/credd.sock`. `CREDD_SOCKET` overrides. The
    /// operator's `admin.sock` stands beside it.
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

impl Settings {
    /// The mode of the readers' socket; the error says what is allowed.
    pub fn mode(&self) -> Result<u32, String> {
        u32::from_str_radix(&self.socket_mode, 8).ok().filter(|mode| *mode <= 0o777).ok_or_else(|| {
            format!("server.socket_mode {:?} must be a mode in octal digits, like \"0660\"", self.socket_mode)
        })
    }
}

/// A length of time in a query: seconds as a number, or a duration (`30s`, `2m`).
fn duration(name: &str, text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<u64>().ok().map(Duration::from_secs);
    seconds
        .or_else(|| Duration::try_from(text.parse::<jiff::SignedDuration>().ok()?).ok())
        .ok_or_else(|| format!("`{name}` must be seconds or a duration like 30s or 2m"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_is_octal() {
        let mode = |text: &str| Settings { socket_mode: text.into(), ..Settings::default() }.mode();
        assert_eq!((mode("0666"), mode("600")), (Ok(0o666), Ok(0o600)));
        assert!(["", "rw", "0888", "1777777"].iter().all(|text| mode(text).is_err()));
    }
}

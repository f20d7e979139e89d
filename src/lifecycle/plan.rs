//! When to refresh, probe, wait and confirm. Policy is data; time is an argument.

use std::time::Duration;

use jiff::SignedDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[policies.NAME]`: how a credential is watched. Every field has a default that fits most.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// When probes run: a cron expression of six fields (seconds first). Each credential keeps its own place within the beat.
    pub probe: String,
    /// `degraded` below this time left (`"60m"`). Default: the refresh lead.
    #[schemars(with = "Option<String>", example = "60m")]
    pub ttl_warn: Option<SignedDuration>,
    /// `/health` fails for a required credential below this time left. Default: the mandatory window, at most a tenth of the life.
    #[schemars(with = "Option<String>", example = "60m")]
    pub ttl_fail: Option<SignedDuration>,
    /// Refresh this long before the end. Default: by the token's own life (half of a short one, 60 minutes of a long one).
    #[schemars(with = "Option<String>", example = "60m")]
    pub refresh_lead: Option<SignedDuration>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { probe: "0 */5 * * * *".into(), ttl_warn: None, ttl_fail: None, refresh_lead: None }
    }
}

/// The window before the end in which a refresh is tried at leisure (FAULTS §8), before jitter.
pub fn advisory_window(life: Duration) -> Duration {
    const MINUTE: u64 = 60;
    match life.as_secs() {
        seconds if seconds < 10 * MINUTE => life / 2,
        seconds if seconds < 20 * MINUTE => Duration::from_secs(5 * MINUTE),
        seconds if seconds < 90 * MINUTE => Duration::from_secs(15 * MINUTE),
        _ => Duration::from_secs(60 * MINUTE),
    }
}

/// The window before the end in which refreshes are tried hard: 60 s, or a fifth of a shorter life.
pub fn mandatory_window(life: Duration) -> Duration {
    Duration::from_secs(60).min(life / 5)
}

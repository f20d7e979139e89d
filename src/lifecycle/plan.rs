//! When to refresh, probe, wait and confirm. Policy is data; time is an argument; dice are handed in.

use std::time::Duration;

use jiff::SignedDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::credential::{Kind, Rotation};

const MINUTE: u64 = 60;
const DAY: u64 = 24 * 60 * MINUTE;

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

/// All that decisions about one credential depend on, beside its own lifecycle and the time.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// How it comes to a value.
    pub kind: Kind,
    /// What the provider does with the old refresh token.
    pub rotation: Rotation,
    /// How long the old one still works (`rotation = grace`).
    pub grace: Duration,
    /// Presenting a spent refresh token kills the access token too.
    pub reuse_kills_access_token: bool,
    /// A refresh token that nobody uses for this long dies.
    pub refresh_idle: Option<Duration>,
    /// A refresh token dies this long after it was granted, used or not.
    pub refresh_absolute: Option<Duration>,
    /// Whether the provider has a probe.
    pub has_probe: bool,
    /// Refresh this long before the end, instead of by the token's life.
    pub lead: Option<Duration>,
    /// The provider answers with the same token when asked earlier than this before the end.
    pub max_lead: Option<Duration>,
    /// `degraded` below this time left, instead of the default.
    pub ttl_warn: Option<Duration>,
    /// Red below this time left, instead of the default.
    pub ttl_fail: Option<Duration>,
}

impl Policy {
    /// For a kind, with every default.
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            rotation: Rotation::Unknown,
            grace: Duration::ZERO,
            reuse_kills_access_token: true,
            refresh_idle: None,
            refresh_absolute: None,
            has_probe: true,
            lead: None,
            max_lead: None,
            ttl_warn: None,
            ttl_fail: None,
        }
    }

    /// How long before the end of such a life a refresh is planned: the advisory window stretched by the dice
    /// (0 to 20 %), never more than 80 % of the life.
    pub fn refresh_lead(&self, life: Duration, dice: f64) -> Duration {
        let window = self.lead.unwrap_or_else(|| advisory_window(life));
        let lead = window.mul_f64(1.0 + 0.2 * dice.clamp(0.0, 1.0)).min(life.mul_f64(0.8));
        self.max_lead.map_or(lead, |max| lead.min(max))
    }

    /// Below this time left a credential is `degraded`.
    pub fn warn_below(&self, life: Option<Duration>) -> Duration {
        self.ttl_warn.unwrap_or_else(|| match (self.kind.is_refreshable(), life) {
            (true, Some(life)) => self.lead.unwrap_or_else(|| advisory_window(life)).min(life / 5 * 4),
            (true, None) => Duration::from_secs(60 * MINUTE),
            // Nobody can renew it but a person, so the warning comes in time for one.
            (false, life) => Duration::from_secs(14 * DAY).min(life.map_or(Duration::MAX, |life| life / 10)),
        })
    }

    /// Below this time left a required credential turns `/health` red.
    pub fn fail_below(&self, life: Option<Duration>) -> Duration {
        self.ttl_fail.unwrap_or_else(|| {
            let minute = Duration::from_secs(MINUTE);
            life.map_or(minute, |life| mandatory_window(life).min(life / 10))
        })
    }

    /// How long to wait after so many failures in a row: full jitter, faster as the end comes near.
    pub fn back_off(&self, failures: u32, left: Option<SignedDuration>, life: Option<Duration>, dice: f64) -> Duration {
        let mandatory = mandatory_window(life.unwrap_or(Duration::from_secs(60 * MINUTE)));
        let (base, cap) = match left {
            Some(left) if left <= SignedDuration::ZERO => (5, 60),
            Some(left) if left <= signed(mandatory) => (2, 30),
            _ => (5, 300),
        };
        let ceiling = (base << failures.saturating_sub(1).min(16)).min(cap);
        Duration::from_secs(1).max(Duration::from_secs(ceiling).mul_f64(dice.clamp(0.0, 1.0)))
    }
}

/// The window before the end in which a refresh is tried at leisure, before jitter.
pub fn advisory_window(life: Duration) -> Duration {
    match life.as_secs() {
        seconds if seconds < 10 * MINUTE => life / 2,
        seconds if seconds < 20 * MINUTE => Duration::from_secs(5 * MINUTE),
        seconds if seconds < 90 * MINUTE => Duration::from_secs(15 * MINUTE),
        _ => Duration::from_secs(60 * MINUTE),
    }
}

/// The window before the end in which refreshes are tried hard: 60 s, or a fifth of a shorter life.
pub fn mandatory_window(life: Duration) -> Duration {
    Duration::from_secs(MINUTE).min(life / 5)
}

/// The same time, to be compared with one that may be over; absurdly long ones are cut.
pub(super) fn signed(time: Duration) -> SignedDuration {
    SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn minutes(n: u64) -> Duration {
        Duration::from_secs(n * MINUTE)
    }

    #[test]
    fn the_lead_follows_the_life() {
        let policy = Policy::new(Kind::RefreshToken);
        for (life, lead) in [(4, 2), (15, 5), (60, 15), (480, 60), (40_000, 60)] {
            assert_eq!(policy.refresh_lead(minutes(life), 0.0), minutes(lead), "{life} minutes");
            assert_eq!(policy.refresh_lead(minutes(life), 1.0), minutes(lead).mul_f64(1.2), "{life} minutes");
            assert_eq!(policy.warn_below(Some(minutes(life))), minutes(lead));
        }
        let eager = Policy { lead: Some(minutes(60)), ..policy.clone() };
        assert_eq!(eager.refresh_lead(minutes(10), 1.0), minutes(8), "never more than 80 % of the life");
        let late = Policy { max_lead: Some(minutes(5)), ..policy };
        assert_eq!(late.refresh_lead(minutes(60), 1.0), minutes(5));
    }

    #[test]
    fn red_comes_at_the_mandatory_window_but_at_most_a_tenth() {
        let policy = Policy::new(Kind::RefreshToken);
        assert_eq!(policy.fail_below(Some(minutes(60))), minutes(1));
        assert_eq!(policy.fail_below(Some(minutes(5))), Duration::from_secs(30));
        assert_eq!(Policy { ttl_fail: Some(minutes(60)), ..policy }.fail_below(Some(minutes(90))), minutes(60));
    }

    #[test]
    fn a_static_key_warns_in_time_for_a_person() {
        let policy = Policy::new(Kind::Pat);
        assert_eq!(policy.warn_below(None), Duration::from_secs(14 * DAY));
        assert_eq!(policy.warn_below(Some(Duration::from_secs(30 * DAY))), Duration::from_secs(3 * DAY));
    }

    #[test]
    fn pauses_grow_and_shrink_again_near_the_end() {
        let policy = Policy::new(Kind::RefreshToken);
        let pause = |failures, left| {
            policy.back_off(failures, Some(SignedDuration::from_secs(left)), Some(minutes(60)), 1.0).as_secs()
        };
        assert_eq!([1, 2, 3, 7, 60].map(|n| pause(n, 1800)), [5, 10, 20, 300, 300]);
        assert_eq!([1, 2, 5, 60].map(|n| pause(n, 30)), [2, 4, 30, 30]);
        assert_eq!([1, 4, 9].map(|n| pause(n, -1)), [5, 40, 60]);
        assert_eq!(policy.back_off(3, None, None, 0.0), Duration::from_secs(1), "never at once");
    }
}

//! Faults: what goes wrong, where, for whom and how often.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::profile::Dice;

/// Where a fault strikes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// The token endpoint.
    #[default]
    Token,
    /// The API.
    Api,
    /// Both.
    Any,
}

/// A fault and whom it meets. Several may be armed: delays add up, members are all replaced, and of the rest the
/// oldest decides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fault {
    /// What goes wrong.
    #[serde(flatten)]
    pub kind: FaultKind,
    /// Where.
    #[serde(default)]
    pub at: Place,
    /// For one grant or key alone, by its id; for all where absent.
    #[serde(default)]
    pub grant: Option<String>,
    /// For so many calls; until cleared where absent.
    #[serde(default)]
    pub calls: Option<u32>,
}

/// What goes wrong. "Commit" is the moment at which the provider has acted: tokens are minted, the old one is spent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum FaultKind {
    /// Waits, before the commit or after it.
    Delay {
        /// How long.
        ms: u64,
        /// After the commit.
        #[serde(default)]
        after_commit: bool,
    },
    /// A bare status with a line of text.
    Status {
        /// 500, 502, 503, 504 …
        status: u16,
        /// The provider acts first.
        #[serde(default)]
        after_commit: bool,
    },
    /// The good reply, tokens and all, under another status.
    Restamp {
        /// 500, 201 …
        status: u16,
    },
    /// 429, before the commit.
    RateLimit {
        /// How it says when to come back.
        #[serde(default)]
        retry_after: RetryAfter,
    },
    /// A page of HTML, before the commit: a captive portal with 200, a gateway with 502.
    Html {
        /// Its status.
        status: u16,
    },
    /// Commits; the head of the reply announces more than comes.
    Truncated,
    /// Commits; the reply is complete, and no JSON.
    Malformed,
    /// Commits; the reply names its first member twice.
    DuplicateMembers,
    /// Commits; the reply has no body.
    Empty,
    /// 200 with an `error` member, before the commit.
    ErrorInSuccess {
        /// `bad_refresh_token`, `token_expired` …
        error: String,
    },
    /// An OAuth refusal, before the commit; at the API a bearer challenge (RFC 6750 §3).
    Refuse {
        /// 400, 401, 403.
        status: u16,
        /// `invalid_grant`, `invalid_client`, `temporarily_unavailable`, `insufficient_scope` …
        error: String,
        /// For people.
        #[serde(default)]
        description: Option<String>,
    },
    /// A redirect, before the commit.
    Redirect {
        /// 301, 302, 307, 308.
        status: u16,
        /// Where to.
        location: String,
    },
    /// Hangs up in good form, after the commit.
    DropAfterCommit,
    /// Resets the connection, after the commit.
    ResetAfterCommit,
    /// Resets the connection, before the commit.
    ResetBeforeCommit,
    /// Commits; the body comes byte by byte.
    SlowBytes {
        /// Between two bytes.
        every_ms: u64,
    },
    /// Commits; a member of the good reply is replaced, or left out where no value is given. For `refresh_token` the
    /// old one stays good, as with providers that rotate only now and then.
    Member {
        /// `expires_in`, `refresh_token`, `scope`, `token_type` …
        name: String,
        /// Instead; `null` counts.
        #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
        value: Option<Value>,
    },
    /// Exactly this reply, before the commit.
    Raw {
        /// Its status.
        status: u16,
        /// Its headers.
        #[serde(default)]
        headers: BTreeMap<String, String>,
        /// Its body.
        #[serde(default)]
        body: String,
    },
}

/// The forms of `Retry-After` (RFC 9110 §10.2.3), and what is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryAfter {
    /// Not there.
    #[default]
    None,
    /// Delta seconds.
    Seconds(u64),
    /// An HTTP date, so many seconds from now.
    Date(i64),
    /// Any text: `soon`, `-1`, `99999999999999999999`.
    Text(String),
}

/// Tells a `null` from nothing.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

impl FaultKind {
    /// The word of the settings and the log.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Delay { .. } => "delay",
            Self::Status { .. } => "status",
            Self::Restamp { .. } => "restamp",
            Self::RateLimit { .. } => "rate_limit",
            Self::Html { .. } => "html",
            Self::Truncated => "truncated",
            Self::Malformed => "malformed",
            Self::DuplicateMembers => "duplicate_members",
            Self::Empty => "empty",
            Self::ErrorInSuccess { .. } => "error_in_success",
            Self::Refuse { .. } => "refuse",
            Self::Redirect { .. } => "redirect",
            Self::DropAfterCommit => "drop_after_commit",
            Self::ResetAfterCommit => "reset_after_commit",
            Self::ResetBeforeCommit => "reset_before_commit",
            Self::SlowBytes { .. } => "slow_bytes",
            Self::Member { .. } => "member",
            Self::Raw { .. } => "raw",
        }
    }

    /// A fault at the token endpoint, for everybody, until cleared.
    pub fn always(self) -> Fault {
        Fault { kind: self, at: Place::Token, grant: None, calls: None }
    }

    /// A fault at the token endpoint, for the next calls.
    pub fn next(self, calls: u32) -> Fault {
        Fault { calls: Some(calls), ..self.always() }
    }
}

impl Fault {
    /// At another place.
    pub fn at(self, at: Place) -> Self {
        Self { at, ..self }
    }

    /// For one grant or key alone.
    pub fn of(self, grant: &str) -> Self {
        Self { grant: Some(grant.to_owned()), ..self }
    }

    fn meets(&self, place: Place, grant: Option<&str>) -> bool {
        (self.at == place || self.at == Place::Any) && self.grant.as_deref().is_none_or(|own| grant == Some(own))
    }
}

/// The faults that are armed.
#[derive(Debug, Default)]
pub(super) struct Switchboard {
    armed: BTreeMap<u64, Fault>,
    next: u64,
}

impl Switchboard {
    pub(super) fn arm(&mut self, fault: Fault) -> u64 {
        self.next += 1;
        self.armed.insert(self.next, fault);
        self.next
    }

    pub(super) fn clear(&mut self, id: u64) -> bool {
        self.armed.remove(&id).is_some()
    }

    pub(super) fn clear_all(&mut self) {
        self.armed.clear();
    }

    pub(super) fn armed(&self) -> &BTreeMap<u64, Fault> {
        &self.armed
    }

    /// What meets this call; it is counted off. Only the faults that will act are: a call ends but once.
    pub(super) fn take(&mut self, place: Place, grant: Option<&str>) -> Vec<FaultKind> {
        let mut met = Vec::new();
        let mut ended = false;
        self.armed.retain(|_, fault| {
            if !fault.meets(place, grant) || fault.calls == Some(0) {
                return fault.calls != Some(0);
            }
            if !matches!(fault.kind, FaultKind::Delay { .. } | FaultKind::Member { .. })
                && std::mem::replace(&mut ended, true)
            {
                return true;
            }
            met.push(fault.kind.clone());
            fault.calls = fault.calls.map(|left| left - 1);
            fault.calls != Some(0)
        });
        met
    }
}

/// Ordinary bad weather: 3 % delayed by up to 2 s, 2 % reset after the commit, 2 % 5xx, 1 % with a member twice,
/// 1 % truncated.
pub(super) fn weather(dice: &mut Dice) -> Option<FaultKind> {
    match dice.fraction() {
        p if p < 0.03 => {
            let ms = Duration::from_secs(2).mul_f64(dice.fraction()).as_millis();
            Some(FaultKind::Delay { ms: u64::try_from(ms).unwrap_or(0), after_commit: dice.roll() & 1 == 1 })
        }
        p if p < 0.05 => Some(FaultKind::ResetAfterCommit),
        p if p < 0.07 => {
            let status = [500, 502, 503, 504][(dice.roll() & 3) as usize];
            Some(FaultKind::Status { status, after_commit: false })
        }
        p if p < 0.08 => Some(FaultKind::DuplicateMembers),
        p if p < 0.09 => Some(FaultKind::Truncated),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_written_as_the_documentation_says() {
        let table = [
            (r#"{"fault":"delay","ms":500}"#, FaultKind::Delay { ms: 500, after_commit: false }.always()),
            (
                r#"{"fault":"rate_limit","retry_after":{"seconds":7},"calls":2,"at":"any","grant":"grant-1"}"#,
                FaultKind::RateLimit { retry_after: RetryAfter::Seconds(7) }.next(2).at(Place::Any).of("grant-1"),
            ),
            (r#"{"fault":"rate_limit"}"#, FaultKind::RateLimit { retry_after: RetryAfter::None }.always()),
            (
                r#"{"fault":"member","name":"expires_in"}"#,
                FaultKind::Member { name: "expires_in".into(), value: None }.always(),
            ),
            (
                r#"{"fault":"member","name":"expires_in","value":null}"#,
                FaultKind::Member { name: "expires_in".into(), value: Some(Value::Null) }.always(),
            ),
        ];
        for (text, fault) in table {
            assert_eq!(serde_json::from_str::<Fault>(text).unwrap(), fault, "{text}");
            let again = serde_json::to_string(&fault).unwrap();
            assert_eq!(serde_json::from_str::<Fault>(&again).unwrap(), fault, "{again}");
        }
        assert!(serde_json::from_str::<Fault>(r#"{"fault":"sulk"}"#).is_err());
    }

    #[test]
    fn a_fault_meets_whom_it_should_and_as_often() {
        let mut board = Switchboard::default();
        board.arm(FaultKind::Truncated.next(2).of("grant-1"));
        board.arm(FaultKind::Empty.next(1).at(Place::Api));
        let delay = board.arm(FaultKind::Delay { ms: 1, after_commit: false }.always().at(Place::Any));
        let mut names = |place, grant| board.take(place, grant).iter().map(FaultKind::as_str).collect::<Vec<_>>();
        assert_eq!(names(Place::Token, Some("grant-2")), ["delay"]);
        assert_eq!(names(Place::Token, Some("grant-1")), ["truncated", "delay"]);
        assert_eq!(names(Place::Api, Some("grant-1")), ["empty", "delay"]);
        assert_eq!(names(Place::Api, None), ["delay"]);
        assert_eq!(names(Place::Token, Some("grant-1")), ["truncated", "delay"]);
        assert_eq!(names(Place::Token, Some("grant-1")), ["delay"]);
        assert!(board.clear(delay));
        assert!(board.armed().is_empty());
    }

    #[test]
    fn the_weather_is_as_announced() {
        let mut dice = Dice::new(1);
        let mut seen = BTreeMap::new();
        for _ in 0..100_000 {
            if let Some(kind) = weather(&mut dice) {
                *seen.entry(kind.as_str()).or_insert(0) += 1;
            }
        }
        let expected = [
            ("delay", 3000),
            ("duplicate_members", 1000),
            ("reset_after_commit", 2000),
            ("status", 2000),
            ("truncated", 1000),
        ];
        assert_eq!(seen.len(), expected.len());
        for (name, count) in expected {
            assert!((count * 9 / 10..count * 11 / 10).contains(&seen[name]), "{name}: {}", seen[name]);
        }
    }
}

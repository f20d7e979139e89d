//! Where an expiry hides and how it may be misspelt (RF-27 to RF-29).

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::{Timestamp, civil::Date, tz::TimeZone};
use serde_json::Value;

use super::{Provider, retry};
use crate::credential::{ExpirySource, Kind, Reply, Secret};

const DAY: i64 = 86_400;
/// Nobody hands out tokens for longer on purpose.
const TEN_YEARS: i64 = 3653 * DAY;
/// What becomes of such a lifetime.
const YEAR: Duration = Duration::from_secs(365 * DAY as u64);
/// What a repaired lifetime is at least, so that no malformed reply makes a storm.
const LEAST: Duration = Duration::from_secs(60);

/// What a member that should tell a lifetime says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// Nothing: absent or null.
    Missing,
    /// Something that is no lifetime.
    Malformed,
    /// It said so.
    Told(Duration),
    /// It said something else, from which this was made.
    Repaired(Duration),
}

impl Lifetime {
    /// The time itself, if there is one.
    pub fn duration(self) -> Option<Duration> {
        match self {
            Self::Told(life) | Self::Repaired(life) => Some(life),
            Self::Missing | Self::Malformed => None,
        }
    }
}

/// Reads a lifetime: whole seconds as a number or as digits, or a date. No partial parse, no overflow.
pub fn lifetime(value: Option<&Value>, now: Timestamp) -> Lifetime {
    let number = match value {
        None | Some(Value::Null) => return Lifetime::Missing,
        Some(Value::Number(number)) => whole(number),
        Some(Value::String(text)) => {
            let text = text.trim();
            if !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit()) {
                // More digits than a number holds: far beyond any date.
                Some(text.parse().unwrap_or(i64::MAX))
            } else {
                return match date(text) {
                    Some(date) => until(date, now).map_or(Lifetime::Malformed, Lifetime::Told),
                    None => Lifetime::Malformed,
                };
            }
        }
        Some(_) => None,
    };
    let Some(number) = number.filter(|number| *number > 0) else { return Lifetime::Malformed };
    let near = |number: i64, present: i64, unit: i64| number.saturating_sub(present).saturating_abs() <= 2 * DAY * unit;
    if near(number, now.as_second(), 1) {
        absolute(Timestamp::from_second(number).ok(), now)
    } else if near(number, now.as_millisecond(), 1000) {
        absolute(Timestamp::from_millisecond(number).ok(), now)
    } else if number > TEN_YEARS {
        Lifetime::Repaired(YEAR)
    } else {
        Lifetime::Told(Duration::from_secs(number.unsigned_abs()))
    }
}

/// Reads a member that is named for a date (`expires_at`): epochs count whatever their distance.
pub fn deadline(value: Option<&Value>, now: Timestamp) -> Lifetime {
    let date = value.and_then(moment);
    match (value, date) {
        (Some(value), Some(date)) if !value.is_null() => until(date, now).map_or(Lifetime::Malformed, Lifetime::Told),
        (value, _) => lifetime(value, now),
    }
}

fn absolute(date: Option<Timestamp>, now: Timestamp) -> Lifetime {
    match date.and_then(|date| until(date, now)) {
        Some(life) => Lifetime::Repaired(life.max(LEAST)),
        None => Lifetime::Malformed,
    }
}

fn until(date: Timestamp, now: Timestamp) -> Option<Duration> {
    let seconds = date.as_second().saturating_sub(now.as_second());
    (seconds > 0).then(|| if seconds > TEN_YEARS { YEAR } else { Duration::from_secs(seconds.unsigned_abs()) })
}

fn whole(number: &serde_json::Number) -> Option<i64> {
    if let Some(number) = number.as_i64() {
        return Some(number);
    }
    if number.is_u64() {
        return Some(i64::MAX);
    }
    let number = number.as_f64()?;
    // A float cast saturates, so this cannot overflow.
    (number.is_finite() && number.fract() == 0.0).then_some(number as i64)
}

/// A date in words: RFC 3339, the HTTP forms, or a bare day, which ends as it begins (UTC).
fn date(text: &str) -> Option<Timestamp> {
    retry::date(text).or_else(|| {
        let day: Date = text.parse().ok()?;
        (text.len() == 10).then(|| day.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp()))?
    })
}

/// A date as text, or as an epoch in seconds or milliseconds.
pub fn moment(value: &Value) -> Option<Timestamp> {
    let number = match value {
        Value::Number(number) => whole(number)?,
        Value::String(text) => match text.trim().parse::<i64>() {
            Ok(number) => number,
            Err(_) => return date(text.trim()),
        },
        _ => return None,
    };
    match number {
        1_000_000_000..100_000_000_000 => Timestamp::from_second(number).ok(),
        100_000_000_000.. => Timestamp::from_millisecond(number).ok(),
        _ => None,
    }
}

/// `exp` of a JWT: a hint, because its signature is not ours to check.
pub fn jwt(token: &Secret) -> Option<Timestamp> {
    moment(claims(token)?.get("exp")?)
}

/// When a token endpoint's reply was made, as its provider dates it: `iat` of a JWT, or the `Date` header.
pub fn issued_at(token: &Secret, reply: &Reply) -> Option<Timestamp> {
    let by_token = claims(token).and_then(|claims| moment(claims.get("iat")?));
    by_token.or_else(|| retry::date(reply.header("date")?))
}

#[expect(clippy::disallowed_methods, reason = "a JWT says its own end")]
fn claims(token: &Secret) -> Option<Value> {
    let mut parts = token.expose().split('.');
    let (_, payload, _, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next()) else { return None };
    let claims = zeroize::Zeroizing::new(URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?);
    serde_json::from_slice(&claims).ok()
}

impl Provider {
    /// What a good reply to a probe tells of the expiry, where the file says it is told.
    pub fn probe_expiry(&self, kind: Kind, reply: &Reply, now: Timestamp) -> Option<(Timestamp, ExpirySource)> {
        let probe = self.probe(kind).filter(|_| reply.is_success())?;
        let header = probe.expires_header.as_ref().and_then(|name| reply.header(name));
        if let Some(date) = header.and_then(|value| moment(&Value::from(value))) {
            return Some((date, ExpirySource::Header));
        }
        let body: Value = serde_json::from_slice(&reply.body).ok()?;
        let value = body.pointer(probe.expires.as_ref()?)?;
        let date = moment(value).or_else(|| {
            let life = lifetime(Some(value), now).duration()?;
            now.checked_add(jiff::SignedDuration::try_from(life).ok()?).ok()
        })?;
        Some((date, ExpirySource::Probe))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_second(1_767_225_600).unwrap()
    }

    #[test]
    fn rf28_rf29_lifetimes_in_every_spelling() {
        use Lifetime::{Malformed, Missing, Repaired, Told};
        let told = |seconds| Told(Duration::from_secs(seconds));
        let repaired = |seconds| Repaired(Duration::from_secs(seconds));
        let table = [
            ("3600", told(3600)),
            ("\"3600\"", told(3600)),
            ("\" 3600 \"", told(3600)),
            ("3600.0", told(3600)),
            ("1", told(1)),
            ("3.6e3", told(3600)),
            ("null", Missing),
            ("\"3600abc\"", Malformed),
            ("\"3600s\"", Malformed),
            ("\"-1\"", Malformed),
            ("\"\"", Malformed),
            ("\"soon\"", Malformed),
            ("3600.5", Malformed),
            ("[]", Malformed),
            ("{}", Malformed),
            ("true", Malformed),
            ("[3600]", Malformed),
            ("0", Malformed),
            ("-1", Malformed),
            ("-9223372036854775808", Malformed),
            ("1e400", Malformed),
            ("1000000000000000000", Repaired(YEAR)),
            ("18446744073709551615", Repaired(YEAR)),
            ("\"99999999999999999999999\"", Repaired(YEAR)),
            ("1e18", Repaired(YEAR)),
            ("400000000", Repaired(YEAR)),
            ("1767229200", repaired(3600)),
            ("\"1767229200\"", repaired(3600)),
            ("1767229200000", repaired(3600)),
            ("1767225610", repaired(60)),
            ("1767225600", Malformed),
            ("1767139200", Malformed),
            ("\"2026-01-01T01:00:00Z\"", told(3600)),
            ("\"2026-01-01T01:00:00.5+00:00\"", told(3600)),
            ("\"2025-12-31T23:00:00Z\"", Malformed),
            ("\"Thu, 01 Jan 2026 01:00:00 GMT\"", told(3600)),
            ("\"2026-01-02\"", told(86_400)),
        ];
        for (text, expected) in table {
            let value = serde_json::from_str::<Value>(text).ok();
            let found = match &value {
                Some(value) => lifetime(Some(value), now()),
                None => Malformed,
            };
            assert_eq!(found, expected, "{text}");
        }
        assert_eq!(lifetime(None, now()), Missing);
    }

    #[test]
    fn rr6_a_reply_is_dated_by_its_token_before_its_header() {
        let reply = Reply::new(200, [("Date", "Thu, 01 Jan 2026 00:00:00 GMT")], "");
        let token = Secret::new(format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(r#"{"iat":1767229200}"#)));
        assert_eq!(issued_at(&token, &reply), Timestamp::from_second(1_767_229_200).ok());
        assert_eq!(issued_at(&Secret::new("opaque"), &reply), Timestamp::from_second(1_767_225_600).ok());
        assert_eq!(issued_at(&Secret::new("opaque"), &Reply::new(200, [], "")), None);
    }

    #[test]
    fn a_jwt_tells_its_end_and_rubbish_tells_nothing() {
        let token = |claims: &str| Secret::new(format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(claims)));
        assert_eq!(jwt(&token(r#"{"exp":1767229200}"#)), Timestamp::from_second(1_767_229_200).ok());
        assert_eq!(jwt(&token(r#"{"exp":1767229200.5}"#)), None);
        for rubbish in ["", "a.b", "a.b.c", "a.b.c.d", "..", "e30.e30.x"] {
            assert_eq!(jwt(&Secret::new(rubbish)), None, "{rubbish}");
        }
    }
}

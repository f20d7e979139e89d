//! How long an upstream asks us to wait: every form of Retry-After, rate-limit headers, hints in bodies and sentences.
//!
//! What is read here is what was said; bounds are for whoever waits.

mod written;

use std::{sync::LazyLock, time::Duration};

use jiff::Timestamp;
use regex::Regex;
use serde_json::Value;

use super::{
    RateLimit,
    generic::{self, Observed},
};
pub use written::date;
use written::{declared, moment, relative, sentence};

/// A year: whoever asks for more does not mean it.
const LONGEST: f64 = 366.0 * 86_400.0;

/// In whole seconds, rounded up; `None` when the reply does not say. Budgets count for rate limits only, and a header
/// that the provider's file describes is read as described.
pub fn after(observed: &Observed<'_>, described: &RateLimit, rate_limited: bool) -> Option<Duration> {
    let now = observed.refusal.now;
    let seconds = header(observed, now)
        .or_else(|| observed.json.as_ref().and_then(|json| member(json, now, 0)))
        .or_else(|| rate_limited.then(|| described_budget(observed, described, now)).flatten())
        .or_else(|| rate_limited.then(|| budget(observed, described, now)).flatten())
        .or_else(|| sentence(&observed.text, now))?;
    Some(Duration::from_secs(seconds.clamp(0.0, LONGEST).ceil() as u64))
}

/// `Retry-After` itself, then its relatives.
fn header(observed: &Observed<'_>, now: Timestamp) -> Option<f64> {
    let headers = &observed.refusal.reply.headers;
    let named = |fits: &dyn Fn(&str) -> bool| {
        headers.iter().filter(|(name, _)| fits(name)).find_map(|(name, value)| thousandth(name, value, now))
    };
    let relatives = ["retry-after", "retry-in", "retry-delay", "retry-at", "backoff", "wait-seconds", "wait-time"];
    named(&|name| name == "retry-after")
        .or_else(|| named(&|name| name != "retry-after" && relatives.iter().any(|known| name.contains(known))))
        .or_else(|| regain(observed))
}

/// A header's value, in milliseconds where its name says so. Dates are dates whatever the name.
fn thousandth(name: &str, value: &str, now: Timestamp) -> Option<f64> {
    let wait = moment(value, now)?;
    let counted = value.trim().parse::<f64>().is_ok_and(|number| number < 1e9);
    let small = name.ends_with("-ms") || name.ends_with("millis") || name.ends_with("milliseconds");
    Some(if counted && small { wait / 1000.0 } else { wait })
}

/// Minutes until access comes back, inside a header of usage figures.
fn regain(observed: &Observed<'_>) -> Option<f64> {
    let headers = &observed.refusal.reply.headers;
    let minutes = headers
        .iter()
        .filter(|(name, _)| name.contains("usage"))
        .flat_map(|(_, value)| REGAIN.captures_iter(value).take(16).filter_map(|found| found[1].parse::<f64>().ok()));
    minutes.filter(|minutes| *minutes > 0.0).reduce(f64::max).map(|minutes| minutes * 60.0)
}

/// Members that hold a wait, without case and punctuation: anywhere in the name, or as the whole of it.
const INSIDE: [&str; 9] = [
    "retryafter",
    "retrydelay",
    "retryin",
    "retryat",
    "ratelimitreset",
    "waitseconds",
    "secondstowait",
    "waittime",
    "tryagainin",
];
const WHOLE: [&str; 12] = [
    "resetin",
    "resetsin",
    "resetinseconds",
    "resetafter",
    "resetsat",
    "resetat",
    "resettime",
    "secondsuntilreset",
    "backoff",
    "backoffseconds",
    "cooldown",
    "availablein",
];

/// Body members named for it, at any depth.
fn member(json: &Value, now: Timestamp, depth: usize) -> Option<f64> {
    if depth > 8 {
        return None;
    }
    match json {
        Value::Object(object) => object
            .iter()
            .find_map(|(name, value)| {
                let key = generic::key(name);
                let wanted = INSIDE.iter().any(|part| key.contains(part)) || WHOLE.contains(&key.as_str());
                if wanted { counted(&key, value, now) } else { None }
            })
            .or_else(|| object.values().find_map(|value| member(value, now, depth + 1))),
        Value::Array(list) => list.iter().take(32).find_map(|value| member(value, now, depth + 1)),
        _ => None,
    }
}

fn counted(key: &str, value: &Value, now: Timestamp) -> Option<f64> {
    let unit = if ["ms", "millis", "milliseconds"].iter().any(|end| key.ends_with(end)) {
        0.001
    } else if key.ends_with("minutes") || key.ends_with("mins") {
        60.0
    } else if key.ends_with("hours") {
        3600.0
    } else {
        1.0
    };
    let number = |number: f64| {
        let wait = relative(number, now);
        if number < 1e9 { wait * unit } else { wait }
    };
    match value {
        Value::Number(found) => Some(number(found.as_f64()?)),
        Value::String(text) => match text.trim().parse::<f64>() {
            Ok(found) if found.is_finite() && found >= 0.0 => Some(number(found)),
            _ => moment(text, now),
        },
        // A protobuf duration that was not written as text.
        Value::Object(parts) => {
            let part = |name: &str| {
                let value = parts.get(name)?;
                value.as_f64().or_else(|| value.as_str()?.parse().ok())
            };
            Some((part("seconds")? + part("nanos").unwrap_or(0.0) / 1e9).max(0.0))
        }
        _ => None,
    }
}

/// The reset header of the provider's file, where no call is left.
fn described_budget(observed: &Observed<'_>, described: &RateLimit, now: Timestamp) -> Option<f64> {
    let reply = observed.refusal.reply;
    let (name, form) = (described.reset.as_deref()?, described.reset_is?);
    let value = reply.header(name)?;
    let left = described.remaining.as_deref().and_then(|name| reply.header(name));
    let spent = left.map_or(reply.status == 429, nothing);
    // Whatever a file says, a date is a date.
    if spent { declared(value, form, now).or_else(|| moment(value, now)) } else { None }
}

fn nothing(left: &str) -> bool {
    left.trim().parse::<f64>().is_ok_and(|left| left <= 0.0)
}

/// Reset headers of budgets that are used up.
fn budget(observed: &Observed<'_>, described: &RateLimit, now: Timestamp) -> Option<f64> {
    let reply = observed.refusal.reply;
    let limits = |name: &str| ["rate", "limit", "quota", "throttl"].iter().any(|word| name.contains(word));
    // What is left, under whatever name, for resets that have no counterpart of their own.
    let spent_somewhere = || {
        let mut left = reply.headers.iter().filter(|(name, _)| {
            limits(name) && (name.contains("remaining") || name.ends_with("-left") || name.contains("-left-"))
        });
        left.next().map(|(_, first)| nothing(first) || left.any(|(_, other)| nothing(other)))
    };
    let mut longest: Option<f64> = None;
    for (name, value) in reply.headers.iter().take(200) {
        if described.reset.as_ref() == Some(name) {
            continue;
        }
        let wait = if matches!(name.as_str(), "ratelimit" | "x-ratelimit" | "rate-limit" | "x-rate-limit") {
            structured(value, now)
        } else if name.contains("reset") && limits(name) {
            let spent = match reply.header(&name.replace("reset-after", "remaining").replace("reset", "remaining")) {
                Some(left) => nothing(left),
                None => spent_somewhere().unwrap_or(true),
            };
            if spent { thousandth(name, value, now) } else { None }
        } else {
            None
        };
        longest = match (longest, wait) {
            (Some(a), Some(b)) => Some(a.max(b)),
            (a, b) => a.or(b),
        };
    }
    longest
}

/// The IETF drafts' field: `"default";r=0;t=55`, or `limit=100, remaining=0, reset=5`. Names of policies are quoted and
/// may hold anything.
fn structured(value: &str, now: Timestamp) -> Option<f64> {
    let plain: String = value.split('"').step_by(2).collect();
    let mut longest: Option<f64> = None;
    let number = |list: &str, names: [&str; 2]| {
        list.split([';', ',']).find_map(|pair| {
            let (name, value) = pair.split_once('=')?;
            names.contains(&name.trim()).then(|| value.trim().parse::<f64>().ok())?
        })
    };
    let lists: Vec<&str> = if plain.contains(';') { plain.split(',').collect() } else { vec![&plain] };
    for list in lists {
        if number(list, ["r", "remaining"]).is_none_or(|left| left <= 0.0)
            && let Some(wait) = number(list, ["t", "reset"])
        {
            let wait = relative(wait, now);
            longest = Some(longest.map_or(wait, |other| other.max(wait)));
        }
    }
    longest
}

static REGAIN: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r#""estimated_time_to_regain_access"\s*:\s*"?(\d{1,7})"#).expect("constant"));

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        catalogue::{Refusal, Reset, Surface},
        credential::Reply,
    };

    fn wait(status: u16, headers: &[(&str, &str)], body: &str) -> Option<u64> {
        let now = Timestamp::from_second(1_767_225_600).unwrap();
        let reply = Reply::new(status, headers.iter().copied(), body);
        let refusal = Refusal { surface: Surface::Api, presented: "api_key", reply: &reply, now };
        after(&Observed::new(&refusal), &RateLimit::default(), true).map(|wait| wait.as_secs())
    }

    #[test]
    fn rf24_every_form_of_retry_after() {
        let table = [
            ("30", Some(30)),
            ("1.58", Some(2)),
            ("0", Some(0)),
            ("-5", None),
            ("soon", None),
            ("", None),
            ("nan", None),
            ("inf", None),
            ("Thu, 01 Jan 2026 00:02:30 GMT", Some(150)),
            ("Thursday, 01-Jan-26 00:01:40 GMT", Some(100)),
            ("Thu Jan  1 00:00:10 2026", Some(10)),
            ("Wed, 31 Dec 2025 23:59:00 GMT", Some(0)),
            ("2026-01-01T00:00:37Z", Some(37)),
            ("1767225660", Some(60)),
            ("1767225660000", Some(60)),
            ("6m0s", Some(360)),
            ("120ms", Some(1)),
            ("PT1M30S", Some(90)),
            ("00:02:00", Some(120)),
            ("1m30.5s", Some(91)),
            ("99999999999999999999", Some(LONGEST as u64)),
        ];
        for (value, expected) in table {
            assert_eq!(wait(429, &[("retry-after", value)], ""), expected, "{value}");
        }
    }

    #[test]
    fn budgets_count_only_when_they_are_used_up() {
        assert_eq!(wait(403, &[("x-ratelimit-remaining", "4321"), ("x-ratelimit-reset", "1767226200")], ""), None);
        assert_eq!(wait(403, &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1767226200")], ""), Some(600));
        assert_eq!(wait(429, &[("ratelimit", "\"api\";r=0;t=55")], ""), Some(55));
        assert_eq!(wait(429, &[("ratelimit", "limit=100, remaining=0, reset=5")], ""), Some(5));
        assert_eq!(wait(429, &[("ratelimit", "\"api\";r=3;t=55")], ""), None);
        assert_eq!(wait(429, &[("x-app-usage", r#"{"estimated_time_to_regain_access":3}"#)], ""), Some(180));
    }

    #[test]
    fn families_of_limit_headers_and_their_units() {
        type Headers = [(&'static str, &'static str)];
        let table: [(&Headers, Option<u64>); 12] = [
            (&[("x-rate-limit-requests-left", "0"), ("x-rate-limit-time-reset-ms", "15240")], Some(16)),
            (&[("x-rate-limit-requests-left", "7"), ("x-rate-limit-time-reset-ms", "15240")], None),
            (&[("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-reset-tokens", "2.43s")], Some(3)),
            (&[("ratelimit-remaining", "0"), ("ratelimit-reset", "12")], Some(12)),
            (&[("x-rate-limit-remaining", "0"), ("x-rate-limit-reset", "2026-01-01T00:00:09Z")], Some(9)),
            (&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1767225600500")], Some(1)),
            (&[("x-ratelimit-remaining", "0.0"), ("x-ratelimit-reset", "247.6")], Some(248)),
            (&[("ratelimit", r#""a;b, c";r=0;t=5, "day";r=9;t=400"#)], Some(5)),
            (&[("ratelimit-policy", r#""a";q=100;w=60"#)], None),
            (&[("retry-after-ms", "1500")], Some(2)),
            (&[("retry-after-ms", "1767225630000")], Some(30)),
            (&[("x-retry-in", "1m"), ("x-ratelimit-reset", "9")], Some(60)),
        ];
        for (headers, expected) in table {
            assert_eq!(wait(429, headers, ""), expected, "{headers:?}");
        }
    }

    #[test]
    fn a_header_that_the_providers_file_describes_is_read_as_described() {
        let now = Timestamp::from_second(1_767_225_600).unwrap();
        let table = [
            (Reset::Seconds, "1767225660", 1_767_225_660u64.min(LONGEST as u64)),
            (Reset::Milliseconds, "1500", 2),
            (Reset::Epoch, "1767225660", 60),
            (Reset::Epoch, "30", 0),
            (Reset::EpochMilliseconds, "1767225601500", 2),
            (Reset::Date, "Thu, 01 Jan 2026 00:00:20 GMT", 20),
        ];
        for (form, value, expected) in table {
            let reply = Reply::new(403, [("x-left", "0"), ("x-window-end", value)], "");
            let refusal = Refusal { surface: Surface::Api, presented: "api_key", reply: &reply, now };
            let described = RateLimit {
                limit: None,
                remaining: Some("x-left".into()),
                reset: Some("x-window-end".into()),
                reset_is: Some(form),
            };
            let found = after(&Observed::new(&refusal), &described, true).map(|wait| wait.as_secs());
            assert_eq!(found, Some(expected), "{form:?} {value}");
        }
    }

    #[test]
    fn bodies_and_sentences_tell_it_too() {
        let table = [
            (r#"{"retry_after":64.57}"#, Some(65)),
            (r#"{"parameters":{"retry_after":35}}"#, Some(35)),
            (r#"{"error":{"details":[{"retryDelay":"3.5s"}]}}"#, Some(4)),
            (r#"{"retry_after_ms":1500}"#, Some(2)),
            ("Please try again in 7m12s.", Some(432)),
            ("Please retry after 26 seconds.", Some(26)),
            ("budget out of 1000 reset in 10 seconds", Some(10)),
            ("Rate limit of 300 requests in 3600 seconds reached. Please try again later.", None),
            ("Try again in 1 hour and 5 minutes", Some(3900)),
            ("Please try again in 1m30s.", Some(90)),
            (r#"{"retryAfterMs":2500}"#, Some(3)),
            (r#"{"retry_after_minutes":2}"#, Some(120)),
            (r#"{"error":{"details":[{"retryDelay":{"seconds":"3","nanos":500000000}}]}}"#, Some(4)),
            (r#"{"rate":{"resetAt":"2026-01-01T00:00:40Z"}}"#, Some(40)),
            ("Quota will be replenished in 02:12:30.", Some(7950)),
            ("banned until 1767225900000.", Some(300)),
            ("Resets at 2026-01-01T00:05:00Z", Some(300)),
            ("Veuillez réessayer dans 30 secondes.", Some(30)),
            ("Bitte in 5 Minuten erneut versuchen, zu viele Anfragen für Schlüssel", Some(300)),
            ("повторите попытку через 2 минуты", Some(120)),
            ("请在60秒后重试", Some(60)),
            ("1時間後に再試行してください", Some(3600)),
            ("Try again in a few moments.", None),
        ];
        for (body, expected) in table {
            assert_eq!(wait(429, &[], body), expected, "{body}");
        }
    }
}

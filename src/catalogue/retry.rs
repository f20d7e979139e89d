//! How long an upstream asks us to wait: every form of Retry-After, rate-limit headers, hints in bodies and sentences.

use std::{sync::LazyLock, time::Duration};

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use regex::Regex;
use serde_json::Value;

use super::generic::Observed;

/// A year: whoever asks for more does not mean it.
const LONGEST: f64 = 366.0 * 86_400.0;

/// In whole seconds, rounded up; `None` when the reply does not say. Budgets count for rate limits only.
pub fn after(observed: &Observed<'_>, rate_limited: bool) -> Option<Duration> {
    let now = observed.refusal.now;
    let seconds = header(observed, now)
        .or_else(|| observed.json.as_ref().and_then(|json| member(json, now, 0)))
        .or_else(|| rate_limited.then(|| budget(observed, now)).flatten())
        .or_else(|| sentence(&observed.text))?;
    Some(Duration::from_secs(seconds.clamp(0.0, LONGEST).ceil() as u64))
}

/// `Retry-After` itself, then its relatives.
fn header(observed: &Observed<'_>, now: Timestamp) -> Option<f64> {
    let headers = &observed.refusal.reply.headers;
    let named = |fits: &dyn Fn(&str) -> bool| {
        headers.iter().filter(|(name, _)| fits(name)).find_map(|(name, value)| {
            let wait = moment(value, now)?;
            Some(if name.ends_with("-ms") { wait / 1000.0 } else { wait })
        })
    };
    named(&|name| name == "retry-after")
        .or_else(|| named(&|name| name.contains("retry-after") && name != "retry-after"))
        .or_else(|| regain(observed))
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

/// Body members named for it, at any depth.
fn member(json: &Value, now: Timestamp, depth: usize) -> Option<f64> {
    if depth > 8 {
        return None;
    }
    match json {
        Value::Object(object) => object
            .iter()
            .find_map(|(name, value)| {
                let key: String =
                    name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
                let wanted = ["retryafter", "retrydelay", "retryin", "ratelimitreset", "waitseconds", "secondstowait"];
                if !wanted.iter().any(|wanted| key.contains(wanted)) {
                    return None;
                }
                let wait = match value {
                    Value::Number(number) => relative(number.as_f64()?, now),
                    Value::String(text) => moment(text, now)?,
                    _ => return None,
                };
                Some(if key.ends_with("ms") || key.ends_with("millis") || key.ends_with("milliseconds") {
                    wait / 1000.0
                } else {
                    wait
                })
            })
            .or_else(|| object.values().find_map(|value| member(value, now, depth + 1))),
        Value::Array(list) => list.iter().take(32).find_map(|value| member(value, now, depth + 1)),
        _ => None,
    }
}

/// Reset headers of budgets that are used up.
fn budget(observed: &Observed<'_>, now: Timestamp) -> Option<f64> {
    let reply = observed.refusal.reply;
    let mut longest: Option<f64> = None;
    for (name, value) in reply.headers.iter().take(200) {
        let wait = if matches!(name.as_str(), "ratelimit" | "x-ratelimit" | "rate-limit") {
            structured(value, now)
        } else if name.contains("reset") && (name.contains("rate") || name.contains("limit") || name.contains("quota"))
        {
            let spent = match reply.header(&name.replace("reset-after", "remaining").replace("reset", "remaining")) {
                Some(left) => left.trim().parse::<f64>().is_ok_and(|left| left <= 0.0),
                None => reply.status == 429,
            };
            if spent { moment(value, now) } else { None }
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

/// The IETF drafts' field: `"default";r=0;t=55`, or `limit=100, remaining=0, reset=5`.
fn structured(value: &str, now: Timestamp) -> Option<f64> {
    let mut longest: Option<f64> = None;
    let number = |list: &str, names: [&str; 2]| {
        list.split([';', ',']).find_map(|pair| {
            let (name, value) = pair.split_once('=')?;
            names.contains(&name.trim()).then(|| value.trim().parse::<f64>().ok())?
        })
    };
    let lists: Vec<&str> = if value.contains(';') { value.split(',').collect() } else { vec![value] };
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

/// A value in whatever form people send: seconds, a date, an epoch, a duration. Garbage is `None`, the past is 0.
pub fn moment(value: &str, now: Timestamp) -> Option<f64> {
    let value = value.trim().trim_matches('"');
    if let Ok(number) = value.parse::<f64>() {
        return (number.is_finite() && number >= 0.0).then(|| relative(number, now));
    }
    if let Some(date) = date(value) {
        return Some((date.as_millisecond() - now.as_millisecond()).max(0) as f64 / 1000.0);
    }
    duration(value)
}

/// A number that may be a date: 13 digits are milliseconds, values near the present are an epoch, the rest a delta.
fn relative(number: f64, now: Timestamp) -> f64 {
    let present = now.as_millisecond() as f64;
    let date = if number >= 1e11 {
        number
    } else if number >= 1e9 {
        number * 1000.0
    } else {
        return number.max(0.0);
    };
    ((date - present) / 1000.0).max(0.0)
}

/// RFC 3339, and the three forms of HTTP dates (RFC 9110 §5.6.7).
pub fn date(text: &str) -> Option<Timestamp> {
    if text.len() > 64 {
        return None;
    }
    if let Ok(date) = text.parse::<Timestamp>() {
        return Some(date);
    }
    if let Ok(date) = jiff::fmt::rfc2822::parse(text) {
        return Some(date.timestamp());
    }
    let forms = [
        "%A, %d-%b-%y %H:%M:%S GMT",
        "%a, %d-%b-%Y %H:%M:%S GMT",
        "%a %b %e %H:%M:%S %Y",
        "%Y-%m-%d %H:%M:%S UTC",
        "%Y-%m-%d %H:%M:%S",
    ];
    if let Some(date) = forms.iter().find_map(|form| {
        let date = DateTime::strptime(form, text).ok()?;
        date.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
    }) {
        return Some(date);
    }
    // `2026-01-01 00:00:00 +0000`, which some spell with a blank before the offset.
    jiff::Zoned::strptime("%Y-%m-%d %H:%M:%S %z", text).ok().map(|zoned| zoned.timestamp())
}

/// `7m12s`, `1h2m3.5s`, `120ms`, `26 seconds`, `1 hour and 5 minutes`.
fn duration(text: &str) -> Option<f64> {
    let whole = WHOLE.is_match(text);
    whole.then(|| {
        PART.captures_iter(text).take(8).filter_map(|part| Some(part[1].parse::<f64>().ok()? * unit(&part[2]))).sum()
    })
}

fn unit(name: &str) -> f64 {
    let name = name.to_ascii_lowercase();
    match name.as_str() {
        "ms" | "msec" | "msecs" => 0.001,
        name if name.starts_with("milli") => 0.001,
        name if name.starts_with('m') => 60.0,
        name if name.starts_with('h') => 3600.0,
        name if name.starts_with('d') => 86_400.0,
        _ => 1.0,
    }
}

const PARTS: &str = r"(?:\d{1,12}(?:\.\d{1,9})?\s?(?:ms|msecs?|milliseconds?|seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h|days?|d)\b?(?:\s?(?:and|,)?\s?)?)";

static REGAIN: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r#""estimated_time_to_regain_access"\s*:\s*"?(\d{1,7})"#).expect("constant"));
static PART: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?i)(\d{1,12}(?:\.\d{1,9})?)\s?([a-z]+)").expect("constant"));
static WHOLE: LazyLock<Regex> = LazyLock::new(|| Regex::new(&format!(r"(?i)^{PARTS}{{1,6}}$")).expect("constant"));
static SENTENCE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(&format!(
        r"(?i)\b(?:try again|retry|retrying|resets?|wait|waiting|available|expires?|blocked|back)(?: (?:again|your request|the request|this request|at least|for|is|will|be|until))*[: ]*(?:in|after|for)?:?\s*(?:about |approximately |another |~)?({PARTS}{{1,6}}|\d{{1,7}}\b)"
    ))
    .expect("constant")
});

/// A duration in a sentence ("try again in 7m12s").
fn sentence(text: &str) -> Option<f64> {
    let text = &text[..text.floor_char_boundary(8 * 1024)];
    let found = SENTENCE.captures(text)?;
    let wait = found[1].trim().trim_end_matches(',').trim_end_matches("and").trim();
    duration(wait).or_else(|| wait.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        catalogue::{Refusal, Surface},
        credential::Reply,
    };

    fn wait(status: u16, headers: &[(&str, &str)], body: &str) -> Option<u64> {
        let now = Timestamp::from_second(1_767_225_600).unwrap();
        let reply = Reply::new(status, headers.iter().copied(), body);
        let refusal = Refusal { surface: Surface::Api, presented: "api_key", reply: &reply, now };
        after(&Observed::new(&refusal), true).map(|wait| wait.as_secs())
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
        ];
        for (body, expected) in table {
            assert_eq!(wait(429, &[], body), expected, "{body}");
        }
    }
}

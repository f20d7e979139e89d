//! How waits are written: numbers, dates, durations, sentences.

use std::sync::LazyLock;

use jiff::{SignedDuration, Timestamp, civil::DateTime, tz::TimeZone};
use regex::Regex;

use super::super::Reset;

/// A value whose form is known.
pub fn declared(value: &str, form: Reset, now: Timestamp) -> Option<f64> {
    let value = value.trim();
    let present = now.as_millisecond() as f64 / 1000.0;
    let number = || value.parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0);
    let wait = match form {
        Reset::Seconds => number()?,
        Reset::Milliseconds => number()? / 1000.0,
        Reset::Epoch => number()? - present,
        Reset::EpochMilliseconds => number()? / 1000.0 - present,
        Reset::Date => date(value)?.as_millisecond() as f64 / 1000.0 - present,
    };
    Some(wait.max(0.0))
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
pub fn relative(number: f64, now: Timestamp) -> f64 {
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
pub fn duration(text: &str) -> Option<f64> {
    if text.starts_with("PT") || text.starts_with("P") && text.contains('T') {
        return text.parse::<SignedDuration>().ok().map(|wait| wait.as_secs_f64().max(0.0));
    }
    if let Some(clock) = CLOCK.captures(text).filter(|clock| clock[0].len() == text.len()) {
        return hours_minutes_seconds(&clock);
    }
    let whole = WHOLE.is_match(text);
    whole.then(|| {
        PART.captures_iter(text).take(8).filter_map(|part| Some(part[1].parse::<f64>().ok()? * unit(&part[2]))).sum()
    })
}

fn hours_minutes_seconds(clock: &regex::Captures<'_>) -> Option<f64> {
    let part = |at: usize| clock[at].parse::<f64>().ok();
    Some(part(1)? * 3600.0 + part(2)? * 60.0 + part(3)?)
}

fn unit(name: &str) -> f64 {
    let name = name.to_lowercase();
    match name.as_str() {
        "ms" | "msec" | "msecs" => 0.001,
        name if name.starts_with("milli") => 0.001,
        name if ["m", "мин", "分", "분"].iter().any(|minute| name.starts_with(minute)) => 60.0,
        name if ["h", "ora", "ore", "uur", "uren", "stund", "godz", "час", "小", "時", "시"]
            .iter()
            .any(|hour| name.starts_with(hour)) =>
        {
            3600.0
        }
        name if name.starts_with('d') => 86_400.0,
        _ => 1.0,
    }
}

const PARTS: &str = r"(?:\d{1,12}(?:\.\d{1,9})?\s?(?:ms|msecs?|milliseconds?|seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h|days?|d)\b?(?:\s?(?:and|,)?\s?)?)";

static PART: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?i)(\d{1,12}(?:\.\d{1,9})?)\s?([a-z]+)").expect("constant"));
static WHOLE: LazyLock<Regex> = LazyLock::new(|| Regex::new(&format!(r"(?i)^{PARTS}{{1,6}}$")).expect("constant"));
static SENTENCE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(&format!(
        r"(?i)\b(?:try again|retry|retrying|resets?|renews?|replenish(?:es|ed)|refills?|wait|waiting|available|expires?|blocked|back|again)(?: (?:again|your request|the request|this request|at least|for|is|will|be|until))*[: ]*(?:in|after|for)?:?\s*(?:about |approximately |another |~)?({PARTS}{{1,6}}|\d{{1,7}}\b)"
    ))
    .expect("constant")
});

/// `02:12:30`.
static CLOCK: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\b(\d{1,3}):(\d{2}):(\d{2})\b").expect("constant"));
/// "in 02:12:30".
static IN_CLOCK: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?i)\b(?:in|after|for) (\d{1,3}):(\d{2}):(\d{2})\b").expect("constant"));
/// "banned until 1767225720000", "resets at 2026-01-01T00:05:00Z".
static UNTIL: LazyLock<Regex> = LazyLock::new(|| {
    let date = r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?(?:Z| ?UTC| ?[+-]\d{2}:?\d{2})?";
    let http = r"[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT";
    Regex::new(&format!(
        r"(?i:until|after|resets? (?:at|on)|again (?:at|on)|retry at)[: ]{{1,2}}({date}|{http}|\d{{13}}\b|\d{{10}}\b)"
    ))
    .expect("constant")
});
/// "dans 30 secondes", "через 5 минут".
static ELSEWHERE: LazyLock<Regex> = LazyLock::new(|| {
    let units = "secondes?|sekunden?|segundos?|second[oi]|seconden|sekund\\w*|секунд\\w*|minuten?|minutos?|minut[oi]|minut\\w*|минут\\w*|heures?|stunden?|horas?|or[ae]|uur|uren|godzin\\w*|час\\w*";
    Regex::new(&format!(r"(?i)(?:dans|in|en|em|tra|fra|over|via|через|за|za|om)\s(?:environ )?(\d{{1,7}})\s?({units})"))
        .expect("constant")
});
/// "30秒后", "1時間後".
static AFTERWARDS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(\d{1,7})\s?(秒|分钟|分鐘|分|小时|小時|時間|초|분|시간)\s?(?:钟|鐘)?(?:后|後|之后|之後|以后|후|뒤)")
        .expect("constant")
});

/// A wait in a sentence ("try again in 7m12s"). The text may be long; its beginning is read.
pub fn sentence(text: &str, now: Timestamp) -> Option<f64> {
    let text = &text[..text.floor_char_boundary(8 * 1024)];
    if !text.bytes().any(|byte| byte.is_ascii_digit()) {
        return None;
    }
    if let Some(clock) = IN_CLOCK.captures(text) {
        return hours_minutes_seconds(&clock);
    }
    if let Some(until) = UNTIL.captures(text) {
        return moment(&until[1], now);
    }
    if let Some(found) = SENTENCE.captures(text) {
        let wait = found[1].trim().trim_end_matches(',').trim_end_matches("and").trim();
        return duration(wait).or_else(|| wait.parse().ok());
    }
    if text.is_ascii() && !text.contains(" dans ") && !text.contains("kunde") && !text.contains("segundo") {
        return None;
    }
    let found = ELSEWHERE.captures(text).or_else(|| AFTERWARDS.captures(text))?;
    Some(found[1].parse::<f64>().ok()? * unit(&found[2]))
}

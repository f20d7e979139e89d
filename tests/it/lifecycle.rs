//! Plays the transcripts of `tests/lifecycle/*.txt`: what happened on the left of the arrow, state and effects on its
//! right. `BLESS=1` writes what the machine says; read the difference before committing it.

use std::{collections::VecDeque, fmt::Write as _, fs, path::Path, time::Duration};

use credd::{
    clock::Now,
    credential::{ExpirySource, Failure, Generation, Kind, Rotation, Verdict},
    lifecycle::{Commit, Doubt, Effect, Event, Found, Lifecycle, Loaded, Origin, Policy, Probed, Promoted},
};
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

/// 2026-01-01, as everywhere in the tests.
const START: i64 = 1_767_225_600;

pub fn at(seconds: f64) -> Now {
    let since = Duration::from_secs_f64(seconds);
    Now { wall: Timestamp::from_second(START).unwrap() + since, boot: Duration::from_secs(1_000) + since }
}

fn span(text: &str) -> Duration {
    Duration::try_from(text.parse::<SignedDuration>().unwrap_or_else(|error| panic!("{text:?}: {error}"))).unwrap()
}

fn policy(line: &str) -> Policy {
    let mut words = line.split_whitespace().skip(1);
    let kind: Kind = serde_json::from_value(words.next().expect("a kind").into()).expect("a kind");
    let mut policy = Policy::new(kind);
    for word in words {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        match name {
            "rotation" => policy.rotation = serde_json::from_value::<Rotation>(value.into()).expect("a profile"),
            "grace" => policy.grace = span(value),
            "idle" => policy.refresh_idle = Some(span(value)),
            "absolute" => policy.refresh_absolute = Some(span(value)),
            "ttl_warn" => policy.ttl_warn = Some(span(value)),
            "ttl_fail" => policy.ttl_fail = Some(span(value)),
            "spares_access_token" => policy.reuse_kills_access_token = false,
            "no_probe" => policy.has_probe = false,
            other => panic!("{other:?} is no word of a policy"),
        }
    }
    policy
}

fn verdict(words: &[&str]) -> Verdict {
    let failure: Failure = words[0].parse().expect("a failure");
    let mut verdict = Verdict::of(failure, "");
    for word in &words[1..] {
        match word.split_once('=') {
            Some(("after", wait)) => verdict.retry_after = Some(span(wait)),
            Some(("cause", cause)) => verdict.cause = Some(cause.to_owned()),
            _ if *word == "definitive" => verdict.definitive = true,
            _ => {}
        }
    }
    verdict
}

fn event(words: &[&str], now: Now, life: &Lifecycle) -> Event {
    let attempt = Uuid::from_u128(7);
    match words {
        ["loaded", "bare"] => Event::Loaded(loaded(life, false, None)),
        ["loaded", "endless"] => Event::Loaded(loaded(life, true, None)),
        ["loaded", time] => Event::Loaded(loaded(life, true, Some(now.wall + span(time)))),
        ["tick"] => Event::Tick,
        ["ends", time] => Event::Ends(Some(now.wall + span(time)), ExpirySource::Configured),
        ["beat", offset] => Event::Beat(span(offset)),
        ["prepared"] => Event::Prepared(attempt),
        ["sent"] => Event::Sent(now.wall + Duration::from_secs(60)),
        ["received"] => Event::Received,
        ["turned"] => Event::Turned,
        ["aborted"] => {
            Event::Aborted { verdict: Verdict::of(Failure::UpstreamUnavailable, "ledger_unwritable"), retry_at: None }
        }
        ["promoted", rest @ ..] => Event::Promoted(Promoted {
            generation: life.generation.next(),
            sent_at: now,
            life: (rest[0] != "endless").then(|| span(rest[0])),
            source: ExpirySource::Response,
            refresh_expires_at: None,
            repaired: rest.contains(&"repaired"),
        }),
        ["failed", rest @ ..] => Event::Failed {
            verdict: verdict(rest),
            commit: match rest {
                _ if rest.contains(&"not_sent") => Commit::NotSent,
                _ if rest.contains(&"doubtful") => Commit::Doubtful,
                _ if rest.contains(&"ambiguous") => Commit::Ambiguous,
                _ => Commit::NotCommitted,
            },
        },
        ["probed", "works"] => Event::Probed { generation: life.generation, outcome: Probed::Works(None) },
        ["probed", rest @ ..] => Event::Probed { generation: life.generation, outcome: Probed::No(verdict(rest)) },
        ["refused", "old", rest @ ..] => {
            Event::Refused { generation: Generation(life.generation.0 - 1), verdict: verdict(rest) }
        }
        ["refused", rest @ ..] => Event::Refused { generation: life.generation, verdict: verdict(rest) },
        ["wanted", time] => Event::Wanted(span(time)),
        ["refresh"] => Event::RefreshNow,
        ["probe"] => Event::ProbeNow,
        ["hold"] => Event::Hold,
        ["doubted", "rolled_back"] => Event::Doubted(Doubt::RolledBack),
        ["doubted", "cloned"] => Event::Doubted(Doubt::Cloned),
        ["release"] => Event::Release,
        ["unchanged"] => Event::Unchanged,
        ["found", "prepared"] => Event::Found(Found::Prepared),
        ["found", "received"] => Event::Found(Found::Received { attempt }),
        ["found", "sent"] => Event::Found(Found::Sent { prepared_at: now.wall, dead_at: now.wall }),
        other => panic!("{other:?} is no event"),
    }
}

fn loaded(life: &Lifecycle, has_token: bool, expires_at: Option<Timestamp>) -> Loaded {
    Loaded {
        generation: life.generation.next(),
        has_token,
        expires_at,
        source: if expires_at.is_some() { ExpirySource::Configured } else { ExpirySource::Unknown },
        refresh_expires_at: None,
        origin: Origin::HomeStore,
    }
}

fn words(effect: &Effect) -> String {
    match effect {
        Effect::Prepare(trigger) => format!("Prepare({})", trigger.as_str()),
        Effect::Probe(trigger) => format!("Probe({})", trigger.as_str()),
        Effect::Raise(incident) => format!("Raise({})", incident.as_str()),
        Effect::Clear(incident) => format!("Clear({})", incident.as_str()),
        Effect::Reload | Effect::Publish => format!("{effect:?}"),
    }
}

fn play(text: &str) -> String {
    let (mut life, mut rules, mut played) = (Lifecycle::default(), Policy::new(Kind::RefreshToken), String::new());
    for line in text.lines() {
        if line.is_empty() || line.starts_with('#') {
            writeln!(played, "{line}").unwrap();
        } else if line.starts_with("policy ") {
            rules = policy(line);
            writeln!(played, "{line}").unwrap();
        } else {
            let left = line.split("->").next().unwrap().trim_end();
            let mut parts = left.split_whitespace();
            let now = at(span(parts.next().expect("a time")).as_secs_f64());
            let parts: Vec<&str> = parts.collect();
            let happened = event(&parts, now, &life);
            let effects = life.step(happened, now, 0.5, &rules);
            let effects: Vec<String> = effects.iter().map(words).collect();
            let next = life
                .next_deadline(now, &rules)
                .map_or("never".into(), |next| format!("{:#}", next.duration_since(at(0.0).wall)));
            let state = life.state(now, &rules);
            let overdue = life.next_probe_at(now, &rules).is_some_and(|probe| probe < now.wall);
            let overdue = if overdue { "; a probe is overdue" } else { "" };
            writeln!(played, "{left:<42} -> {state} {}; next {next}{overdue}", effects.join(" ")).unwrap();
        }
    }
    played
}

#[test]
fn transcripts_are_true() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lifecycle");
    let mut names: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    assert!(names.len() >= 10, "the transcripts are gone");
    for name in names {
        let told = fs::read_to_string(&name).unwrap();
        let played = play(&told);
        if std::env::var_os("BLESS").is_some() {
            fs::write(&name, played).unwrap();
        } else {
            assert_eq!(played, told, "{}: BLESS=1 writes what the machine says", name.display());
        }
    }
}

/// Second by second through an hour of ever new values, flights and probes answered at once: how long a probe was announced
/// at most before it went out or was answered by a refresh, and the longest time without a proof.
fn hour(lives: u64) -> (u32, SignedDuration) {
    let rules = Policy { rotation: Rotation::None, ..Policy::new(Kind::RefreshToken) };
    let (mut life, words) = (Lifecycle::default(), format!("{lives}s"));
    let (mut announced, mut longest, mut unproven) = (0, 0, SignedDuration::ZERO);
    for second in 0..3600_u32 {
        let now = at(f64::from(second));
        let mut open = VecDeque::from([match second {
            0 => event(&["loaded", &words], now, &life),
            _ if second % 300 == 299 => Event::Beat(Duration::from_secs(u64::from(second * 7 % 300))),
            _ => Event::Tick,
        }]);
        while let Some(happened) = open.pop_front() {
            for effect in life.step(happened, now, 0.5, &rules) {
                announced = if matches!(effect, Effect::Probe(_)) { 0 } else { announced };
                let answers: &[&[&str]] = match effect {
                    Effect::Prepare(_) => &[&["prepared"], &["sent"], &["received"], &["promoted", &words]],
                    Effect::Probe(_) => &[&["probed", "works"]],
                    _ => &[],
                };
                open.extend(answers.iter().map(|answer| event(answer, now, &life)));
            }
        }
        announced = if life.next_probe_at(now, &rules).is_some() { announced + 1 } else { 0 };
        longest = longest.max(announced);
        let proven = life.probes().proven_at.unwrap_or(at(0.0).wall);
        unproven = unproven.max(now.wall.duration_since(proven));
    }
    (longest, unproven)
}

#[test]
fn no_probe_stays_announced_for_ever_however_short_a_value_lives() {
    for lives in [20, 45, 60, 75, 90, 120, 600, 3600] {
        let (longest, unproven) = hour(lives);
        // A beat announces it up to five minutes ahead, and a new value settles for half a minute.
        assert!(longest <= 330, "{lives} s: a probe was announced for {longest} s");
        assert!(unproven <= SignedDuration::from_mins(10), "{lives} s: unproven for {unproven:#}");
    }
}

//! The end: what was promised, what came of it, and the counts of both sides.

use std::{fmt::Write as _, sync::atomic::Ordering::Relaxed};

use super::{
    script::{Promise, Script},
    sinks::{By, Says},
    stage::Last,
};

/// What is said at the end.
pub struct Verdict {
    /// For people.
    pub text: String,
    /// Whether all that was promised happened.
    pub kept: bool,
}

/// A line of the summary: what, whether it is as promised, and the facts.
type Line = (&'static str, bool, String);

/// Puts everything together once all is closed and counted.
pub fn of(script: &Script, last: &Last) -> Verdict {
    let mut lines: Vec<Line> = Promise::ALL.iter().map(|promise| promised(script, *promise)).collect();
    lines.extend([reads(script), counts(last), once(last), pages(script), resolves(script), health(script)]);
    let broken: Vec<&str> = lines.iter().filter(|(_, kept, _)| !kept).map(|(what, ..)| *what).collect();
    let mut text = String::from("\nSummary\n");
    for (what, kept, facts) in &lines {
        let _ = writeln!(text, "  {} {what:20} {facts}", if *kept { "ok " } else { "NOT" });
    }
    text.push_str(&match broken.as_slice() {
        [] => "All that was promised happened.".to_owned(),
        broken => format!("Not as promised: {}.", broken.join(", ")),
    });
    Verdict { text, kept: broken.is_empty() }
}

fn promised(script: &Script, promise: Promise) -> Line {
    let what = match promise {
        Promise::Proactive => "proactive refreshes",
        Promise::Refusal => "refusal mended",
        Promise::RateLimit => "rate limit",
        Promise::Outage => "outage survived",
        Promise::Revocation => "revocation paged",
        Promise::Healing => "healed",
    };
    let late = script.tally.late.load(Relaxed);
    match script.outcome(promise) {
        Some(Ok(_)) if promise == Promise::Proactive && late > 0 => {
            (what, false, format!("{late} refreshes came after the old token had ended"))
        }
        Some(Ok(facts)) => (what, true, facts),
        Some(Err(why)) => (what, false, why),
        None => (what, false, "the demo ended before it came".into()),
    }
}

fn reads(script: &Script) -> Line {
    let tally = &script.tally;
    let [good, failed, refused, pushed] =
        [&tally.good, &tally.failed, &tally.refused, &tally.pushed].map(|count| count.load(Relaxed));
    let slowest = tally.slowest.load(Relaxed) as f64 / 1000.0;
    let first = tally.first_failure().map(|why| format!("; the first: {why}")).unwrap_or_default();
    let facts = format!(
        "failed reads {failed} of {}{first}, the slowest {slowest:.1} ms; {pushed} tokens pushed; {refused} refused while \
         the grant was dead",
        good + failed
    );
    ("reads", failed == 0 && good > 0 && pushed > 0, facts)
}

fn counts(last: &Last) -> Line {
    let (sent, failed) = last.ours;
    let total = &last.theirs.total;
    let same = total.refresh_calls == sent && total.commits == sent - failed.min(sent);
    let facts = format!(
        "sandbox counted {} refresh calls and {} new tokens, credd {sent} and {}",
        total.refresh_calls,
        total.commits,
        sent.saturating_sub(failed)
    );
    ("both sides agree", same && sent > 0, facts)
}

fn once(last: &Last) -> Line {
    let total = &last.theirs.total;
    let facts = format!("overlaps {}, spent refresh tokens presented again {}", total.overlaps, total.reuse_seen);
    ("exactly once", total.overlaps == 0 && total.reuse_seen == 0, facts)
}

fn pages(script: &Script) -> Line {
    let count = |by| script.inbox.count(by, Says::Opened);
    let (mail, hook, forged) = (count(By::Mail), count(By::Hook), script.inbox.count(By::Forged, Says::Other));
    let other = script.inbox.count(By::Mail, Says::Other) + script.inbox.count(By::Hook, Says::Other);
    let facts = format!("pages: {mail} by mail, {hook} by webhook; bad signatures {forged}, anything else {other}");
    ("paged once", (mail, hook, forged, other) == (1, 1, 0, 0), facts)
}

fn resolves(script: &Script) -> Line {
    let count = |by| script.inbox.count(by, Says::Resolved);
    let (mail, hook) = (count(By::Mail), count(By::Hook));
    ("resolved once", (mail, hook) == (1, 1), format!("resolves: {mail} by mail, {hook} by webhook"))
}

/// Green, red once for the revocation, green again: neither the limit nor the outage has flipped it.
fn health(script: &Script) -> Line {
    let changes = script.health.changes();
    let words: Vec<String> = changes
        .iter()
        .map(|(at, status)| {
            let at = at.saturating_sub(script.view.began.boot).as_secs_f64();
            format!("{status} at {at:.1} s")
        })
        .collect();
    let statuses: Vec<u16> = changes.iter().map(|(_, status)| *status).collect();
    ("health flipped once", statuses == [200, 503, 200], words.join(", "))
}

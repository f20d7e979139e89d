//! What a page says, in plain words: what, since when, evidence, what was tried, the one command that mends it.

use jiff::{SignedDuration, Timestamp};

/// More names than this are counted, not listed.
const NAMES: usize = 40;

/// More commands than this stand in no page; `credd status` has all.
const COMMANDS: usize = 20;
/// What the line of a condition's text begins with that says how to mend it.
pub const MEND: &str = "To mend it: ";

/// What is known when a condition is raised; becomes the text of its fact.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details<'a> {
    /// What the upstream or the store said, redacted: "401 invalid_grant (rule github.toml:41)".
    pub evidence: &'a str,
    /// What the daemon did about it: "refreshed once, confirmed by a probe 12 s later".
    pub tried: &'a str,
    /// Who feels it: "3 readers of the socket".
    pub affected: &'a str,
    /// The one command; empty takes the usual one of the kind.
    pub remedy: &'a str,
}

impl Details<'_> {
    /// As text, one line for each thing that is known.
    pub fn text(&self, kind: &str, credential: &str) -> String {
        let usual;
        let remedy = if self.remedy.is_empty() {
            usual = remedy(kind, credential);
            &usual
        } else {
            self.remedy
        };
        let lines =
            [("Evidence: ", self.evidence), ("Tried: ", self.tried), ("Affected: ", self.affected), (MEND, remedy)];
        let known = lines.iter().filter(|(_, text)| !text.is_empty());
        known.map(|(label, text)| format!("{label}{}", one_line(text, 600))).collect::<Vec<_>>().join("\n")
    }
}

/// The usual command that mends a kind of incident.
pub fn remedy(kind: &str, credential: &str) -> String {
    match kind {
        "credential_revoked" | "rotation_outcome_unknown" => {
            format!(
                "authorise again upstream, then put the new secret into its home store: credd credential put {credential}"
            )
        }
        "credential_expired" => format!("credd refresh {credential}"),
        "client_misconfigured" => {
            "correct client, secret, scope or endpoint in credd.toml, then: credd check --online".into()
        }
        "writeback_failing" => "make its home store writable again; credd check names the reason".into(),
        "ledger_unwritable" | "audit_unwritable" => {
            "make room or rights for the ledger's file; credd check names it".into()
        }
        "secret_missing" => format!("restore the secret of {credential} in its home store"),
        "duplicate_secret" => format!("put the right secret of {credential} into its home store"),
        "clock_untrusted" => "set the clock (timedatectl, chronyc tracking)".into(),
        "store_down" | "store_login_failing" => "credd check names the reason".into(),
        _ => format!("credd status shows the reason, credd audit --credential {credential} how it came to that"),
    }
}

/// A kind as people say it: "credential revoked".
pub(super) fn spoken(kind: &str) -> String {
    kind.replace('_', " ")
}

/// How long something has lasted, roughly: "45 s", "12 min", "3 h 5 min", "4 d".
pub fn lasted(time: SignedDuration) -> String {
    match time.as_secs().max(0) {
        seconds @ ..90 => format!("{seconds} s"),
        seconds @ ..7_200 => format!("{} min", seconds / 60),
        seconds @ ..172_800 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        seconds => format!("{} d", seconds / 86_400),
    }
}

/// A date as a page shows it, to the second.
pub fn date(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// Names in a line, the first of many.
pub(super) fn names(all: &[String]) -> String {
    let shown = all.iter().take(NAMES).map(String::as_str).collect::<Vec<_>>().join(", ");
    match all.len().saturating_sub(NAMES) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// What mends several conditions, by name and text of each: one line where one thing mends all, else one for each.
pub(super) fn mend_all(conditions: &[(&str, &str)]) -> String {
    let mut lines: Vec<(&str, &str)> = conditions
        .iter()
        .filter_map(|(name, body)| Some((*name, body.lines().rev().find_map(|line| line.strip_prefix(MEND))?)))
        .collect();
    lines.sort_unstable();
    lines.dedup();
    let Some((_, first)) = lines.first().copied() else { return String::new() };
    if lines.iter().all(|(_, mend)| *mend == first) {
        return format!("To mend all of them: {first}\n");
    }
    let shown = lines.iter().take(COMMANDS).map(|(name, mend)| format!("- {name}: {}\n", one_line(mend, 300)));
    let more = match lines.len().saturating_sub(COMMANDS) {
        0 => String::new(),
        more => format!("- and {more} more: credd status names what mends each\n"),
    };
    format!("To mend them:\n{}{more}", shown.collect::<String>())
}

/// A condition's text without that line.
pub(super) fn without_mend(body: &str) -> String {
    body.lines().filter(|line| !line.starts_with(MEND)).collect::<Vec<_>>().join("\n")
}

/// A text in one line, without control characters and at most `limit` characters: nothing in it can begin a header.
pub fn one_line(text: &str, limit: usize) -> String {
    let flat: String = text.chars().map(|c| if c.is_control() || breaks(c) { ' ' } else { c }).collect();
    shorten(flat.trim(), limit)
}

/// A text of several lines, without other control characters and at most `limit` characters.
pub fn plain(text: &str, limit: usize) -> String {
    let kept: String = text.chars().filter(|c| matches!(c, '\n' | '\t') || !(c.is_control() || breaks(*c))).collect();
    shorten(kept.trim_end(), limit)
}

/// Line and paragraph separators, and the marks that turn the direction of writing: they could disguise a text.
fn breaks(c: char) -> bool {
    matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn shorten(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        None => text.to_owned(),
        Some(_) => text.chars().take(limit.saturating_sub(1)).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_cannot_begin_another() {
        assert_eq!(one_line("a\r\nBcc: x@y\u{2028}z\0", 80), "a  Bcc: x@y z");
        assert_eq!(one_line("abcdef", 4), "abc…");
        assert_eq!(plain("a\r\n\u{202e}b\0\n", 80), "a\nb");
    }

    #[test]
    fn durations_are_read_at_a_glance() {
        for (seconds, text) in [(-3, "0 s"), (89, "89 s"), (90, "1 min"), (7_200, "2 h 0 min"), (400_000, "4 d")] {
            assert_eq!(lasted(SignedDuration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn details_leave_out_what_is_not_known() {
        let text = Details { evidence: "401 invalid_grant", ..Details::default() }.text("credential_expired", "bot");
        assert_eq!(text, "Evidence: 401 invalid_grant\nTo mend it: credd refresh bot");
    }

    #[test]
    fn each_of_several_is_told_how_it_is_mended_and_one_way_for_all_only_once() {
        let body = |mend: &str| format!("Evidence: x\nTo mend it: {mend}\n");
        let (a, b) = (body("credd refresh a"), body("credd refresh b"));
        assert_eq!(mend_all(&[("b", &b), ("a", &a)]), "To mend them:\n- a: credd refresh a\n- b: credd refresh b\n");
        let same = body("make the store answer");
        assert_eq!(mend_all(&[("a", &same), ("b", &same)]), "To mend all of them: make the store answer\n");
        assert_eq!(without_mend(&a), "Evidence: x");
        assert_eq!(mend_all(&[("a", "nothing")]), "");
        let many: Vec<_> = (0..30).map(|n| (format!("c{n:02}"), body(&format!("credd refresh c{n:02}")))).collect();
        let many: Vec<_> = many.iter().map(|(name, body)| (name.as_str(), body.as_str())).collect();
        assert!(
            mend_all(&many).ends_with("- c19: credd refresh c19\n- and 10 more: credd status names what mends each\n")
        );
    }

    #[test]
    fn many_names_are_counted() {
        let all: Vec<_> = (0..42).map(|n| format!("c{n}")).collect();
        assert!(names(&all).ends_with("c39 and 2 more"));
    }
}

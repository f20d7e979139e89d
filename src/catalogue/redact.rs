//! The second net: what a verdict quotes of a reply is cut short and freed of whatever looks like a secret.

use std::sync::LazyLock;

use regex::Regex;

/// Longest quotation, in characters.
const LONGEST: usize = 160;

/// Keys with a known beginning, addresses' queries, e-mail addresses, and any long run that words are not made of.
static SECRET: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r"(?i-u)\beyJ[a-z0-9_-]{8,}[a-z0-9_.-]*",
        r"|\b(?:sk|pk|rk|whsec|gh[opusr]|github_pat|glpat|glsoat|xox[a-z]|xapp|ya29|shpat|shpss|hf|npm|pypi|dop_v1|secret|ntn|key|pat|AKIA|ASIA|AIza|SG)[-_.][a-z0-9_.+/=-]{6,}",
        r"|\b(?:AKIA|ASIA|AIza)[a-z0-9_-]{8,}",
        r"|(?u:\?[^\s']+)",
        r"|[a-z0-9._%+-]+@[a-z0-9.-]+",
        r"|[a-z0-9_+/=~.:-]{20,}",
    ))
    .expect("a constant pattern")
});

/// A short quotation that holds no token. Long words of letters alone are kept: codes look like that.
pub fn quotation(text: &str) -> String {
    let mut short: String = text.chars().take(LONGEST * 2).map(|c| if c.is_control() { ' ' } else { c }).collect();
    let clean = SECRET.replace_all(&short, |found: &regex::Captures<'_>| {
        let run = &found[0];
        let plain = run.len() < 60 && !run.contains(['@', '?', '=', '+']) && wordlike(run);
        if plain { run.to_owned() } else { "…".to_owned() }
    });
    short = clean.chars().take(LONGEST).collect();
    short
}

/// Whether a run is made of words as codes are (`refresh_token_reused`, `INVALID_REFRESH_TOKEN`), not of noise:
/// each piece is one case of letters, or capitalised, and digits stand alone in short groups.
fn wordlike(run: &str) -> bool {
    run.split(['_', '-', '.', '/', ':']).all(|piece| {
        let letters = piece.bytes().all(|c| c.is_ascii_alphabetic());
        let digits = piece.bytes().all(|c| c.is_ascii_digit());
        let turns = piece.as_bytes().windows(2).filter(|w| w[0].is_ascii_lowercase() && w[1].is_ascii_uppercase());
        piece.is_empty()
            || (digits && piece.len() <= 8)
            || (letters && turns.count() * 4 <= piece.len() && piece.len() <= 40)
    })
}

/// A provider's own code, if it looks like one: short, without spaces, and not like a token.
pub fn code(text: &str) -> Option<String> {
    let text = text.trim();
    let form = !text.is_empty()
        && text.len() <= 64
        && text.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-' | b'.' | b':' | b'/' | b'#'));
    (form && (wordlike(text) || quotation(text) == text)).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p6_a_quotation_holds_no_token() {
        for secret in [
            "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
            "sk-proj-abc123DEF456ghi789",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
            "AKIAIOSFODNN7EXAMPLE",
            "dGhpcyBpcyBhIHNlY3JldCB0b2tlbg==",
            "someone@example.org",
        ] {
            let text =
                quotation(&format!("Incorrect API key provided: {secret}. Try https://x.example/a?code={secret}"));
            assert!(!text.contains(secret), "{text}");
            assert!(text.starts_with("Incorrect API key provided"), "{text}");
            assert_eq!(code(secret), None, "{secret}");
        }
    }

    #[test]
    fn codes_survive() {
        for word in
            ["invalid_grant", "AADSTS50173", "UnrecognizedClientException", "refresh_token_invalidated", "E0000011"]
        {
            assert_eq!(code(word).as_deref(), Some(word));
        }
        assert_eq!(quotation(&"x y ".repeat(400)).chars().count(), 160);
    }
}

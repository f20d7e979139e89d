//! The second net: masks secrets in text that should never have held one.

use std::{
    borrow::Cow,
    collections::{HashMap, VecDeque},
    fmt,
    hash::{BuildHasher, RandomState},
    sync::{Arc, LazyLock, PoisonError, RwLock},
};

use regex::bytes::{Captures, Regex};

use crate::credential::Secret;

const MASK: &[u8] = b"[redacted]";
/// Shorter values would mask ordinary words.
const LEAST: usize = 8;
/// The oldest are forgotten first; spent tokens need no mask.
const MOST: usize = 1 << 18;
/// So many may share their last eight bytes.
const MOST_ALIKE: usize = 64;

/// Texts that are secrets by their form alone.
static SHAPES: LazyLock<Regex> = LazyLock::new(|| {
    let shapes = [
        r"(?i:\b(?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{16,}",
        // GitHub, GitLab, Slack, OpenAI and Anthropic, Stripe, Google, AWS, Vault, Standard Webhooks, HubSpot, Notion, our own.
        r"\bgh[pousr]_[A-Za-z0-9]{16,}",
        r"\bgithub_pat_[A-Za-z0-9_]{16,}",
        r"\bgl(?:pat|oas|rt|dt|cbt)-[A-Za-z0-9_.-]{16,}",
        r"\bx(?:ox[a-z]|app)(?:\.xox[a-z])?-[A-Za-z0-9-]{8,}",
        r"\bsk-[A-Za-z0-9_-]{16,}",
        r"\b[sr]k_(?:live|test)_[A-Za-z0-9]{8,}",
        r"\bya29\.[A-Za-z0-9_-]{16,}",
        r"\b1//[A-Za-z0-9_-]{16,}",
        r"\bA(?:KIA|SIA)[0-9A-Z]{16}\b",
        r"\bhv[sbr]\.[A-Za-z0-9_-]{16,}",
        r"\bwhsec_[A-Za-z0-9+/=_-]{8,}",
        r"\bpat-(?:na|eu)[0-9]-[A-Za-z0-9-]{16,}",
        r"\bntn_[A-Za-z0-9]{16,}",
        r"\bmcp_[A-Za-z0-9_-]{20,}",
        // JWT and JWE.
        r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)+",
        // Cut off, it ends with the text that holds it.
        r#"-----BEGIN [A-Z ]*PRIVATE KEY-----(?:(?s:.*?)-----END [A-Z ]*PRIVATE KEY-----|[^"]*[^"\s]|)"#,
        // A password in a URL.
        r#"://[^\s/?#@:"']*:[^\s/?#@"']+@"#,
    ];
    Regex::new(&format!("(?-u:{})", shapes.join("|"))).expect("well-formed")
});

/// A name that says "secret", and what follows it: in a query, a form, JSON (quoted or not), Debug output, a header.
/// Between the two there may be colours of the terminal.
static PAIRS: LazyLock<Regex> = LazyLock::new(|| {
    let names = "access_token|refresh_token|id_token|client_secret|client_assertion|secret_id|api_key|apikey|private_key|password|passwd";
    let headers = "authorization|cookie|x-vault-token|x-api-key|private-token";
    let colour = r"(?:\x1b\[[0-9;]*m)*";
    let quoted = r#"(?:\\*"(?:[^"\\]|\\+[^"\\])*\\*"|'[^']*')"#;
    let bare = r#"(?:(?:bearer|basic|token)\s+)?[^\s&,;}\x1b"'\\]+"#;
    let pattern = format!(
        r#"(?i-u)((?:{names}){colour}\\*["']?{colour}\s*=\s*{colour})(?:{quoted}|{bare})|((?:{names}){colour}\\*["']?\s*:\s*(?:some\()?){quoted}|((?:{headers}){colour}\\*["']?{colour}\s*[:=]\s*{colour})(?:{quoted}|{bare})"#
    );
    Regex::new(&pattern).expect("well-formed")
});

/// Whether a text has the form of a secret.
pub fn looks_secret(text: &str) -> bool {
    SHAPES.is_match(text.as_bytes())
}

/// Knows secrets without keeping them: it remembers keyed hashes, and masks what hashes alike. Clones share.
#[derive(Clone, Default)]
pub struct Redactor(Arc<Inner>);

#[derive(Default)]
struct Inner {
    hasher: RandomState,
    known: RwLock<Known>,
}

#[derive(Default)]
struct Known {
    /// By the hash of the last eight bytes (tokens of one kind begin alike, and end at random): length and hash of the whole.
    values: HashMap<u64, Vec<(usize, u64)>>,
    order: VecDeque<(u64, usize, u64)>,
}

impl Known {
    fn forget_oldest(&mut self) {
        let Some((end, length, whole)) = self.order.pop_front() else { return };
        if let Some(same) = self.values.get_mut(&end) {
            same.retain(|value| *value != (length, whole));
            if same.is_empty() {
                self.values.remove(&end);
            }
        }
    }
}

impl Redactor {
    /// From now on this value is masked wherever it appears. Values shorter than eight bytes are not.
    #[expect(clippy::disallowed_methods, reason = "what is masked must be known")]
    pub fn register(&self, secret: &Secret) {
        let text = secret.expose();
        let escaped = text.escape_debug().to_string();
        // As it is, as JSON and Debug show it, and each long line of a key file.
        self.remember(text.as_bytes());
        if escaped != text {
            self.remember(escaped.as_bytes());
            text.lines().filter(|line| line.len() >= 16).for_each(|line| self.remember(line.as_bytes()));
        }
        drop(zeroize::Zeroizing::new(escaped));
    }

    fn remember(&self, value: &[u8]) {
        let Some(end) = self.end(value) else { return };
        let (length, whole) = (value.len(), self.0.hasher.hash_one(value));
        let mut known = self.0.known.write().unwrap_or_else(PoisonError::into_inner);
        // Hardly two end alike: room for one.
        let same = known.values.entry(end).or_insert_with(|| Vec::with_capacity(1));
        // Values that all end alike cannot make a line slow.
        if same.contains(&(length, whole)) || same.len() >= MOST_ALIKE {
            return;
        }
        same.push((length, whole));
        known.order.push_back((end, length, whole));
        if known.order.len() > MOST {
            known.forget_oldest();
        }
    }

    fn end(&self, value: &[u8]) -> Option<u64> {
        let last: [u8; LEAST] = *value.last_chunk()?;
        Some(self.0.hasher.hash_one(u64::from_le_bytes(last)))
    }

    /// The text without secrets.
    pub fn mask<'a>(&self, text: &'a str) -> Cow<'a, str> {
        match self.mask_bytes(text.as_bytes()) {
            Cow::Borrowed(_) => Cow::Borrowed(text),
            Cow::Owned(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
        }
    }

    /// The same for bytes.
    pub fn mask_bytes<'a>(&self, text: &'a [u8]) -> Cow<'a, [u8]> {
        let text = match self.mask_known(text) {
            Some(masked) => Cow::Owned(masked),
            None => Cow::Borrowed(text),
        };
        let text = replace(&SHAPES, text, |found, out| {
            // The scheme of a URL is no secret and tells where it pointed.
            if found[0].starts_with(b"://") {
                out.extend(b"://[redacted]@");
            } else {
                out.extend(MASK);
            }
        });
        replace(&PAIRS, text, |found, out| {
            for name in found.iter().skip(1).flatten() {
                out.extend(name.as_bytes());
            }
            let value = &found[0][found.iter().skip(1).flatten().map(|name| name.len()).sum::<usize>()..];
            let quotes: Vec<u8> =
                value.iter().copied().take_while(|byte| matches!(byte, b'\\' | b'"' | b'\'')).collect();
            out.extend(&quotes);
            out.extend(MASK);
            out.extend(&quotes);
        })
    }

    fn mask_known(&self, text: &[u8]) -> Option<Vec<u8>> {
        let known = self.0.known.read().unwrap_or_else(PoisonError::into_inner);
        if known.values.is_empty() || text.len() < LEAST {
            return None;
        }
        // From the right, so that a secret that continues another one is met first.
        let mut found: Vec<(usize, usize)> = vec![];
        for end in (LEAST..=text.len()).rev() {
            let Some(same) = self.end(&text[..end]).and_then(|hash| known.values.get(&hash)) else { continue };
            let fits =
                |length: usize, whole: u64| length <= end && self.0.hasher.hash_one(&text[end - length..end]) == whole;
            let longest = same.iter().filter(|(length, whole)| fits(*length, *whole)).map(|(length, _)| *length).max();
            let Some(start) = longest.map(|length| end - length) else { continue };
            match found.last_mut() {
                // Overlapping ones are one.
                Some((first, _)) if end > *first => *first = start.min(*first),
                _ => found.push((start, end)),
            }
        }
        let mut masked = vec![];
        let mut kept = 0;
        for (start, end) in found.iter().rev() {
            masked.extend(&text[kept..*start]);
            masked.extend(MASK);
            kept = *end;
        }
        masked.extend(&text[kept..]);
        (!found.is_empty()).then_some(masked)
    }
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redactor(..)")
    }
}

fn replace<'a>(pattern: &Regex, text: Cow<'a, [u8]>, with: impl FnMut(&Captures<'_>, &mut Vec<u8>)) -> Cow<'a, [u8]> {
    let mut with = with;
    let replaced = pattern.replace_all(&text, |found: &Captures<'_>| {
        let mut out = vec![];
        with(found, &mut out);
        out
    });
    match replaced {
        Cow::Borrowed(_) => text,
        Cow::Owned(masked) => Cow::Owned(masked),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(text: &str) -> String {
        Redactor::default().mask(text).into_owned()
    }

    #[test]
    fn t22_what_looks_like_a_token_is_masked() {
        for (text, wanted) in [
            ("Authorization: Bearer abcdefghij0123456789", "Authorization: [redacted]"),
            ("Bearer abcdefghij0123456789, then", "[redacted], then"),
            ("x ghp_0123456789abcdefABCD y", "x [redacted] y"),
            ("xoxb-1234-5678-abcdef", "[redacted]"),
            ("xoxe.xoxp-1-abcdefgh", "[redacted]"),
            ("key sk-ant-api03-abcdefghijkl.", "key [redacted]."),
            ("rk_live_12345678abc", "[redacted]"),
            ("eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln done", "[redacted] done"),
            ("?code=1&access_token=abc&x=1", "?code=1&access_token=[redacted]&x=1"),
            (r#"{"refresh_token":"a b","n":1}"#, r#"{"refresh_token":"[redacted]","n":1}"#),
            (r#"{\"refresh_token\":\"a b\",\"n\":1}"#, r#"{\"refresh_token\":\"[redacted]\",\"n\":1}"#),
            ("client_secret: \"x y\", z", "client_secret: \"[redacted]\", z"),
            ("postgres://u:p@h/db", "postgres://[redacted]@h/db"),
            ("-----BEGIN RSA PRIVATE KEY-----\\nMII\\n-----END RSA PRIVATE KEY----- x", "[redacted] x"),
            ("-----BEGIN PRIVATE KEY-----\nProc-Type: 4\nMII\n", "[redacted]\n"),
            (r#"{"pem":"-----BEGIN PRIVATE KEY-----\nMII","n":1}"#, r#"{"pem":"[redacted]","n":1}"#),
        ] {
            assert_eq!(mask(text), wanted);
        }
    }

    #[test]
    fn ordinary_words_stay() {
        for text in [
            "stores.vault-main.auth.password: must be a reference",
            "basic authentication is not offered",
            "credential github-bot: refresh_token refused (invalid_grant), generation=4, code=invalid_grant",
            "token_type=Bearer expires_in=3600",
            "attempt 0193e0c4-7a6b-7000-8000-000000000001 fingerprint a1b2c3d4e5f6",
            "https://api.example.com:8443/v1?page=2",
        ] {
            assert_eq!(mask(text), text);
            assert!(!looks_secret(text), "{text}");
        }
    }

    #[test]
    fn registered_values_are_masked_wherever_they_stand() {
        let redactor = Redactor::default();
        redactor.register(&Secret::new("hunter2-hunter2"));
        redactor.register(&Secret::new("hunter2-hunter2-longer"));
        redactor.register(&Secret::new("short"));
        assert_eq!(redactor.mask("a=xhunter2-hunter2y short"), "a=x[redacted]y short");
        assert_eq!(redactor.mask("hunter2-hunter2-longer"), "[redacted]");
        assert_eq!(redactor.clone().mask("hunter2-hunter"), "hunter2-hunter");
    }

    #[test]
    fn it_forgets_the_oldest_and_stays_small() {
        let redactor = Redactor::default();
        for number in 0..=MOST {
            redactor.remember(format!("value-number-{number:08}").as_bytes());
        }
        assert_eq!(redactor.mask("value-number-00000000"), "value-number-00000000");
        assert_eq!(redactor.mask("value-number-00000001"), "[redacted]");
        assert_eq!(redactor.0.known.read().unwrap().order.len(), MOST);
    }
}

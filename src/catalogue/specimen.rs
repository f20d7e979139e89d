//! A reply that no rule matched, freed of its secrets: enough to write the rule that was missing, and its example.

use std::fmt::Write;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Refusal, SURFACES, redact};

/// Longest body that is kept, in bytes: codes and sentences stand at the beginning.
const LONGEST: usize = 4096;
/// Headers that say something of a refusal; the others are left out.
const TELLING: [&str; 8] =
    ["content-type", "www-authenticate", "retry-after", "ratelimit", "rate-limit", "error", "reason", "grpc-"];
/// Members whose values are left out whatever they look like.
const SECRET_NAMES: [&str; 8] = ["token", "secret", "password", "passwd", "api_key", "apikey", "cookie", "assertion"];

/// One such reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Specimen {
    /// Whose.
    pub provider: String,
    /// Where it was met.
    pub surface: String,
    /// What was presented.
    pub presented: String,
    /// HTTP status.
    pub status: u16,
    /// The telling ones.
    pub headers: Vec<(String, String)>,
    /// Redacted and cut short.
    pub body: String,
}

impl Specimen {
    /// Of a refusal.
    pub fn of(provider: &str, refusal: &Refusal<'_>) -> Self {
        let surface = SURFACES.iter().find(|(_, surface)| *surface == refusal.surface).map_or("api", |(word, _)| word);
        let telling = |name: &str| TELLING.iter().any(|part| name.contains(part));
        let headers = refusal.reply.headers.iter().filter(|(name, _)| telling(name) && !is_secret(name));
        let headers = headers.map(|(name, value)| (name.clone(), redact::quotation(value))).collect();
        let body = String::from_utf8_lossy(&refusal.reply.body[..refusal.reply.body.len().min(LONGEST)]).into_owned();
        let body = match serde_json::from_slice::<Value>(&refusal.reply.body) {
            Ok(mut json) => {
                redact_json(&mut json);
                let text = json.to_string();
                if text.len() <= LONGEST { text } else { redact::quotation(&text) }
            }
            // Broken off, a form, a page: sentence by sentence, so that each quotation may be short.
            Err(_) => body.split_inclusive(['\n', '>', '&', ',']).map(piece).collect(),
        };
        Self {
            provider: provider.to_owned(),
            surface: surface.to_owned(),
            presented: refusal.presented.to_owned(),
            status: refusal.reply.status,
            headers,
            body,
        }
    }

    /// As the `[[example]]` of a provider's file. What it means is left for a person to say.
    pub fn example(&self) -> String {
        let mut text =
            String::from("[[example]]\nsubtype = \"\"                    # which of the nine words is it?\n");
        let _ = writeln!(text, "surface = {}\npresented = {}", quoted(&self.surface), quoted(&self.presented));
        let headers: Vec<String> =
            self.headers.iter().map(|(name, value)| format!("{} = {}", quoted(name), quoted(value))).collect();
        let headers =
            if headers.is_empty() { String::new() } else { format!("headers = {{ {} }}, ", headers.join(", ")) };
        let _ = writeln!(text, "reply = {{ status = {}, {headers}body = {} }}", self.status, quoted(&self.body));
        text
    }
}

/// A TOML string.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_NAMES.iter().any(|part| name.contains(part))
}

fn redact_json(value: &mut Value) {
    match value {
        Value::String(text) => *text = redact::quotation(text),
        Value::Array(items) => items.iter_mut().for_each(redact_json),
        Value::Object(members) => {
            for (name, value) in members.iter_mut() {
                if is_secret(name) && value.is_string() {
                    *value = "…".into();
                } else {
                    redact_json(value);
                }
            }
        }
        _ => {}
    }
}

fn piece(text: &str) -> String {
    let named = text.split_once(['=', ':']).filter(|(name, _)| is_secret(name));
    named.map_or_else(|| redact::quotation(text), |(name, _)| format!("{}=…", redact::quotation(name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{catalogue::Surface, credential::Reply};

    fn of(headers: &[(&str, &str)], body: &str) -> Specimen {
        let reply = Reply::new(418, headers.iter().copied(), body);
        let now = jiff::Timestamp::UNIX_EPOCH;
        Specimen::of("acme", &Refusal { surface: Surface::Api, presented: "api_key", reply: &reply, now })
    }

    #[test]
    fn p6_a_specimen_keeps_codes_and_sentences_and_no_secret() {
        let secret = "ghp_16C7e42F292c6912E7710c838347Ae178B4a";
        for body in [
            format!(r#"{{"oops":{{"code":"teapot_locked","why":"your key {secret} is odd"}},"api_key":"hunter2"}}"#),
            format!(r#"{{"oops":{{"code":"teapot_locked","api_key":"hunter2","why":"{secret}"#),
            format!("code=teapot_locked&password=hunter2&x={secret}"),
            format!("<p>teapot_locked</p>\n<p>{secret}</p>"),
        ] {
            let specimen = of(&[("set-cookie", secret), ("x-error-code", "E7"), ("x-auth-token", secret)], &body);
            let text = serde_json::to_string(&specimen).unwrap();
            assert!(!text.contains(secret) && !text.contains("hunter2"), "{text}");
            assert!(text.contains("teapot_locked") && text.contains("E7"), "{text}");
        }
    }

    #[test]
    fn its_example_is_good_toml_whatever_the_reply_holds() {
        let specimen = of(&[("x-error-code", "a\"b")], "line 1\n\"quoted\" 'single' \\ \u{7}");
        let text = specimen.example().replace("subtype = \"\"", "subtype = \"unclassified\"");
        let table: toml::Table = toml::from_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(table["example"][0]["reply"]["status"].as_integer(), Some(418));
    }
}

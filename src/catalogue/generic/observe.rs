//! Takes a reply apart: which form it has, and which statements it makes, in codes and in words.

use std::{borrow::Cow, sync::LazyLock};

use regex::Regex;
use serde_json::Value;

use super::{
    challenge,
    members::{AWAY, grpc, leaves, percent_decoded, speaks, tells_reason},
    page,
    words::normalise,
};
use crate::catalogue::{Refusal, Surface};

/// No more of a body is read; an error is not longer, and time stays linear.
pub const CAP: usize = 64 * 1024;
/// No more statements are kept.
const MOST: usize = 48;
/// No statement is longer, in bytes.
const LONGEST: usize = 600;

/// How pages without a frame begin.
const PAGE: [&str; 6] = ["<head", "<body", "<title", "<h1", "<center", "<div"];

/// What headers with a flag call an account, a key or a user that is dead.
const STATES: [&str; 6] = ["-locked", "-suspended", "-deactivated", "-disabled", "-revoked", "-expired"];

/// What a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Nothing, or white space.
    Empty,
    /// An object or array.
    Json,
    /// Something that began as JSON and does not parse.
    BrokenJson,
    /// `error=…&error_description=…`.
    Urlencoded,
    /// An XML envelope.
    Xml,
    /// A page for people: a gateway, a portal, a firewall.
    Html,
    /// Words.
    Text,
    /// No text at all.
    Binary,
}

/// One thing that the reply says.
#[derive(Clone, Debug)]
pub struct Statement {
    /// Where: `header www-authenticate`, `body error`.
    pub place: String,
    /// As it stood there, cut to a bounded length.
    pub raw: String,
    /// In words: lower case, one space between, `camelCase` and `snake_case` taken apart.
    pub words: String,
    /// Whether it is meant for machines.
    pub code: bool,
    /// Whether a header said it.
    pub header: bool,
}

/// A reply, taken apart.
#[derive(Debug)]
pub struct Observed<'a> {
    /// What it was made of.
    pub refusal: Refusal<'a>,
    /// What the body is.
    pub form: Form,
    /// The body as text, without byte-order mark.
    pub text: Cow<'a, str>,
    /// The body, if it is JSON.
    pub json: Option<Value>,
    /// Everything it says, headers first.
    pub statements: Vec<Statement>,
    /// A status that the body gives, which may differ from the header's.
    pub inner_status: Option<u16>,
}

impl<'a> Observed<'a> {
    /// Never fails, never panics, reads at most [`CAP`] bytes of the body.
    pub fn new(refusal: &Refusal<'a>) -> Self {
        let body = &refusal.reply.body;
        let text = String::from_utf8_lossy(&body[..body.len().min(CAP)]);
        let text = match text {
            Cow::Borrowed(text) => Cow::Borrowed(text.trim_start_matches('\u{feff}')),
            Cow::Owned(text) => Cow::Owned(text.trim_start_matches('\u{feff}').to_owned()),
        };
        let mut observed =
            Self { refusal: *refusal, form: Form::Empty, text, json: None, statements: Vec::new(), inner_status: None };
        observed.headers();
        observed.body();
        observed
    }

    /// The status to judge by: the header's, unless that says success and the body knows better.
    pub fn status(&self) -> u16 {
        let outer = self.refusal.reply.status;
        match self.inner_status {
            Some(inner) if outer < 300 => inner,
            _ => outer,
        }
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.refusal.reply.header(name)
    }

    fn say(&mut self, place: &str, raw: &str, header: bool) {
        let raw = raw.trim();
        if raw.is_empty() || self.statements.len() >= MOST {
            return;
        }
        let raw = &raw[..raw.floor_char_boundary(LONGEST)];
        let code = raw.len() <= 96 && !raw.contains(char::is_whitespace);
        let words = normalise(raw, code);
        self.statements.push(Statement { place: place.to_owned(), raw: raw.to_owned(), words, code, header });
    }

    fn headers(&mut self) {
        let reply = self.refusal.reply;
        for (name, value) in reply.headers.iter().take(200) {
            let place = || format!("header {name}");
            match name.as_str() {
                "www-authenticate" | "proxy-authenticate" => {
                    for piece in challenge::pieces(&value[..value.floor_char_boundary(4096)]) {
                        match piece.name.as_str() {
                            "error" | "error_description" | "oauth_problem" | "error_code" => {
                                self.say(&place(), &piece.value, true)
                            }
                            "stale" if piece.value.eq_ignore_ascii_case("true") => {
                                self.say(&place(), "stale nonce", true);
                            }
                            "" if !super::SCHEMES.contains(&piece.value.to_ascii_lowercase().as_str()) => {
                                self.say(&place(), &piece.value, true);
                            }
                            _ => {}
                        }
                    }
                }
                // Names of rights that a call needs and lacks.
                "x-required-permission" | "x-required-scope" if reply.status == 403 => {
                    self.say(&place(), "missing_permission", true);
                }
                "grpc-message" => {
                    let plain = percent_decoded(value);
                    self.say(&place(), &plain, true);
                }
                "grpc-status" => {
                    if let Some(status) = grpc(value) {
                        self.inner_status.get_or_insert(status);
                    }
                }
                "x-amzn-errortype" => {
                    let code = value.split(':').next().unwrap_or_default();
                    self.say(&place(), code, true);
                }
                // A second factor is asked for, or was refused.
                _ if reply.status >= 400 && ["-otp", "2fa-", "-2fa", "-mfa"].iter().any(|of| name.contains(of)) => {
                    self.say(&place(), "mfa_required", true);
                }
                // `x-account-locked: true`
                _ if value.eq_ignore_ascii_case("true") && STATES.iter().any(|state| name.ends_with(state)) => {
                    self.say(&place(), name.trim_start_matches("x-"), true);
                }
                _ if tells_reason(name) && value.contains('%') => {
                    let plain = percent_decoded(&value.replace('+', " "));
                    self.say(&place(), &plain, true);
                }
                _ if tells_reason(name) => self.say(&place(), value, true),
                _ => {}
            }
        }
    }

    fn body(&mut self) {
        let text = self.text.clone();
        let trimmed = text.trim_start();
        let start = trimmed[..trimmed.floor_char_boundary(512)].to_ascii_lowercase();
        let content = self.header("content-type").unwrap_or_default().to_ascii_lowercase();
        self.form = if trimmed.is_empty() {
            Form::Empty
        } else if start.starts_with('{') || (start.starts_with('[') && !start.starts_with("[err")) {
            match serde_json::from_str::<Value>(trimmed) {
                Ok(json) => {
                    self.json = Some(json);
                    Form::Json
                }
                Err(_) => Form::BrokenJson,
            }
        } else if start.contains("<html")
            || start.contains("<!doctype html")
            || PAGE.iter().any(|tag| start.starts_with(tag))
        {
            Form::Html
        } else if start.starts_with("<?xml") || (start.starts_with('<') && !start.starts_with("<!")) {
            Form::Xml
        } else if trimmed.chars().take(64).any(|c| c == '\u{fffd}' || (c.is_control() && !c.is_whitespace())) {
            Form::Binary
        } else if content.contains("x-www-form-urlencoded") || (start.starts_with("error") && start.contains('=')) {
            Form::Urlencoded
        } else if content.contains("text/html") && start.starts_with('<') {
            Form::Html
        } else {
            Form::Text
        };
        match self.form {
            Form::Json => {
                if let Some(json) = self.json.take() {
                    self.walk("body", &json, 0);
                    let mute = |observed: &Self| {
                        observed.refusal.reply.status >= 400 && observed.statements.iter().all(|said| said.header)
                    };
                    // `{"data": [{"type": "api_error", "attributes": {"code": …}}]}`
                    if let Some(data) = json.get("data").filter(|_| mute(self)) {
                        self.walk("body data", data, 1);
                    }
                    if mute(self) {
                        self.whatever(&json);
                    }
                    self.json = Some(json);
                    if self.denied_by_flag() {
                        self.say("body", "invalid token", false);
                    }
                }
            }
            Form::BrokenJson => {
                self.members(PAIR.captures_iter(trimmed).map(|pair| (pair[1].to_owned(), pair[2].to_owned())));
            }
            Form::Urlencoded => {
                let pairs = url::form_urlencoded::parse(trimmed.trim_end().as_bytes());
                self.members(pairs.map(|(name, value)| (name.into_owned(), value.into_owned())));
            }
            Form::Xml => {
                // Text that was quoted whole is text like any other.
                let plain = trimmed.replace("<![CDATA[", "").replace("]]>", "");
                for (name, value) in leaves(&plain).take(MOST * 2) {
                    self.member("body", name, &Value::from(value));
                }
            }
            Form::Text => self.say("body", trimmed, false),
            // A gateway's page never speaks of a token.
            Form::Html if (400..500).contains(&self.refusal.reply.status) => {
                let named = page::heading(trimmed).filter(|words| page::names_credential(words));
                if let Some(heading) = named {
                    self.say(page::TITLE, &heading, false);
                }
            }
            Form::Empty | Form::Html | Form::Binary => {}
        }
    }

    /// Pairs of a form, or of JSON that broke off: statements, and an object for the rules' pointers.
    fn members(&mut self, pairs: impl Iterator<Item = (String, String)>) {
        let mut object = serde_json::Map::new();
        for (name, value) in pairs.take(MOST) {
            let value = Value::from(value);
            self.member("body", &name, &value);
            object.insert(name, value);
        }
        self.json = Some(Value::Object(object));
    }

    fn walk(&mut self, place: &str, value: &Value, depth: usize) {
        if depth > 7 || self.statements.len() >= MOST {
            return;
        }
        match value {
            Value::Object(object) => {
                // Codes first: the finest evidence leads, whatever the order of members.
                // Where a finer code stands beside a coarse one, the coarse one repeats what the finer one says.
                let finer = object.iter().any(|(name, value)| {
                    matches!(name.as_str(), "sub_code" | "subCode")
                        && value.as_str().is_some_and(|code| code.contains('.'))
                });
                let coarse = |name: &str| finer && matches!(name, "code" | "msg" | "message");
                for (name, value) in object {
                    if !value.is_object() && !value.is_array() && !coarse(name) {
                        self.member(place, name, value);
                    }
                }
                // A field and what is wrong with it belong together.
                let text = |name: &str| object.get(name).and_then(Value::as_str);
                if let (Some(field), Some(code)) = (text("field"), text("code")) {
                    let of = text("resource").map_or(String::new(), |of| normalise(of, true) + " ");
                    self.say(place, &format!("{of}{field} {code}").replace('_', " "), false);
                }
                // `"errors": {"token": ["is invalid"]}`
                if place.ends_with("errors") {
                    for (name, value) in object.iter().take(8) {
                        let first = value.as_array().and_then(|list| list.first()).unwrap_or(value);
                        if let Some(text) = first.as_str().filter(|_| !speaks(name)) {
                            self.say(place, &format!("{name} {text}"), false);
                        }
                    }
                }
                for (name, value) in object {
                    let business = AWAY.contains(&name.as_str())
                        && value.get("error").is_none_or(Value::is_null)
                        && !(self.refusal.surface == Surface::Graphql && name == "data");
                    if (value.is_object() || value.is_array()) && !business {
                        let inner = if depth == 0 && value.is_array() { name } else { place };
                        let inner = if depth == 0 && value.is_object() { name } else { inner };
                        self.walk(&format!("body {}", inner.trim_start_matches("body ")), value, depth + 1);
                    }
                }
            }
            Value::Array(list) => {
                for item in list.iter().take(8) {
                    match item {
                        Value::String(text) => self.say(place, text, false),
                        item => self.walk(place, item, depth + 1),
                    }
                }
            }
            _ => {}
        }
    }

    /// Where no member has a name that we know, all of them speak, with their names.
    fn whatever(&mut self, json: &Value) {
        let members = json.as_object().into_iter().flatten();
        for (name, value) in members.filter(|(name, _)| !AWAY.contains(&name.as_str())).take(8) {
            if let Some(text) = value.as_str() {
                self.say(&format!("body {name}"), &format!("{name} {text}"), false);
            }
        }
    }

    fn member(&mut self, place: &str, name: &str, value: &Value) {
        if !speaks(name) && (name != "data" || !place.contains("error")) {
            return;
        }
        let place = format!("{place} {name}");
        match value {
            Value::String(text) => {
                if let Some(code) = EMBEDDED_CODE.find(text) {
                    self.say(&place, code.as_str(), false);
                }
                for code in named_codes(text).take(4).filter(|code| code.len() < text.len()) {
                    self.say(&place, code, false);
                }
                let text = last_part(text);
                let number = text.parse::<u16>().ok().filter(|n| (400..600).contains(n));
                match number {
                    Some(status) => _ = self.inner_status.get_or_insert(status),
                    None => self.say(&place, text, false),
                }
            }
            Value::Number(number) => match number.as_u64() {
                Some(status @ 400..600) => _ = self.inner_status.get_or_insert(status as u16),
                _ => self.say(&place, &number.to_string(), false),
            },
            _ => {}
        }
    }
}

/// A type that is written as an address (RFC 9457) or a name in a space tells by its last part.
fn last_part(text: &str) -> &str {
    let address = ["http://", "https://", "urn:", "tag:"].iter().any(|scheme| text.starts_with(scheme));
    let part = if address { text.rsplit(['/', '#', ':']).next() } else { text.rsplit('#').next() };
    part.filter(|part| !part.is_empty() && !text.contains(char::is_whitespace)).unwrap_or(text)
}

/// Names of errors that stand inside a sentence, as programs write them.
fn named_codes(text: &str) -> impl Iterator<Item = &str> {
    const ENDS: [&str; 9] =
        ["Error", "Exception", "Fault", "Expired", "Revoked", "Denied", "Invalid", "Signature", "NotFound"];
    text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| {
        let stem = || ENDS.iter().find_map(|end| word.strip_suffix(end));
        word.starts_with(|first: char| first.is_ascii_uppercase())
            && stem().is_some_and(|stem| (3..=41).contains(&stem.len()))
            && word.bytes().all(|byte| byte.is_ascii_alphabetic())
    })
}

static PAIR: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r#""([A-Za-z_.\-]{1,40})"\s*:\s*"((?:[^"\\]|\\.){0,600})"?"#).expect("constant"));
/// Codes that stand inside a sentence.
static EMBEDDED_CODE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\bAADSTS\d{4,8}\b").expect("constant"));

//! Holds a document against the JSON Schema: unknown names, wrong types, words that are none, what is missing.
//!
//! serde stops at the first mistake and cannot say where; this finds them all. The schema is derived from the
//! settings themselves, so a new setting is checked without a line here.

use serde_json::{Map, Value};

use super::{
    document::{Document, below},
    problem::{Problem, did_you_mean, list, nearest, shown},
};
use crate::telemetry::looks_secret;

/// How to write a secret in the settings.
pub(super) const BY_REFERENCE: &str =
    "secrets come by reference: { file = \"…\" }, { env = \"…\" } or { store = \"…\", at = \"…\" }";

/// The walk through one document.
pub(super) struct Shape<'a> {
    schema: &'a Value,
    document: &'a Document,
    /// Whether all of the text was understood; otherwise nothing is called missing.
    complete: bool,
    /// What was found.
    pub problems: Vec<Problem>,
    /// The values at fault, as JSON pointers; a table that could not be told apart is at fault as a whole.
    pub bad: Vec<String>,
    /// References into home stores: where they stand, and the store's name.
    pub references: Vec<(String, String)>,
}

impl<'a> Shape<'a> {
    /// Walks the whole document.
    pub fn of(schema: &'a Value, document: &'a Document, complete: bool) -> Self {
        let mut shape = Self { schema, document, complete, problems: vec![], bad: vec![], references: vec![] };
        shape.value(schema, &document.root, "");
        shape
    }

    fn report(&mut self, at: &str, message: impl Into<String>, help: Option<String>) {
        self.problems.push(self.document.problem(at, message, help));
        self.bad.push(at.to_owned());
    }

    fn value(&mut self, node: &'a Value, value: &'a Value, at: &str) {
        let (node, name) = resolve(self.schema, node);
        if name == "Reference" {
            return self.reference(node, value, at);
        }
        if let Some(choices) = choices(node) {
            return self.choice(&choices, value, at);
        }
        if !words(node).is_empty() {
            return self.word(&[node], value, at);
        }
        let wanted: Vec<&str> = types(node);
        let found = kind_of(value);
        let fits = wanted.is_empty() || wanted.contains(&found) || (found == "integer" && wanted.contains(&"number"));
        if !fits {
            let help = node["examples"][0].as_str().map(|example| format!("for example {example:?}"));
            let wanted: Vec<_> = wanted.iter().map(|kind| for_people(kind)).collect();
            let message = format!("must be {}, this is {}", wanted.join(" or "), for_people(found));
            return self.report(at, message, help.or_else(|| description(node)));
        }
        match value {
            Value::Object(table) => self.table(node, table, at, ""),
            Value::Array(array) => {
                for (index, element) in array.iter().enumerate() {
                    self.value(&node["items"], element, &below(at, &index.to_string()));
                }
            }
            Value::Number(_) => self.number(node, value, at),
            Value::String(text) => self.text(node, text, at),
            _ => {}
        }
    }

    /// `judged`: the member that was looked at before.
    fn table(&mut self, node: &'a Value, table: &'a Map<String, Value>, at: &str, judged: &str) {
        let none = Map::new();
        let known = node["properties"].as_object().unwrap_or(&none);
        for (key, value) in table.iter().filter(|(key, _)| *key != judged) {
            let path = below(at, key);
            match (node["properties"].get(key), &node["additionalProperties"]) {
                (Some(node), _) => self.value(node, value, &path),
                (None, Value::Bool(false)) => {
                    let secret = value.is_string() && names_a_secret(key);
                    let help = did_you_mean(key, known.keys().map(String::as_str))
                        .or_else(|| secret.then(|| BY_REFERENCE.to_owned()));
                    let known = format!("known here: {}", list(known.keys().map(String::as_str)));
                    self.report(
                        &path,
                        "unknown setting",
                        Some(help.map_or(known.clone(), |help| format!("{help} {known}"))),
                    );
                }
                (None, Value::Object(_)) => self.value(&node["additionalProperties"], value, &path),
                (None, _) => {}
            }
        }
        let complete = self.complete;
        let required = node["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
        for key in required.filter(|key| complete && !table.contains_key(*key)) {
            let (target, _) = resolve(self.schema, &node["properties"][key]);
            let help = description(&node["properties"][key]).or_else(|| description(target));
            let all: Vec<_> = choices(target).unwrap_or_default().into_iter().flat_map(words).collect();
            let help = if all.is_empty() { help } else { Some(format!("one of {}", list(all))) };
            self.problems.push(self.document.problem(at, format!("`{key}` is missing"), help));
            self.bad.push(below(at, key));
        }
    }

    /// One of several forms: a word, a table that a word tells apart, or whichever fits.
    fn choice(&mut self, choices: &[&'a Value], value: &'a Value, at: &str) {
        if let [only] = choices {
            return self.value(only, value, at);
        }
        if choices.iter().all(|choice| !words(choice).is_empty()) {
            return self.word(choices, value, at);
        }
        if let Some(tag) = tag_of(choices) {
            return self.tagged(choices, tag, value, at);
        }
        let before = (self.problems.len(), self.bad.len(), self.references.len());
        let mut first = None;
        for choice in choices {
            self.value(choice, value, at);
            if self.problems.len() == before.0 {
                return;
            }
            first.get_or_insert_with(|| (self.problems.split_off(before.0), self.bad.split_off(before.1)));
            self.problems.truncate(before.0);
            self.bad.truncate(before.1);
            self.references.truncate(before.2);
        }
        let (problems, bad) = first.unwrap_or_default();
        self.problems.extend(problems);
        self.bad.extend(bad);
    }

    fn tagged(&mut self, choices: &[&'a Value], tag: &'a str, value: &'a Value, at: &str) {
        let tags: Vec<&str> = choices.iter().filter_map(|choice| choice["properties"][tag]["const"].as_str()).collect();
        let Value::Object(table) = value else {
            let message = format!("must be a table with `{tag}`, this is {}", for_people(kind_of(value)));
            return self.report(at, message, Some(format!("`{tag}` is one of {}", list(tags))));
        };
        let path = below(at, tag);
        match table.get(tag) {
            None if self.complete => {
                self.report(at, format!("`{tag}` is missing"), Some(format!("one of {}", list(tags))));
            }
            None => {}
            Some(Value::String(word)) => match tags.iter().position(|tag| tag == word) {
                Some(index) => self.table(choices[index], table, at, tag),
                None => {
                    self.unknown_word(word, &tags, &path);
                    let meant = nearest(word, tags.iter().copied());
                    if let Some(index) = tags.iter().position(|tag| Some(*tag) == meant) {
                        self.table(choices[index], table, at, tag);
                    }
                    self.bad.push(at.to_owned());
                }
            },
            Some(other) => {
                let message = format!("must be a text, this is {}", for_people(kind_of(other)));
                self.report(&path, message, Some(format!("one of {}", list(tags))));
                self.bad.push(at.to_owned());
            }
        }
    }

    fn word(&mut self, choices: &[&'a Value], value: &'a Value, at: &str) {
        let words: Vec<&str> = choices.iter().flat_map(|choice| words(choice)).collect();
        match value {
            Value::String(word) if words.contains(&word.as_str()) => {}
            Value::String(word) => self.unknown_word(word, &words, at),
            other => {
                let message = format!("must be a text, this is {}", for_people(kind_of(other)));
                self.report(at, message, Some(format!("one of {}", list(words))));
            }
        }
    }

    fn unknown_word(&mut self, word: &str, words: &[&str], at: &str) {
        let near = did_you_mean(word, words.iter().copied()).map(|near| near + " ").unwrap_or_default();
        self.report(
            at,
            format!("{} is not known", shown(word)),
            Some(format!("{near}one of {}", list(words.to_vec()))),
        );
    }

    fn reference(&mut self, node: &'a Value, value: &'a Value, at: &str) {
        let Value::Object(table) = value else {
            let message = format!("must be a reference, this is {}", for_people(kind_of(value)));
            return self.report(at, message, Some(BY_REFERENCE.into()));
        };
        let forms: Vec<_> = choices(node).unwrap_or_default().iter().map(|form| resolve(self.schema, form).0).collect();
        let form = forms.iter().find(|form| {
            let mut required = form["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
            required.next().is_some_and(|first| table.contains_key(first))
        });
        let Some(form) = form else {
            return self.report(at, "must say where the secret is", Some(BY_REFERENCE.into()));
        };
        self.table(form, table, at, "");
        if let Some(Value::String(store)) = table.get("store") {
            self.references.push((at.to_owned(), store.clone()));
        }
    }

    fn number(&mut self, node: &Value, value: &Value, at: &str) {
        let number = value.as_f64().unwrap_or(f64::MAX);
        // Settings that count seconds say so in their name; none of them works with 0 or with centuries.
        let seconds = at.ends_with("_seconds");
        let least = if seconds { 1.0 } else { node["minimum"].as_f64().unwrap_or(f64::MIN) };
        let most = node["maximum"].as_f64().unwrap_or(match node["format"].as_str() {
            _ if seconds => 31_536_000.0,
            Some("uint32") => f64::from(u32::MAX),
            Some("int32") => f64::from(i32::MAX),
            _ => 9.0e18,
        });
        if number < least {
            self.report(at, format!("must be at least {least}"), description(node));
        } else if number > most {
            self.report(at, format!("must be at most {most}"), description(node));
        }
    }

    fn text(&mut self, node: &Value, text: &str, at: &str) {
        match address(text) {
            Err((message, help)) if node["format"] == "uri" => self.report(at, message, Some(help)),
            _ if looks_secret(text) => self.report(at, "looks like a secret", Some(BY_REFERENCE.into())),
            _ => {}
        }
    }
}

/// An address that credd may call: https, or http on this machine; without a password in it.
fn address(text: &str) -> Result<(), (String, String)> {
    let example = || "for example \"https://api.example.com/v1\"".to_owned();
    let url = url::Url::parse(text).map_err(|error| (format!("not a URL: {error}"), example()))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(("a URL may not hold a user or a password".into(), BY_REFERENCE.into()));
    }
    let loopback = match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.to_canonical().is_loopback(),
        None => return Err(("a URL without a host".into(), example())),
    };
    match url.scheme() {
        "https" => Ok(()),
        "http" if loopback => Ok(()),
        "http" => Err((
            "plain http would show secrets to the network".into(),
            "use https; http is allowed to this machine only (localhost, 127.0.0.1, [::1])".into(),
        )),
        _ => Err(("must begin with https://".into(), example())),
    }
}

/// Whether a setting of that name would hold a secret.
pub fn names_a_secret(key: &str) -> bool {
    let key = key.to_lowercase();
    ["secret", "password", "passwd", "passphrase", "token", "api_key", "apikey", "private_key"]
        .iter()
        .any(|word| key.contains(word))
}

/// Follows `$ref`; also the definition's name.
pub(super) fn resolve<'a>(schema: &'a Value, mut node: &'a Value) -> (&'a Value, &'a str) {
    let mut name = "";
    while let Some(target) = node["$ref"].as_str().and_then(|target| target.strip_prefix("#/$defs/")) {
        (node, name) = (&schema["$defs"][target], target);
    }
    (node, name)
}

/// The forms of a value, without null.
pub(super) fn choices(node: &Value) -> Option<Vec<&Value>> {
    let all = node["oneOf"].as_array().or_else(|| node["anyOf"].as_array())?;
    Some(all.iter().filter(|choice| choice["type"] != "null").collect())
}

/// The member that tells the forms apart.
pub(super) fn tag_of<'a>(choices: &[&'a Value]) -> Option<&'a str> {
    let first = choices.first()?["properties"].as_object()?;
    let tells = |key: &&String| choices.iter().all(|choice| choice["properties"][key.as_str()]["const"].is_string());
    first.keys().find(tells).map(String::as_str)
}

/// Something that fits in the place of a value at fault, so that the rest can be read; `None` where nothing may stand.
pub(super) fn stand_in(schema: &Value, node: &Value) -> Option<Value> {
    let nullable =
        |one: &Value| one["type"] == "null" || one["type"].as_array().is_some_and(|all| all.contains(&"null".into()));
    if nullable(node) || node["anyOf"].as_array().is_some_and(|all| all.iter().any(nullable)) {
        return None;
    }
    if let Some(usual) = node.get("default") {
        return Some(usual.clone());
    }
    let (node, _) = resolve(schema, node);
    if let Some(word) = words(node).first() {
        return Some(Value::from(*word));
    }
    if let Some(first) = choices(node).and_then(|choices| choices.first().copied()) {
        return stand_in(schema, first);
    }
    Some(match types(node).first().copied() {
        Some("object") => {
            let required = node["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let member = |key: &str| Some((key.to_owned(), stand_in(schema, &node["properties"][key])?));
            Value::Object(required.filter_map(member).collect())
        }
        Some("array") => Value::Array(vec![]),
        Some("integer" | "number") => Value::from(1),
        Some("boolean") => Value::from(false),
        _ if node["format"] == "uri" => Value::from("https://localhost/"),
        _ => Value::from("localhost"),
    })
}

fn words(node: &Value) -> Vec<&str> {
    let several = node["enum"].as_array().into_iter().flatten();
    several.chain(node.get("const")).filter_map(Value::as_str).collect()
}

fn types(node: &Value) -> Vec<&str> {
    let all = match &node["type"] {
        Value::String(one) => vec![one.as_str()],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => vec![],
    };
    all.into_iter().filter(|kind| *kind != "null").collect()
}

/// The first paragraph of a setting's documentation.
pub(super) fn description(node: &Value) -> Option<String> {
    Some(node["description"].as_str()?.replace('\n', " "))
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn for_people(kind: &str) -> &str {
    match kind {
        "boolean" => "true or false",
        "number" => "a number with a fraction or out of range",
        "integer" => "a whole number",
        "string" => "a text",
        "array" => "a list",
        "object" => "a table",
        other => other,
    }
}

//! Everything that is wrong with a settings file, at once: its syntax, its shape, its values, its sense.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{
    Config, Credential, Pager,
    document::{Document, below, dotted, unquoted},
    problem::{Problem, Problems},
    schema,
    sense::{Names, Sense},
    shape::{Shape, choices, description, resolve, stand_in, tag_of},
};

/// Checks a file's text. `providers` are the names that the catalogue knows.
pub fn check(file: &Path, text: &str, providers: &[String]) -> Result<Config, Problems> {
    let schema = &*schema::SCHEMA;
    let (document, mut problems) = Document::parse(file, text);
    let complete = problems.is_empty();
    let shape = Shape::of(schema, &document, complete);
    let mut values =
        Values { document: &document, schema, bad: shape.bad.into_iter().collect(), problems: shape.problems };
    let config = values.read();
    // Behind a syntax error values may have been taken for names; what is called wrong there could repeat a secret.
    let understood = problems.iter().map(|problem| problem.line).min().unwrap_or(usize::MAX);
    problems.extend(std::mem::take(&mut values.problems).into_iter().filter(|problem| problem.line < understood));
    if complete {
        let names = Names { providers, references: &shape.references };
        // What stands in for a bad value makes no sense of its own.
        let bad: BTreeSet<String> = values.bad.iter().map(|bad| dotted(bad)).collect();
        let honest = |problem: &Problem| !touches(&bad, &problem.path, &['.', '[']);
        problems.extend(Sense::of(&config, &document, names).into_iter().filter(honest));
    }
    if problems.is_empty() {
        return Ok(config);
    }
    problems.sort_by(|a, b| (a.line, a.column, &a.message).cmp(&(b.line, b.column, &b.message)));
    problems.dedup();
    Err(Problems(problems))
}

/// Reads each part with serde, so that one bad part hides no other.
struct Values<'a> {
    document: &'a Document,
    schema: &'a Value,
    bad: BTreeSet<String>,
    problems: Vec<Problem>,
}

impl Values<'_> {
    /// The settings without the parts that cannot be read; those are among the problems.
    fn read(&mut self) -> Config {
        let document = self.document;
        let Value::Object(root) = &document.root else { return Config::default() };
        let table = |at: &str| document.root.pointer(at).and_then(Value::as_object);
        // A field added to `Config` that is missing here does not compile.
        Config {
            startup: self.part(root, "", "startup").unwrap_or_default(),
            providers: self.part(root, "", "providers").unwrap_or_default(),
            log: self.part(root, "", "log").unwrap_or_default(),
            ledger: self.part(root, "", "ledger").unwrap_or_default(),
            server: self.part(root, "", "server").unwrap_or_default(),
            policies: self.parts(table("/policies"), "/policies"),
            stores: self.parts(table("/stores"), "/stores"),
            pager: Pager { channels: self.parts(table("/pager/channels"), "/pager/channels") },
            credentials: self.parts::<_, Credential>(table("/credentials"), "/credentials"),
        }
    }

    fn parts<K: TryFrom<String> + Ord, T: DeserializeOwned>(
        &mut self,
        table: Option<&Map<String, Value>>,
        at: &str,
    ) -> BTreeMap<K, T> {
        let Some(table) = table else { return BTreeMap::new() };
        let parts = table.keys().filter_map(|name| {
            // Names that cannot be are reported with the sense of the whole.
            Some((K::try_from(name.clone()).ok()?, self.part(table, at, name)?))
        });
        parts.collect()
    }

    /// One part. What is known to be wrong in it is replaced, so that the rest of it is looked at too; when serde
    /// refuses more, the values that it refuses are found by leaving them out one by one.
    fn part<T: DeserializeOwned>(&mut self, table: &Map<String, Value>, at: &str, key: &str) -> Option<T> {
        let path = below(at, key);
        let mut value = table.get(key)?.clone();
        let inside = format!("{path}/");
        let bad: Vec<String> = self
            .bad
            .range(path.clone()..)
            .take_while(|bad| bad.starts_with(&path))
            .filter(|bad| **bad == path || bad.starts_with(&inside))
            .cloned()
            .collect();
        if bad.contains(&path) {
            return None;
        }
        for bad in &bad {
            let fits = node_at(self.schema, &self.document.root, bad).and_then(|node| stand_in(self.schema, node));
            replace(&mut value, &bad[path.len()..], fits);
        }
        let mut error = match T::deserialize(&value) {
            Ok(part) => return Some(part),
            Err(error) => error.to_string(),
        };
        let mut leaves = leaves(&value, &self.bad, &path);
        // Words, numbers and the like were judged by their schema; only texts may still be of a wrong form.
        leaves.retain(|leaf| {
            node_at(self.schema, &self.document.root, &format!("{path}{leaf}"))
                .is_some_and(|node| is_free(resolve(self.schema, node).0))
        });
        let before = self.bad.len();
        for leaf in leaves {
            // serde tells what is missing after all that is there, so nothing is left to find.
            if error.starts_with("missing field") {
                break;
            }
            let mut without = value.clone();
            replace(&mut without, &leaf, None);
            let next = T::deserialize(&without).map_err(|error| error.to_string());
            // serde stops at the first refusal, so leaving out an innocent value changes nothing.
            if next.as_ref().is_err_and(|next| *next == error) {
                continue;
            }
            let full = format!("{path}{leaf}");
            self.problems.push(self.refused(&full, &error));
            self.bad.insert(full);
            match next {
                Ok(part) => return Some(part),
                Err(next) => (value, error) = (without, next),
            }
        }
        if bad.is_empty() && self.bad.len() == before {
            let message = format!("cannot be read: {}", unquoted(&error));
            self.problems.push(self.document.problem(&path, message, None));
        }
        None
    }

    fn refused(&self, at: &str, error: &str) -> Problem {
        let node = node_at(self.schema, &self.document.root, at);
        let example =
            node.and_then(|node| node["examples"][0].as_str()).map(|example| format!("for example {example:?}"));
        let words = node.and_then(description);
        let help = match (example, words) {
            (Some(example), Some(words)) => Some(format!("{example}; {words}")),
            (example, words) => example.or(words),
        };
        let text = self.document.root.pointer(at).and_then(Value::as_str).unwrap_or_default();
        // Other reasons of serde may quote the value, which may be a secret in the wrong line.
        let reason = match error.contains("socket address") {
            true if has_port_above(text) => ": its port is above 65535",
            true => ": it is no IP address with a port",
            false => "",
        };
        self.document.problem(at, format!("this value cannot be used here{reason}"), help)
    }
}

/// Whether the port of `address:port` is a number, and too great for one.
fn has_port_above(text: &str) -> bool {
    let port = text.rsplit_once(':').map_or("", |(_, port)| port);
    !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_err()
}

/// The schema of a value, found along its path; forms are told apart by their words.
fn node_at<'a>(schema: &'a Value, root: &Value, at: &str) -> Option<&'a Value> {
    let (mut node, mut value) = (schema, root);
    for key in at.split('/').skip(1) {
        let key = key.replace("~1", "/").replace("~0", "~");
        let mut table = resolve(schema, node).0;
        while let Some(forms) = choices(table) {
            let fits = |choice: &&&Value| {
                let tag = tag_of(&forms);
                tag.is_none_or(|tag| choice["properties"][tag]["const"] == value[tag])
            };
            table = resolve(schema, forms.iter().find(fits)?).0;
        }
        node = match table["properties"].get(&key) {
            Some(node) => node,
            None if table["items"].is_object() => &table["items"],
            None => table.get("additionalProperties").filter(|inner| inner.is_object())?,
        };
        value = value.get(&key).or_else(|| value.get(key.parse::<usize>().ok()?)).unwrap_or(&Value::Null);
    }
    Some(node)
}

/// Whether the schema leaves open what stands there.
fn is_free(node: &Value) -> bool {
    node.get("const").is_none() && choices(node).is_none()
}

/// Pointers of all values that hold no others and are not known to be bad.
fn leaves(value: &Value, bad: &BTreeSet<String>, path: &str) -> Vec<String> {
    fn collect(value: &Value, at: &str, found: &mut Vec<String>) {
        match value {
            Value::Object(table) => table.iter().for_each(|(key, value)| collect(value, &below(at, key), found)),
            _ => found.push(at.to_owned()),
        }
    }
    let mut found = vec![];
    collect(value, "", &mut found);
    found.retain(|leaf| !touches(bad, &format!("{path}{leaf}"), &['/']));
    found
}

/// Whether a path is one of `bad`, or within one, or around one.
fn touches(bad: &BTreeSet<String>, path: &str, separators: &[char]) -> bool {
    let mut above = path.match_indices(separators).map(|(at, _)| &path[..at]).filter(|above| !above.is_empty());
    let around = |bad: &&String| bad[path.len()..].starts_with(separators);
    bad.contains(path)
        || above.any(|above| bad.contains(above))
        || bad.range(path.to_owned()..).take_while(|bad| bad.starts_with(path)).any(|bad| around(&bad))
}

/// Puts another value in the place of a member, or takes it away.
fn replace(value: &mut Value, at: &str, with: Option<Value>) {
    let Some((parent, key)) = at.rsplit_once('/') else { return };
    let key = key.replace("~1", "/").replace("~0", "~");
    match (value.pointer_mut(parent), with) {
        (Some(Value::Object(table)), Some(with)) => drop(table.insert(key, with)),
        (Some(Value::Object(table)), None) => drop(table.remove(&key)),
        (Some(Value::Array(array)), with) => {
            let Some(element) = key.parse().ok().and_then(|index: usize| array.get_mut(index)) else { return };
            *element = with.unwrap_or_default();
        }
        _ => {}
    }
}

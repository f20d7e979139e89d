//! A settings file as data, where each value still knows its place in the text.

use std::{
    collections::HashMap,
    ops::Range,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};
use toml::de::{DeTable, DeValue};

use super::problem::Problem;
use crate::telemetry::looks_secret;

/// A parsed file. Values are JSON, so that dates are texts and each part can be read by serde on its own.
pub(super) struct Document {
    file: PathBuf,
    text: String,
    /// All of it.
    pub root: Value,
    places: HashMap<String, Place>,
    /// Where each line begins.
    lines: Vec<usize>,
}

/// Where a value stands: its key (an array's elements have none) and itself.
struct Place {
    key: Option<Range<usize>>,
    value: Range<usize>,
}

impl Document {
    /// Reads TOML, with every syntax error and as much of the data as can be understood around them.
    pub fn parse(file: &Path, text: &str) -> (Self, Vec<Problem>) {
        let (table, errors) = DeTable::parse_recoverable(text);
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        let mut document =
            Self { file: file.to_owned(), text: text.to_owned(), root: Value::Null, places: HashMap::new(), lines };
        document.root = Value::Object(document.table(table.get_ref(), ""));
        let problems = errors.iter().map(|error| {
            let start = error.span().map_or(0, |span| span.start);
            let (line, column) = document.position(start);
            // The parser's message quotes what it expected, and now and then a piece of what it found.
            let message = format!("not valid TOML: {}", unquoted(error.message()));
            Problem { line, column, help: None, ..Problem::of_file(file, message, "") }
        });
        let mut problems: Vec<_> = problems.collect();
        problems.dedup_by_key(|problem| problem.line);
        (document, problems)
    }

    fn table(&mut self, table: &DeTable<'_>, at: &str) -> Map<String, Value> {
        let mut object = Map::new();
        for (key, value) in table {
            let path = below(at, key.get_ref());
            let json = self.value(value.get_ref(), &path);
            self.places.insert(path, Place { key: Some(key.span()), value: value.span() });
            object.insert(key.get_ref().to_string(), json);
        }
        object
    }

    fn value(&mut self, value: &DeValue<'_>, at: &str) -> Value {
        match value {
            DeValue::String(text) => Value::from(text.as_ref()),
            DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => Value::from(number),
                Err(_) => Value::from(f64::MAX),
            },
            DeValue::Float(number) => Value::from(number.as_str().parse::<f64>().unwrap_or(f64::MAX)),
            DeValue::Boolean(value) => Value::from(*value),
            DeValue::Datetime(date) => Value::from(date.to_string()),
            DeValue::Table(table) => Value::Object(self.table(table, at)),
            DeValue::Array(array) => {
                let mut values = Vec::with_capacity(array.len());
                for (index, element) in array.iter().enumerate() {
                    let path = below(at, &index.to_string());
                    values.push(self.value(element.get_ref(), &path));
                    self.places.insert(path, Place { key: None, value: element.span() });
                }
                Value::Array(values)
            }
        }
    }

    /// Line and column of a byte, both from 1.
    fn position(&self, at: usize) -> (usize, usize) {
        let line = self.lines.partition_point(|start| *start <= at);
        let start = self.lines[line - 1];
        let before = self.text.get(start..at.min(self.text.len())).unwrap_or_default();
        (line, before.chars().count() + 1)
    }

    /// The line on which a value begins; for "the other one is on line …".
    pub fn line_of(&self, at: &str) -> usize {
        self.places.get(at).map_or(0, |place| self.position(place.key.as_ref().unwrap_or(&place.value).start).0)
    }

    /// A problem at a value, or at the nearest thing around it that has a place.
    pub fn problem(&self, at: &str, message: impl Into<String>, help: Option<String>) -> Problem {
        let mut problem = Problem::of_file(&self.file, message, "");
        problem.help = help;
        problem.path = dotted(at);
        let mut near = at;
        let place = loop {
            match (self.places.get(near), near.rfind('/')) {
                (Some(place), _) => break place,
                (None, Some(cut)) => near = &near[..cut],
                (None, None) => return problem,
            }
        };
        let span = place.key.as_ref().unwrap_or(&place.value);
        (problem.line, problem.column) = self.position(span.start);
        problem.excerpt = place.key.as_ref().and_then(|key| self.excerpt(key));
        problem
    }

    /// The line of a key up to the key's end. What follows may be a secret, and so may a line without a key.
    fn excerpt(&self, key: &Range<usize>) -> Option<(String, usize)> {
        let start = self.lines[self.lines.partition_point(|start| *start <= key.start) - 1];
        let before = self.text.get(start..key.start)?;
        let name = self.text.get(key.clone())?;
        let harmless = |c: char| c.is_ascii_alphanumeric() || matches!(c, '[' | '.' | '_' | '-' | ' ' | '\t' | '"');
        if !before.chars().all(harmless) || name.len() > 80 || name.contains('\n') {
            return None;
        }
        let end = if before.trim_start().starts_with('[') { "]" } else { " = …" };
        Some((format!("{before}{name}{end}"), name.chars().count()))
    }
}

/// The JSON pointer of a member.
pub(super) fn below(at: &str, key: &str) -> String {
    format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"))
}

/// A JSON pointer as people write it.
pub(super) fn dotted(at: &str) -> String {
    let mut text = String::new();
    for part in at.split('/').skip(1) {
        let part = part.replace("~1", "/").replace("~0", "~");
        let part: String = part.chars().take(64).collect();
        if !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() {
            text = format!("{text}[{part}]");
        } else {
            let separator = if text.is_empty() { "" } else { "." };
            let part = if looks_secret(&part) { "…".into() } else { part.escape_debug().to_string() };
            text = text + separator + &part;
        }
    }
    text
}

/// A library's message without whatever it quotes, except single signs and words of the grammar.
pub(super) fn unquoted(message: &str) -> String {
    let mut text = String::new();
    for (index, piece) in message.split('`').enumerate() {
        let sign = piece.chars().count() <= 3 && !piece.chars().any(char::is_alphanumeric);
        match index % 2 {
            0 => text += piece,
            _ if sign => text = text + "`" + piece + "`",
            _ => text += "…",
        }
    }
    match text.split_once('"') {
        Some((before, rest)) => format!("{before}…{}", rest.rsplit_once('"').map_or("", |(_, after)| after)),
        None => text,
    }
}

//! Reads a TOML table member by member and collects everything that is wrong, instead of stopping at the first.

use std::{cell::RefCell, collections::BTreeMap, ops::Range, time::Duration};

use serde_json::Value;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::problem::{Problem, did_you_mean, place};

/// What all tables of a file share.
pub struct Source<'a> {
    /// As problems name it.
    pub file: &'a str,
    /// The whole text.
    pub text: &'a str,
    /// What was found wrong so far.
    pub problems: RefCell<Vec<Problem>>,
}

impl Source<'_> {
    /// Notes a problem at a place.
    pub fn wrong(&self, span: Range<usize>, message: impl Into<String>) {
        let (line, column) = place(self.text, span.start);
        self.problems.borrow_mut().push(Problem { file: self.file.to_owned(), line, column, message: message.into() });
    }

    /// `slack.toml:31`.
    pub fn line(&self, span: Range<usize>) -> String {
        format!("{}:{}", self.file, place(self.text, span.start).0)
    }
}

/// One table, and which of its members were asked for.
pub struct Table<'a, 'i> {
    source: &'a Source<'a>,
    table: &'a DeTable<'i>,
    /// Where it stands.
    pub span: Range<usize>,
    asked: RefCell<Vec<&'static str>>,
}

type Item<'a, 'i> = &'a Spanned<DeValue<'i>>;

impl<'a, 'i> Table<'a, 'i> {
    /// A table of a source.
    pub fn new(source: &'a Source<'a>, table: &'a DeTable<'i>, span: Range<usize>) -> Self {
        Self { source, table, span, asked: RefCell::default() }
    }

    fn get(&self, name: &'static str) -> Option<Item<'a, 'i>> {
        self.asked.borrow_mut().push(name);
        self.table.iter().find(|(key, _)| key.get_ref() == name).map(|(_, value)| value)
    }

    /// Reads a member, or notes that it is not what it must be.
    pub fn read<T>(&self, name: &'static str, wanted: &str, read: impl FnOnce(Item<'a, 'i>) -> Option<T>) -> Option<T> {
        let item = self.get(name)?;
        let value = read(item);
        if value.is_none() {
            self.source.wrong(item.span(), format!("{name:?} must be {wanted}"));
        }
        value
    }

    /// A text.
    pub fn text(&self, name: &'static str) -> Option<String> {
        self.read(name, "a text", |item| Some(item.get_ref().as_str()?.to_owned()))
    }

    /// True or false.
    pub fn flag(&self, name: &'static str) -> Option<bool> {
        self.read(name, "true or false", |item| item.get_ref().as_bool())
    }

    /// A time such as `"8h"` or `"180d"`.
    pub fn duration(&self, name: &'static str) -> Option<Duration> {
        self.read(name, "a time such as \"90s\", \"10m\", \"8h\" or \"180d\"", |item| {
            duration(item.get_ref().as_str()?)
        })
    }

    /// One of some words.
    pub fn word<T: Copy>(&self, name: &'static str, words: &[(&'static str, T)]) -> Option<T> {
        let item = self.get(name)?;
        let allowed = words.iter().map(|(word, _)| *word);
        let found = item.get_ref().as_str().and_then(|text| words.iter().find(|(word, _)| *word == text));
        if found.is_none() {
            let near = did_you_mean(item.get_ref().as_str().unwrap_or_default(), allowed);
            self.source.wrong(item.span(), format!("{name:?} is not one of the words it can be{near}"));
        }
        found.map(|(_, value)| *value)
    }

    /// A text or a list of texts.
    pub fn texts(&self, name: &'static str) -> Option<Vec<String>> {
        self.read(name, "a text or a list of texts", |item| {
            each(item).into_iter().map(|item| Some(item.get_ref().as_str()?.to_owned())).collect()
        })
    }

    /// A text or a list of texts, each one of some words.
    pub fn words<T: Copy>(&self, name: &'static str, words: &[(&'static str, T)]) -> Vec<T> {
        let Some(item) = self.get(name) else { return Vec::new() };
        let mut values = Vec::new();
        for item in each(item) {
            let text = item.get_ref().as_str().unwrap_or_default();
            match words.iter().find(|(word, _)| *word == text) {
                Some((_, value)) => values.push(*value),
                None => {
                    let near = did_you_mean(text, words.iter().map(|(word, _)| *word));
                    self.source.wrong(item.span(), format!("{name:?} holds a word it cannot be{near}"));
                }
            }
        }
        values
    }

    /// HTTP statuses: a number or a list.
    pub fn statuses(&self, name: &'static str) -> Vec<u16> {
        let wanted = "an HTTP status, or a list of them";
        let read = |item| {
            each(item)
                .into_iter()
                .map(|item| integer(item.get_ref())?.try_into().ok().filter(|s| (100..600).contains(s)))
                .collect()
        };
        self.read(name, wanted, read).unwrap_or_default()
    }

    /// Texts by name.
    pub fn map(&self, name: &'static str) -> Option<BTreeMap<String, String>> {
        self.read(name, "a table of texts", |item| {
            let table = item.get_ref().as_table()?;
            table
                .iter()
                .map(|(key, value)| Some((key.get_ref().to_string(), value.get_ref().as_str()?.to_owned())))
                .collect()
        })
    }

    /// A table inside.
    pub fn table(&self, name: &'static str) -> Option<Table<'a, 'i>> {
        let item = self.get(name)?;
        let Some(table) = item.get_ref().as_table() else {
            self.source.wrong(item.span(), format!("{name:?} must be a table"));
            return None;
        };
        Some(Table::new(self.source, table, item.span()))
    }

    /// A table of a member whose name only the file knows.
    pub fn inside(&self, table: &'a DeTable<'i>, span: Range<usize>) -> Table<'a, 'i> {
        Table::new(self.source, table, span)
    }

    /// Tables inside, `[[name]]`.
    pub fn tables(&self, name: &'static str) -> Vec<Table<'a, 'i>> {
        let Some(item) = self.get(name) else { return Vec::new() };
        let mut tables = Vec::new();
        for item in each(item) {
            match item.get_ref().as_table() {
                Some(table) => tables.push(Table::new(self.source, table, item.span())),
                None => self.source.wrong(item.span(), format!("{name:?} must be tables: [[{name}]]")),
            }
        }
        tables
    }

    /// Members by their own names, with their places.
    pub fn members(&self) -> impl Iterator<Item = (&'a str, Item<'a, 'i>)> {
        self.table.iter().map(|(key, value)| (key.get_ref().as_ref(), value))
    }

    /// Notes a problem of this table.
    pub fn wrong(&self, message: impl Into<String>) {
        self.source.wrong(self.span.clone(), message);
    }

    /// Notes a problem elsewhere.
    pub fn wrong_at(&self, span: Range<usize>, message: impl Into<String>) {
        self.source.wrong(span, message);
    }

    /// `slack.toml:31`.
    pub fn line(&self) -> String {
        self.source.line(self.span.clone())
    }

    /// Notes every member that nobody asked for.
    pub fn finish(&self) {
        let asked = self.asked.borrow();
        for (key, _) in self.table.iter().filter(|(key, _)| !asked.contains(&key.get_ref().as_ref())) {
            let near = did_you_mean(key.get_ref(), asked.iter().copied());
            self.source.wrong(key.span(), format!("unknown field {:?}{near}", key.get_ref()));
        }
    }
}

/// An array's items, or the one value that stands for a list.
pub fn each<'a, 'i>(item: Item<'a, 'i>) -> Vec<Item<'a, 'i>> {
    match item.get_ref().as_array() {
        Some(list) => list.iter().collect(),
        None => vec![item],
    }
}

fn integer(value: &DeValue<'_>) -> Option<i64> {
    let number = value.as_integer()?;
    i64::from_str_radix(&number.as_str().replace('_', ""), number.radix()).ok()
}

/// A text, a whole number or a flag, as JSON has it.
pub fn scalar(value: &DeValue<'_>) -> Option<Value> {
    match value {
        DeValue::String(text) => Some(Value::from(text.as_ref())),
        DeValue::Boolean(flag) => Some(Value::from(*flag)),
        value => integer(value).map(Value::from),
    }
}

/// `90s`, `10m`, `8h`, `180d`, or several of them in a row.
fn duration(text: &str) -> Option<Duration> {
    let mut total = 0u64;
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        let unit = match rest.as_bytes()[digits] {
            b's' => 1,
            b'm' => 60,
            b'h' => 3600,
            b'd' => 86_400,
            _ => return None,
        };
        total = total.checked_add(number.checked_mul(unit)?)?;
        rest = rest[digits + 1..].trim_start();
    }
    Some(Duration::from_secs(total))
}

//! A provider's own rules: the first that matches decides. Conditions are values and JSON pointers, no language.

use jiff::Timestamp;
use serde_json::Value;

use super::{
    Surface, expiry,
    generic::{Observed, is_static},
};
use crate::credential::{Failure, Reply};

/// A provider's failure rules, checked; its own first, then those of the file it extends.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// In order: the first match decides.
    pub failures: Vec<Rule>,
    /// Replies that prove the rules.
    pub examples: Vec<Example>,
    /// Codes that alone prove the death of a grant or key.
    pub definitive: Vec<String>,
}

/// One `[[failure]]`.
#[derive(Clone, Debug)]
pub struct Rule {
    /// `slack.toml:31`.
    pub place: String,
    /// What it means.
    pub failure: Failure,
    /// A finer word.
    pub cause: Option<String>,
    /// This match alone proves death.
    pub definitive: bool,
    /// Where it departs from what the failure usually means.
    pub retryable: Option<bool>,
    /// Where it departs from what the failure usually means.
    pub needs_human: Option<bool>,
    /// All of it must hold.
    pub when: When,
}

/// Conditions; an empty one always holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct When {
    /// Any of these.
    pub status: Vec<u16>,
    /// Any of these.
    pub surface: Vec<Surface>,
    /// Any of these kinds, or the words `static` and `refreshable`.
    pub presented: Vec<String>,
    /// Header by lower-case name.
    pub header: Vec<(String, Test)>,
    /// Body by JSON pointer (RFC 6901); form bodies are read as an object.
    pub body: Vec<(String, Test)>,
    /// The body's text contains any of these, in any case.
    pub text: Vec<String>,
}

/// What a header or a body member must be.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// There (`true`) or not (`false`).
    Present(bool),
    /// Any of these values; a number equals its digits.
    OneOf(Vec<Value>),
    /// Begins with any of these.
    Prefix(Vec<String>),
    /// Contains any of these, in any case.
    Contains(Vec<String>),
    /// A date that is over (`true`) or still to come (`false`).
    Past(bool),
}

/// One `[[example]]`.
#[derive(Clone, Debug)]
pub struct Example {
    /// `slack.toml:58`.
    pub place: String,
    /// Where it was met.
    pub surface: Surface,
    /// What was presented.
    pub presented: String,
    /// The reply.
    pub reply: Reply,
    /// What it must mean.
    pub failure: Failure,
    /// What the cause must be, if the example says so.
    pub cause: Option<String>,
}

impl Test {
    fn holds(&self, value: Option<&Value>, now: Timestamp) -> bool {
        let text = || match value {
            Some(Value::String(text)) => Some(text.clone()),
            Some(Value::Number(number)) => Some(number.to_string()),
            Some(Value::Bool(flag)) => Some(flag.to_string()),
            _ => None,
        };
        match self {
            Self::Present(there) => value.is_some_and(|v| !v.is_null()) == *there,
            Self::OneOf(values) => value.is_some_and(|value| {
                values.contains(value)
                    || text().is_some_and(|text| {
                        values.iter().any(|v| {
                            v.as_str() == Some(&text) || v.as_number().is_some_and(|number| number.to_string() == text)
                        })
                    })
            }),
            Self::Prefix(values) => text().is_some_and(|text| values.iter().any(|v| text.starts_with(v.as_str()))),
            Self::Contains(values) => text().is_some_and(|text| {
                let text = text.to_lowercase();
                values.iter().any(|v| text.contains(&v.to_lowercase()))
            }),
            Self::Past(past) => value.and_then(expiry::moment).is_some_and(|date| (date <= now) == *past),
        }
    }

    /// Whether whatever `other` accepts is accepted here as well; used to find rules that can never be reached.
    fn covers(&self, other: &Self) -> bool {
        let all = |mine: &[String], theirs: &[String], fits: fn(&str, &str) -> bool| {
            theirs.iter().all(|theirs| mine.iter().any(|mine| fits(theirs, mine)))
        };
        match (self, other) {
            (Self::Present(true), Self::OneOf(_) | Self::Prefix(_) | Self::Contains(_) | Self::Past(_)) => true,
            (Self::OneOf(mine), Self::OneOf(theirs)) => theirs.iter().all(|value| mine.contains(value)),
            (Self::Prefix(mine), Self::Prefix(theirs)) => all(mine, theirs, |theirs, mine| theirs.starts_with(mine)),
            (Self::Contains(mine), Self::Contains(theirs)) => all(mine, theirs, |theirs, mine| theirs.contains(mine)),
            (Self::Prefix(mine), Self::OneOf(theirs)) => theirs.iter().all(|value| {
                value.as_str().is_some_and(|text| mine.iter().any(|mine| text.starts_with(mine.as_str())))
            }),
            (mine, theirs) => mine == theirs,
        }
    }
}

impl When {
    /// Whether all conditions hold.
    pub fn holds(&self, observed: &Observed<'_>) -> bool {
        let refusal = &observed.refusal;
        let any = |list: &[String], text: &str| list.iter().any(|item| text.contains(&item.to_lowercase()));
        (self.status.is_empty() || self.status.contains(&refusal.reply.status))
            && (self.surface.is_empty() || self.surface.contains(&refusal.surface))
            && (self.presented.is_empty() || self.presented.iter().any(|word| presents(word, refusal.presented)))
            && self.header.iter().all(|(name, test)| {
                test.holds(refusal.reply.header(name).map(|value| Value::from(value.trim())).as_ref(), refusal.now)
            })
            && self.body.iter().all(|(pointer, test)| {
                test.holds(observed.json.as_ref().and_then(|json| json.pointer(pointer)), refusal.now)
            })
            && (self.text.is_empty() || any(&self.text, &observed.text.to_lowercase()))
    }

    /// Whether every reply that fits `other` fits this as well.
    pub fn covers(&self, other: &Self) -> bool {
        fn within<T: PartialEq>(mine: &[T], theirs: &[T]) -> bool {
            mine.is_empty() || (!theirs.is_empty() && theirs.iter().all(|item| mine.contains(item)))
        }
        fn tests(mine: &[(String, Test)], theirs: &[(String, Test)]) -> bool {
            mine.iter().all(|(name, test)| theirs.iter().any(|(other, theirs)| name == other && test.covers(theirs)))
        }
        within(&self.status, &other.status)
            && within(&self.surface, &other.surface)
            && within(&self.presented, &other.presented)
            && within(&self.text, &other.text)
            && tests(&self.header, &other.header)
            && tests(&self.body, &other.body)
    }
}

fn presents(word: &str, presented: &str) -> bool {
    match word {
        "static" => is_static(presented),
        "refreshable" => !is_static(presented),
        word => word == presented,
    }
}

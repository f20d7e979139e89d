//! What is wrong with a provider's file: place, reason, and the likely cure. It never quotes a value.

use std::fmt;

/// One thing wrong, with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file, as it was named.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// What is wrong and what is allowed.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)
    }
}

impl std::error::Error for Problem {}

/// Line and column of a byte, both from 1.
pub fn place(text: &str, at: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(at)];
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[start..].chars().count() + 1)
}

/// `; did you mean "status"?`, if something allowed is close, else the list of what is allowed.
pub fn did_you_mean<'a>(word: &str, allowed: impl IntoIterator<Item = &'a str> + Clone) -> String {
    let near = allowed
        .clone()
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .min()
        .filter(|(distance, candidate)| *distance <= candidate.len().max(4) / 3);
    match near {
        Some((_, candidate)) => format!("; did you mean {candidate:?}?"),
        None => format!("; allowed: {}", allowed.into_iter().collect::<Vec<_>>().join(", ")),
    }
}

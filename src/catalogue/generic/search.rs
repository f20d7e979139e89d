//! Finds the lexicon's entries in words, fast: one automaton over the literals without which a phrasing cannot be there
//! says which phrasings are worth their own regular expression. There are few for any one text.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    sync::{LazyLock, OnceLock},
};

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use regex::bytes::Regex;
use regex_syntax::{
    ParserBuilder,
    hir::{Hir, HirKind},
};

use super::lexicon::ENTRIES;

/// One way to say what an entry means: a branch of its pattern.
pub struct Phrasing {
    /// The entry's index.
    pub entry: usize,
    pattern: String,
    /// Made when it is first needed; most never are. All in one would have more states than any cache holds.
    expression: OnceLock<Regex>,
    /// A second set of literals of which one must be there.
    also: Option<usize>,
}

struct Search {
    phrasings: Vec<Phrasing>,
    /// Literals of all of them.
    literals: AhoCorasick,
    /// Of which sets a literal is one.
    sets_of: Vec<Vec<usize>>,
    /// By the set that says most: which phrasings it begins to tell.
    told_by: Vec<Vec<usize>>,
    /// Phrasings of which no literal is certain.
    always: Vec<usize>,
}

static SEARCH: LazyLock<Search> = LazyLock::new(|| {
    let (mut phrasings, mut always, mut known) = (Vec::new(), Vec::new(), Vec::<Literals>::new());
    let mut told_by: Vec<Vec<usize>> = Vec::new();
    for (entry, described) in ENTRIES.iter().enumerate() {
        let mut parser = ParserBuilder::new().unicode(false).utf8(false).build();
        for branch in branches(&parser.parse(&described.expression()).expect("constant patterns")) {
            let mut sets = together(branch);
            // The longest are the rarest.
            sets.sort_by_key(|set| Reverse(shortest(set)));
            let mut sets = sets.into_iter().map(|set| {
                known.iter().position(|other| *other == set).unwrap_or_else(|| {
                    known.push(set);
                    known.len() - 1
                })
            });
            let (first, also) = (sets.next(), sets.next());
            told_by.resize_with(known.len(), Vec::new);
            first.map_or(&mut always, |set| &mut told_by[set]).push(phrasings.len());
            phrasings.push(Phrasing { entry, pattern: branch.to_string(), expression: OnceLock::new(), also });
        }
    }
    let mut sets_of = BTreeMap::<&[u8], Vec<usize>>::new();
    for (at, set) in known.iter().enumerate() {
        set.iter().for_each(|literal| sets_of.entry(literal).or_default().push(at));
    }
    // A table of all steps would be larger than the caches, and slower.
    let automaton = AhoCorasick::builder().kind(Some(AhoCorasickKind::ContiguousNFA)).build(sets_of.keys());
    let (literals, sets_of) = (automaton.expect("constant patterns"), sets_of.into_values().collect());
    Search { phrasings, literals, sets_of, told_by, always }
});

/// The branches of an expression.
fn branches(hir: &Hir) -> Vec<&Hir> {
    match hir.kind() {
        HirKind::Capture(capture) => branches(&capture.sub),
        HirKind::Alternation(parts) => parts.iter().flat_map(branches).collect(),
        _ => vec![hir],
    }
}

/// Sets of literals of which one each is in every match. A blank is everywhere.
fn together(branch: &Hir) -> Vec<Literals> {
    match branch.kind() {
        HirKind::Concat(parts) => parts.iter().filter_map(certain).filter(|set| shortest(set) > 1).collect(),
        _ => certain(branch).into_iter().collect(),
    }
}

/// Of these, one is there.
type Literals = Vec<Vec<u8>>;

fn shortest(set: &Literals) -> usize {
    set.iter().map(Vec::len).min().unwrap_or_default()
}

/// Literals of which every match holds at least one; `None` where there is no such set.
fn certain(hir: &Hir) -> Option<Literals> {
    match hir.kind() {
        HirKind::Literal(literal) => Some(vec![literal.0.to_vec()]),
        HirKind::Capture(capture) => certain(&capture.sub),
        HirKind::Repetition(repetition) if repetition.min > 0 => certain(&repetition.sub),
        HirKind::Alternation(branches) => {
            let sets: Option<Vec<_>> = branches.iter().map(certain).collect();
            sets.map(|sets| sets.into_iter().flatten().collect())
        }
        // The longest is the rarest.
        HirKind::Concat(parts) => parts.iter().filter_map(certain).max_by_key(shortest),
        _ => None,
    }
}

/// The phrasings that may be found in some texts, each with its text's place: by entry, then by text.
pub fn candidates<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<(&'static Phrasing, usize)> {
    let search = &*SEARCH;
    let (mut found, mut sets) = (Vec::new(), Vec::with_capacity(64));
    // In which text a set was met last, counted from 1.
    let mut met = vec![0; search.told_by.len()];
    for (at, words) in texts.enumerate() {
        for literal in search.literals.find_overlapping_iter(words) {
            for set in &search.sets_of[literal.pattern().as_usize()] {
                if std::mem::replace(&mut met[*set], at + 1) != at + 1 {
                    sets.push(*set);
                }
            }
        }
        let told = sets.drain(..).flat_map(|set| &search.told_by[set]).chain(&search.always);
        let told = told.map(|phrasing| (&search.phrasings[*phrasing], at));
        found.extend(told.filter(|(phrasing, _)| phrasing.also.is_none_or(|set| met[set] == at + 1)));
    }
    found.sort_unstable_by_key(|(phrasing, at)| (phrasing.entry, *at));
    found
}

impl Phrasing {
    fn expression(&self) -> &Regex {
        self.expression.get_or_init(|| Regex::new(&self.pattern).expect("constant patterns"))
    }

    /// Whether it is found in some words.
    pub fn is_in(&self, words: &str) -> bool {
        self.expression().is_match(words.as_bytes())
    }

    /// Where, in the raw text, a quotation of what was found should begin: near it, at the beginning of a word.
    pub fn place(&self, words: &str, raw: &str) -> usize {
        /// A quotation from the beginning shows what stands before this.
        const NEAR: usize = 100;
        if raw.len() <= NEAR {
            return 0;
        }
        let found = self.expression().find(words.as_bytes()).map(|found| found.start());
        let first = found.and_then(|start| words.get(start..)?.split(' ').next());
        let at = first.and_then(|word| raw.to_ascii_lowercase().find(word)).filter(|at| *at > NEAR);
        at.and_then(|at| raw[..raw.floor_char_boundary(at - NEAR / 2)].rfind(char::is_whitespace)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_every_pattern_compiles() {
        let mut names: Vec<_> = ENTRIES.iter().map(|entry| entry.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ENTRIES.len());
        assert!(SEARCH.phrasings.iter().all(|phrasing| phrasing.expression().captures_len() > 0));
        let first = SEARCH.phrasings.iter().find(|phrasing| phrasing.is_in("the token has expired"));
        assert_eq!(first.map(|phrasing| ENTRIES[phrasing.entry].name), Some("expired"));
    }

    #[test]
    fn a_phrasing_that_is_found_was_a_candidate() {
        let corpus = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/replies/corpus.jsonl"));
        for line in corpus.lines() {
            let words = super::super::words::normalise(line, false);
            let candidates = candidates([words.as_str()].into_iter());
            for known in SEARCH.phrasings.iter().filter(|known| known.is_in(&words)) {
                assert!(candidates.iter().any(|(some, _)| std::ptr::eq(*some, known)), "{}: {words}", known.pattern);
            }
        }
    }
}

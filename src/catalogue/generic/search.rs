//! Finds the lexicon's entries in words, fast: one automaton over the literals without which no entry can match says
//! which entries are worth their own regular expression. There are few for any one text.

use std::{cmp::Reverse, collections::BTreeMap, sync::LazyLock};

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use regex::bytes::{Regex, RegexBuilder};
use regex_syntax::{
    ParserBuilder,
    hir::{Hir, HirKind},
};

use super::lexicon::ENTRIES;

/// A set of entries, by their index.
pub type Entries = u128;

/// How many literals must be there together.
const TOGETHER: usize = 3;

struct Search {
    /// Each entry's expression. All in one would have more states than any cache holds, and be slow.
    expressions: Vec<Regex>,
    /// Literals of all of them.
    literals: AhoCorasick,
    /// For which entries a literal is the first, the second … that must be there.
    of: Vec<[Entries; TOGETHER]>,
    /// Entries of which no literal is certain.
    always: Entries,
}

static SEARCH: LazyLock<Search> = LazyLock::new(|| {
    let (mut expressions, mut always) = (Vec::new(), 0);
    let mut of = BTreeMap::<Vec<u8>, [Entries; TOGETHER]>::new();
    for (at, entry) in ENTRIES.iter().enumerate() {
        let expression = entry.expression();
        let mut parser = ParserBuilder::new().unicode(false).utf8(false).build();
        for mut sets in branches(&parser.parse(&expression).expect("constant patterns")) {
            // The longest are the rarest.
            sets.sort_by_key(|set| Reverse(shortest(set)));
            let Some(rarest) = sets.first() else {
                always |= 1 << at;
                continue;
            };
            for place in 0..TOGETHER {
                for literal in sets.get(place).unwrap_or(rarest) {
                    of.entry(literal.clone()).or_default()[place] |= 1 << at;
                }
            }
        }
        expressions.push(RegexBuilder::new(&expression).unicode(false).build().expect("constant patterns"));
    }
    // A table of all steps would be larger than the caches, and slower.
    let automaton = AhoCorasick::builder().kind(Some(AhoCorasickKind::ContiguousNFA)).build(of.keys());
    Search { expressions, literals: automaton.expect("constant patterns"), of: of.into_values().collect(), always }
});

/// Of these, one is there.
type Literals = Vec<Vec<u8>>;

fn shortest(set: &Literals) -> usize {
    set.iter().map(Vec::len).min().unwrap_or_default()
}

/// The ways in which an expression can be found: for each, sets of literals of which one each is there.
fn branches(hir: &Hir) -> Vec<Vec<Literals>> {
    match hir.kind() {
        HirKind::Capture(capture) => branches(&capture.sub),
        HirKind::Alternation(parts) => parts.iter().flat_map(branches).collect(),
        HirKind::Concat(parts) => {
            // A blank is everywhere.
            vec![parts.iter().filter_map(certain).filter(|set| shortest(set) > 1).collect()]
        }
        _ => vec![certain(hir).into_iter().collect()],
    }
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

/// The entries that may be found in some words.
pub fn candidates(words: &str) -> Entries {
    let search = &*SEARCH;
    let mut found = [0; TOGETHER];
    for literal in search.literals.find_overlapping_iter(words) {
        let of = &search.of[literal.pattern().as_usize()];
        found.iter_mut().zip(of).for_each(|(found, of)| *found |= of);
    }
    found.into_iter().fold(Entries::MAX, |all, some| all & some) | search.always
}

/// Whether an entry, by its index, is found in some words.
pub fn says(entry: usize, words: &str) -> bool {
    SEARCH.expressions[entry].is_match(words.as_bytes())
}

/// Where, in the raw text, a quotation of what was found should begin: near it, at the beginning of a word.
pub fn place(entry: usize, words: &str, raw: &str) -> usize {
    /// A quotation from the beginning shows what stands before this.
    const NEAR: usize = 100;
    if raw.len() <= NEAR {
        return 0;
    }
    let found = SEARCH.expressions[entry].find(words.as_bytes()).map(|found| found.start());
    let first = found.and_then(|start| words.get(start..)?.split(' ').next());
    let at = first.and_then(|word| raw.to_ascii_lowercase().find(word)).filter(|at| *at > NEAR);
    at.and_then(|at| raw[..raw.floor_char_boundary(at - NEAR / 2)].rfind(char::is_whitespace)).unwrap_or_default()
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
        assert!(ENTRIES.len() < 128, "a set of entries is a number of 128 bits");
        let first = (0..ENTRIES.len()).find(|entry| says(*entry, "the token has expired"));
        assert_eq!(first.map(|at| ENTRIES[at].name), Some("expired"));
    }

    #[test]
    fn an_entry_that_is_found_was_a_candidate() {
        let corpus = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/replies/corpus.jsonl"));
        for line in corpus.lines() {
            let words = super::super::words::normalise(line, false);
            let candidates = candidates(&words);
            for (entry, known) in ENTRIES.iter().enumerate() {
                assert!(!says(entry, &words) || candidates >> entry & 1 == 1, "{}: {words}", known.name);
            }
        }
    }
}

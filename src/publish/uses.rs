//! What a credential is offered for, and which of several is the narrowest that will do.

use std::{borrow::Cow, cmp::Reverse};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Uses: plain words (`"read"`, `"repo:acme/web"`, `"endpoint:/v1/files"`); a trailing `*` matches the rest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Uses {
    /// A word such as "read".
    One(String),
    /// A list of such words.
    Several(Vec<String>),
}

/// How much a credential may be used for; wider is greater. A set of uses within another is never the wider one.
///
/// The lengths before each `*` in order, the shortest first (a shorter one matches more, and one more matches more), then
/// how many plain words there are.
pub type Breadth = (Vec<Reverse<usize>>, usize);

impl Uses {
    /// Each use as it is written.
    pub fn list(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Several(several) => several,
        }
    }
}

/// What a credential is offered for to those who do not ask for it by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The service that it is for.
    pub service: String,
    /// What for; everything where absent.
    pub uses: Option<Uses>,
}

impl Offer {
    fn patterns(&self) -> impl Iterator<Item = &str> {
        let everything = self.uses.is_none().then_some("*");
        everything.into_iter().chain(self.uses.iter().flat_map(Uses::list).map(String::as_str))
    }

    /// Whether it may be used for all of these. Who asks for no use in particular asks for every use.
    pub fn covers(&self, asked: &[Cow<'_, str>]) -> bool {
        let covered = |word: &str| self.patterns().any(|pattern| matches(pattern, word));
        if asked.is_empty() { covered("*") } else { asked.iter().all(|word| covered(word)) }
    }

    /// How much it may be used for.
    pub fn breadth(&self) -> Breadth {
        let mut open: Vec<_> = self.patterns().filter_map(|p| p.strip_suffix('*')).map(|p| Reverse(p.len())).collect();
        open.sort_by(|a, b| b.cmp(a));
        let plain = self.patterns().count() - open.len();
        (open, plain)
    }

    /// A use for which both would do, neither of them being the narrower one: nothing tells which a reader means.
    pub fn tie<'a>(&'a self, other: &'a Self) -> Option<&'a str> {
        if self.service != other.service || self.breadth() != other.breadth() {
            return None;
        }
        self.patterns().find_map(|a| {
            other.patterns().find_map(|b| match (matches(a, b), matches(b, a)) {
                (true, _) => Some(b),
                (_, true) => Some(a),
                _ => None,
            })
        })
    }
}

/// Whether a use covers another one; both may end in `*`.
fn matches(pattern: &str, word: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => word.starts_with(beginning),
        None => pattern == word,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(uses: &[&str]) -> Offer {
        let uses = (!uses.is_empty()).then(|| Uses::Several(uses.iter().map(|word| (*word).to_owned()).collect()));
        Offer { service: "github".into(), uses }
    }

    fn covers(uses: &[&str], asked: &[&str]) -> bool {
        offer(uses).covers(&asked.iter().map(|word| Cow::from(*word)).collect::<Vec<_>>())
    }

    #[test]
    fn every_use_that_is_asked_for_must_be_covered() {
        let table: &[(&[&str], &[&str], bool)] = &[
            (&["read"], &["read"], true),
            (&["read"], &["write"], false),
            (&["read", "write"], &["write", "read"], true),
            (&["read"], &["read", "write"], false),
            (&["repo:acme/*"], &["repo:acme/web"], true),
            (&["repo:acme/*"], &["repo:other/web"], false),
            (&["repo:acme/*"], &["repo:acme/*"], true),
            (&["repo:acme/web"], &["repo:acme/*"], false),
            (&[], &["anything"], true),
            (&[], &[], true),
            (&["*"], &[], true),
            // Who says nothing gets nothing that is for something in particular.
            (&["read"], &[], false),
        ];
        for (uses, asked, expected) in table {
            assert_eq!(covers(uses, asked), *expected, "{uses:?} {asked:?}");
        }
    }

    #[test]
    fn what_lies_within_is_narrower() {
        let ladder: [&[&str]; 9] = [
            &["read"],
            &["read", "write"],
            &["repo:acme/web*"],
            &["repo:acme/*"],
            &["repo:acme/*", "read"],
            &["repo:acme/*", "repo:beta/*"],
            &["repo:*"],
            &["repo:*", "endpoint:*"],
            &["*"],
        ];
        for pair in ladder.windows(2) {
            assert!(offer(pair[0]).breadth() < offer(pair[1]).breadth(), "{pair:?}");
        }
        assert_eq!(offer(&["*"]).breadth(), offer(&[]).breadth());
    }

    #[test]
    fn a_tie_is_a_use_that_two_would_do_equally_well() {
        assert_eq!(offer(&["read"]).tie(&offer(&["read"])), Some("read"));
        assert_eq!(offer(&["read", "a"]).tie(&offer(&["b", "read"])), Some("read"));
        assert_eq!(offer(&["a*"]).tie(&offer(&["b*"])), None);
        assert_eq!(offer(&["read"]).tie(&offer(&["write"])), None);
        assert_eq!(offer(&["read"]).tie(&offer(&["read", "write"])), None, "the first is the narrower one");
        assert_eq!(offer(&[]).tie(&offer(&["*"])), Some("*"));
        let other = Offer { service: "gitlab".into(), ..offer(&["read"]) };
        assert_eq!(offer(&["read"]).tie(&other), None);
    }
}

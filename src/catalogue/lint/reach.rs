//! Rules that never decide: earlier ones take whatever they would, or their conditions cannot hold together.

use super::{
    super::{Problem, Provider, SURFACES, Test, When},
    at,
};
use crate::credential::Failure;

/// Rules of a provider that cannot be reached, with the reason.
pub fn unreachable(provider: &Provider) -> Vec<Problem> {
    let rules = &provider.rules.failures;
    let mut problems = Vec::new();
    for (place, rule) in rules.iter().enumerate() {
        let earlier = &rules[..place];
        if let Some(reason) = contradiction(&rule.when) {
            problems.push(at(&rule.place, format!("can never hold: {reason}")));
        } else if rule.failure == Failure::CredentialRevoked
            && !rule.when.status.is_empty()
            && rule.when.status.iter().all(|status| *status >= 500)
        {
            let reason = "can never hold: from 500 up a reply is the server's own trouble, and proves no death";
            problems.push(at(&rule.place, reason.to_owned()));
        } else if let Some(other) = earlier.iter().find(|other| other.when.covers(&rule.when)) {
            problems.push(at(&rule.place, format!("never reached: {} matches whatever this would", other.place)));
        } else if let Some(others) = together(&rule.when, |piece| {
            earlier.iter().find(|other| other.when.covers(piece)).map(|other| other.place.as_str())
        }) {
            let message = format!("never reached: {} together match whatever this would", others.join(" and "));
            problems.push(at(&rule.place, message));
        }
    }
    problems
}

/// Who covers a rule piece by piece, if it is cut along one of its conditions and no piece is left over.
fn together<'a>(when: &When, covers: impl Fn(&When) -> Option<&'a str>) -> Option<Vec<&'a str>> {
    let mut cuts: Vec<Vec<When>> = Vec::new();
    let with = |change: &dyn Fn(&mut When)| {
        let mut piece = when.clone();
        change(&mut piece);
        piece
    };
    cuts.push(when.status.iter().map(|status| with(&|piece| piece.status = vec![*status])).collect());
    let all = SURFACES.map(|(_, surface)| surface).to_vec();
    let surfaces = if when.surface.is_empty() { &all } else { &when.surface };
    cuts.push(surfaces.iter().map(|surface| with(&|piece| piece.surface = vec![*surface])).collect());
    let both = ["static".to_owned(), "refreshable".to_owned()].to_vec();
    let presented = if when.presented.is_empty() { &both } else { &when.presented };
    cuts.push(presented.iter().map(|word| with(&|piece| piece.presented = vec![word.clone()])).collect());
    cuts.push(when.text.iter().map(|text| with(&|piece| piece.text = vec![text.clone()])).collect());
    for (place, (_, test)) in when.body.iter().enumerate() {
        let pieces: Vec<Test> = match test {
            Test::OneOf(values) => values.iter().map(|value| Test::OneOf(vec![value.clone()])).collect(),
            Test::Prefix(values) => values.iter().map(|value| Test::Prefix(vec![value.clone()])).collect(),
            Test::Contains(values) => values.iter().map(|value| Test::Contains(vec![value.clone()])).collect(),
            _ => continue,
        };
        cuts.push(pieces.into_iter().map(|test| with(&|piece| piece.body[place].1 = test.clone())).collect());
    }
    cuts.into_iter().filter(|pieces| (2..=64).contains(&pieces.len())).find_map(|pieces| {
        let mut places = pieces.iter().map(&covers).collect::<Option<Vec<_>>>()?;
        places.sort_unstable();
        places.dedup();
        Some(places)
    })
}

/// Why conditions cannot hold together, if they cannot.
fn contradiction(when: &When) -> Option<String> {
    let tests = || when.header.iter().chain(&when.body);
    let empty = tests().find(|(_, test)| match test {
        Test::OneOf(values) => values.is_empty(),
        Test::Prefix(values) | Test::Contains(values) => values.is_empty(),
        _ => false,
    });
    if let Some((name, _)) = empty {
        return Some(format!("{name:?} may have none of no values"));
    }
    for (inner, _) in when.body.iter().filter(|(_, test)| *test != Test::Present(false)) {
        let outer = when.body.iter().find(|(outer, test)| {
            *test != Test::Present(true) && inner.strip_prefix(outer.as_str()).is_some_and(|rest| rest.starts_with('/'))
        });
        if let Some((outer, _)) = outer {
            return Some(format!("{outer:?} is a value or absent, so that there is no {inner:?} in it"));
        }
    }
    let twice = when.header.iter().enumerate().find(|(place, (name, test))| {
        when.header[place + 1..].iter().any(|(other, theirs)| name == other && test != theirs)
    });
    twice.map(|(_, (name, _))| format!("the header {name:?} is tested twice, in two ways"))
}

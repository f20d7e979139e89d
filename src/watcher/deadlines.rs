//! The queue of a shard's next deadlines: one entry for each credential that has one, whoever moves it how often.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::credential::CredentialId;

/// When to look at which credential next.
#[derive(Debug, Default)]
pub struct Deadlines(BTreeSet<(Timestamp, CredentialId)>);

impl Deadlines {
    /// Moves a credential from where it stands to where it shall stand.
    pub fn set(&mut self, id: &CredentialId, before: Option<Timestamp>, after: Option<Timestamp>) {
        if before == after {
            return;
        }
        if let Some(before) = before {
            self.0.remove(&(before, id.clone()));
        }
        if let Some(after) = after {
            self.0.insert((after, id.clone()));
        }
    }

    /// The earliest.
    pub fn next(&self) -> Option<Timestamp> {
        self.0.first().map(|(at, _)| *at)
    }

    /// Takes one whose time has come.
    pub fn take_due(&mut self, now: Timestamp) -> Option<(Timestamp, CredentialId)> {
        if self.next()? > now { None } else { self.0.pop_first() }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_that_moves_leaves_nothing_behind() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let (a, b) = (CredentialId::new("a").unwrap(), CredentialId::new("b").unwrap());
        let mut deadlines = Deadlines::default();
        deadlines.set(&b, None, Some(at(5)));
        let mut before = None;
        for second in [9, 3, 9, 3, 9, 7] {
            deadlines.set(&a, before, Some(at(second)));
            before = Some(at(second));
        }
        assert_eq!(deadlines.len(), 2);
        assert_eq!(deadlines.take_due(at(4)), None);
        assert_eq!(deadlines.take_due(at(9)), Some((at(5), b)));
        assert_eq!(deadlines.take_due(at(9)), Some((at(7), a)));
        assert!(deadlines.is_empty());
    }
}

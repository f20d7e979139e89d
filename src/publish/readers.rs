//! Who may read a credential, and who did: which process, which generation, when last.

use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use serde::Serialize;

use super::Reader;
use crate::credential::Generation;

/// More distinct readers of one credential than this are served but not remembered.
const REMEMBERED: usize = 256;

/// A local process, as the kernel reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
}

/// Whom a credential belongs to where no rule says anything.
static OWNER: Reader = Reader { uid: None, gid: None, name: None, narrow: None, cut: None };

/// The first rule that lets a peer read. Without rules only the daemon's own user may; a rule without conditions lets
/// nobody.
pub fn granted(readers: &[Reader], peer: Peer, own_uid: u32) -> Option<&Reader> {
    if readers.is_empty() {
        return (peer.uid == own_uid).then_some(&OWNER);
    }
    readers.iter().find(|rule| {
        let conditions = rule.uid.is_some() || rule.gid.is_some();
        conditions && rule.uid.is_none_or(|uid| uid == peer.uid) && rule.gid.is_none_or(|gid| gid == peer.gid)
    })
}

/// Who used a credential. Reading and noting take no lock.
#[derive(Debug, Default)]
pub struct Usage(ArcSwap<Vec<Arc<Use>>>);

#[derive(Debug)]
struct Use {
    uid: u32,
    name: Option<String>,
    second: AtomicI64,
    generation: AtomicI64,
    reads: AtomicU64,
}

/// One reader's use of a credential.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Used {
    /// The reader's user id.
    pub uid: u32,
    /// The name that the settings give it.
    pub name: Option<String>,
    /// The last read that brought a token, to the second.
    pub last_read_at: Timestamp,
    /// The generation that it got then.
    pub generation: Generation,
    /// Reads since the daemon started.
    pub reads: u64,
}

impl Usage {
    /// A reader got that generation.
    pub fn note(&self, uid: u32, name: Option<&str>, generation: Generation, at: Timestamp) {
        let same = |known: &&Arc<Use>| known.uid == uid && known.name.as_deref() == name;
        let known = self.0.load();
        if let Some(known) = known.iter().find(same) {
            return known.count(generation, at);
        }
        if known.len() < REMEMBERED {
            let fresh = Arc::new(Use {
                uid,
                name: name.map(str::to_owned),
                second: AtomicI64::new(0),
                generation: AtomicI64::new(0),
                reads: AtomicU64::new(0),
            });
            self.0.rcu(|all| {
                let mut all = Vec::clone(all);
                if !all.iter().any(|known| same(&known)) {
                    all.push(fresh.clone());
                }
                all
            });
            if let Some(known) = self.0.load().iter().find(same) {
                known.count(generation, at);
            }
        }
    }

    /// All who read it.
    pub fn list(&self) -> Vec<Used> {
        let report = |known: &Arc<Use>| Used {
            uid: known.uid,
            name: known.name.clone(),
            last_read_at: Timestamp::from_second(known.second.load(Relaxed)).unwrap_or_default(),
            generation: Generation(known.generation.load(Relaxed)),
            reads: known.reads.load(Relaxed),
        };
        self.0.load().iter().map(report).collect()
    }
}

impl Use {
    fn count(&self, generation: Generation, at: Timestamp) {
        self.second.store(at.as_second(), Relaxed);
        self.generation.store(generation.0, Relaxed);
        self.reads.fetch_add(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(uid: Option<u32>, gid: Option<u32>) -> Reader {
        Reader { uid, gid, name: Some("app".into()), ..Reader::default() }
    }

    #[test]
    fn all_conditions_of_one_rule_must_hold() {
        let peer = Peer { uid: 1000, gid: 100 };
        let table: &[(&[Reader], bool)] = &[
            (&[rule(Some(1000), None)], true),
            (&[rule(None, Some(100))], true),
            (&[rule(Some(1000), Some(100))], true),
            (&[rule(Some(1000), Some(101))], false),
            (&[rule(Some(1), None), rule(None, Some(100))], true),
            (&[rule(Some(0), None)], false),
            (&[rule(None, None)], false),
        ];
        for (rules, may) in table {
            assert_eq!(granted(rules, peer, 1000).is_some(), *may, "{rules:?}");
        }
        let rules = [rule(Some(1000), None)];
        assert_eq!(granted(&rules, peer, 0), Some(&rules[0]));
    }

    #[test]
    fn without_rules_only_the_own_user_reads() {
        assert_eq!(granted(&[], Peer { uid: 7, gid: 7 }, 7), Some(&OWNER));
        assert_eq!(granted(&[], Peer { uid: 0, gid: 0 }, 7), None);
    }

    #[test]
    fn readers_are_remembered_up_to_a_bound() {
        let usage = Usage::default();
        let at = Timestamp::from_second(1_800_000_000).unwrap();
        usage.note(1, Some("app"), Generation(3), at);
        usage.note(1, Some("app"), Generation(4), at);
        usage.note(2, None, Generation(4), at);
        let list = usage.list();
        assert_eq!((list.len(), list[0].reads, list[0].generation), (2, 2, Generation(4)));
        (0..1000).for_each(|uid| usage.note(uid, None, Generation(4), at));
        assert_eq!(usage.list().len(), REMEMBERED);
    }
}

use super::*;

/// A ledger in memory: facts go in, decisions are applied, messages are kept.
#[derive(Default)]
struct Book {
    conditions: Vec<Condition>,
    messages: Vec<Message>,
    next_id: i64,
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

impl Book {
    fn raise(&mut self, kind: &str, credential: &str, seconds: i64) {
        self.next_id += 1;
        self.conditions.push(Condition {
            id: self.next_id,
            key: format!("credd/{kind}/{credential}"),
            kind: kind.into(),
            credential: credential.into(),
            group: "github".into(),
            severity: if kind == "writeback_failing" { Severity::Warning } else { Severity::Critical },
            summary: format!("{credential}: {kind}"),
            body: words::Details { evidence: "401 invalid_grant", ..Default::default() }.text(kind, credential),
            raised_at: at(seconds),
            cleared: None,
            told: None,
        });
    }

    fn clear(&mut self, kind: &str, credential: &str, seconds: i64) {
        let open = |c: &&mut Condition| c.kind == kind && c.credential == credential && c.cleared.is_none();
        let condition = self.conditions.iter_mut().find(open).expect("it is open");
        condition.cleared = Some((at(seconds), "new material in its home store".into()));
    }

    /// Decides once, as after a restart: nothing is remembered but the conditions.
    fn look(&mut self, seconds: i64) -> Plan {
        let made = plan(&self.conditions, at(seconds));
        for announcement in &made.announcements {
            self.messages.extend(announcement.message.clone());
            if let Some((ids, told)) = &announcement.told {
                for condition in self.conditions.iter_mut().filter(|c| ids.contains(&c.id)) {
                    condition.told = Some(told.clone());
                }
            }
            self.conditions.retain(|c| !announcement.settled.contains(&c.id));
        }
        let again = plan(&self.conditions, at(seconds));
        assert_eq!(again.announcements, [], "a second look in the same moment must do nothing");
        made
    }

    /// Looks whenever something falls due by time alone, until then.
    fn run(&mut self, from: i64, to: i64) {
        let mut now = at(from);
        while let Some(next) = self.look(now.as_second() - at(0).as_second()).next.filter(|next| *next <= at(to)) {
            assert!(next > now, "time stands still at {now}");
            now = next;
        }
    }

    fn said(&self) -> Vec<(Action, u32, Vec<&str>)> {
        self.messages
            .iter()
            .map(|m| (m.action, m.sequence, m.credentials.iter().map(String::as_str).collect()))
            .collect()
    }
}

use Action::{Resolve, Trigger};

#[test]
fn a_revocation_pages_at_once_and_resolves_at_once_on_the_same_key() {
    let mut book = Book::default();
    book.raise("credential_revoked", "bot", 0);
    assert_eq!(book.look(0).open, [Severity::Critical]);
    book.clear("credential_revoked", "bot", 700);
    assert_eq!(book.look(700).open, []);
    assert_eq!(book.said(), [(Trigger, 0, vec!["bot"]), (Resolve, 1, vec!["bot"])]);
    let [opened, over] = &book.messages[..] else { panic!("two messages") };
    assert_eq!((&opened.dedup_key, &opened.title, opened.since), (&over.dedup_key, &over.title, over.since));
    assert!(over.body.contains("after 11 min: new material in its home store"), "{}", over.body);
    assert!(book.conditions.is_empty(), "a finished incident leaves nothing to ask about");
}

#[test]
fn what_ends_within_its_pending_time_pages_nothing() {
    for (kind, pending) in [
        ("credential_expired", 120),
        ("client_misconfigured", 30),
        ("refresh_failing", 600),
        ("writeback_failing", 900),
    ] {
        let mut book = Book::default();
        book.raise(kind, "bot", 0);
        let plan = book.look(pending - 1);
        assert_eq!((plan.next, plan.open), (Some(at(pending)), vec![]), "{kind}");
        book.clear(kind, "bot", pending - 1);
        book.run(pending - 1, 10_000);
        assert_eq!(book.said(), [], "{kind}");
        assert!(book.conditions.is_empty(), "{kind}");

        book.raise(kind, "bot", 0);
        book.run(0, pending);
        assert_eq!(book.said(), [(Trigger, 0, vec!["bot"])], "{kind}");
    }
}

#[test]
fn an_outage_with_many_credentials_is_one_incident_told_in_batches() {
    let mut book = Book::default();
    book.raise("rotation_outcome_unknown", "a", 0);
    book.look(0);
    for (name, seconds) in [("b", 1), ("c", 2), ("d", 29)] {
        book.raise("rotation_outcome_unknown", name, seconds);
        assert_eq!(book.look(seconds).next, Some(at(30)), "the batch is waited for");
    }
    book.run(29, 3_600);
    assert_eq!(book.said(), [(Trigger, 0, vec!["a"]), (Trigger, 1, vec!["a", "b", "c", "d"])]);
    assert_eq!(book.messages[1].summary, "4 credentials of github: rotation outcome unknown");
    for name in ["a", "b", "c"] {
        book.clear("rotation_outcome_unknown", name, 4_000);
    }
    book.run(4_000, 5_000);
    assert_eq!(book.messages.len(), 2, "one of them is still open");
    book.clear("rotation_outcome_unknown", "d", 5_000);
    book.run(5_000, 9_000);
    assert_eq!(book.said()[2], (Resolve, 2, vec!["a", "b", "c", "d"]));
    assert_eq!(book.messages[2].at, at(5_300), "held five minutes");
    assert!(book.messages.iter().all(|m| m.dedup_key == "credd/rotation_outcome_unknown/a"));
}

#[test]
fn what_comes_back_within_the_hold_is_the_same_incident_and_no_second_page() {
    let mut book = Book::default();
    book.raise("rotation_outcome_unknown", "a", 0);
    book.look(0);
    for round in 1..5 {
        book.clear("rotation_outcome_unknown", "a", round * 100);
        book.look(round * 100);
        book.raise("rotation_outcome_unknown", "a", round * 100 + 50);
        assert_eq!(book.look(round * 100 + 50).open, [Severity::Critical]);
    }
    book.clear("rotation_outcome_unknown", "a", 1_000);
    book.run(1_000, 2_000);
    assert_eq!(book.said(), [(Trigger, 0, vec!["a"]), (Resolve, 1, vec!["a"])]);
    assert_eq!(book.messages[1].at, at(1_300));
}

#[test]
fn what_comes_back_after_the_end_is_a_new_incident() {
    let mut book = Book::default();
    for start in [0, 1_000] {
        book.raise("credential_revoked", "bot", start);
        book.look(start);
        book.clear("credential_revoked", "bot", start + 10);
        book.look(start + 10);
    }
    let of = |n: usize| (book.messages[n].action, book.messages[n].since);
    assert_eq!(
        [of(0), of(1), of(2), of(3)],
        [(Trigger, at(0)), (Resolve, at(0)), (Trigger, at(1_000)), (Resolve, at(1_000))]
    );
}

#[test]
fn unresolved_criticals_are_repeated_every_four_hours_and_warnings_are_not() {
    let mut book = Book::default();
    book.raise("credential_revoked", "bot", 0);
    book.raise("writeback_failing", "bot", 0);
    book.run(0, 12 * 3_600);
    let times = |kind: &str| -> Vec<i64> {
        book.messages.iter().filter(|m| m.kind == kind).map(|m| m.at.as_second() - at(0).as_second()).collect()
    };
    assert_eq!(times("credential_revoked"), [0, 14_400, 28_800, 43_200]);
    assert_eq!(times("writeback_failing"), [900]);
}

#[test]
fn a_revoked_credential_is_not_also_paged_as_expired() {
    let mut book = Book::default();
    book.raise("credential_revoked", "bot", 0);
    book.raise("credential_expired", "bot", 0);
    book.raise("credential_expired", "other", 0);
    book.run(0, 600);
    assert_eq!(book.said(), [(Trigger, 0, vec!["bot"]), (Trigger, 0, vec!["other"])]);
}

#[test]
fn the_words_of_a_page_say_what_since_when_why_and_how_to_mend_it() {
    let mut book = Book::default();
    book.raise("credential_revoked", "github-bot", 0);
    book.look(90);
    let message = &book.messages[0];
    assert_eq!(message.title, "github-bot: credential revoked");
    assert_eq!(
        message.body,
        "github-bot: credential_revoked\nSince: 2027-01-15 08:00:00 UTC (1 min)\nEvidence: 401 invalid_grant\n\
         To mend it: authorise again upstream, then put the new secret into its home store: credd credential put github-bot"
    );
}

#[test]
fn hostile_words_stay_on_their_line() {
    let mut book = Book::default();
    book.raise("credential_revoked", "bot", 0);
    book.conditions[0].summary = "gone\r\nBcc: everybody@example.com".into();
    book.conditions[0].body = format!("\u{202e}x\0{}", "y".repeat(1 << 20));
    book.look(0);
    let message = &book.messages[0];
    assert!(!message.summary.contains(['\r', '\n']));
    assert!(message.body.chars().count() <= 8_000 && !message.body.contains(['\0', '\u{202e}']));
}

proptest::proptest! {
    /// Whatever happens and whenever it is looked at: no message without news, triggers before resolves, every
    /// incident that outlived its pending time told, none told as new twice, all settled in the end.
    #[test]
    fn no_sequence_pages_twice_or_forgets(steps in proptest::collection::vec((0..3_usize, 0..4_usize, 1..400_i64), 1..60)) {
        let kinds = ["credential_revoked", "credential_expired", "rotation_outcome_unknown"];
        let names = ["a", "b", "c", "d"];
        let (mut book, mut now) = (Book::default(), 0);
        for (kind, name, wait) in steps {
            let (kind, name) = (kinds[kind], names[name]);
            let open = book.conditions.iter().any(|c| c.kind == kind && c.credential == name && c.cleared.is_none());
            if open { book.clear(kind, name, now) } else { book.raise(kind, name, now) }
            book.run(now, now + wait);
            now += wait;
        }
        let left: Vec<_> = book.conditions.iter().filter(|c| c.cleared.is_none()).map(|c| (c.kind.clone(), c.credential.clone())).collect();
        for (kind, name) in left {
            book.clear(&kind, &name, now);
        }
        book.run(now, now + 100_000);
        proptest::prop_assert!(book.conditions.is_empty(), "{:?}", book.conditions);
        let mut sequence: BTreeMap<(String, Timestamp), u32> = BTreeMap::new();
        let mut over = BTreeSet::new();
        for message in &book.messages {
            let incident = (message.dedup_key.clone(), message.since);
            proptest::prop_assert!(!over.contains(&incident), "told after its end");
            let expected = sequence.get(&incident).map_or(0, |n| n + 1);
            proptest::prop_assert_eq!(message.sequence, expected);
            sequence.insert(incident.clone(), message.sequence);
            if message.action == Resolve { over.insert(incident); }
        }
        proptest::prop_assert_eq!(over.len(), sequence.len(), "every incident that was opened was closed");
    }
}

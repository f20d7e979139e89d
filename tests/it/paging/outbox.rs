//! The outbox's contract, in memory.
#![expect(clippy::unit_arg, reason = "a write that answers nothing is answered like the others")]

use std::{collections::BTreeSet, sync::Mutex};

use credd::{
    incident::{Action, Announcement, Condition, Message, Severity},
    oncall::{Due, Outbox, Page, Unannounced},
};
use futures_util::future::{BoxFuture, ready};
use jiff::Timestamp;
use tokio::sync::watch;
use uuid::Uuid;

#[derive(Default)]
pub struct Memory {
    book: Mutex<Book>,
    changes: watch::Sender<()>,
    /// Every write, for tests that wait; the code under test sees only `changes`.
    writes: watch::Sender<()>,
}

#[derive(Default)]
pub struct Book {
    pub conditions: Vec<Condition>,
    pub pages: Vec<Row>,
    /// (message, channel) of all pages that ever were.
    pub had: BTreeSet<(Uuid, String)>,
    /// The next so many times that a page is reported done, the ledger refuses.
    pub refuse_done: u32,
    next_id: i64,
}

#[derive(Clone, Debug)]
pub struct Row {
    pub channel: String,
    pub due: Timestamp,
    pub page: Page,
}

impl Book {
    fn add(&mut self, id: Uuid, channel: &str, message: &Message, due: Timestamp) {
        if self.had.insert((id, channel.to_owned())) {
            let page = Page { id, message: message.clone(), attempts: 0 };
            self.pages.push(Row { channel: channel.into(), due, page });
        }
    }

    fn row(&mut self, id: Uuid, channel: &str) -> Option<&mut Row> {
        self.pages.iter_mut().find(|row| row.page.id == id && row.channel == channel)
    }
}

impl Memory {
    pub fn raise(&self, kind: &str, credential: &str, body: &str, at: Timestamp) {
        self.write(|book| {
            book.next_id += 1;
            book.conditions.push(Condition {
                id: book.next_id,
                key: format!("credd/{kind}.{credential}"),
                kind: kind.into(),
                credential: credential.into(),
                group: credential.into(),
                severity: Severity::Critical,
                summary: format!("{credential} is in trouble"),
                body: body.into(),
                raised_at: at,
                cleared: None,
                told: None,
            });
        });
    }

    pub fn clear(&self, kind: &str, credential: &str, at: Timestamp) {
        self.write(|book| {
            let open = |c: &&mut Condition| c.kind == kind && c.credential == credential && c.cleared.is_none();
            book.conditions.iter_mut().find(open).expect("it is open").cleared = Some((at, "refreshed".into()));
        });
    }

    pub fn look<T>(&self, at: impl FnOnce(&Book) -> T) -> T {
        at(&self.book.lock().unwrap())
    }

    /// Changes the book and says so.
    pub fn write<T>(&self, change: impl FnOnce(&mut Book) -> T) -> T {
        let answer = self.quietly(change);
        self.changes.send_replace(());
        answer
    }

    fn quietly<T>(&self, change: impl FnOnce(&mut Book) -> T) -> T {
        let answer = change(&mut self.book.lock().unwrap());
        self.writes.send_replace(());
        answer
    }

    /// Until the book looks like that.
    pub async fn until(&self, wanted: impl Fn(&Book) -> bool) {
        let mut writes = self.writes.subscribe();
        while !self.look(&wanted) {
            writes.changed().await.expect("we hold the sender");
        }
    }
}

fn answer<'a, T: Send + 'a>(value: T) -> BoxFuture<'a, Result<T, String>> {
    Box::pin(ready(Ok(value)))
}

impl Outbox for Memory {
    fn unannounced(&self) -> BoxFuture<'_, Result<Unannounced, String>> {
        answer(self.look(|b| Unannounced { conditions: b.conditions.clone(), backlog: b.pages.len() as u64 }))
    }

    fn announce<'a>(&'a self, id: Uuid, what: &'a Announcement, to: &'a [String]) -> BoxFuture<'a, Result<(), String>> {
        answer(self.write(|book| {
            if let Some((ids, told)) = &what.told {
                for condition in book.conditions.iter_mut().filter(|c| ids.contains(&c.id)) {
                    condition.told = Some(told.clone());
                }
            }
            book.conditions.retain(|c| !what.settled.contains(&c.id));
            if let Some(message) = &what.message {
                for channel in to {
                    let replaced = |row: &Row| {
                        let old = &row.page.message;
                        row.channel == *channel
                            && old.dedup_key == message.dedup_key
                            && (message.action == Action::Trigger || old.action == Action::Resolve)
                    };
                    book.pages.retain(|row| !replaced(row));
                    book.add(id, channel, message, message.at);
                }
            }
        }))
    }

    fn due_pages<'a>(&'a self, channel: &'a str, now: Timestamp) -> BoxFuture<'a, Result<Due, String>> {
        answer(self.look(|book| {
            let all: Vec<&Row> = book.pages.iter().filter(|row| row.channel == channel).collect();
            let mut keys = BTreeSet::new();
            let mut first: Vec<&Row> =
                all.iter().copied().filter(|row| keys.insert(row.page.message.dedup_key.as_str())).collect();
            first.sort_by_key(|row| row.due);
            Due {
                pages: first.iter().filter(|row| row.due <= now).take(5).map(|row| row.page.clone()).collect(),
                waiting: all.len() as u64,
                oldest: all.iter().map(|row| row.page.message.at).min(),
                next: first.iter().map(|row| row.due).find(|due| *due > now),
            }
        }))
    }

    fn page_done<'a>(&'a self, id: Uuid, channel: &'a str) -> BoxFuture<'a, Result<(), String>> {
        let refused = self.quietly(|book| {
            let refused = book.refuse_done > 0;
            book.refuse_done = book.refuse_done.saturating_sub(1);
            if !refused {
                book.pages.retain(|row| row.page.id != id || row.channel != channel);
            }
            refused
        });
        Box::pin(ready(if refused { Err("the disk is full".into()) } else { Ok(()) }))
    }

    fn page_later<'a>(&'a self, id: Uuid, channel: &'a str, due: Timestamp) -> BoxFuture<'a, Result<(), String>> {
        answer(self.quietly(|book| {
            if let Some(row) = book.row(id, channel) {
                row.due = due;
                row.page.attempts += 1;
            }
        }))
    }

    fn page_also<'a>(
        &'a self,
        id: Uuid,
        channel: &'a str,
        also: &'a str,
        done: bool,
    ) -> BoxFuture<'a, Result<(), String>> {
        answer(self.write(|book| {
            let Some(row) = book.row(id, channel).cloned() else { return };
            book.add(id, also, &row.page.message, row.page.message.at);
            if done {
                book.pages.retain(|row| row.page.id != id || row.channel != channel);
            }
        }))
    }

    fn adopt<'a>(&'a self, channels: &'a [String]) -> BoxFuture<'a, Result<(), String>> {
        answer(self.write(|book| {
            if channels.is_empty() {
                return;
            }
            let (kept, orphans): (Vec<Row>, Vec<Row>) =
                book.pages.drain(..).partition(|row| channels.contains(&row.channel));
            book.pages = kept;
            for Row { page, .. } in orphans {
                let free = channels.iter().find(|channel| !book.had.contains(&(page.id, (*channel).clone())));
                if let Some(channel) = free {
                    book.add(page.id, channel, &page.message, page.message.at);
                }
            }
        }))
    }

    fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }
}

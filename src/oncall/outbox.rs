//! What on-call needs of the ledger: facts that wait to be told, and pages that wait to be sent.

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use tokio::sync::watch;
use uuid::Uuid;

use crate::{
    incident::{Announcement, Condition},
    pager::Message,
};

/// The durable half of on-call. Each call is one transaction; an error changes nothing, and its text says why.
///
/// A page is one message for one channel: its key is (id, channel). A restart loses none and doubles none, because
/// nothing of it is kept anywhere else.
pub trait Outbox: Send + Sync {
    /// All conditions that are not settled, oldest first, and how many pages wait in all.
    fn unannounced(&self) -> BoxFuture<'_, Result<Unannounced, String>>;

    /// Makes a decision durable: for the message a page to each channel, due at once; `told` into its conditions; the
    /// settled ones marked. The new page takes the place of those of the same `dedup_key` that still wait for the same
    /// channel, except that a resolve leaves the trigger waiting: a channel that is down finds two messages of a key.
    fn announce<'a>(
        &'a self,
        id: Uuid,
        announcement: &'a Announcement,
        channels: &'a [String],
    ) -> BoxFuture<'a, Result<(), String>>;

    /// Pages of the channel that are due, earliest due first, a handful. A page is not due while an older page of
    /// the same `dedup_key` waits for the same channel: nothing is resolved before it was opened.
    fn due_pages<'a>(&'a self, channel: &'a str, now: Timestamp) -> BoxFuture<'a, Result<Due, String>>;

    /// The channel has it (or never will: nobody else is to be asked). A page that is gone already is no error.
    fn page_done<'a>(&'a self, id: Uuid, channel: &'a str) -> BoxFuture<'a, Result<(), String>>;

    /// Not this time: due again at `due`, one attempt more.
    fn page_later<'a>(&'a self, id: Uuid, channel: &'a str, due: Timestamp) -> BoxFuture<'a, Result<(), String>>;

    /// Another channel gets the page too, due at once, unless it ever had it. `done` ends the page of the first one.
    fn page_also<'a>(
        &'a self,
        id: Uuid,
        channel: &'a str,
        also: &'a str,
        done: bool,
    ) -> BoxFuture<'a, Result<(), String>>;

    /// Pages that wait for a channel which is none of these (it was removed from the settings) go to the first of
    /// these that never had them.
    fn adopt<'a>(&'a self, channels: &'a [String]) -> BoxFuture<'a, Result<(), String>>;

    /// Changes whenever a fact was written or a page was added. No change is missed between two looks.
    fn changes(&self) -> watch::Receiver<()>;
}

/// What waits to be told.
#[derive(Clone, Debug, Default)]
pub struct Unannounced {
    /// Conditions that are not settled, oldest first.
    pub conditions: Vec<Condition>,
    /// Pages that wait, of all channels.
    pub backlog: u64,
}

/// What waits for one channel.
#[derive(Clone, Debug, Default)]
pub struct Due {
    /// To be sent now.
    pub pages: Vec<Page>,
    /// How many wait, due or not.
    pub waiting: u64,
    /// When the oldest of them was decided.
    pub oldest: Option<Timestamp>,
    /// When the next one falls due that is not due yet.
    pub next: Option<Timestamp>,
}

/// One message for one channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The message's; the same for all its channels and over all attempts.
    pub id: Uuid,
    /// What is said.
    pub message: Message,
    /// Attempts that failed so far.
    pub attempts: u32,
}

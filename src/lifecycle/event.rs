//! What can happen to a credential, and what is known of it then.

use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::doubt::Doubt;
use crate::{
    clock::Now,
    credential::{ExpirySource, Generation, Verdict},
};

/// What can happen. Spurious events are harmless: they change nothing.
#[derive(Clone, Debug)]
pub enum Event {
    /// New material came from the home store and is durable.
    Loaded(Loaded),
    /// The home store was asked for a newer value and has none.
    Unchanged,
    /// The settings say anew when a static key ends.
    Ends(Option<Timestamp>, ExpirySource),
    /// Time passed.
    Tick,
    /// The wall clock was put forward by that much, and dates that are spans in disguise move along.
    ClockStepped(jiff::SignedDuration),
    /// A beat of the policy's cron expression: plan a probe, this long from now.
    Beat(Duration),
    /// The intent is durable.
    Prepared(Uuid),
    /// The sending is durable; the call is certainly dead at that time.
    Sent(Timestamp),
    /// The flight ended before anything was sent, for a reason of ours. Tried again at that time.
    Aborted {
        /// Why.
        verdict: Verdict,
        /// When to try again, if not by back-off.
        retry_at: Option<Timestamp>,
    },
    /// The reply is durable.
    Received,
    /// A new value is durable.
    Promoted(Promoted),
    /// The provider refused how it was asked (a scope, one of two client secrets), not the grant, and there is another
    /// way, which is tried once, now.
    Turned,
    /// The refresh brought no value.
    Failed {
        /// What it means.
        verdict: Verdict,
        /// Whether the provider may have rotated.
        commit: Commit,
    },
    /// A probe ended.
    Probed {
        /// When it was sent: a refusal of a value that was replaced meanwhile says nothing.
        generation: Generation,
        /// What it showed.
        outcome: Probed,
    },
    /// A reader's call was refused while it used that generation.
    Refused {
        /// Which.
        generation: Generation,
        /// What the reply means.
        verdict: Verdict,
    },
    /// A reader needs a token with that much time left.
    Wanted(Duration),
    /// An operator wants a refresh.
    RefreshNow,
    /// An operator, or a hint from outside, wants a probe.
    ProbeNow,
    /// An operator's hold.
    Hold,
    /// Somebody else may have spent the grant, or may be about to.
    Doubted(Doubt),
    /// The end of a hold, or of a doubt; a revoked or misconfigured credential is tried once more.
    Release,
    /// What made it revoked or misconfigured was changed: the settings, or the grant of its whole lives again.
    Mended,
    /// The daemon started and found this flight in the ledger.
    Found(Found),
}

/// Facts of material that came from a home store.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What the ledger now holds.
    pub generation: Generation,
    /// Whether it holds something that can be served as it is.
    pub has_token: bool,
    /// When that ends, if known.
    pub expires_at: Option<Timestamp>,
    /// How that is known.
    pub source: ExpirySource,
    /// When the refresh token ends and how that is known, if it is.
    pub refresh_expires_at: Option<(Timestamp, ExpirySource)>,
    /// Where its grant comes from.
    pub origin: Origin,
}

/// Where the grant of material comes from that no refresh has brought just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From the home store, and it is another than the one that was held.
    HomeStore,
    /// It is the one that was held; what is new lies beside it (a client).
    Held,
    /// From a reply to an earlier flight, which had been kept.
    Orphan,
}

/// Facts of a value that a refresh brought.
#[derive(Clone, Debug)]
pub struct Promoted {
    /// What the ledger now holds.
    pub generation: Generation,
    /// When the request was sent: its life counts from there.
    pub sent_at: Now,
    /// How long it lives, if the reply says.
    pub life: Option<Duration>,
    /// How that is known.
    pub source: ExpirySource,
    /// When the refresh token ends and how that is known, if it is.
    pub refresh_expires_at: Option<(Timestamp, ExpirySource)>,
    /// The lifetime was malformed.
    pub repaired: bool,
}

/// Could the provider have rotated?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commit {
    /// Nothing reached it.
    NotSent,
    /// It refused.
    NotCommitted,
    /// A 5xx: it probably did not.
    Doubtful,
    /// Nobody can say.
    Ambiguous,
}

/// What a probe showed.
#[derive(Clone, Debug)]
pub enum Probed {
    /// The credential works; the reply may tell when it ends.
    Works(Option<(Timestamp, ExpirySource)>),
    /// The API said no, or there was no answer.
    No(Verdict),
}

/// How far a flight found in the ledger had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The intent alone.
    Prepared,
    /// Perhaps sent, at that time, and certainly dead at the other.
    Sent {
        /// When the intent was written.
        prepared_at: Timestamp,
        /// When the call is certainly dead: now, if it was ours and this boot's.
        dead_at: Timestamp,
    },
    /// The reply is durable: it is promoted without asking anybody.
    Received {
        /// Its name.
        attempt: Uuid,
    },
    /// None: whatever was in the air was closed.
    Nothing,
}

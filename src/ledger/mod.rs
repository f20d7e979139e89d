//! The ledger: our own durable database. One writer, group commit, a door for each concern.

mod audit;
mod connection;
mod embedded;
mod incidents;
mod mark;
mod notices;
mod open;
mod orphans;
mod outbox;
mod place;
mod rekey;
mod rotation;
mod schema;
mod signature;
mod spill;
mod transition;
mod unclassified;
mod writer;

pub use audit::{Audit, Broken, Filter, HOUSE, Logged, Verified};
pub use embedded::{Embedded, Put};
pub use incidents::{Incident, Incidents, dedup_key};
pub use mark::Reached;
pub use notices::{Due, Notice, Notices};
pub use open::Ledger;
pub use orphans::Orphan;
pub use outbox::{Outbox, WRITEBACK_FAILING, WriteBack};
pub use place::{Place, holder};
pub use rotation::Rotation;
pub use unclassified::{Kept, Unclassified, name as specimen_name};

use std::path::PathBuf;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::credential::{CredentialId, Fingerprint, Generation, Material, Reference, Reply};

/// Where the ledger lies and what seals it.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The SQLite file of a single host. Default: `credd/ledger.db` under the state directory.
    pub path: Option<PathBuf>,
    /// A PostgreSQL URL instead (it holds a password, so it comes by reference).
    pub postgres: Option<Reference>,
    /// The key-encryption key: 32 bytes, base64. Default: a file `ledger.key` beside the ledger, made at first start.
    pub key: Option<Reference>,
}

/// A credential as the ledger knows it.
#[derive(Clone, Debug)]
pub struct Record {
    /// Which.
    pub id: CredentialId,
    /// Of the current value; 0 when there is none.
    pub generation: Generation,
    /// The lifecycle value, as it was last written (JSON; holds no secret).
    pub lifecycle: String,
    /// The current value, unsealed.
    pub material: Option<Material>,
    /// The home store's version that this value was read from or written as.
    pub store_version: Option<String>,
    /// Of the root secret that came from the home store last (what a change is compared with).
    pub store_fingerprint: Option<Fingerprint>,
    /// A flight that was not closed: recovery's input.
    pub open_attempt: Option<Attempt>,
    /// Replies to flights of it that brought no value, and are kept.
    pub orphans: Vec<Orphan>,
}

/// A flight as the ledger knows it.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Its name; time-ordered.
    pub id: Uuid,
    /// The generation it is to make.
    pub target: Generation,
    /// Of the root secret it presents.
    pub presents: Fingerprint,
    /// When the intent was written.
    pub prepared_at: Timestamp,
    /// Boot in which the intent was written.
    pub boot_id: String,
    /// How far it came.
    pub stage: Stage,
}

/// How far a flight came.
#[derive(Clone, Debug)]
pub enum Stage {
    /// The intent is durable; nothing was sent.
    Prepared,
    /// The request may have left; the call is certainly dead after the deadline.
    Sent {
        /// 60 s after the sending.
        deadline: Timestamp,
    },
    /// The reply is durable.
    Received {
        /// As it came, unsealed.
        reply: Reply,
        /// When.
        at: Timestamp,
    },
}

/// One step of one credential, written in one transaction or not at all.
#[derive(Clone, Debug)]
pub struct Transition {
    /// Whose.
    pub id: CredentialId,
    /// The shard that owns it: its audit chain.
    pub shard: u16,
    /// The lifecycle value after the step (JSON).
    pub lifecycle: String,
    /// What becomes of the flight.
    pub flight: Option<FlightStep>,
    /// A new value, if the step brings one.
    pub value: Option<NewValue>,
    /// Writes to be carried to the home store, once this is durable.
    pub write_back: bool,
    /// Incidents that begin or end.
    pub incidents: Vec<Fact>,
    /// What the audit log says of the step.
    pub audit: Vec<Entry>,
}

/// The outcome of a flight whose grant was replaced while it was out. Its reply is kept.
pub const SUPERSEDED: &str = "superseded";
/// The outcome of a flight that was answered with a success nobody can read. Its reply is kept: it may hold the only
/// token of its grant, and a newer program may read it.
pub const UNREADABLE: &str = "unreadable";
/// The outcome of a flight that was answered with a server error which holds a token that could not be seen to work.
/// Its reply is kept.
pub const UNVERIFIED: &str = "unverified";

/// What becomes of a flight in a transition.
#[derive(Clone, Debug)]
pub enum FlightStep {
    /// Step 5: the intent. Refused if the credential's generation is not `target - 1`, or another flight is open.
    Prepare(Attempt),
    /// Step 6.
    Sent {
        /// Which.
        attempt: Uuid,
        /// When the call is certainly dead.
        deadline: Timestamp,
    },
    /// The kept reply of a closed flight became the value of this step after all: it need not be kept any longer.
    Take(Uuid),
    /// The flight is over (`promoted`, `refused`, `not_sent`, `aborted`, `lost`, [`SUPERSEDED`], [`UNREADABLE`],
    /// [`UNVERIFIED`]).
    Close {
        /// Which.
        attempt: Uuid,
        /// One word.
        outcome: &'static str,
    },
}

/// A new value of a credential.
#[derive(Clone, Debug)]
pub struct NewValue {
    /// The generation it replaces: the fence. A mismatch writes nothing and answers [`LedgerError::Fenced`].
    pub replaces: Generation,
    /// The generation that it is: the next one, or a higher one that was reached before (a restored ledger).
    pub generation: Generation,
    /// All of it: refresh token and access token together.
    pub material: Material,
    /// The home store's version it came from; `None` for a value of our own, which keeps the old one.
    pub store_version: Option<String>,
    /// Whether it came from the home store (then `store_fingerprint` follows it).
    pub from_store: bool,
    /// Keep the value it replaces (sealed) until then.
    pub keep_previous_until: Option<Timestamp>,
}

/// An incident begins or ends. The same fact twice changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// `credential_revoked`, `rotation_outcome_unknown`, `credential_expired`, `client_misconfigured`, …
    pub kind: String,
    /// Whom it is about: a credential's name, or a part of the house (`store vault`).
    pub credential: String,
    /// Groups incidents that are one for on-call (the provider).
    pub group: String,
    /// Begins (with its words) or ends.
    pub change: FactChange,
    /// When.
    pub at: Timestamp,
}

/// Begins or ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FactChange {
    /// Begins.
    Raise {
        /// `critical`, `warning`.
        severity: String,
        /// One line.
        summary: String,
        /// The rest, plain text.
        body: String,
    },
    /// Ends, with a word why.
    Clear {
        /// "refreshed", "new material in its home store".
        why: String,
    },
}

/// One line of the audit log, as its writer knows it; the ledger adds sequence, hashes and chain. Holds no secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When.
    pub at: Timestamp,
    /// Whose; empty for the house itself.
    pub credential: String,
    /// What happened: `loaded`, `refresh_prepared`, `refresh_sent`, `refreshed`, `refused`, `probed`, `revoked`, `published`, `held`, …
    pub event: String,
    /// Who or what made it happen: `schedule`, `reader`, `refusal`, `hint`, `store_change`, `operator`, `recovery`.
    pub trigger: String,
    /// Who, where a person or a process asked (`uid 1000`).
    pub actor: Option<String>,
    /// After the step.
    pub generation: Generation,
    /// The flight.
    pub attempt: Option<Uuid>,
    /// Scope before, where it changed.
    pub scope_before: Option<String>,
    /// Scope after, where it changed.
    pub scope_after: Option<String>,
    /// The provider's own code.
    pub code: Option<String>,
    /// `ok`, or a failure's word.
    pub outcome: String,
    /// How long it took, in milliseconds.
    pub duration_ms: Option<u64>,
    /// Anything else, for a person.
    pub detail: Option<String>,
}

/// Why the ledger could not do it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LedgerError {
    /// Somebody was faster, or the caller's picture is old: nothing was written.
    #[error("{id}: the ledger holds generation {found}, not {expected}")]
    Fenced {
        /// Whose.
        id: CredentialId,
        /// What the caller believed.
        expected: Generation,
        /// What is.
        found: Generation,
    },
    /// A flight is open: a second one would present the same grant twice.
    #[error("{id}: flight {attempt} is still open; recover or close it first")]
    InFlight {
        /// Whose.
        id: CredentialId,
        /// The open one.
        attempt: String,
    },
    /// The flight of a step is not the open one.
    #[error("{id}: flight {attempt} is not open")]
    NotInFlight {
        /// Whose.
        id: CredentialId,
        /// Which.
        attempt: Uuid,
    },
    /// The disk or the database does not answer a question.
    #[error("the ledger cannot be read: {0}")]
    Unreadable(String),
    /// The disk or the database refuses. The text says where and why.
    #[error("the ledger cannot be written: {0}")]
    Unwritable(String),
    /// It cannot be opened as it is; the text says what to do. The file is left untouched.
    #[error("the ledger cannot be used: {0}")]
    Unusable(String),
}

/// A time as the tables hold it.
fn time(microseconds: i64) -> Timestamp {
    Timestamp::from_microsecond(microseconds).unwrap_or(if microseconds < 0 { Timestamp::MIN } else { Timestamp::MAX })
}

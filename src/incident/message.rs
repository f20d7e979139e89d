//! What on-call is sent: one message of one incident.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// One message to on-call. Holds no secret; it is stored in the outbox as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The incident's key, the same from opening to resolving (`credd/3f2a…`).
    pub dedup_key: String,
    /// Counts the messages of the incident; 0 opens it.
    #[serde(default)]
    pub sequence: u32,
    /// Opens or closes.
    pub action: Action,
    /// How bad.
    pub severity: Severity,
    /// `credential_revoked`, `rotation_outcome_unknown`, …
    pub kind: String,
    /// Whom it is about; several when grouped.
    pub credentials: Vec<String>,
    /// One line, the same from opening to resolving: "github-bot: credential revoked". Mail threads hang on it.
    pub title: String,
    /// One line, as things stand now: "github-bot was revoked".
    pub summary: String,
    /// What, since when, the evidence, what was tried, the one command that mends it. Plain text.
    pub body: String,
    /// When the incident began.
    pub since: Timestamp,
    /// When this message was decided.
    pub at: Timestamp,
    /// Made by a person's test.
    pub test: bool,
}

impl Message {
    /// A person's test: it says so in every place where it is read, and has a key of its own.
    pub fn test(id: uuid::Uuid, at: Timestamp) -> Self {
        Self {
            dedup_key: format!("credd/test-{id}"),
            sequence: 0,
            action: Action::Trigger,
            severity: Severity::Info,
            kind: "test".into(),
            credentials: Vec::new(),
            title: "[TEST] credd can reach you".into(),
            summary: "[TEST] credd can reach you; nothing is wrong".into(),
            body: "Somebody asked credd to send this, to prove that pages arrive here. Nothing needs to be done."
                .into(),
            since: at,
            at,
            test: true,
        }
    }
}

/// What a message does to its incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Opens it, or adds to it.
    Trigger,
    /// Closes it.
    Resolve,
}

/// Prometheus's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// For the record.
    Info,
    /// Can wait for the morning.
    Warning,
    /// Wakes somebody.
    Critical,
}

impl Severity {
    /// All three, mildest first.
    pub const ALL: [Self; 3] = [Self::Info, Self::Warning, Self::Critical];

    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    /// From the ledger's word; what is unknown counts as critical, because silence would be worse.
    pub fn from_word(word: &str) -> Self {
        Self::ALL.into_iter().find(|severity| severity.as_str() == word).unwrap_or(Self::Critical)
    }
}

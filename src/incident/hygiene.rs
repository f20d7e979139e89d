//! How long a kind of condition waits before it pages, and how long it must be over before it resolves.

use jiff::SignedDuration;

/// The patience of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hygiene {
    /// It pages when it has lasted this long, counted from the fact's own date.
    pub pending: SignedDuration,
    /// It resolves when it has been over this long, so that a flapping condition stays one incident.
    pub hold: SignedDuration,
}

/// Further credentials of an open incident are told together, this long after its last message.
pub const GROUP_WAIT: SignedDuration = SignedDuration::from_secs(30);

/// A critical incident that nobody resolves is told again this often.
pub const REPEAT: SignedDuration = SignedDuration::from_hours(4);

/// Kinds that say nothing new of a credential while the other kind is open for it.
pub const EXPLAINED_BY: &[(&str, &str)] =
    &[("credential_expired", "credential_revoked"), ("credential_expired", "client_misconfigured")];

/// The patience of a kind.
pub fn of(kind: &str) -> Hygiene {
    const HOLD: SignedDuration = SignedDuration::from_mins(5);
    let (pending, hold) = match kind {
        // Confirmed before it is raised, and over only by a person's new material: nothing to wait for either way.
        "credential_revoked" => (SignedDuration::ZERO, SignedDuration::ZERO),
        "credential_expired" => (SignedDuration::from_mins(2), HOLD),
        // One page for a client, with the credentials that fail in the same moment.
        "client_misconfigured" => (SignedDuration::from_secs(30), HOLD),
        "refresh_failing" => (SignedDuration::from_mins(10), HOLD),
        // A secret that moves from one credential to another is for a moment that of both.
        "duplicate_secret" => (SignedDuration::from_secs(30), HOLD),
        // One that is replaced may be away for a moment.
        "secret_missing" => (SignedDuration::from_mins(2), HOLD),
        // Counted from the entry that waits to be written, and from the first answer that did not come.
        "writeback_failing" | "store_down" => (SignedDuration::from_mins(15), HOLD),
        // rotation_outcome_unknown, ledger_unwritable, audit_unwritable, clock_untrusted, and what is new.
        _ => (SignedDuration::ZERO, HOLD),
    };
    Hygiene { pending, hold }
}

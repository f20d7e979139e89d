//! Orphans: replies that were captured and of which no value was made (RR-2 and RR-6).
//!
//! Their flight was overtaken, or nobody could read them. They may hold the only living token of a grant, so they are
//! kept until a later value of their credential has proven itself.

use jiff::Timestamp;
use uuid::Uuid;

use super::{
    LedgerError, Rotation,
    connection::{Row, values},
    rotation::{damaged, unreadable, unseal_reply},
    time,
};
use crate::{
    credential::{CredentialId, Fingerprint, Generation, Reply},
    seal::Sealer,
};

/// A reply that brought no value.
#[derive(Clone, Debug)]
pub struct Orphan {
    /// The flight that it answers.
    pub attempt: Uuid,
    /// Whose; `None` where an older credd captured it for a flight that this ledger does not know.
    pub credential: Option<CredentialId>,
    /// What is known of its flight; `None` where this ledger does not know it (a restored backup).
    pub flight: Option<Overtaken>,
    /// As it came, unsealed.
    pub reply: Reply,
    /// When it was captured.
    pub received_at: Timestamp,
}

/// A closed flight whose reply is kept.
#[derive(Clone, Debug)]
pub struct Overtaken {
    /// The generation that it was to make.
    pub target: Generation,
    /// Of the root secret that it presented.
    pub presents: Fingerprint,
    /// When its intent was written.
    pub prepared_at: Timestamp,
    /// How it was closed, in one word.
    pub outcome: String,
}

const ORPHANS: &str = "SELECT attempt, NULL, capture, received_at, NULL, NULL, NULL, NULL FROM orphan UNION ALL \
     SELECT attempt, credential, capture, received_at, target, presents, prepared_at, outcome FROM flight \
     WHERE closed_at IS NOT NULL AND capture IS NOT NULL ORDER BY 4";

impl Rotation<'_> {
    /// Replies that arrived after their flight was closed, or without one that this ledger knows, and those that nobody
    /// could take. They stay until [`Rotation::drop_orphans`].
    pub async fn orphans(&self) -> Result<Vec<Orphan>, LedgerError> {
        let rows = self.0.rows(ORPHANS, vec![]).await?;
        rows.iter().map(|row| orphan(row, self.0.sealer())).collect()
    }

    /// Opens a closed flight again whose reply is kept: it can be read now, and recovery promotes it like any other.
    /// False where another flight is open, or the credential has moved on since.
    pub async fn reopen(&self, attempt: Uuid) -> Result<bool, LedgerError> {
        self.0
            .write(move |tx| {
                Box::pin(async move {
                    let sql = "UPDATE flight SET closed_at = NULL, outcome = NULL WHERE attempt = $1 \
                         AND closed_at IS NOT NULL AND capture IS NOT NULL \
                         AND target = 1 + (SELECT generation FROM material m WHERE m.credential = flight.credential) \
                         AND NOT EXISTS (SELECT 1 FROM flight other WHERE other.credential = flight.credential \
                         AND other.closed_at IS NULL)";
                    Ok(tx.conn.execute(sql, values![attempt.to_string()]).await? == 1)
                })
            })
            .await
    }

    /// Forgets these, once a later value has been used.
    pub async fn drop_orphans(&self, attempts: Vec<Uuid>) -> Result<(), LedgerError> {
        self.0
            .write(move |tx| {
                let attempts = attempts.clone();
                Box::pin(async move {
                    for attempt in attempts {
                        let values = values![attempt.to_string()];
                        tx.conn.execute("DELETE FROM orphan WHERE attempt = $1", values.clone()).await?;
                        let sql = "UPDATE flight SET capture = NULL WHERE attempt = $1 AND closed_at IS NOT NULL";
                        tx.conn.execute(sql, values).await?;
                    }
                    Ok(())
                })
            })
            .await
    }
}

fn orphan(row: &Row, sealer: &Sealer) -> Result<Orphan, LedgerError> {
    let attempt: String = row.get(0).map_err(unreadable)?;
    let attempt = Uuid::parse_str(&attempt).map_err(|_| damaged(&attempt, "its name"))?;
    let sealed: Vec<u8> = row.get(2).map_err(unreadable)?;
    let (reply, told) = unseal_reply(sealer, attempt, &sealed)?;
    let whose: Option<String> = row.get(1).map_err(unreadable)?;
    let text = |column| row.get::<Option<String>>(column).map_err(unreadable);
    let number = |column| row.get::<Option<i64>>(column).map_err(unreadable);
    let flight = match (number(4)?, text(5)?, number(6)?, text(7)?) {
        (Some(target), Some(presents), Some(prepared_at), outcome) => Some(Overtaken {
            target: Generation(target),
            presents: Fingerprint::from_ledger(presents),
            prepared_at: time(prepared_at),
            outcome: outcome.unwrap_or_default(),
        }),
        _ => None,
    };
    Ok(Orphan {
        attempt,
        credential: whose.and_then(|id| CredentialId::new(&id).ok()).or(told),
        flight,
        reply,
        received_at: time(row.get(3).map_err(unreadable)?),
    })
}

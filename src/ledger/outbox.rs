//! The outbox: values that their home stores do not have yet, and when to try next.

use jiff::Timestamp;
use uuid::Uuid;

use super::{
    Fact, FactChange, Ledger, LedgerError,
    connection::{Row, values},
    incidents,
    rotation::unseal,
    time,
};
use crate::{
    credential::{CredentialId, Fingerprint, Generation, Material},
    seal::Sealer,
};

/// The door to the outbox.
#[derive(Clone, Copy, Debug)]
pub struct Outbox<'l>(pub(super) &'l Ledger);

/// A value that its home store does not have yet. Always the latest: older ones are never carried.
#[derive(Clone, Debug)]
pub struct WriteBack {
    /// Whose.
    pub credential: CredentialId,
    /// Of the value.
    pub generation: Generation,
    /// Makes a repeated write harmless: the flight that brought the value, or a name made from credential and generation.
    pub attempt: Uuid,
    /// The value, unsealed.
    pub material: Material,
    /// What the home store must still hold.
    pub store_version: Option<String>,
    /// Since when something waits.
    pub since: Timestamp,
    /// Tries that failed.
    pub tries: i64,
    /// Why the last one failed.
    pub error: Option<String>,
}

/// The kind of incident that a value is which cannot be brought home.
pub const WRITEBACK_FAILING: &str = "writeback_failing";

const DUE: &str = "SELECT w.credential, w.generation, w.attempt, w.since, w.tries, w.error, m.generation, m.sealed, \
     c.store_version FROM write_back w JOIN material m ON m.credential = w.credential \
     JOIN credential c ON c.id = w.credential WHERE w.next_try_at <= $1 AND c.removed_at IS NULL \
     ORDER BY w.next_try_at LIMIT 256";

impl Outbox<'_> {
    /// The write-backs whose time has come, at most 256.
    pub async fn due_write_backs(&self, now: Timestamp) -> Result<Vec<WriteBack>, LedgerError> {
        let rows = self.0.rows(DUE, values![now.as_microsecond()]).await?;
        rows.iter().map(|row| write_back(row, self.0.sealer())).collect()
    }

    /// The home store holds that generation now, under that version, and on-call need not know of it any more. A newer
    /// value that came meanwhile stays due.
    pub async fn write_back_done(
        &self,
        id: &CredentialId,
        generation: Generation,
        store_version: &str,
    ) -> Result<(), LedgerError> {
        let (id, version) = (id.clone(), store_version.to_owned());
        self.0
            .write(move |tx| {
                let (id, version) = (id.clone(), version.clone());
                Box::pin(async move {
                    // What is in the store now is what later changes are compared with.
                    tx.conn
                        .execute(
                            "UPDATE credential SET store_version = $2, store_fingerprint = COALESCE((SELECT CASE \
                             WHEN m.generation = $3 THEN m.fingerprint \
                             WHEN m.generation = $3 + 1 THEN m.previous_fingerprint END \
                             FROM material m WHERE m.credential = $1), store_fingerprint) WHERE id = $1",
                            values![id.as_str(), version, generation.0],
                        )
                        .await?;
                    let sql = "DELETE FROM write_back WHERE credential = $1 AND generation <= $2";
                    if tx.conn.execute(sql, values![id.as_str(), generation.0]).await? > 0 {
                        let change = FactChange::Clear { why: "its home store has it now".into() };
                        let (kind, credential) = (WRITEBACK_FAILING.to_owned(), id.to_string());
                        let fact = Fact { kind, credential, group: String::new(), change, at: tx.now };
                        incidents::apply(tx, &fact).await?;
                    }
                    Ok(())
                })
            })
            .await
    }

    /// What the home store holds now, although it is no news: later writes and changes are compared with it.
    pub async fn store_holds(
        &self,
        id: &CredentialId,
        store_version: &str,
        root: Option<&Fingerprint>,
    ) -> Result<(), LedgerError> {
        let (id, version, root) = (id.clone(), store_version.to_owned(), root.map(ToString::to_string));
        self.0
            .write(move |tx| {
                let (id, version, root) = (id.clone(), version.clone(), root.clone());
                Box::pin(async move {
                    tx.conn
                        .execute(
                            "UPDATE credential SET store_version = $2, \
                             store_fingerprint = COALESCE($3, store_fingerprint) WHERE id = $1",
                            values![id.as_str(), version, root],
                        )
                        .await?;
                    Ok(())
                })
            })
            .await
    }

    /// A home store answers again: what waited for it waits no longer.
    pub async fn retry_unreachable(&self, now: Timestamp) -> Result<(), LedgerError> {
        self.0
            .write(move |tx| {
                Box::pin(async move {
                    tx.conn
                        .execute(
                            "UPDATE write_back SET next_try_at = $1 WHERE next_try_at > $1 AND error = 'unreachable'",
                            values![now.as_microsecond()],
                        )
                        .await?;
                    Ok(())
                })
            })
            .await
    }

    /// It did not work: try again at that time. `error` is one word or a short text without secrets.
    pub async fn write_back_later(
        &self,
        id: &CredentialId,
        next_try: Timestamp,
        error: &str,
    ) -> Result<(), LedgerError> {
        let (id, error) = (id.clone(), error.to_owned());
        self.0
            .write(move |tx| {
                let (id, error) = (id.clone(), error.clone());
                Box::pin(async move {
                    tx.conn
                        .execute(
                            "UPDATE write_back SET next_try_at = $2, tries = tries + 1, error = $3 WHERE credential = $1",
                            values![id.as_str(), next_try.as_microsecond(), error],
                        )
                        .await?;
                    Ok(())
                })
            })
            .await
    }
}

fn write_back(row: &Row, sealer: &Sealer) -> Result<WriteBack, LedgerError> {
    let parts = || {
        Ok::<_, sqlx::Error>((
            row.get::<String>(0)?,
            row.get::<i64>(1)?,
            row.get::<String>(2)?,
            row.get::<i64>(3)?,
            row.get::<i64>(6)?,
            row.get::<Vec<u8>>(7)?,
        ))
    };
    let (credential, generation, attempt, since, current, sealed) =
        parts().map_err(|error| LedgerError::Unreadable(error.to_string()))?;
    let damaged = |what: &str| LedgerError::Unusable(format!("the write-back of {credential:?} is damaged ({what})"));
    let id = CredentialId::new(&credential).map_err(|error| damaged(&error.to_string()))?;
    let material = unseal(sealer, &id, Generation(current), &sealed)?;
    Ok(WriteBack {
        credential: id,
        // The value may be newer than the wish to carry it (a change that needed no write-back).
        generation: Generation(current.max(generation)),
        attempt: attempt.parse().map_err(|_| damaged("attempt"))?,
        material,
        store_version: row.get(8).map_err(|_| damaged("store version"))?,
        since: time(since),
        tries: row.get(4).map_err(|_| damaged("tries"))?,
        error: row.get(5).map_err(|_| damaged("error"))?,
    })
}

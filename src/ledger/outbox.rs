//! The outbox: what must still reach somebody else, and when to try next.

use jiff::Timestamp;
use uuid::Uuid;

use super::{
    Ledger, LedgerError,
    connection::{Row, values},
    rotation::unseal,
    time,
    writer::{Failed, Tx},
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

/// A message to be queued. The text is the pager's own (JSON); the ledger does not look into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPage {
    /// Which channel of the settings.
    pub channel: String,
    /// The incident's key; messages of one incident leave in order.
    pub dedup_key: String,
    /// The message.
    pub message: String,
}

/// A message that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Its number; it rises.
    pub seq: i64,
    /// Which channel.
    pub channel: String,
    /// The incident's key.
    pub dedup_key: String,
    /// The message.
    pub message: String,
    /// Since when it waits.
    pub created_at: Timestamp,
    /// Tries that failed.
    pub tries: i64,
}

/// What waits for a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Which.
    pub channel: String,
    /// How many.
    pub length: i64,
    /// The oldest.
    pub oldest: Timestamp,
}

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

    /// The home store holds that generation now, under that version. A newer value that came meanwhile stays due.
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
                    tx.conn
                        .execute(
                            "DELETE FROM write_back WHERE credential = $1 AND generation <= $2",
                            values![id.as_str(), generation.0],
                        )
                        .await?;
                    Ok(())
                })
            })
            .await
    }

    /// The home store was read and holds nothing new, under that version: the next write-back replaces that one.
    pub async fn home_holds(
        &self,
        id: &CredentialId,
        store_version: &str,
        root: Option<Fingerprint>,
    ) -> Result<(), LedgerError> {
        let (id, version, root) = (id.clone(), store_version.to_owned(), root.map(|root| root.to_string()));
        self.0
            .write(move |tx| {
                let (id, version, root) = (id.clone(), version.clone(), root.clone());
                Box::pin(async move {
                    let sql = "UPDATE credential SET store_version = $2, store_fingerprint = $3 WHERE id = $1";
                    tx.conn.execute(sql, values![id.as_str(), version, root]).await?;
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

    /// The messages of a channel whose time has come, oldest first, at most 256. Of each incident only the oldest, so that
    /// a resolve never overtakes its trigger.
    pub async fn due_pages(&self, now: Timestamp, channel: &str) -> Result<Vec<Page>, LedgerError> {
        let rows = self
            .0
            .rows(
                "SELECT seq, channel, dedup_key, message, created_at, tries FROM page p \
                 WHERE channel = $1 AND next_try_at <= $2 AND NOT EXISTS (SELECT 1 FROM page o \
                 WHERE o.channel = p.channel AND o.dedup_key = p.dedup_key AND o.seq < p.seq) ORDER BY seq LIMIT 256",
                values![channel, now.as_microsecond()],
            )
            .await?;
        rows.iter()
            .map(|row| {
                Ok(Page {
                    seq: row.get(0)?,
                    channel: row.get(1)?,
                    dedup_key: row.get(2)?,
                    message: row.get(3)?,
                    created_at: time(row.get(4)?),
                    tries: row.get(5)?,
                })
            })
            .collect::<Result<_, sqlx::Error>>()
            .map_err(|error| LedgerError::Unreadable(error.to_string()))
    }

    /// The channel accepted it (or never will).
    pub async fn page_done(&self, seq: i64) -> Result<(), LedgerError> {
        self.0
            .write(move |tx| {
                Box::pin(async move {
                    tx.conn.execute("DELETE FROM page WHERE seq = $1", values![seq]).await?;
                    Ok(())
                })
            })
            .await
    }

    /// The channel did not accept it: try again at that time.
    pub async fn page_later(&self, seq: i64, next_try: Timestamp, tries: i64) -> Result<(), LedgerError> {
        self.0
            .write(move |tx| {
                Box::pin(async move {
                    tx.conn
                        .execute(
                            "UPDATE page SET next_try_at = $2, tries = $3 WHERE seq = $1",
                            values![seq, next_try.as_microsecond(), tries],
                        )
                        .await?;
                    Ok(())
                })
            })
            .await
    }

    /// Queues messages that tell of no incident (tests, digests); see [`super::Incidents::announce`] for the others.
    pub async fn enqueue_pages(&self, pages: Vec<NewPage>) -> Result<(), LedgerError> {
        let pages = std::sync::Arc::new(pages);
        self.0
            .write(move |tx| {
                let pages = pages.clone();
                Box::pin(async move { enqueue(tx, &pages).await })
            })
            .await
    }

    /// How much waits for each channel, and since when; for the metrics.
    pub async fn waiting_pages(&self) -> Result<Vec<Waiting>, LedgerError> {
        let sql = "SELECT channel, COUNT(*), MIN(created_at) FROM page GROUP BY channel ORDER BY channel";
        let rows = self.0.rows(sql, vec![]).await?;
        rows.iter()
            .map(|row| Ok(Waiting { channel: row.get(0)?, length: row.get(1)?, oldest: time(row.get(2)?) }))
            .collect::<Result<_, sqlx::Error>>()
            .map_err(|error| LedgerError::Unreadable(error.to_string()))
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

/// Queues messages within a transaction.
pub(super) async fn enqueue(tx: &mut Tx<'_>, pages: &[NewPage]) -> Result<(), Failed> {
    let now = tx.now.as_microsecond();
    for page in pages {
        tx.conn
            .execute(
                "INSERT INTO page (channel, dedup_key, message, created_at, next_try_at, tries) \
                 VALUES ($1, $2, $3, $4, $4, 0)",
                values![page.channel.as_str(), page.dedup_key.as_str(), page.message.as_str(), now],
            )
            .await?;
    }
    Ok(())
}

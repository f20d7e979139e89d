//! The ledger as a home store: named sealed documents, each with a version and compare-and-swap.

use std::sync::Arc;

use tokio::sync::broadcast;
use zeroize::Zeroizing;

use super::{Entry, HOUSE, Ledger, LedgerError, connection::values};
use crate::{credential::Secret, seal::Sealer};

/// The door to the embedded home store.
#[derive(Clone, Copy, Debug)]
pub struct Embedded<'l>(pub(super) &'l Ledger);

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It is durable, under this version.
    Written(i64),
    /// The store holds another version than expected (or none): nothing was written.
    Conflict(Option<i64>),
}

impl Embedded<'_> {
    /// A document and its version.
    pub async fn get(&self, name: &str) -> Result<Option<(Secret, i64)>, LedgerError> {
        let sql = "SELECT version, sealed FROM document WHERE name = $1 AND sealed IS NOT NULL";
        let rows = self.0.rows(sql, values![name]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let parts = || Ok::<_, sqlx::Error>((row.get::<i64>(0)?, row.get::<Vec<u8>>(1)?));
        let (version, sealed) = parts().map_err(|error| LedgerError::Unreadable(error.to_string()))?;
        Ok(Some((open(self.0.sealer(), name, version, &sealed)?, version)))
    }

    /// Names and versions of all documents, in order of names.
    pub async fn list(&self) -> Result<Vec<(String, i64)>, LedgerError> {
        let rows =
            self.0.rows("SELECT name, version FROM document WHERE sealed IS NOT NULL ORDER BY name", vec![]).await?;
        rows.iter()
            .map(|row| Ok((row.get(0)?, row.get(1)?)))
            .collect::<Result<_, sqlx::Error>>()
            .map_err(|error| LedgerError::Unreadable(error.to_string()))
    }

    /// Writes a document if the store still holds `expected`; `None` means that there must be none.
    pub async fn put(&self, name: &str, document: Secret, expected: Option<i64>) -> Result<Put, LedgerError> {
        self.swap(name, Some(document), expected, None).await
    }

    /// The same for somebody's word: what the audit log says of it is written with it, or neither is.
    pub async fn put_for(
        &self,
        name: &str,
        document: Secret,
        expected: Option<i64>,
        said: Entry,
    ) -> Result<Put, LedgerError> {
        self.swap(name, Some(document), expected, Some(said)).await
    }

    /// Removes a document for somebody, if the store still holds `expected`. Its versions go on where they were if it
    /// comes back.
    pub async fn remove_for(&self, name: &str, expected: i64, said: Entry) -> Result<Put, LedgerError> {
        self.swap(name, None, Some(expected), Some(said)).await
    }

    /// Tells the names of documents as they change, here in this process. Who lags behind should list anew.
    pub fn changed(&self) -> broadcast::Receiver<String> {
        self.0.watch_documents()
    }

    #[expect(clippy::disallowed_methods, reason = "sealed here")]
    async fn swap(
        &self,
        name: &str,
        document: Option<Secret>,
        expected: Option<i64>,
        said: Option<Entry>,
    ) -> Result<Put, LedgerError> {
        let asked = Arc::new((name.to_owned(), document, said));
        self.0
            .write(move |tx| {
                let asked = asked.clone();
                Box::pin(async move {
                    let (name, document, said) = &*asked;
                    let sql =
                        "SELECT version, CAST(CASE WHEN sealed IS NULL THEN 0 ELSE 1 END AS BIGINT) FROM document WHERE name = $1";
                    let row = tx.conn.row(sql, values![name.as_str()]).await?;
                    let found =
                        row.map(|r| Ok::<_, sqlx::Error>((r.get::<i64>(0)?, r.get::<i64>(1)? == 1))).transpose()?;
                    let live = found.filter(|(_, live)| *live).map(|(version, _)| version);
                    if live != expected {
                        return Ok(Put::Conflict(live));
                    }
                    let version = found.map_or(1, |(version, _)| version + 1);
                    let sealed = document
                        .as_ref()
                        .map(|document| tx.sealer.seal(&aad(name, version), document.expose().as_bytes()));
                    let touched = tx
                        .conn
                        .execute(
                            "INSERT INTO document (name, version, sealed, changed_at) VALUES ($1, $2, $3, $4) \
                             ON CONFLICT (name) DO UPDATE SET version = excluded.version, sealed = excluded.sealed, \
                             changed_at = excluded.changed_at WHERE document.version = excluded.version - 1",
                            values![name.as_str(), version, sealed, tx.now.as_microsecond()],
                        )
                        .await?;
                    if touched == 0 {
                        return Err(super::writer::Failed::Raced);
                    }
                    tx.documents.push(name.clone());
                    tx.audit.extend(said.clone().map(|said| (HOUSE, said)));
                    Ok(Put::Written(version))
                })
            })
            .await
    }
}

fn aad(name: &str, version: i64) -> String {
    format!("document\0{name}\0{version}")
}

fn open(sealer: &Sealer, name: &str, version: i64, sealed: &[u8]) -> Result<Secret, LedgerError> {
    let damaged = |what: String| LedgerError::Unusable(format!("the document {name:?} is damaged ({what})"));
    let plain = sealer.open(&aad(name, version), sealed).map_err(|error| damaged(error.to_string()))?;
    // Taken, not copied: the text keeps its one place in memory.
    let mut plain: Zeroizing<Vec<u8>> = plain;
    match String::from_utf8(std::mem::take(&mut *plain)) {
        Ok(text) => Ok(Secret::new(text)),
        Err(error) => {
            drop(Zeroizing::new(error.into_bytes()));
            Err(damaged("it is not UTF-8".into()))
        }
    }
}

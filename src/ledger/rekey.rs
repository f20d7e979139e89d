//! A new key-encryption key: every record is wrapped anew and the audit log signed anew, in one transaction; the data itself
//! is not touched.

use std::sync::Arc;

use super::{
    Ledger, LedgerError, Place,
    connection::{Value, values},
    rotation::unseal,
    schema, signature,
    writer::{Failed, Tx},
};
use crate::{
    clock::Clock,
    credential::{CredentialId, Generation},
    seal::Sealer,
};

/// Where sealed records lie: how to read them with their keys, and how to put them back.
const SEALED: [(&str, &str); 5] = [
    ("SELECT credential, sealed FROM material", "UPDATE material SET sealed = $2 WHERE credential = $1"),
    (
        "SELECT credential, previous FROM material WHERE previous IS NOT NULL",
        "UPDATE material SET previous = $2 WHERE credential = $1",
    ),
    (
        "SELECT attempt, capture FROM flight WHERE capture IS NOT NULL",
        "UPDATE flight SET capture = $2 WHERE attempt = $1",
    ),
    ("SELECT attempt, capture FROM orphan", "UPDATE orphan SET capture = $2 WHERE attempt = $1"),
    ("SELECT name, sealed FROM document WHERE sealed IS NOT NULL", "UPDATE document SET sealed = $2 WHERE name = $1"),
];

impl Ledger {
    /// Changes the key of a ledger that nobody holds. Answers how many records were wrapped anew.
    ///
    /// Keep the new key durably beside the old one before, and put it in its place after: the ledger opens with exactly
    /// one of both, whenever this is interrupted.
    pub async fn change_key(place: Place, old: Sealer, new: Sealer, clock: Arc<dyn Clock>) -> Result<u64, LedgerError> {
        let ledger = Self::open(place, old, clock).await?;
        let new = Arc::new(new);
        let wrapped = ledger
            .write(move |tx| {
                let new = new.clone();
                Box::pin(async move { rewrap(tx, &new).await })
            })
            .await;
        // Whoever goes on must open it with the new key: this handle still seals with the old one.
        ledger.close().await;
        wrapped
    }
}

/// A statement that waits until everything has been opened.
type Write = (&'static str, Vec<Value>);

async fn rewrap(tx: &mut Tx<'_>, new: &Sealer) -> Result<u64, Failed> {
    let mut writes = fingerprints(tx, new).await?;
    let mut wrapped = 0;
    for (read, write) in SEALED {
        for row in tx.conn.rows(read, vec![]).await? {
            let (key, sealed): (String, Vec<u8>) = (row.get(0)?, row.get(1)?);
            let sealed = tx.sealer.rewrap(&sealed, new).map_err(|error| damaged(&key, &error.to_string()))?;
            writes.push((write, values![key, sealed]));
            wrapped += 1;
        }
    }
    let said = schema::check_key(tx.conn, tx.sealer).await?;
    writes.push(("UPDATE meta SET value = $1 WHERE name = 'key_check'", values![new.check_value(&said)]));
    writes.extend(signature::signed_anew(tx.conn, tx.sealer, new).await?);
    for (sql, values) in writes {
        tx.conn.execute(sql, values).await?;
    }
    Ok(wrapped)
}

/// Fingerprints depend on the key. Those whose secret is still here are made anew; the others could never be compared
/// again, so they go.
async fn fingerprints(tx: &mut Tx<'_>, new: &Sealer) -> Result<Vec<Write>, Failed> {
    let mut writes = Vec::new();
    let rows = tx.conn.rows("SELECT credential, generation, sealed, previous FROM material", vec![]).await?;
    for row in rows {
        let whose: String = row.get(0)?;
        let id = CredentialId::new(&whose).map_err(|error| damaged(&whose, &error.to_string()))?;
        let generation = Generation(row.get(1)?);
        let of = |generation, sealed: &[u8]| {
            let material = unseal(tx.sealer, &id, generation, sealed)?;
            let pair = |root| (tx.sealer.fingerprint(root).to_string(), new.fingerprint(root).to_string());
            Ok::<_, LedgerError>(material.root().map(pair).unzip())
        };
        let (before, after) = of(generation, &row.get::<Vec<u8>>(2)?)?;
        let (previous_before, previous_after) = match row.get::<Option<Vec<u8>>>(3)? {
            Some(sealed) => of(Generation(generation.0 - 1), &sealed)?,
            None => (None, None),
        };
        writes.push((
            "UPDATE material SET fingerprint = $2, previous_fingerprint = $3 WHERE credential = $1",
            values![whose.as_str(), after.clone(), previous_after.clone()],
        ));
        for sql in [
            "UPDATE credential SET store_fingerprint = CASE WHEN store_fingerprint = $2 THEN $3 \
             WHEN store_fingerprint = $4 THEN $5 END WHERE id = $1",
            "UPDATE flight SET presents = COALESCE(CASE WHEN presents = $2 THEN $3 WHEN presents = $4 THEN $5 END, '') \
             WHERE credential = $1",
        ] {
            let pairs =
                values![whose.as_str(), before.clone(), after.clone(), previous_before.clone(), previous_after.clone()];
            writes.push((sql, pairs));
        }
    }
    Ok(writes)
}

fn damaged(whose: &str, what: &str) -> LedgerError {
    LedgerError::Unusable(format!("the record of {whose:?} is damaged ({what}): the key was not changed"))
}

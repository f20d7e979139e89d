//! The audit log: a chain of hashes for each shard and one for the house, written in the transaction of what it records.
//!
//! `hash = SHA-256("credd audit 1" ‖ chain ‖ seq ‖ previous hash ‖ entry as stored)`, numbers as 8 bytes, big end first;
//! before the first entry stand 32 zeros. The last hash of each chain is kept apart, so a cut-off end shows too.

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::digest;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::{
    Entry, Ledger, LedgerError,
    connection::{Connection, Row, Value, values},
    writer::Failed,
};
use crate::failpoint;

/// The chain of the house; a shard's chain has the shard's number.
pub const HOUSE: i64 = -1;

const START: [u8; 32] = [0; 32];
/// Rows in one answer or statement.
const CHUNK: usize = 500;

/// The door to the audit log.
#[derive(Clone, Copy, Debug)]
pub struct Audit<'l>(pub(super) &'l Ledger);

/// An entry as the log holds it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Logged {
    /// Which chain.
    pub chain: i64,
    /// Place in the chain, from 1, without gaps.
    pub seq: i64,
    /// What it says.
    pub entry: Entry,
}

/// What to look for; all of it must fit.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Whose.
    pub credential: Option<String>,
    /// What happened.
    pub event: Option<String>,
    /// At or after.
    pub since: Option<Timestamp>,
}

/// A log without a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// How many entries.
    pub entries: u64,
    /// In how many chains.
    pub chains: u64,
}

/// Why a log does not verify.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Broken {
    /// Somebody changed it, or the disk did.
    #[error("the audit log is broken in chain {chain} at entry {seq}: {reason}; compare it with an export or a backup")]
    Chain {
        /// Which chain.
        chain: i64,
        /// The first entry that does not fit.
        seq: i64,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// It cannot be read at all.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl Audit<'_> {
    /// Writes an entry that belongs to no transition ([`HOUSE`], or a shard's chain).
    pub async fn append(&self, chain: i64, entry: Entry) -> Result<(), LedgerError> {
        let work = move |tx: &mut super::writer::Tx<'_>| {
            tx.audit.push((chain, entry.clone()));
        };
        self.0
            .write(move |tx| {
                work(tx);
                Box::pin(async { Ok(()) })
            })
            .await
    }

    /// Checks every chain from its beginning to its end.
    pub async fn verify(&self) -> Result<Verified, Broken> {
        let mut verified = Verified { entries: 0, chains: 0 };
        for chain in self.chains().await? {
            let (mut seq, mut hash) = (0_i64, START.to_vec());
            loop {
                let (rows, head) = self.chunk(chain, seq).await?;
                let last = rows.len() < CHUNK;
                for row in rows {
                    seq += 1;
                    hash = row.follows(chain, seq, &hash).map_err(|reason| Broken::Chain { chain, seq, reason })?;
                    verified.entries += 1;
                }
                if last {
                    let reason = match head {
                        Some(head) if head == (seq, hash) => break,
                        Some((end, _)) if end > seq => "the entries from here on are missing",
                        _ => "the chain does not end as it was last written",
                    };
                    return Err(Broken::Chain { chain, seq: seq + 1, reason });
                }
            }
            verified.chains += 1;
        }
        Ok(verified)
    }

    /// The newest entries that fit, newest first.
    pub async fn tail(&self, filter: &Filter, limit: usize) -> Result<Vec<Logged>, LedgerError> {
        let (credential, event) = (filter.credential.clone(), filter.event.clone());
        let since = filter.since.map(Timestamp::as_microsecond);
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = self
            .0
            .rows(
                "SELECT chain, seq, entry FROM audit WHERE ($1 IS NULL OR credential = $1) AND ($2 IS NULL OR event = $2) \
                 AND at >= $3 ORDER BY at DESC, chain, seq DESC LIMIT $4",
                values![credential, event, since.unwrap_or(i64::MIN), limit],
            )
            .await?;
        rows.iter()
            .map(|row| {
                let text: String = row.get(2).map_err(unreadable)?;
                let entry = serde_json::from_str(&text).map_err(|error| {
                    LedgerError::Unreadable(format!("an audit entry is damaged ({error}); run `credd audit verify`"))
                })?;
                Ok(Logged { chain: row.get(0).map_err(unreadable)?, seq: row.get(1).map_err(unreadable)?, entry })
            })
            .collect()
    }

    /// Writes the whole log as lines of JSON (`chain`, `seq`, `hash`, `entry` exactly as it was hashed), chain by
    /// chain. Answers how many lines.
    pub async fn export(&self, out: &mut (impl AsyncWrite + Unpin)) -> Result<u64, LedgerError> {
        #[derive(Serialize)]
        struct Line {
            chain: i64,
            seq: i64,
            hash: String,
            entry: Box<RawValue>,
        }
        let failed = |error: std::io::Error| LedgerError::Unreadable(format!("the export cannot be written: {error}"));
        let mut lines = 0;
        for chain in self.chains().await? {
            let mut seq = 0;
            loop {
                let (rows, _) = self.chunk(chain, seq).await?;
                let last = rows.len() < CHUNK;
                for row in rows {
                    seq = row.seq;
                    let hash = row.hash.iter().map(|byte| format!("{byte:02x}")).collect();
                    let entry = RawValue::from_string(row.entry).map_err(|e| failed(e.into()))?;
                    let mut line =
                        serde_json::to_vec(&Line { chain, seq, hash, entry }).map_err(|e| failed(e.into()))?;
                    line.push(b'\n');
                    out.write_all(&line).await.map_err(failed)?;
                    lines += 1;
                }
                if last {
                    break;
                }
            }
        }
        out.flush().await.map_err(failed)?;
        Ok(lines)
    }

    async fn chains(&self) -> Result<BTreeSet<i64>, LedgerError> {
        let rows = self.0.rows("SELECT chain FROM audit_head UNION SELECT chain FROM audit", vec![]).await?;
        rows.iter().map(|row| row.get(0).map_err(unreadable)).collect()
    }

    /// The entries of a chain after one, and the chain's recorded end, both of one moment.
    async fn chunk(&self, chain: i64, after: i64) -> Result<(Vec<Stored>, Option<(i64, Vec<u8>)>), LedgerError> {
        self.0
            .read(move |conn| {
                Box::pin(async move {
                    let limit = i64::try_from(CHUNK).unwrap_or(i64::MAX);
                    let rows = conn
                        .rows(
                            "SELECT seq, at, credential, event, entry, hash FROM audit \
                             WHERE chain = $1 AND seq > $2 ORDER BY seq LIMIT $3",
                            values![chain, after, limit],
                        )
                        .await?;
                    let rows = rows.iter().map(Stored::from_row).collect::<Result<_, _>>()?;
                    let head = conn.row("SELECT seq, hash FROM audit_head WHERE chain = $1", values![chain]).await?;
                    let head = head.map(|row| Ok::<_, sqlx::Error>((row.get(0)?, row.get(1)?))).transpose()?;
                    Ok((rows, head))
                })
            })
            .await
    }
}

struct Stored {
    seq: i64,
    at: i64,
    credential: String,
    event: String,
    entry: String,
    hash: Vec<u8>,
}

impl Stored {
    fn from_row(row: &Row) -> Result<Self, sqlx::Error> {
        Ok(Self {
            seq: row.get(0)?,
            at: row.get(1)?,
            credential: row.get(2)?,
            event: row.get(3)?,
            entry: row.get(4)?,
            hash: row.get(5)?,
        })
    }

    /// The hash of this entry, if it is the one that comes next.
    fn follows(self, chain: i64, seq: i64, before: &[u8]) -> Result<Vec<u8>, &'static str> {
        if self.seq != seq {
            return Err("entries are missing before the next one");
        }
        if hash(chain, seq, before, &self.entry) != self.hash {
            return Err("its text or its hash was changed, or an earlier entry was replaced");
        }
        let same = serde_json::from_str::<Entry>(&self.entry).is_ok_and(|entry| {
            entry.credential == self.credential && entry.event == self.event && entry.at.as_microsecond() == self.at
        });
        if same { Ok(self.hash) } else { Err("its index columns do not say what its text says") }
    }
}

fn hash(chain: i64, seq: i64, before: &[u8], entry: &str) -> Vec<u8> {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in [b"credd audit 1".as_slice(), &chain.to_be_bytes(), &seq.to_be_bytes(), before, entry.as_bytes()] {
        context.update(part);
    }
    context.finish().as_ref().to_vec()
}

fn unreadable(error: sqlx::Error) -> LedgerError {
    LedgerError::Unreadable(error.to_string())
}

/// Appends the entries of a transaction to their chains. Two writers of one chain collide on its sequence.
pub(super) async fn append(conn: &mut Connection, entries: &[(i64, Entry)]) -> Result<(), Failed> {
    if entries.is_empty() {
        return Ok(());
    }
    let chains: BTreeSet<i64> = entries.iter().map(|(chain, _)| *chain).collect();
    // Some 65 rows at most: one look for all is cheaper than one each.
    let rows = match chains.first() {
        Some(only) if chains.len() == 1 => {
            conn.rows("SELECT chain, seq, hash FROM audit_head WHERE chain = $1", values![*only]).await?
        }
        _ => conn.rows("SELECT chain, seq, hash FROM audit_head", vec![]).await?,
    };
    let mut heads: BTreeMap<i64, (i64, Vec<u8>)> = BTreeMap::new();
    for row in rows {
        heads.insert(row.get(0)?, (row.get(1)?, row.get(2)?));
    }
    heads.retain(|chain, _| chains.contains(chain));
    for part in entries.chunks(CHUNK) {
        let mut list = Vec::with_capacity(part.len() * 7);
        for (chain, entry) in part {
            let text = serde_json::to_string(entry).map_err(|error| LedgerError::Unwritable(error.to_string()))?;
            let (seq, before) = heads.entry(*chain).or_insert_with(|| (0, START.to_vec()));
            *seq += 1;
            *before = hash(*chain, *seq, before, &text);
            let (at, whose, event) = (entry.at.as_microsecond(), entry.credential.as_str(), entry.event.as_str());
            list.extend(values![*chain, *seq, at, whose, event, text, before.clone()]);
        }
        insert(conn, "INSERT INTO audit (chain, seq, at, credential, event, entry, hash) VALUES ", 7, "", list).await?;
    }
    let list = heads.into_iter().flat_map(|(chain, (seq, hash))| values![chain, seq, hash]).collect();
    let upsert = " ON CONFLICT (chain) DO UPDATE SET seq = excluded.seq, hash = excluded.hash";
    insert(conn, "INSERT INTO audit_head (chain, seq, hash) VALUES ", 3, upsert, list).await?;
    failpoint::reach("CP-20");
    Ok(())
}

/// One statement for many rows: on SQLite each statement crosses a thread.
async fn insert(conn: &mut Connection, head: &str, width: usize, tail: &str, list: Vec<Value>) -> Result<(), Failed> {
    let rows: Vec<String> = (0..list.len() / width)
        .map(|row| {
            let places: Vec<String> = (1..=width).map(|column| format!("${}", row * width + column)).collect();
            format!("({})", places.join(","))
        })
        .collect();
    conn.execute_built(format!("{head}{}{tail}", rows.join(",")), list).await?;
    Ok(())
}

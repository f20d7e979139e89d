//! The audit log: a chain of hashes for each shard and one for the house, written in the transaction of what it records.
//!
//! `hash = SHA-256("credd audit 1" ‖ chain ‖ seq ‖ previous hash ‖ entry as stored)`, numbers as 8 bytes, big end first;
//! before the first entry stand 32 zeros. The last hash of each chain is kept apart, so a cut-off end shows too, and signed
//! with the ledger's key, as is the list of the chains: who can write the database and lacks the key cannot build a chain
//! anew. An end that they find unsigned stays so, whatever is appended to it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use aws_lc_rs::digest;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::{
    Entry, Ledger, LedgerError,
    connection::{Connection, Row, Value, values},
    schema,
    signature::{self, Head},
    writer::Failed,
};
use crate::seal::Sealer;

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
    /// Whether its ends are signed with the ledger's key; not yet where an older credd wrote it last.
    pub signed: bool,
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
    /// The list of its chains was changed or taken away.
    #[error(
        "the list of the audit log's chains is not signed with this ledger's key: somebody has changed it; compare the log \
         with an export or a backup"
    )]
    Chains,
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
        let mut chains = self.chains().await?;
        // After the chains: one that begins meanwhile is in the list, and then it is looked at.
        let known = self.known().await?;
        if let Some(known) = &known {
            if let Some(chain) = chains.difference(known).next() {
                let reason = "nobody with this ledger's key has begun this chain";
                return Err(Broken::Chain { chain: *chain, seq: 1, reason });
            }
            chains.extend(known);
        }
        let signed = known.is_some();
        let mut verified = Verified { entries: 0, chains: 0, signed };
        for chain in chains {
            let (mut seq, mut hash) = (0_i64, START.to_vec());
            loop {
                let (rows, head) = self.chunk(chain, seq, signed).await?;
                let last = rows.len() < CHUNK;
                for row in rows {
                    seq += 1;
                    hash = row.follows(chain, seq, &hash).map_err(|reason| Broken::Chain { chain, seq, reason })?;
                    verified.entries += 1;
                }
                if last {
                    let reason = match head {
                        Some(head) if head.seq == seq && head.hash == hash => {
                            if !signed || head.is_signed(self.0.sealer(), chain) {
                                break;
                            }
                            "its end is not signed with this ledger's key: entries were replaced, and the hashes computed anew"
                        }
                        Some(head) if head.seq > seq => "the entries from here on are missing",
                        None if seq == 0 => "the whole chain is missing",
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
                let (rows, _) = self.chunk(chain, seq, false).await?;
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

    /// The chains that the holder of the key has begun; `None` where an older credd wrote the ledger last, which signed
    /// nothing. That it is older is sealed under the key, so nobody else can make it look so.
    async fn known(&self) -> Result<Option<BTreeSet<i64>>, Broken> {
        let sealer = self.0.sealer();
        let check = self.0.rows("SELECT value FROM meta WHERE name = 'key_check'", vec![]).await?;
        let check: Vec<u8> = check.first().map_or(Ok(vec![]), |row| row.get(0)).map_err(unreadable)?;
        let said = sealer.check(&check).map_err(|error| LedgerError::Unusable(error.to_string()))?;
        if said != schema::SAYS_SIGNED {
            return Ok(None);
        }
        let sealer = Arc::clone(self.0.sealer_of_all());
        let known = self.0.read(move |conn| {
            let sealer = sealer.clone();
            Box::pin(async move { signature::chains(conn, &sealer).await })
        });
        known.await?.map(Some).ok_or(Broken::Chains)
    }

    async fn chains(&self) -> Result<BTreeSet<i64>, LedgerError> {
        let rows = self.0.rows("SELECT chain FROM audit_head UNION SELECT chain FROM audit", vec![]).await?;
        rows.iter().map(|row| row.get(0).map_err(unreadable)).collect()
    }

    /// The entries of a chain after one, and the chain's recorded end, both of one moment.
    async fn chunk(&self, chain: i64, after: i64, signed: bool) -> Result<(Vec<Stored>, Option<Head>), LedgerError> {
        let head = match signed {
            true => "SELECT seq, hash, signature FROM audit_head WHERE chain = $1",
            false => "SELECT seq, hash, NULL FROM audit_head WHERE chain = $1",
        };
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
                    let head = conn.row(head, values![chain]).await?;
                    let signature = |row: &Row| if signed { row.get(2) } else { Ok(None) };
                    let head = head.map(|row| {
                        let signature = signature(&row)?;
                        Ok::<_, sqlx::Error>(Head { seq: row.get(0)?, hash: row.get(1)?, signature })
                    });
                    Ok((rows, head.transpose()?))
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
pub(super) async fn append(conn: &mut Connection, sealer: &Sealer, entries: &[(i64, Entry)]) -> Result<(), Failed> {
    if entries.is_empty() {
        return Ok(());
    }
    let chains: BTreeSet<i64> = entries.iter().map(|(chain, _)| *chain).collect();
    // Some 65 rows at most: one look for all is cheaper than one each.
    let rows = match chains.first() {
        Some(only) if chains.len() == 1 => {
            conn.rows("SELECT chain, seq, hash, signature FROM audit_head WHERE chain = $1", values![*only]).await?
        }
        _ => conn.rows("SELECT chain, seq, hash, signature FROM audit_head", vec![]).await?,
    };
    // Whether it may be signed stands beside each: what was changed by others is not made good by going on.
    let mut heads: BTreeMap<i64, (i64, Vec<u8>, bool)> = BTreeMap::new();
    for row in rows {
        let (chain, head) = (row.get(0)?, Head { seq: row.get(1)?, hash: row.get(2)?, signature: row.get(3)? });
        if chains.contains(&chain) {
            let sound = head.is_signed(sealer, chain);
            heads.insert(chain, (head.seq, head.hash, sound));
        }
    }
    let begun: Vec<i64> = chains.into_iter().filter(|chain| !heads.contains_key(chain)).collect();
    if !begun.is_empty() {
        let mut known = signature::chains_to_change(conn, sealer).await?;
        for chain in begun {
            let sound = known.as_mut().is_some_and(|known| known.insert(chain));
            heads.insert(chain, (0, START.to_vec(), sound));
        }
        if let Some(known) = known {
            let list = values![signature::of_chains(sealer, &known)];
            conn.defer("UPDATE meta SET value = $1 WHERE name = 'audit_chains'", list);
        }
    }
    for part in entries.chunks(CHUNK) {
        let mut list = Vec::with_capacity(part.len() * 7);
        for (chain, entry) in part {
            let text = serde_json::to_string(entry).map_err(|error| LedgerError::Unwritable(error.to_string()))?;
            let Some((seq, before, _)) = heads.get_mut(chain) else { continue };
            *seq += 1;
            *before = hash(*chain, *seq, before, &text);
            let (at, whose, event) = (entry.at.as_microsecond(), entry.credential.as_str(), entry.event.as_str());
            list.extend(values![*chain, *seq, at, whose, event, text, before.clone()]);
        }
        insert(conn, "INSERT INTO audit (chain, seq, at, credential, event, entry, hash) VALUES ", 7, "", list);
    }
    let ends = heads.into_iter().flat_map(|(chain, (seq, hash, sound))| {
        let signature = sound.then(|| signature::of_head(sealer, chain, seq, &hash));
        values![chain, seq, hash, signature]
    });
    let upsert = " ON CONFLICT (chain) DO UPDATE SET seq = excluded.seq, hash = excluded.hash, \
                  signature = excluded.signature";
    insert(conn, "INSERT INTO audit_head (chain, seq, hash, signature) VALUES ", 4, upsert, ends.collect());
    Ok(())
}

/// One statement for many rows.
fn insert(conn: &mut Connection, head: &str, width: usize, tail: &str, list: Vec<Value>) {
    let rows: Vec<String> = (0..list.len() / width)
        .map(|row| {
            let places: Vec<String> = (1..=width).map(|column| format!("${}", row * width + column)).collect();
            format!("({})", places.join(","))
        })
        .collect();
    conn.defer(format!("{head}{}{tail}", rows.join(",")), list);
}

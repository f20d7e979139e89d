//! Credentials, their values and their flights: what the rotation protocol makes durable.

use std::{collections::HashMap, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{
    Attempt, Entry, Ledger, LedgerError, Record, Stage, Transition,
    connection::{Row, values},
    time, transition,
};
use crate::{
    credential::{CredentialId, Fingerprint, Generation, Material, Reply},
    failpoint,
    seal::Sealer,
};

/// How long a removed credential, and a flight that ended, is kept.
const KEEP: SignedDuration = SignedDuration::from_hours(7 * 24);
/// How long an incident that ended is kept.
const KEEP_INCIDENTS: SignedDuration = SignedDuration::from_hours(90 * 24);

/// The door to the credentials and their flights.
#[derive(Clone, Copy, Debug)]
pub struct Rotation<'l>(pub(super) &'l Ledger);

macro_rules! records {
    ($where:literal) => {
        concat!(
            "SELECT c.id, c.lifecycle, c.store_version, c.store_fingerprint, m.generation, m.sealed ",
            "FROM credential c LEFT JOIN material m ON m.credential = c.id WHERE ",
            $where
        )
    };
}
macro_rules! flights {
    ($where:literal) => {
        concat!(
            "SELECT credential, attempt, target, presents, prepared_at, boot_id, deadline, received_at, capture ",
            "FROM flight WHERE closed_at IS NULL AND ",
            $where
        )
    };
}

impl Rotation<'_> {
    /// Every credential that was not removed, with its open flight.
    pub async fn load_all(&self) -> Result<Vec<Record>, LedgerError> {
        self.records(records!("c.removed_at IS NULL ORDER BY c.id"), flights!("1 = 1"), None).await
    }

    /// One credential; also one that was removed in the last seven days, whose next transition brings it back.
    pub async fn load(&self, id: &CredentialId) -> Result<Option<Record>, LedgerError> {
        let id = Some(id.to_string());
        Ok(self.records(records!("c.id = $1"), flights!("credential = $1"), id).await?.pop())
    }

    /// Writes one step, all of it or nothing, and returns when it is durable. A step that is there already is a success.
    pub async fn commit(&self, step: Transition) -> Result<(), LedgerError> {
        let step = Arc::new(step);
        let written = step.clone();
        self.0
            .write(move |tx| {
                let step = step.clone();
                Box::pin(async move { transition::apply(tx, &step).await })
            })
            .await?;
        if let Some(value) = &written.value
            && let Some(token) = &value.material.refresh_token
        {
            let (token, grant) = (self.0.sealer().fingerprint(token), value.material.grant_id.clone());
            self.has_reached(&written.id, value.generation, grant, token).await;
        }
        Ok(())
    }

    /// Step 8: makes a reply durable, sealed, before anybody reads it. No fence can refuse it: the reply to a flight that
    /// is closed or unknown is kept too.
    pub async fn received(
        &self,
        whose: &CredentialId,
        attempt: Uuid,
        reply: &Reply,
        at: Timestamp,
    ) -> Result<(), LedgerError> {
        self.capture(attempt, self.seal_reply(whose, attempt, reply), at).await
    }

    /// When [`Rotation::received`] fails: puts the reply, sealed, into a file beside the ledger, durable when this
    /// returns. The next opening carries it into the ledger.
    pub async fn spill(
        &self,
        whose: &CredentialId,
        attempt: Uuid,
        reply: &Reply,
        at: Timestamp,
    ) -> Result<(), LedgerError> {
        let (spills, sealed) = (self.0.spills().clone(), self.seal_reply(whose, attempt, reply));
        tokio::task::spawn_blocking(move || spills.write(attempt, at, &sealed))
            .await
            .map_err(|error| LedgerError::Unwritable(error.to_string()))?
    }

    /// Carries in what an earlier process spilled. Answers the attempts.
    pub(super) async fn take_in_spills(&self) -> Result<Vec<Uuid>, LedgerError> {
        let mut taken = Vec::new();
        for spill in self.0.spills().list()? {
            self.0.sealer().open(&capture_aad(spill.attempt), &spill.sealed).map_err(|error| {
                LedgerError::Unusable(format!("{}: {error}; it may hold a token, so keep it", spill.path.display()))
            })?;
            self.capture(spill.attempt, spill.sealed.clone(), spill.at).await?;
            self.0.spills().remove(&spill.path)?;
            taken.push(spill.attempt);
        }
        Ok(taken)
    }

    /// Status, headers and whose it is in one line of JSON, then the body as it came.
    fn seal_reply(&self, whose: &CredentialId, attempt: Uuid, reply: &Reply) -> Vec<u8> {
        let head = serde_json::to_vec(&(reply.status, &reply.headers, whose)).map(Zeroizing::new);
        let head = head.expect("a number and texts are JSON");
        let plain = Zeroizing::new([head.as_slice(), b"\n", &reply.body].concat());
        self.0.sealer().seal(&capture_aad(attempt), &plain)
    }

    async fn capture(&self, attempt: Uuid, sealed: Vec<u8>, at: Timestamp) -> Result<(), LedgerError> {
        self.0
            .write(move |tx| {
                let values = values![attempt.to_string(), sealed.as_slice(), at.as_microsecond()];
                Box::pin(async move {
                    let sql = "UPDATE flight SET capture = $2, received_at = $3 WHERE attempt = $1";
                    if tx.conn.execute(sql, values.clone()).await? == 0 {
                        let sql = "INSERT INTO orphan (attempt, capture, received_at) VALUES ($1, $2, $3) \
                             ON CONFLICT (attempt) DO UPDATE SET capture = excluded.capture";
                        tx.conn.execute(sql, values).await?;
                    }
                    failpoint::reach("CP-12");
                    Ok(())
                })
            })
            .await
    }

    /// The value before the current one, while it is kept.
    pub async fn previous(&self, id: &CredentialId) -> Result<Option<Material>, LedgerError> {
        let sql = "SELECT generation, previous FROM material WHERE credential = $1 AND previous IS NOT NULL";
        let rows = self.0.rows(sql, values![id.as_str()]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let generation: i64 = row.get(0).map_err(unreadable)?;
        let sealed: Vec<u8> = row.get(1).map_err(unreadable)?;
        unseal(self.0.sealer(), id, Generation(generation - 1), &sealed).map(Some)
    }

    /// Takes a credential out of the house. Its value is kept, sealed, for seven days, because settings are edited by hand.
    pub async fn remove(&self, id: &CredentialId) -> Result<(), LedgerError> {
        let id = id.clone();
        self.0
            .write(move |tx| {
                let id = id.clone();
                Box::pin(async move {
                    let sql = "SELECT shard FROM credential WHERE id = $1 AND removed_at IS NULL";
                    let Some(row) = tx.conn.row(sql, values![id.as_str()]).await? else { return Ok(()) };
                    let shard: i64 = row.get(0)?;
                    let sql = "UPDATE credential SET removed_at = $2 WHERE id = $1";
                    tx.conn.execute(sql, values![id.as_str(), tx.now.as_microsecond()]).await?;
                    // Nobody can mend what is not watched any more.
                    let sql = "UPDATE incident SET closed_at = $2, why = 'it was removed from the settings' \
                               WHERE credential = $1 AND closed_at IS NULL";
                    let ended = tx.conn.execute(sql, values![id.as_str(), tx.now.as_microsecond()]).await?;
                    tx.incidents |= ended > 0;
                    let entry = Entry {
                        at: tx.now,
                        credential: id.to_string(),
                        event: "removed".into(),
                        trigger: "settings".into(),
                        outcome: "ok".into(),
                        ..Entry::default()
                    };
                    tx.audit.push((shard, entry));
                    Ok(())
                })
            })
            .await
    }

    /// Step 4: tries everything of ours that could fail after the provider has committed: the reserve on disk, the key,
    /// a durable write.
    pub async fn preflight(&self) -> Result<(), LedgerError> {
        self.0.reserve()?;
        let sealer = self.0.sealer();
        sealer.check(&sealer.check_value("")).map_err(|error| LedgerError::Unwritable(error.to_string()))?;
        self.0.write(|_| Box::pin(async { Ok(()) })).await
    }

    /// Housekeeping: erases previous values whose time is over, and what ended long ago.
    pub async fn sweep(&self, now: Timestamp) -> Result<(), LedgerError> {
        let (now_us, old) = (now.as_microsecond(), (now - KEEP).as_microsecond());
        let old_incidents = (now - KEEP_INCIDENTS).as_microsecond();
        self.0
            .write(move |tx| {
                Box::pin(async move {
                    for (sql, at) in [
                        ("UPDATE material SET previous = NULL, previous_until = NULL WHERE previous_until <= $1", now_us),
                        ("DELETE FROM flight WHERE closed_at <= $1 AND capture IS NULL", old),
                        ("DELETE FROM material WHERE credential IN (SELECT id FROM credential WHERE removed_at <= $1)", old),
                        ("DELETE FROM write_back WHERE credential IN (SELECT id FROM credential WHERE removed_at <= $1)", old),
                        ("DELETE FROM flight WHERE credential IN (SELECT id FROM credential WHERE removed_at <= $1)", old),
                        ("DELETE FROM credential WHERE removed_at <= $1", old),
                        ("DELETE FROM incident WHERE closed_at <= $1 AND settled_at IS NOT NULL", old_incidents),
                        ("DELETE FROM writer WHERE at <= $1", old),
                    ] {
                        tx.conn.execute(sql, values![at]).await?;
                        failpoint::reach("CP-21");
                    }
                    Ok(())
                })
            })
            .await
    }

    async fn records(
        &self,
        records: &'static str,
        flights: &'static str,
        id: Option<String>,
    ) -> Result<Vec<Record>, LedgerError> {
        let (rows, open) = self
            .0
            .read(move |conn| {
                let values = id.as_deref().map_or_else(Vec::new, |id| values![id]);
                Box::pin(async move {
                    let rows = conn.rows(records, values.clone()).await?;
                    Ok((rows, conn.rows(flights, values).await?))
                })
            })
            .await?;
        let orphans = if rows.is_empty() { vec![] } else { self.orphans().await? };
        let sealer = self.0.sealer();
        let mut open = open.iter().map(|row| attempt(row, sealer)).collect::<Result<HashMap<_, _>, _>>()?;
        rows.iter()
            .map(|row| {
                let mut record = record(row, sealer)?;
                record.open_attempt = open.remove(record.id.as_str());
                record.orphans =
                    orphans.iter().filter(|orphan| orphan.credential.as_ref() == Some(&record.id)).cloned().collect();
                Ok(record)
            })
            .collect()
    }
}

pub(super) fn unreadable(error: sqlx::Error) -> LedgerError {
    LedgerError::Unreadable(error.to_string())
}

pub(super) fn damaged(whose: &str, what: &str) -> LedgerError {
    LedgerError::Unusable(format!("the record of {whose:?} is damaged ({what}): restore the ledger from a backup"))
}

/// What a value is sealed as.
pub(super) fn value_aad(id: &CredentialId, generation: Generation) -> String {
    format!("value\0{id}\0{generation}")
}

fn capture_aad(attempt: Uuid) -> String {
    format!("capture\0{attempt}")
}

/// Opens a value.
pub(super) fn unseal(
    sealer: &Sealer,
    id: &CredentialId,
    generation: Generation,
    sealed: &[u8],
) -> Result<Material, LedgerError> {
    let plain = sealer
        .open(&value_aad(id, generation), sealed)
        .map_err(|error| damaged(id.as_str(), &format!("its value: {error}")))?;
    // Not `Material::parse`: its limit is for home stores, and a provider's tokens must never be too long for us.
    let object: Map<String, Value> =
        serde_json::from_slice(&plain).map_err(|_| damaged(id.as_str(), "its value is no document"))?;
    Material::from_object(object).map_err(|error| damaged(id.as_str(), &error.to_string()))
}

/// A reply as it was captured; whose it is, where that was written with it.
pub(super) fn unseal_reply(
    sealer: &Sealer,
    attempt: Uuid,
    sealed: &[u8],
) -> Result<(Reply, Option<CredentialId>), LedgerError> {
    #[derive(serde::Deserialize)]
    struct Head(u16, Vec<(String, String)>, #[serde(default)] Option<CredentialId>);
    let name = attempt.to_string();
    let plain = sealer.open(&capture_aad(attempt), sealed).map_err(|error| damaged(&name, &error.to_string()))?;
    let parts = plain.iter().position(|byte| *byte == b'\n').and_then(|end| {
        let Head(status, headers, whose) = serde_json::from_slice(&plain[..end]).ok()?;
        Some((Reply { status, headers, body: plain[end + 1..].to_vec() }, whose))
    });
    parts.ok_or_else(|| damaged(&name, "its reply is not in the form of a reply"))
}

fn record(row: &Row, sealer: &Sealer) -> Result<Record, LedgerError> {
    let id: String = row.get(0).map_err(unreadable)?;
    let id = CredentialId::new(&id).map_err(|error| damaged(&id, &error.to_string()))?;
    let generation = Generation(row.get::<Option<i64>>(4).map_err(unreadable)?.unwrap_or(0));
    let sealed: Option<Vec<u8>> = row.get(5).map_err(unreadable)?;
    Ok(Record {
        generation,
        lifecycle: row.get(1).map_err(unreadable)?,
        material: sealed.map(|sealed| unseal(sealer, &id, generation, &sealed)).transpose()?,
        store_version: row.get(2).map_err(unreadable)?,
        store_fingerprint: row.get::<Option<String>>(3).map_err(unreadable)?.map(Fingerprint::from_ledger),
        open_attempt: None,
        orphans: Vec::new(),
        id,
    })
}

fn attempt(row: &Row, sealer: &Sealer) -> Result<(String, Attempt), LedgerError> {
    let whose: String = row.get(0).map_err(unreadable)?;
    let id: String = row.get(1).map_err(unreadable)?;
    let id = Uuid::parse_str(&id).map_err(|_| damaged(&whose, "the name of its flight"))?;
    let date = |column| row.get::<Option<i64>>(column).map(|at| at.map(time)).map_err(unreadable);
    let stage = match (row.get::<Option<Vec<u8>>>(8).map_err(unreadable)?, date(7)?, date(6)?) {
        (Some(sealed), Some(at), _) => Stage::Received { reply: unseal_reply(sealer, id, &sealed)?.0, at },
        (_, _, Some(deadline)) => Stage::Sent { deadline },
        _ => Stage::Prepared,
    };
    let attempt = Attempt {
        id,
        target: Generation(row.get(2).map_err(unreadable)?),
        presents: Fingerprint::from_ledger(row.get(3).map_err(unreadable)?),
        prepared_at: time(row.get(4).map_err(unreadable)?),
        boot_id: row.get(5).map_err(unreadable)?,
        stage,
    };
    Ok((whose, attempt))
}

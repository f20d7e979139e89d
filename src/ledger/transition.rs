//! Writes one step of one credential: looks first, then writes all of it.

use aws_lc_rs::digest;
use uuid::Uuid;

use super::{
    Entry, FlightStep, LedgerError, NewValue, SUPERSEDED, Transition, UNREADABLE, UNVERIFIED,
    connection::values,
    incidents,
    rotation::value_aad,
    writer::{Failed, Tx},
};
use crate::{
    credential::{CredentialId, Generation},
    failpoint,
};

/// Replies of closed flights that are kept for one credential.
const MOST_KEPT: i64 = 8;

/// Writes the step, or refuses it before it wrote anything.
///
/// A step that is here already is a success: after a failed COMMIT the caller may not know, and asks again.
pub(super) async fn apply(tx: &mut Tx<'_>, step: &Transition) -> Result<(), Failed> {
    let id = step.id.as_str();
    let (generation, open) = standing(tx, &step.id).await?;
    if already_there(tx, step, generation, open.as_deref()).await? {
        return Ok(());
    }
    check(step, generation, open.as_deref())?;

    let now = tx.now.as_microsecond();
    let from_store = step.value.as_ref().filter(|value| value.from_store);
    let version = step.value.as_ref().and_then(|value| value.store_version.as_deref());
    let store_root =
        from_store.and_then(|value| value.material.root()).map(|root| tx.sealer.fingerprint(root).to_string());
    tx.conn.defer(
        "INSERT INTO credential (id, shard, lifecycle, changed_at, store_version, store_fingerprint) \
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (id) DO UPDATE SET shard = excluded.shard, \
             lifecycle = excluded.lifecycle, changed_at = excluded.changed_at, removed_at = NULL, \
             store_version = COALESCE(excluded.store_version, credential.store_version), \
             store_fingerprint = COALESCE(excluded.store_fingerprint, credential.store_fingerprint)",
        values![id, i64::from(step.shard), step.lifecycle.as_str(), now, version, store_root],
    );
    if let Some(value) = &step.value {
        write_value(tx, &step.id, value);
    }
    if from_store.is_some() {
        // What lies there is what we took over: an older value of ours that waited is not to overwrite it.
        tx.conn.defer("DELETE FROM write_back WHERE credential = $1", values![id]);
    }
    if let Some(flight) = &step.flight {
        write_flight(tx, step, flight).await?;
        match flight {
            FlightStep::Prepare(_) => failpoint::reach("CP-03"),
            FlightStep::Close { outcome: "promoted", .. } => failpoint::reach("CP-14"),
            _ => {}
        }
    }
    if step.write_back {
        let current = step.value.as_ref().map_or(generation, |value| value.generation);
        queue_write_back(tx, step, current);
    }
    for fact in &step.incidents {
        incidents::apply(tx, fact).await?;
    }
    let chain = i64::from(step.shard);
    tx.audit.extend(step.audit.iter().map(|entry| (chain, Entry::clone(entry))));
    Ok(())
}

/// The generation that is current, and the flight that is open.
async fn standing(tx: &mut Tx<'_>, id: &CredentialId) -> Result<(Generation, Option<String>), Failed> {
    let row = tx
        .conn
        .row(
            "SELECT (SELECT generation FROM material WHERE credential = $1), \
             (SELECT attempt FROM flight WHERE credential = $1 AND closed_at IS NULL)",
            values![id.as_str()],
        )
        .await?;
    let Some(row) = row else { return Ok((Generation(0), None)) };
    Ok((Generation(row.get::<Option<i64>>(0)?.unwrap_or(0)), row.get(1)?))
}

/// Whether this very step was written before.
async fn already_there(
    tx: &mut Tx<'_>,
    step: &Transition,
    generation: Generation,
    open: Option<&str>,
) -> Result<bool, Failed> {
    let moved = step.value.as_ref().is_none_or(|value| value.generation == generation);
    match &step.flight {
        Some(FlightStep::Prepare(attempt)) => Ok(moved && open == Some(attempt.id.to_string().as_str())),
        Some(FlightStep::Close { attempt, outcome }) if moved && open.is_none() => {
            let row =
                tx.conn.row("SELECT outcome FROM flight WHERE attempt = $1", values![attempt.to_string()]).await?;
            let closed_as: Option<String> = row.map(|row| row.get(0)).transpose()?.flatten();
            Ok(closed_as.as_deref() == Some(*outcome))
        }
        _ => Ok(false),
    }
}

fn check(step: &Transition, found: Generation, open: Option<&str>) -> Result<(), LedgerError> {
    let fenced = |expected| Err(LedgerError::Fenced { id: step.id.clone(), expected, found });
    if let Some(value) = &step.value
        && value.replaces != found
    {
        return fenced(value.replaces);
    }
    match &step.flight {
        Some(FlightStep::Prepare(attempt)) => {
            if attempt.target != found.next() {
                return fenced(Generation(attempt.target.0 - 1));
            }
            match open {
                Some(other) => Err(LedgerError::InFlight { id: step.id.clone(), attempt: other.into() }),
                None => Ok(()),
            }
        }
        Some(FlightStep::Sent { attempt, .. } | FlightStep::Close { attempt, .. })
            if open != Some(attempt.to_string().as_str()) =>
        {
            Err(LedgerError::NotInFlight { id: step.id.clone(), attempt: *attempt })
        }
        _ => Ok(()),
    }
}

#[expect(clippy::disallowed_methods, reason = "sealed here")]
fn write_value(tx: &mut Tx<'_>, id: &CredentialId, value: &NewValue) {
    let generation = value.generation;
    let root = value.material.root().map(|root| tx.sealer.fingerprint(root).to_string());
    let sealed = tx.sealer.seal(&value_aad(id, generation), value.material.render().expose().as_bytes());
    // What is kept is the generation before: a value that was overtaken elsewhere is nothing to fall back on.
    let keep = value.keep_previous_until.filter(|_| generation == value.replaces.next());
    let keep = keep.map(jiff::Timestamp::as_microsecond);
    if value.replaces == Generation(0) {
        tx.conn.defer_one(
            "INSERT INTO material (credential, generation, sealed, fingerprint) VALUES ($1, $2, $3, $4)",
            values![id.as_str(), generation.0, sealed, root],
        );
    } else {
        tx.conn.defer_one(
            "UPDATE material SET previous = CASE WHEN $5 IS NULL THEN NULL ELSE sealed END, previous_until = $5, \
             previous_fingerprint = fingerprint, generation = $2, sealed = $3, fingerprint = $4 \
             WHERE credential = $1 AND generation = $6",
            values![id.as_str(), generation.0, sealed, root, keep, value.replaces.0],
        );
    }
}

async fn write_flight(tx: &mut Tx<'_>, step: &Transition, flight: &FlightStep) -> Result<(), Failed> {
    match flight {
        FlightStep::Prepare(attempt) => {
            tx.conn.defer_one(
                "INSERT INTO flight (attempt, credential, shard, target, presents, prepared_at, boot_id) \
                     VALUES ($1, $2, $3, $4, $5, $6, $7)",
                values![
                    attempt.id.to_string(),
                    step.id.as_str(),
                    i64::from(step.shard),
                    attempt.target.0,
                    attempt.presents.as_str(),
                    attempt.prepared_at.as_microsecond(),
                    attempt.boot_id.as_str()
                ],
            );
        }
        FlightStep::Sent { attempt, deadline } => {
            tx.conn.defer_one(
                "UPDATE flight SET deadline = $2 WHERE attempt = $1 AND closed_at IS NULL",
                values![attempt.to_string(), deadline.as_microsecond()],
            );
        }
        FlightStep::Take(attempt) => {
            let attempt = values![attempt.to_string()];
            let gone = tx.conn.execute("DELETE FROM orphan WHERE attempt = $1", attempt.clone()).await?;
            let sql = "UPDATE flight SET capture = NULL, outcome = 'promoted' \
                       WHERE attempt = $1 AND closed_at IS NOT NULL AND capture IS NOT NULL";
            if gone + tx.conn.execute(sql, attempt).await? != 1 {
                return Err(Failed::Raced);
            }
        }
        FlightStep::Close { attempt, outcome } => {
            // What was captured has been read, and its value stands in `material` now; or nobody could take it, and it
            // is kept: the first few, because the first that was lost is the one that counts.
            let kept: i64 = if matches!(*outcome, SUPERSEDED | UNREADABLE | UNVERIFIED) {
                let sql = "SELECT COUNT(*) FROM flight WHERE credential = $1 AND closed_at IS NOT NULL AND capture IS NOT NULL";
                tx.conn.row(sql, values![step.id.as_str()]).await?.map_or(Ok(0), |row| row.get(0))?
            } else {
                MOST_KEPT
            };
            let sql = if kept < MOST_KEPT {
                "UPDATE flight SET outcome = $2, closed_at = $3 WHERE attempt = $1 AND closed_at IS NULL"
            } else {
                "UPDATE flight SET outcome = $2, closed_at = $3, capture = NULL \
                 WHERE attempt = $1 AND closed_at IS NULL"
            };
            tx.conn.defer_one(sql, values![attempt.to_string(), *outcome, tx.now.as_microsecond()]);
        }
    }
    Ok(())
}

fn queue_write_back(tx: &mut Tx<'_>, step: &Transition, generation: Generation) {
    let attempt = match &step.flight {
        Some(FlightStep::Close { attempt, .. } | FlightStep::Sent { attempt, .. } | FlightStep::Take(attempt)) => {
            *attempt
        }
        Some(FlightStep::Prepare(attempt)) => attempt.id,
        None => made_up_attempt(&step.id, generation),
    };
    tx.conn.defer(
        "INSERT INTO write_back (credential, generation, attempt, since, next_try_at, tries) \
             VALUES ($1, $2, $3, $4, $4, 0) ON CONFLICT (credential) DO UPDATE SET generation = excluded.generation, \
             attempt = excluded.attempt, next_try_at = excluded.next_try_at, tries = 0, error = NULL",
        values![step.id.as_str(), generation.0, attempt.to_string(), tx.now.as_microsecond()],
    );
}

/// A name for a write that no flight brought: the same for the same value, so that a repeated write is known again.
fn made_up_attempt(id: &CredentialId, generation: Generation) -> Uuid {
    let digest = digest::digest(&digest::SHA256, format!("{id}\0{generation}").as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest.as_ref()[..16]);
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}

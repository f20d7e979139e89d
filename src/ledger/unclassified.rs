//! Replies that no rule matched, kept without their secrets until somebody writes the rule.

use aws_lc_rs::digest;
use jiff::Timestamp;
use serde::Serialize;

use super::{Entry, HOUSE, Ledger, LedgerError, connection::values, time};
use crate::catalogue::Specimen;

/// So many are kept; the one that was not seen for longest goes first.
const MOST: i64 = 500;

/// The door to the replies that no rule matched.
#[derive(Clone, Copy, Debug)]
pub struct Unclassified<'l>(pub(super) &'l Ledger);

/// One of them.
#[derive(Clone, Debug, Serialize)]
pub struct Kept {
    /// Twelve hex digits: the same for the same reply.
    pub id: String,
    /// How often it was noted; a storm counts once a minute.
    pub seen: i64,
    /// First.
    pub first_at: Timestamp,
    /// Last.
    pub last_at: Timestamp,
    /// What it was.
    #[serde(flatten)]
    pub specimen: Specimen,
}

/// Names a reply by what is kept of it.
pub fn name(specimen: &Specimen) -> String {
    let text = serde_json::to_vec(specimen).expect("texts and a number are JSON");
    digest::digest(&digest::SHA256, &text).as_ref()[..6].iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Unclassified<'_> {
    /// Notes that a reply was seen.
    pub async fn note(&self, specimen: &Specimen, at: Timestamp) -> Result<(), LedgerError> {
        let text = serde_json::to_string(specimen).expect("texts and a number are JSON");
        let values = values![name(specimen), specimen.provider.as_str(), text, at.as_microsecond()];
        self.0
            .write(move |tx| {
                let values = values.clone();
                Box::pin(async move {
                    let sql = "INSERT INTO unclassified (id, provider, specimen, first_at, last_at, seen) \
                               VALUES ($1, $2, $3, $4, $4, 1) ON CONFLICT (id) DO UPDATE SET \
                               last_at = excluded.last_at, seen = unclassified.seen + 1";
                    tx.conn.execute(sql, values).await?;
                    let sql = "DELETE FROM unclassified WHERE id IN \
                               (SELECT id FROM unclassified ORDER BY last_at DESC LIMIT 1000 OFFSET $1)";
                    tx.conn.execute(sql, values![MOST]).await?;
                    Ok(())
                })
            })
            .await
    }

    /// Takes some away, or all, and says so in the audit log. `Err` inside names one that is not there; then none is taken.
    pub async fn remove(
        &self,
        ids: Option<Vec<String>>,
        at: Timestamp,
        actor: String,
    ) -> Result<Result<usize, String>, LedgerError> {
        self.0
            .write(move |tx| {
                let (ids, actor) = (ids.clone(), actor.clone());
                Box::pin(async move {
                    let rows = tx.conn.rows("SELECT id FROM unclassified ORDER BY id", vec![]).await?;
                    let kept: Vec<String> = rows.iter().map(|row| row.get(0)).collect::<Result<_, _>>()?;
                    if let Some(unknown) = ids.iter().flatten().find(|id| !kept.contains(id)) {
                        return Ok(Err(unknown.clone()));
                    }
                    let gone: Vec<String> =
                        kept.into_iter().filter(|id| ids.as_ref().is_none_or(|ids| ids.contains(id))).collect();
                    if gone.is_empty() {
                        return Ok(Ok(0));
                    }
                    for id in &gone {
                        tx.conn.execute("DELETE FROM unclassified WHERE id = $1", values![id.as_str()]).await?;
                    }
                    let entry = Entry {
                        at,
                        event: "unclassified_removed".to_owned(),
                        trigger: "operator".to_owned(),
                        actor: Some(actor),
                        outcome: "ok".to_owned(),
                        detail: Some(gone.join(", ")),
                        ..Entry::default()
                    };
                    tx.audit.push((HOUSE, entry));
                    Ok(Ok(gone.len()))
                })
            })
            .await
    }

    /// All of them, the latest first.
    pub async fn list(&self) -> Result<Vec<Kept>, LedgerError> {
        let sql = "SELECT id, seen, first_at, last_at, specimen FROM unclassified ORDER BY last_at DESC, id";
        let rows = self.0.rows(sql, vec![]).await?;
        let unreadable = |error: sqlx::Error| LedgerError::Unreadable(error.to_string());
        rows.iter()
            .map(|row| {
                let specimen: String = row.get(4).map_err(unreadable)?;
                Ok(Kept {
                    id: row.get(0).map_err(unreadable)?,
                    seen: row.get(1).map_err(unreadable)?,
                    first_at: time(row.get(2).map_err(unreadable)?),
                    last_at: time(row.get(3).map_err(unreadable)?),
                    specimen: serde_json::from_str(&specimen)
                        .map_err(|error| LedgerError::Unreadable(format!("an unclassified reply: {error}")))?,
                })
            })
            .collect()
    }
}

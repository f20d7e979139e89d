//! Incidents: what began and has not ended, and what on-call has been told of it.

use aws_lc_rs::digest;
use jiff::Timestamp;
use tokio::sync::watch;

use super::{
    Fact, FactChange, Ledger, LedgerError,
    connection::{Row, values},
    time,
    writer::{Failed, Tx},
};

/// The door to the incidents.
#[derive(Clone, Copy, Debug)]
pub struct Incidents<'l>(pub(super) &'l Ledger);

/// An incident that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incident {
    /// Its number here; an incident that comes back has a new one.
    pub seq: i64,
    /// `credd/` and 32 hex digits: the same for this kind and credential, from opening to resolving.
    pub dedup_key: String,
    /// `credential_revoked`, …
    pub kind: String,
    /// Whom it is about.
    pub credential: String,
    /// Groups incidents that are one for on-call.
    pub group: String,
    /// `critical`, `warning`.
    pub severity: String,
    /// One line.
    pub summary: String,
    /// The rest.
    pub body: String,
    /// When it began.
    pub opened_at: Timestamp,
}

/// The key under which on-call's systems know an incident: SHA-256 of kind and credential, so that it survives
/// restarts, restored backups and a second replica.
pub fn dedup_key(kind: &str, credential: &str) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in [kind, "\0", credential] {
        context.update(part.as_bytes());
    }
    let hex: String = context.finish().as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("credd/{hex}")
}

impl Incidents<'_> {
    /// Facts of the house, which belong to no transition. A fact that holds already changes nothing.
    pub async fn facts(&self, facts: Vec<Fact>) -> Result<(), LedgerError> {
        self.facts_of(move || facts.clone()).await.map(drop)
    }

    /// The same for facts that may change until the moment in which they are written. Answers those that were.
    pub async fn facts_of(
        &self,
        facts: impl Fn() -> Vec<Fact> + Send + Sync + 'static,
    ) -> Result<Vec<Fact>, LedgerError> {
        self.0
            .write(move |tx| {
                let facts = facts();
                Box::pin(async move {
                    for fact in &facts {
                        apply(tx, fact).await?;
                    }
                    Ok(facts)
                })
            })
            .await
    }

    /// What has not ended, oldest first.
    pub async fn open(&self) -> Result<Vec<Incident>, LedgerError> {
        let sql = "SELECT seq, dedup_key, kind, credential, grouping, severity, summary, body, opened_at FROM incident \
                   WHERE closed_at IS NULL ORDER BY seq";
        let rows = self.0.rows(sql, vec![]).await?;
        rows.iter().map(from_row).collect::<Result<_, _>>().map_err(|e| LedgerError::Unreadable(e.to_string()))
    }

    /// Counts up whenever an incident began, ended or was announced, here in this process.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.0.watch_incidents()
    }
}

fn from_row(row: &Row) -> Result<Incident, sqlx::Error> {
    Ok(Incident {
        seq: row.get(0)?,
        dedup_key: row.get(1)?,
        kind: row.get(2)?,
        credential: row.get(3)?,
        group: row.get(4)?,
        severity: row.get(5)?,
        summary: row.get(6)?,
        body: row.get(7)?,
        opened_at: time(row.get(8)?),
    })
}

/// Begins or ends an incident within a transaction; the same fact twice changes nothing.
pub(super) async fn apply(tx: &mut Tx<'_>, fact: &Fact) -> Result<(), Failed> {
    let credential = fact.credential.as_str();
    let key = dedup_key(&fact.kind, credential);
    let at = fact.at.as_microsecond();
    let changed = match &fact.change {
        FactChange::Raise { severity, summary, body } => {
            tx.conn
                .execute(
                    "INSERT INTO incident (dedup_key, kind, credential, grouping, severity, summary, body, opened_at) \
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (dedup_key) WHERE closed_at IS NULL DO NOTHING",
                    values![
                        key,
                        fact.kind.as_str(),
                        credential,
                        fact.group.as_str(),
                        severity.as_str(),
                        summary.as_str(),
                        body.as_str(),
                        at
                    ],
                )
                .await?
        }
        FactChange::Clear { why } => {
            tx.conn
                .execute(
                    "UPDATE incident SET closed_at = $2, why = $3 WHERE dedup_key = $1 AND closed_at IS NULL",
                    values![key, at, why.as_str()],
                )
                .await?
        }
    };
    tx.incidents |= changed > 0;
    Ok(())
}

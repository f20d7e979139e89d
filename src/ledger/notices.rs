//! What on-call must still be told: conditions that are not settled, and messages that wait for their channels.

use std::{collections::BTreeSet, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::{
    Ledger, LedgerError,
    connection::{Row, values},
    time,
    writer::{Failed, Tx},
};
use crate::incident::{Action, Announcement, Condition, Message, Severity};

/// A message that a channel had is remembered this long, so that it is never handed to it again.
const KEEP: SignedDuration = SignedDuration::from_hours(30 * 24);

/// The door to what on-call is told.
#[derive(Clone, Copy, Debug)]
pub struct Notices<'l>(pub(super) &'l Ledger);

/// What waits for one channel.
#[derive(Clone, Debug, Default)]
pub struct Due {
    /// To be sent now.
    pub notices: Vec<Notice>,
    /// How many wait, due or not.
    pub waiting: u64,
    /// When the oldest of them was decided.
    pub oldest: Option<Timestamp>,
    /// When the next one falls due that is not due yet.
    pub next: Option<Timestamp>,
}

/// A message that waits for a channel.
#[derive(Clone, Debug)]
pub struct Notice {
    /// The message's, the same for all its channels and over all attempts.
    pub id: Uuid,
    /// What is said.
    pub message: Message,
    /// Attempts that failed so far.
    pub attempts: u32,
}

const FIRST_OF_EACH: &str = "SELECT id, message, attempts FROM notice n WHERE channel = $1 AND done_at IS NULL \
     AND due_at <= $2 AND NOT EXISTS (SELECT 1 FROM notice o WHERE o.channel = n.channel AND o.dedup_key = n.dedup_key \
     AND o.seq < n.seq AND o.done_at IS NULL) ORDER BY due_at, seq LIMIT 16";

impl Notices<'_> {
    /// All conditions that are not settled, oldest first.
    pub async fn conditions(&self) -> Result<Vec<Condition>, LedgerError> {
        let sql = "SELECT seq, dedup_key, kind, credential, grouping, severity, summary, body, opened_at, closed_at, why, \
                   told FROM incident WHERE settled_at IS NULL ORDER BY seq";
        self.0.rows(sql, vec![]).await?.iter().map(condition).collect()
    }

    /// How many messages wait, of all channels.
    pub async fn backlog(&self) -> Result<u64, LedgerError> {
        let rows = self.0.rows("SELECT COUNT(*) FROM notice WHERE done_at IS NULL", vec![]).await?;
        let count = rows.first().map_or(Ok(0), |row| row.get::<i64>(0)).map_err(unreadable)?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// Makes a decision durable, in one transaction: a message to each channel, what its conditions remember of it, and
    /// which conditions are settled.
    pub async fn announce(
        &self,
        id: Uuid,
        announcement: &Announcement,
        channels: &[String],
    ) -> Result<(), LedgerError> {
        let (announcement, channels) = (Arc::new(announcement.clone()), Arc::new(channels.to_vec()));
        self.0
            .write(move |tx| {
                let (announcement, channels) = (announcement.clone(), channels.clone());
                Box::pin(async move { decide(tx, id, &announcement, &channels).await })
            })
            .await
    }

    /// What waits for one channel, and of it the messages that are due: earliest due first, a handful, and none while
    /// an older one of its incident waits for the same channel.
    pub async fn due(&self, channel: &str, now: Timestamp) -> Result<Due, LedgerError> {
        let sql = "SELECT COUNT(*), MIN(decided_at) FROM notice WHERE channel = $1 AND done_at IS NULL";
        let counted = self.0.rows(sql, values![channel]).await?;
        let (waiting, oldest) = match counted.first() {
            Some(row) => (row.get::<i64>(0).map_err(unreadable)?, row.get::<Option<i64>>(1).map_err(unreadable)?),
            None => (0, None),
        };
        if waiting == 0 {
            return Ok(Due::default());
        }
        let first = self.0.rows(FIRST_OF_EACH, values![channel, now.as_microsecond()]).await?;
        let sql = "SELECT MIN(due_at) FROM notice n WHERE channel = $1 AND done_at IS NULL AND due_at > $2 AND NOT EXISTS \
                   (SELECT 1 FROM notice o WHERE o.channel = n.channel AND o.dedup_key = n.dedup_key AND o.seq < n.seq \
                   AND o.done_at IS NULL)";
        let next = self.0.rows(sql, values![channel, now.as_microsecond()]).await?;
        let next = next.first().map_or(Ok(None), |row| row.get::<Option<i64>>(0)).map_err(unreadable)?;
        Ok(Due {
            notices: first.iter().map(notice).collect::<Result<_, _>>()?,
            waiting: u64::try_from(waiting).unwrap_or(0),
            oldest: oldest.map(time),
            next: next.map(time),
        })
    }

    /// The channel has it, or never will.
    pub async fn done(&self, id: Uuid, channel: &str) -> Result<(), LedgerError> {
        let channel = channel.to_owned();
        self.0
            .write(move |tx| {
                let channel = channel.clone();
                Box::pin(async move { end(tx, id, &channel).await })
            })
            .await
    }

    /// Not this time: due again then, one attempt more.
    pub async fn later(&self, id: Uuid, channel: &str, due: Timestamp) -> Result<(), LedgerError> {
        let channel = channel.to_owned();
        self.0
            .write(move |tx| {
                let sql = "UPDATE notice SET due_at = $3, attempts = attempts + 1 WHERE id = $1 AND channel = $2 \
                           AND done_at IS NULL";
                let values = values![id.to_string(), channel.as_str(), due.as_microsecond()];
                Box::pin(async move { Ok(tx.conn.execute(sql, values).await.map(|_| ())?) })
            })
            .await
    }

    /// Another channel gets it too, due at once, unless it ever had it. `done` ends it for the first one.
    pub async fn also(&self, id: Uuid, channel: &str, also: &str, done: bool) -> Result<(), LedgerError> {
        let (channel, also) = (channel.to_owned(), also.to_owned());
        self.0
            .write(move |tx| {
                let (channel, also) = (channel.clone(), also.clone());
                Box::pin(async move {
                    hand_on(tx, id, &channel, &also).await?;
                    if done {
                        end(tx, id, &channel).await?;
                    }
                    tx.incidents = true;
                    Ok(())
                })
            })
            .await
    }

    /// What waits for a channel that is none of these goes to the first of these that never had it.
    pub async fn adopt(&self, channels: &[String]) -> Result<(), LedgerError> {
        let channels = Arc::new(channels.to_vec());
        self.0
            .write(move |tx| {
                let channels = channels.clone();
                Box::pin(async move { take_over(tx, &channels).await })
            })
            .await
    }
}

async fn decide(tx: &mut Tx<'_>, id: Uuid, announcement: &Announcement, channels: &[String]) -> Result<(), Failed> {
    let now = tx.now.as_microsecond();
    if let Some((conditions, told)) = &announcement.told {
        let told = serde_json::to_string(told).expect("what was told has only text keys");
        for condition in conditions {
            let sql = "UPDATE incident SET told = $2 WHERE seq = $1";
            tx.conn.execute(sql, values![*condition, told.as_str()]).await?;
        }
    }
    for condition in &announcement.settled {
        let sql = "UPDATE incident SET settled_at = $2 WHERE seq = $1 AND settled_at IS NULL";
        tx.conn.execute(sql, values![*condition, now]).await?;
    }
    let Some(message) = &announcement.message else { return Ok(()) };
    let resolves = i64::from(message.action == Action::Resolve);
    let text = serde_json::to_string(message).expect("a message has only text keys");
    for channel in channels {
        // A newer word takes the place of an older one that still waits: an opening is replaced by a later opening,
        // an end by an end; but an end never takes the place of an opening, which must be heard first. The older one
        // stays as one that the channel had, so that nobody hands it over again.
        let sql = "UPDATE notice SET done_at = $4 WHERE channel = $1 AND dedup_key = $2 AND done_at IS NULL \
                   AND (resolves = 1 OR $3 = 0)";
        tx.conn.execute(sql, values![channel.as_str(), message.dedup_key.as_str(), resolves, now]).await?;
        let sql = "INSERT INTO notice (id, channel, dedup_key, resolves, message, decided_at, due_at, attempts) \
                   VALUES ($1, $2, $3, $4, $5, $6, $6, 0) ON CONFLICT (id, channel) DO NOTHING";
        let at = message.at.as_microsecond();
        let values = values![id.to_string(), channel.as_str(), message.dedup_key.as_str(), resolves, text.as_str(), at];
        tx.conn.execute(sql, values).await?;
    }
    let old = tx.now.checked_sub(KEEP).unwrap_or(Timestamp::MIN).as_microsecond();
    tx.conn.execute("DELETE FROM notice WHERE done_at < $1", values![old]).await?;
    tx.incidents = true;
    Ok(())
}

async fn end(tx: &mut Tx<'_>, id: Uuid, channel: &str) -> Result<(), Failed> {
    let sql = "UPDATE notice SET done_at = $3 WHERE id = $1 AND channel = $2 AND done_at IS NULL";
    tx.conn.execute(sql, values![id.to_string(), channel, tx.now.as_microsecond()]).await?;
    Ok(())
}

/// Gives another channel what still waits for the first one. Not what it ever had, and not what a later message of
/// the incident has overtaken there: nothing is opened again after its end.
async fn hand_on(tx: &mut Tx<'_>, id: Uuid, channel: &str, also: &str) -> Result<(), Failed> {
    let sql = "INSERT INTO notice (id, channel, dedup_key, resolves, message, decided_at, due_at, attempts) \
               SELECT n.id, $3, n.dedup_key, n.resolves, n.message, n.decided_at, n.decided_at, 0 FROM notice n \
               WHERE n.id = $1 AND n.channel = $2 AND n.done_at IS NULL AND NOT EXISTS (SELECT 1 FROM notice o \
               WHERE o.channel = $3 AND o.dedup_key = n.dedup_key AND o.decided_at > n.decided_at) \
               ON CONFLICT (id, channel) DO NOTHING";
    tx.conn.execute(sql, values![id.to_string(), channel, also]).await?;
    Ok(())
}

async fn take_over(tx: &mut Tx<'_>, channels: &[String]) -> Result<(), Failed> {
    if channels.is_empty() {
        return Ok(());
    }
    let waiting = tx.conn.rows("SELECT id, channel FROM notice WHERE done_at IS NULL ORDER BY seq", vec![]).await?;
    for row in waiting {
        let (id, channel): (String, String) = (row.get(0)?, row.get(1)?);
        if channels.contains(&channel) {
            continue;
        }
        let Ok(id) = id.parse::<Uuid>() else { continue };
        let had = tx.conn.rows("SELECT channel FROM notice WHERE id = $1", values![id.to_string()]).await?;
        let had: BTreeSet<String> = had.iter().filter_map(|row| row.get(0).ok()).collect();
        if let Some(free) = channels.iter().find(|channel| !had.contains(*channel)) {
            hand_on(tx, id, &channel, free).await?;
        }
        end(tx, id, &channel).await?;
        tx.incidents = true;
    }
    Ok(())
}

fn unreadable(error: sqlx::Error) -> LedgerError {
    LedgerError::Unreadable(error.to_string())
}

fn foreign(what: &str) -> LedgerError {
    LedgerError::Unreadable(format!(
        "a message to on-call has {what} that this credd does not know; start the newer one"
    ))
}

fn condition(row: &Row) -> Result<Condition, LedgerError> {
    // What on-call was told and cannot be read must not count as untold: it would be told again.
    let told: Option<String> = row.get(11).map_err(unreadable)?;
    let told = told.map(|told| serde_json::from_str(&told)).transpose().map_err(|_| foreign("a memory"))?;
    let parts = || {
        let cleared: Option<i64> = row.get(9)?;
        let why: Option<String> = row.get(10)?;
        let severity: String = row.get(5)?;
        Ok::<_, sqlx::Error>(Condition {
            id: row.get(0)?,
            key: row.get(1)?,
            kind: row.get(2)?,
            credential: row.get(3)?,
            group: row.get(4)?,
            severity: if severity == "critical" { Severity::Critical } else { Severity::Warning },
            summary: row.get(6)?,
            body: row.get(7)?,
            raised_at: time(row.get(8)?),
            cleared: cleared.map(|at| (time(at), why.unwrap_or_default())),
            told,
        })
    };
    parts().map_err(unreadable)
}

fn notice(row: &Row) -> Result<Notice, LedgerError> {
    let parts = || Ok::<_, sqlx::Error>((row.get::<String>(0)?, row.get::<String>(1)?, row.get::<i64>(2)?));
    let (id, message, attempts) = parts().map_err(unreadable)?;
    Ok(Notice {
        id: id.parse().map_err(|_| foreign("an id"))?,
        message: serde_json::from_str(&message).map_err(|_| foreign("a form"))?,
        attempts: u32::try_from(attempts).unwrap_or(0),
    })
}

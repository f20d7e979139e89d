//! The one writer: takes what waits, writes it in one transaction, answers all (group commit).
//!
//! A job is written although nobody waits for it any more, so a caller that goes away cancels nothing.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::{
    Entry, LedgerError, audit,
    connection::{Access, Connection, values},
    place::{Ballast, Lock, Opener},
};
use crate::{clock::Clock, failpoint, seal::Sealer};

/// Jobs in one transaction, at most.
const BATCH: usize = 256;
/// What takes longer on PostgreSQL is over for us, and its connection with it.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// A transaction, as jobs see it.
pub(super) struct Tx<'t> {
    pub(super) conn: &'t mut Connection,
    pub(super) sealer: &'t Sealer,
    /// When the batch began.
    pub(super) now: Timestamp,
    /// Entries of the audit log, by chain; they are hashed and written when all jobs have run.
    pub(super) audit: Vec<(i64, Entry)>,
    /// Whether an incident began, ended or was announced.
    pub(super) incidents: bool,
    /// Documents of the embedded store that changed.
    pub(super) documents: Vec<String>,
}

/// Why a job is not part of the transaction.
#[derive(Debug)]
pub(super) enum Failed {
    /// Decided by reading, before the job wrote anything: the others go on.
    Refused(LedgerError),
    /// Somebody else was faster between our look and our write: look again.
    Raced,
    /// The database failed.
    Database(sqlx::Error),
}

impl From<sqlx::Error> for Failed {
    fn from(error: sqlx::Error) -> Self {
        let constraint = error.as_database_error().is_some_and(|e| e.is_unique_violation());
        if constraint || matches!(error, sqlx::Error::RowNotFound) { Self::Raced } else { Self::Database(error) }
    }
}

impl From<LedgerError> for Failed {
    fn from(error: LedgerError) -> Self {
        Self::Refused(error)
    }
}

/// A piece of work for the writer. It may run more than once before it is committed once.
trait Job: Send {
    fn run<'a>(&'a mut self, tx: &'a mut Tx<'_>) -> BoxFuture<'a, Result<(), Failed>>;
    fn answer(self: Box<Self>, outcome: Result<(), LedgerError>);
}

struct Asked<T, F> {
    work: F,
    outcome: Option<Result<T, LedgerError>>,
    answer: oneshot::Sender<Result<T, LedgerError>>,
}

impl<T, F> Job for Asked<T, F>
where
    T: Send,
    F: for<'a> Fn(&'a mut Tx<'_>) -> BoxFuture<'a, Result<T, Failed>> + Send + Sync,
{
    fn run<'a>(&'a mut self, tx: &'a mut Tx<'_>) -> BoxFuture<'a, Result<(), Failed>> {
        Box::pin(async move {
            let said = tx.audit.len();
            self.outcome = Some(match (self.work)(tx).await {
                Ok(value) => Ok(value),
                Err(Failed::Refused(error)) => {
                    tx.audit.truncate(said);
                    Err(error)
                }
                Err(other) => return Err(other),
            });
            Ok(())
        })
    }

    fn answer(self: Box<Self>, outcome: Result<(), LedgerError>) {
        let result = match (outcome, self.outcome) {
            (Ok(()), Some(outcome)) => outcome,
            (Ok(()), None) => Err(LedgerError::Unwritable("the writer skipped a job; this is a bug".into())),
            (Err(error), _) => Err(error),
        };
        // Nobody may be waiting any more; the job is done all the same.
        let _ = self.answer.send(result);
    }
}

/// Hands jobs to the writer.
#[derive(Clone)]
pub(super) struct Queue(mpsc::UnboundedSender<Box<dyn Job>>);

impl Queue {
    /// One that takes nothing.
    pub(super) fn closed() -> Self {
        Self(mpsc::unbounded_channel().0)
    }

    /// Has it written, and waits until it is durable.
    pub(super) async fn write<T, F>(&self, work: F) -> Result<T, LedgerError>
    where
        T: Send + 'static,
        F: for<'a> Fn(&'a mut Tx<'_>) -> BoxFuture<'a, Result<T, Failed>> + Send + Sync + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let closed = || LedgerError::Unwritable("it is closed, because credd is stopping".into());
        self.0.send(Box::new(Asked { work, outcome: None, answer })).map_err(|_| closed())?;
        answered.await.map_err(|_| closed())?
    }
}

/// What the writer needs.
pub(super) struct Writer {
    pub(super) opener: Opener,
    pub(super) sealer: Arc<Sealer>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) ballast: Option<Ballast>,
    /// Names this opening of the ledger; its row says how far we came.
    pub(super) instance: String,
    pub(super) batch: i64,
    pub(super) conn: Option<Connection>,
    pub(super) incidents: watch::Sender<u64>,
    pub(super) documents: broadcast::Sender<String>,
    pub(super) stop: CancellationToken,
    pub(super) lock: Option<Arc<Lock>>,
}

/// Why a transaction did not happen.
enum Trouble {
    /// Others wrote the same rows.
    Raced,
    /// One statement is not acceptable; the connection is sound.
    Refused(String),
    /// No space.
    Full(String),
    /// The connection, the disk or the database failed.
    Broken(String),
}

impl From<sqlx::Error> for Trouble {
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(|e| e.code()).unwrap_or_default().into_owned();
        let text = error.to_string();
        match (code.parse::<u16>(), code.len()) {
            // SQLite: full, or no room for the index of its log.
            (Ok(13 | 4874), 1..=4) => Self::Full(text),
            // SQLite: error in the statement, value too big, constraint, wrong type.
            (Ok(code), 1..=4) if matches!(code & 0xff, 1 | 18 | 19 | 20 | 25) => Self::Refused(text),
            (_, 5) => match code.as_str() {
                "53100" => Self::Full(text),
                // Serialization failure, deadlock, lock not available.
                "40001" | "40P01" | "55P03" => Self::Raced,
                // Data exceptions, constraints, syntax and names.
                code if ["22", "23", "42"].contains(&&code[..2]) => Self::Refused(text),
                _ => Self::Broken(text),
            },
            _ if matches!(error, sqlx::Error::ColumnDecode { .. }) => Self::Refused(text),
            _ => Self::Broken(text),
        }
    }
}

impl From<Failed> for Trouble {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Raced => Self::Raced,
            Failed::Database(error) => error.into(),
            Failed::Refused(error) => Self::Refused(error.to_string()),
        }
    }
}

impl Writer {
    /// Starts the task.
    pub(super) fn start(self) -> (Queue, tokio::task::JoinHandle<()>) {
        let (send, receive) = mpsc::unbounded_channel();
        (Queue(send), tokio::spawn(self.run(receive)))
    }

    async fn run(mut self, mut queue: mpsc::UnboundedReceiver<Box<dyn Job>>) {
        let mut jobs = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled(), if !queue.is_closed() => queue.close(),
                count = queue.recv_many(&mut jobs, BATCH) => {
                    if count == 0 {
                        break;
                    }
                    self.serve(&mut jobs).await;
                }
            }
        }
        if let Some(conn) = self.conn.take() {
            conn.close().await;
        }
        // Only now may somebody else have the ledger.
        drop(self.lock.take());
    }

    async fn serve(&mut self, jobs: &mut Vec<Box<dyn Job>>) {
        let outcome = match self.persist(jobs).await {
            Err(Trouble::Raced | Trouble::Refused(_)) if jobs.len() > 1 => {
                // One of them is in the way: each on its own.
                for job in jobs.drain(..) {
                    let mut alone = [job];
                    let outcome = self.persist(&mut alone).await;
                    let [job] = alone;
                    job.answer(self.explain(outcome));
                }
                return;
            }
            outcome => self.explain(outcome),
        };
        jobs.drain(..).for_each(|job| job.answer(outcome.clone()));
    }

    fn explain(&self, outcome: Result<(), Trouble>) -> Result<(), LedgerError> {
        let (reason, next) = match outcome {
            Ok(()) => return Ok(()),
            Err(Trouble::Raced) => ("others write the same rows all the time".into(), "does a second credd use it?"),
            Err(Trouble::Refused(reason)) => (reason, "this is a bug, or somebody changed the tables"),
            Err(Trouble::Full(reason)) => (reason, "free some space"),
            Err(Trouble::Broken(reason)) => (reason, "check the disk or the database; credd goes on trying"),
        };
        Err(LedgerError::Unwritable(format!("{}: {reason}; {next}", self.opener.describe())))
    }

    /// Writes the jobs, trying again where that is safe: what failed before COMMIT was never there, and a COMMIT that
    /// failed is looked up.
    async fn persist(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<(), Trouble> {
        let mut freed = false;
        let mut tries = 0;
        loop {
            tries += 1;
            match self.once(jobs).await {
                Err(Trouble::Raced) if jobs.len() == 1 && tries < 4 => {}
                Err(Trouble::Full(_)) if !freed && self.ballast.as_ref().is_some_and(Ballast::release) => {
                    tracing::error!(ledger = self.opener.describe(), "the disk is full: the ledger uses its reserve");
                    freed = true;
                }
                Err(Trouble::Broken(reason)) if tries < 2 => {
                    tracing::warn!(ledger = self.opener.describe(), reason, "the ledger failed; opening it again");
                }
                outcome => return outcome,
            }
        }
    }

    async fn once(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<(), Trouble> {
        let mut conn = match self.conn.take() {
            Some(conn) => conn,
            None => self.reopen().await?,
        };
        self.batch += 1;
        let mut told = Told::default();
        let outcome = self.patiently(async {
            conn.begin_write().await?;
            self.fill(&mut conn, jobs, &mut told).await
        });
        let outcome = outcome.await;
        match outcome {
            Ok(()) => self.commit(conn).await?,
            Err(trouble) => {
                if !matches!(trouble, Trouble::Broken(_)) && conn.rollback().await.is_ok() {
                    self.conn = Some(conn);
                }
                return Err(trouble);
            }
        }
        if told.incidents {
            self.incidents.send_modify(|count| *count += 1);
        }
        for name in told.documents {
            let _ = self.documents.send(name);
        }
        Ok(())
    }

    /// Waits for a database elsewhere, but not for ever. The disk is waited for: it cannot be left.
    async fn patiently<T>(&self, work: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
        if matches!(self.opener, Opener::Sqlite(_)) {
            return work.await;
        }
        tokio::select! {
            outcome = work => outcome,
            () = self.clock.sleep(PATIENCE) => Err(Trouble::Broken("the database does not answer".into())),
        }
    }

    async fn fill(&self, conn: &mut Connection, jobs: &mut [Box<dyn Job>], told: &mut Told) -> Result<(), Trouble> {
        let now = self.clock.now().wall;
        conn.defer(
            "INSERT INTO writer (instance, batch, at) VALUES ($1, $2, $3) \
             ON CONFLICT (instance) DO UPDATE SET batch = excluded.batch, at = excluded.at",
            values![self.instance.as_str(), self.batch, now.as_microsecond()],
        );
        let mut tx = Tx { conn, sealer: &self.sealer, now, audit: Vec::new(), incidents: false, documents: Vec::new() };
        for job in jobs {
            job.run(&mut tx).await?;
        }
        let entries = std::mem::take(&mut tx.audit);
        *told = Told { incidents: tx.incidents, documents: std::mem::take(&mut tx.documents) };
        audit::append(tx.conn, &self.sealer, &entries).await?;
        tx.conn.settle().await.map_err(Failed::from)?;
        failpoint::reach("CP-20");
        Ok(())
    }

    /// Commits. When that fails nobody knows whether it happened (FM-33): the connection is given up, the database is
    /// opened anew and asked for the batch.
    async fn commit(&mut self, mut conn: Connection) -> Result<(), Trouble> {
        let trouble = match self.patiently(async { Ok(conn.commit().await?) }).await {
            Ok(()) => {
                self.conn = Some(conn);
                return Ok(());
            }
            // The mark of the commit was not written: it did not happen.
            Err(Trouble::Full(reason)) if conn.rollback().await.is_ok() => {
                self.conn = Some(conn);
                return Err(Trouble::Full(reason));
            }
            Err(trouble) => trouble,
        };
        conn.close().await;
        let mut conn = self.reopen().await?;
        conn.begin_read().await?;
        let row = conn.row("SELECT batch FROM writer WHERE instance = $1", values![self.instance.as_str()]).await?;
        let found: Option<i64> = row.map(|row| row.get(0)).transpose()?;
        conn.rollback().await?;
        self.conn = Some(conn);
        if found == Some(self.batch) { Ok(()) } else { Err(trouble) }
    }

    /// A new connection. On SQLite the log is carried into the file and synced before anything in it counts as durable:
    /// after a failed fsync the kernel may take pages for written that never were.
    async fn reopen(&self) -> Result<Connection, Trouble> {
        let mut conn = self.patiently(async { Ok(self.opener.connect(Access::Write).await?) }).await?;
        if !conn.is_postgres() && !conn.checkpoint().await? {
            return Err(Trouble::Broken("its log cannot be carried into the file".into()));
        }
        Ok(conn)
    }
}

/// Whom to tell after the commit.
#[derive(Default)]
struct Told {
    incidents: bool,
    documents: Vec<String>,
}

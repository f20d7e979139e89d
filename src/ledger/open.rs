//! Opens a ledger and hands out its doors.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures_util::future::BoxFuture;
use prometheus::HistogramVec;
use tokio::{
    sync::{Mutex, broadcast, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    Audit, Embedded, Incidents, LedgerError, Notices, Outbox, Place, Rotation, Unclassified,
    connection::{Access, Connection, Row, Value, values},
    mark::{self, Marks},
    place::{self, Ballast, Lock, Opener},
    schema,
    spill::Spills,
    writer::{Failed, PATIENCE, Queue, Tx, Writer},
};
use crate::{clock::Clock, metrics::Metrics, seal::Sealer};

/// The open ledger. Cheap to clone; every clone is the same one.
#[derive(Clone)]
pub struct Ledger(Arc<Inner>);

struct Inner {
    queue: Queue,
    opener: Opener,
    sealer: Arc<Sealer>,
    clock: Arc<dyn Clock>,
    /// Taken out while it is used: a reader that is dropped half-way takes its connection with it.
    reader: Mutex<Option<Connection>>,
    ballast: Option<Ballast>,
    spills: Spills,
    marks: Marks,
    incidents: watch::Sender<u64>,
    documents: broadcast::Sender<String>,
    durations: OnceLock<HistogramVec>,
    stop: CancellationToken,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ledger({})", self.0.opener.describe())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Ledger {
    /// Opens the ledger, making it if there is none. Refuses one that is damaged, held by another process, open to
    /// others or sealed with another key, and leaves it as it was.
    pub async fn open(place: Place, sealer: Sealer, clock: Arc<dyn Clock>) -> Result<Self, LedgerError> {
        let sealer = Arc::new(sealer);
        match place {
            Place::Sqlite(path) => {
                place::directory(&path)?;
                let lock = Arc::new(Lock::take(&path)?);
                if path.symlink_metadata().is_ok() {
                    place::inspect(&path, &sealer).await?;
                } else {
                    place::create(&path, &sealer).await?;
                }
                let marks = Marks::open(mark::beside(&path))?;
                let ballast = Some(Ballast(place::beside(&path, ".ballast")));
                let spills = Spills(place::beside(&path, ".spill"));
                Self::start(Opener::Sqlite(path), sealer, clock, ballast, (spills, marks), Some(lock)).await
            }
            #[cfg(feature = "postgres")]
            Place::Postgres { url, beside } => {
                let spills = Spills(beside.join("ledger.spill"));
                place::directory(&spills.0)?;
                let marks = Marks::open(mark::beside(&beside.join("ledger")))?;
                Self::start(Opener::postgres(&url)?, sealer, clock, None, (spills, marks), None).await
            }
            #[cfg(not(feature = "postgres"))]
            Place::Postgres { .. } => Err(LedgerError::Unusable(
                "this credd was built without PostgreSQL: build it with the feature `postgres`".into(),
            )),
        }
    }

    async fn start(
        opener: Opener,
        sealer: Arc<Sealer>,
        clock: Arc<dyn Clock>,
        ballast: Option<Ballast>,
        (spills, marks): (Spills, Marks),
        lock: Option<Arc<Lock>>,
    ) -> Result<Self, LedgerError> {
        let unusable = |error: sqlx::Error| LedgerError::Unusable(format!("{}: {error}", opener.describe()));
        let mut conn = opener.connect(Access::Write).await.map_err(unusable)?;
        if !conn.is_postgres() {
            check_durability(&mut conn, &opener).await?;
        }
        schema::migrate(&mut conn, &sealer).await?;
        let instance = Uuid::now_v7().to_string();
        if !conn.is_postgres() {
            // Before anything of ours is in the log, the file knows us: so the log can be told from a foreign one.
            let name = values![instance.as_str(), clock.now().wall.as_microsecond()];
            let sql = "INSERT INTO writer (instance, batch, at) VALUES ($1, 0, $2)";
            conn.execute(sql, name).await.map_err(unusable)?;
            if !conn.checkpoint().await.map_err(unusable)? {
                return Err(LedgerError::Unusable(format!("{}: another program is reading it", opener.describe())));
            }
        }
        let (incidents, documents, stop) =
            (watch::Sender::new(0), broadcast::Sender::new(1024), CancellationToken::new());
        let writer = Writer {
            opener: opener.clone(),
            sealer: sealer.clone(),
            clock: clock.clone(),
            ballast: ballast.clone(),
            instance,
            batch: 0,
            conn: Some(conn),
            incidents: incidents.clone(),
            documents: documents.clone(),
            stop: stop.clone(),
            lock,
        };
        let (queue, task) = writer.start();
        let writer = Mutex::new(Some(task));
        let reader = Mutex::new(None);
        let ledger = Self(Arc::new(Inner {
            queue,
            opener,
            sealer,
            clock,
            reader,
            ballast,
            spills,
            marks,
            incidents,
            documents,
            durations: OnceLock::new(),
            stop,
            writer,
        }));
        let taken = ledger.rotation().take_in_spills().await?;
        if !taken.is_empty() {
            tracing::warn!(attempts = ?taken, "replies that had been kept beside the ledger are in it again");
        }
        Ok(ledger)
    }

    /// Opens a ledger to look at its rows, also while a daemon holds it: nothing is locked, made, migrated or written, and
    /// nothing of what another process says is believed.
    pub async fn open_to_read(place: Place, sealer: Sealer, clock: Arc<dyn Clock>) -> Result<Self, LedgerError> {
        let (opener, beside) = match place {
            Place::Sqlite(path) => {
                // Root may look at anybody's.
                if !rustix::process::geteuid().is_root() {
                    place::check_owner(&path, 0o077, "0600")?;
                }
                (Opener::Sqlite(path.clone()), path)
            }
            #[cfg(feature = "postgres")]
            Place::Postgres { url, beside } => (Opener::postgres(&url)?, beside.join("ledger")),
            #[cfg(not(feature = "postgres"))]
            Place::Postgres { .. } => {
                return Err(LedgerError::Unusable(
                    "this credd was built without PostgreSQL: build it with the feature `postgres`".into(),
                ));
            }
        };
        let unusable = |error: sqlx::Error| LedgerError::Unusable(format!("{}: {error}", opener.describe()));
        let mut conn = opener.connect(Access::Read).await.map_err(unusable)?;
        schema::version(&mut conn).await?;
        let (incidents, documents, stop) = (watch::Sender::new(0), broadcast::Sender::new(1), CancellationToken::new());
        Ok(Self(Arc::new(Inner {
            queue: Queue::closed(),
            opener,
            sealer: Arc::new(sealer),
            clock,
            reader: Mutex::new(Some(conn)),
            ballast: None,
            spills: Spills(place::beside(&beside, ".spill")),
            marks: Marks::open(mark::beside(&beside))?,
            incidents,
            documents,
            durations: OnceLock::new(),
            stop,
            writer: Mutex::new(None),
        })))
    }

    /// Credentials, their values and their flights.
    pub fn rotation(&self) -> Rotation<'_> {
        Rotation(self)
    }

    /// What must still reach home stores and on-call.
    pub fn outbox(&self) -> Outbox<'_> {
        Outbox(self)
    }

    /// What on-call must know.
    pub fn incidents(&self) -> Incidents<'_> {
        Incidents(self)
    }

    /// What on-call must still be told.
    pub fn notices(&self) -> Notices<'_> {
        Notices(self)
    }

    /// Who did what, when.
    pub fn audit(&self) -> Audit<'_> {
        Audit(self)
    }

    /// The ledger as a home store.
    pub fn embedded(&self) -> Embedded<'_> {
        Embedded(self)
    }

    /// Replies that no rule matched.
    pub fn unclassified(&self) -> Unclassified<'_> {
        Unclassified(self)
    }

    /// What seals this ledger, and makes fingerprints under its key.
    pub fn sealer(&self) -> &Sealer {
        &self.0.sealer
    }

    /// The same, to keep.
    pub(super) fn sealer_of_all(&self) -> &Arc<Sealer> {
        &self.0.sealer
    }

    /// Measures from now on how long callers wait for reads and writes.
    pub fn measure(&self, metrics: &Metrics) {
        let _ = self.0.durations.set(metrics.credd_ledger_operation_duration_seconds.clone());
    }

    fn observe(&self, operation: &str, from: Duration) {
        if let Some(durations) = self.0.durations.get() {
            let took = self.0.clock.now().boot.saturating_sub(from);
            durations.with_label_values(&[operation]).observe(took.as_secs_f64());
        }
    }

    /// Writes what still waits and lets go of the database, for all clones. What is asked afterwards is refused.
    pub async fn close(&self) {
        self.0.stop.cancel();
        let task = self.0.writer.lock().await.take();
        if let Some(conn) = self.0.reader.lock().await.take() {
            conn.close().await;
        }
        if let Some(task) = task {
            let _ = task.await;
        }
    }

    pub(super) async fn write<T, F>(&self, work: F) -> Result<T, LedgerError>
    where
        T: Send + 'static,
        F: for<'a> Fn(&'a mut Tx<'_>) -> BoxFuture<'a, Result<T, Failed>> + Send + Sync + 'static,
    {
        let from = self.0.clock.now().boot;
        let outcome = self.0.queue.write(work).await;
        self.observe("write", from);
        outcome
    }

    /// Reads at one moment of the database. A connection that went stale is replaced once.
    pub(super) async fn read<T, F>(&self, work: F) -> Result<T, LedgerError>
    where
        F: for<'a> Fn(&'a mut Connection) -> BoxFuture<'a, Result<T, sqlx::Error>>,
    {
        let from = self.0.clock.now().boot;
        let outcome = self.read_once_more(work).await;
        self.observe("read", from);
        outcome
    }

    async fn read_once_more<T, F>(&self, work: F) -> Result<T, LedgerError>
    where
        F: for<'a> Fn(&'a mut Connection) -> BoxFuture<'a, Result<T, sqlx::Error>>,
    {
        let mut reader = self.0.reader.lock().await;
        let mut kept = reader.take();
        loop {
            let fresh = kept.is_none();
            // Boxed once it is its turn: thousands wait for theirs at a start.
            let attempt = Box::pin(async {
                let mut conn = match kept.take() {
                    Some(conn) => conn,
                    None => self.0.opener.connect(Access::Read).await?,
                };
                conn.begin_read().await?;
                let answer = work(&mut conn).await?;
                conn.rollback().await?;
                Ok::<_, sqlx::Error>((answer, conn))
            });
            let outcome = tokio::select! {
                outcome = attempt => outcome,
                () = self.0.clock.sleep(PATIENCE) => Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())),
            };
            match outcome {
                Ok((answer, conn)) => {
                    if !self.0.stop.is_cancelled() {
                        *reader = Some(conn);
                    }
                    return Ok(answer);
                }
                Err(_) if !fresh => {}
                Err(error) => {
                    return Err(LedgerError::Unreadable(format!("{}: {error}", self.0.opener.describe())));
                }
            }
        }
    }

    pub(super) async fn rows(&self, sql: &'static str, values: Vec<Value>) -> Result<Vec<Row>, LedgerError> {
        self.read(move |conn| {
            let values = values.clone();
            Box::pin(async move { conn.rows(sql, values).await })
        })
        .await
    }

    pub(super) fn spills(&self) -> &Spills {
        &self.0.spills
    }

    pub(super) fn marks(&self) -> &Marks {
        &self.0.marks
    }

    /// Where it lies, in words and without a password: a file's path, or the database.
    pub fn place(&self) -> String {
        self.0.opener.describe()
    }

    /// Whether this ledger is a file of this machine, which may be copied; a database elsewhere is one for all.
    pub fn is_a_file(&self) -> bool {
        matches!(self.0.opener, Opener::Sqlite(_))
    }

    pub(super) fn reserve(&self) -> Result<(), LedgerError> {
        self.0.ballast.as_ref().map_or(Ok(()), Ballast::ensure)
    }

    pub(super) fn watch_incidents(&self) -> watch::Receiver<u64> {
        self.0.incidents.subscribe()
    }

    pub(super) fn watch_documents(&self) -> broadcast::Receiver<String> {
        self.0.documents.subscribe()
    }
}

/// Reads back what makes a commit durable, and refuses to run on less.
async fn check_durability(conn: &mut Connection, opener: &Opener) -> Result<(), LedgerError> {
    let at = opener.describe();
    let unusable = |error: sqlx::Error| LedgerError::Unusable(format!("{at}: {error}"));
    let synchronous = conn.row("PRAGMA synchronous", vec![]).await.map_err(unusable)?;
    let synchronous: i64 = synchronous.map_or(Ok(0), |row| row.get(0)).map_err(unusable)?;
    let journal = conn.row("PRAGMA journal_mode", vec![]).await.map_err(unusable)?;
    let journal: String = journal.map_or(Ok(String::new()), |row| row.get(0)).map_err(unusable)?;
    if synchronous == 2 && journal == "wal" {
        return Ok(());
    }
    let reason = format!("synchronous={synchronous}, journal_mode={journal}, where 2 and wal are needed");
    Err(LedgerError::Unusable(format!("{at}: commits would not survive a power loss ({reason}): use a local disk")))
}

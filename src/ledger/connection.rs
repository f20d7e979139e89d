//! One connection to either database, spoken to with the same statements (`$1`, integers, texts and bytes).

use std::{path::Path, time::Duration};

use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection as _, Database, Decode, Encode, Executor, Row as _, Type,
    query::Query,
    sqlite::{Sqlite, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteRow, SqliteSynchronous},
};
#[cfg(feature = "postgres")]
use sqlx::{
    Postgres,
    postgres::{PgConnectOptions, PgConnection, PgRow},
};

/// A value for a statement. Absent values keep their type, because PostgreSQL asks for it.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Int(Option<i64>),
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
}

macro_rules! values {
    ($($value:expr),* $(,)?) => { vec![$($crate::ledger::connection::Value::from($value)),*] };
}
pub(super) use values;

macro_rules! value_from {
    ($($from:ty => $variant:ident $with:expr),+) => {$(
        impl From<$from> for Value {
            fn from(value: $from) -> Self {
                Self::$variant(Some($with(value)))
            }
        }
        impl From<Option<$from>> for Value {
            fn from(value: Option<$from>) -> Self {
                Self::$variant(value.map($with))
            }
        }
    )+};
}
value_from!(i64 => Int i64::from, &str => Text text, String => Text text, &[u8] => Bytes Vec::from, Vec<u8> => Bytes Vec::from);

/// PostgreSQL has no place for U+0000 in a text, and a foreign word must not make a step unwritable.
fn text(text: impl Into<String>) -> String {
    let text = text.into();
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text }
}

/// A row of an answer.
pub(super) enum Row {
    Sqlite(SqliteRow),
    #[cfg(feature = "postgres")]
    Postgres(PgRow),
}

impl Row {
    /// The value of a column.
    #[cfg(feature = "postgres")]
    pub(super) fn get<T>(&self, column: usize) -> Result<T, sqlx::Error>
    where
        T: for<'r> Decode<'r, Sqlite> + Type<Sqlite> + for<'r> Decode<'r, Postgres> + Type<Postgres>,
    {
        match self {
            Self::Sqlite(row) => row.try_get(column),
            Self::Postgres(row) => row.try_get(column),
        }
    }

    /// The value of a column.
    #[cfg(not(feature = "postgres"))]
    pub(super) fn get<T: for<'r> Decode<'r, Sqlite> + Type<Sqlite>>(&self, column: usize) -> Result<T, sqlx::Error> {
        let Self::Sqlite(row) = self;
        row.try_get(column)
    }
}

fn bind<'q, DB: Database>(mut query: Query<'q, DB, DB::Arguments>, values: Vec<Value>) -> Query<'q, DB, DB::Arguments>
where
    Option<i64>: Encode<'q, DB> + Type<DB> + 'q,
    Option<String>: Encode<'q, DB> + Type<DB> + 'q,
    Option<Vec<u8>>: Encode<'q, DB> + Type<DB> + 'q,
{
    for value in values {
        query = match value {
            Value::Int(value) => query.bind(value),
            Value::Text(value) => query.bind(value),
            Value::Bytes(value) => query.bind(value),
        };
    }
    query
}

/// What a connection to a SQLite file may do and see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Write,
    Read,
    /// Only reads, and only what the file says without its log.
    FileAlone,
}

/// A connection to one of the two databases.
#[derive(Debug)]
pub(super) enum Connection {
    Sqlite(SqliteConnection),
    #[cfg(feature = "postgres")]
    Postgres(PgConnection),
}

/// `$body` for whichever database is behind `$conn`.
macro_rules! either {
    ($this:expr, $conn:ident => $body:expr) => {
        match $this {
            Connection::Sqlite($conn) => $body,
            #[cfg(feature = "postgres")]
            Connection::Postgres($conn) => $body,
        }
    };
}

impl Connection {
    /// Opens an existing SQLite file. The settings are part of the rotation protocol: with less than FULL a committed
    /// transaction may roll back at power loss.
    pub(super) async fn sqlite(path: &Path, access: Access) -> Result<Self, sqlx::Error> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .busy_timeout(Duration::from_secs(5))
            .pragma("trusted_schema", "OFF")
            .pragma("cell_size_check", "ON")
            .disable_statement_logging();
        let options = match access {
            Access::Write => options.journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Full),
            Access::Read => options.read_only(true),
            Access::FileAlone => options.read_only(true).immutable(true),
        };
        Ok(Self::Sqlite(options.connect().await?))
    }

    /// Connects to PostgreSQL. No statement is kept prepared and no session state is used, so that a pooler which
    /// hands out a backend per transaction may stand in between (FM-49).
    #[cfg(feature = "postgres")]
    pub(super) async fn postgres(options: &PgConnectOptions) -> Result<Self, sqlx::Error> {
        Ok(Self::Postgres(options.connect().await?))
    }

    /// Whether this is PostgreSQL.
    pub(super) fn is_postgres(&self) -> bool {
        !matches!(self, Self::Sqlite(_))
    }

    /// Runs a statement; answers how many rows it touched.
    pub(super) async fn execute(&mut self, sql: &'static str, values: Vec<Value>) -> Result<u64, sqlx::Error> {
        let kept = !self.is_postgres();
        either!(self, conn => {
            Ok(bind(sqlx::query(sql), values).persistent(kept).execute(conn).await?.rows_affected())
        })
    }

    /// Runs a statement that was put together here (a list of unknown length); it holds no foreign text.
    pub(super) async fn execute_built(&mut self, sql: String, values: Vec<Value>) -> Result<u64, sqlx::Error> {
        either!(self, conn => {
            Ok(bind(sqlx::query(AssertSqlSafe(sql)), values).persistent(false).execute(conn).await?.rows_affected())
        })
    }

    /// Runs a statement and answers its rows.
    pub(super) async fn rows(&mut self, sql: &'static str, values: Vec<Value>) -> Result<Vec<Row>, sqlx::Error> {
        match self {
            Self::Sqlite(conn) => {
                let rows = bind(sqlx::query(sql), values).fetch_all(conn).await?;
                Ok(rows.into_iter().map(Row::Sqlite).collect())
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(conn) => {
                // Without a name: behind a pooler a named statement stays on a backend that the next may not get.
                let rows = bind(sqlx::query(sql), values).persistent(false).fetch_all(conn).await?;
                Ok(rows.into_iter().map(Row::Postgres).collect())
            }
        }
    }

    /// Runs a statement that answers one row or none.
    pub(super) async fn row(&mut self, sql: &'static str, values: Vec<Value>) -> Result<Option<Row>, sqlx::Error> {
        Ok(self.rows(sql, values).await?.into_iter().next())
    }

    /// Runs several statements without values.
    pub(super) async fn script(&mut self, sql: &'static str) -> Result<(), sqlx::Error> {
        either!(self, conn => conn.execute(sqlx::raw_sql(sql)).await.map(drop))
    }

    /// Begins a transaction that will write. What PostgreSQL must hold to is said in each transaction, because a
    /// session's settings do not survive a pooler.
    pub(super) async fn begin_write(&mut self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(_) => self.script("BEGIN IMMEDIATE").await,
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => {
                self.script(
                    "BEGIN; SET LOCAL synchronous_commit = on; SET LOCAL statement_timeout = '10s'; \
                     SET LOCAL lock_timeout = '5s'; SET LOCAL idle_in_transaction_session_timeout = '30s'",
                )
                .await
            }
        }
    }

    /// Begins a transaction that only reads, of one moment.
    pub(super) async fn begin_read(&mut self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(_) => self.script("BEGIN").await,
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => {
                self.script(
                    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = '30s'; \
                     SET LOCAL idle_in_transaction_session_timeout = '60s'",
                )
                .await
            }
        }
    }

    /// Commits.
    pub(super) async fn commit(&mut self) -> Result<(), sqlx::Error> {
        self.script("COMMIT").await
    }

    /// Takes everything back since the beginning.
    pub(super) async fn rollback(&mut self) -> Result<(), sqlx::Error> {
        self.script("ROLLBACK").await
    }

    /// Carries SQLite's log into the file, syncs it, and empties the log. False when somebody is in the way.
    pub(super) async fn checkpoint(&mut self) -> Result<bool, sqlx::Error> {
        let row = self.row("PRAGMA wal_checkpoint(TRUNCATE)", vec![]).await?;
        Ok(row.map_or(Ok(1_i64), |row| row.get(0))? == 0)
    }

    /// Hangs up. What is open is rolled back by the database.
    pub(super) async fn close(self) {
        let _ = either!(self, conn => conn.close().await);
    }
}

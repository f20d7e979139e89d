//! One connection to either database, spoken to with the same statements (`$1`, integers, texts and bytes).

use std::{borrow::Cow, path::Path, time::Duration};

use futures_util::TryStreamExt;

use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection as _, Database, Decode, Either, Encode, Executor, Row as _, Type,
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
///
/// SQLite works in a thread of its own, and each call to it wakes two threads; that, and not the disk, would be most of
/// what a commit costs. So a statement whose answer decides nothing is put off ([`Connection::defer`]) and goes with the
/// next one, in the same order, as one call.
#[derive(Debug)]
pub(super) struct Connection {
    link: Link,
    waiting: Vec<Deferred>,
    /// Whether the transaction has really begun: its BEGIN may be waiting as well.
    begun: bool,
}

#[derive(Debug)]
enum Link {
    Sqlite(SqliteConnection),
    #[cfg(feature = "postgres")]
    Postgres(PgConnection),
}

#[derive(Debug)]
struct Deferred {
    sql: Cow<'static, str>,
    values: Vec<Value>,
    /// It must touch one row, or somebody else was faster.
    one: bool,
}

/// The rows of an answer, and how many rows the statement touched.
type Outcome = (Vec<Row>, u64);

impl Connection {
    fn of(link: Link) -> Self {
        Self { link, waiting: Vec::new(), begun: false }
    }

    /// Opens an existing SQLite file. The settings are part of the rotation protocol: with less than FULL a committed
    /// transaction may roll back at power loss.
    pub(super) async fn sqlite(path: &Path, access: Access) -> Result<Self, sqlx::Error> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .busy_timeout(Duration::from_secs(5))
            .pragma("trusted_schema", "OFF")
            .pragma("cell_size_check", "ON")
            // KiB; what credd needs of the ledger it keeps in memory itself, and the operating system caches the file.
            .pragma("cache_size", "-512")
            .disable_statement_logging();
        let options = match access {
            Access::Write => options.journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Full),
            Access::Read => options.read_only(true),
            Access::FileAlone => options.read_only(true).immutable(true),
        };
        Ok(Self::of(Link::Sqlite(options.connect().await?)))
    }

    /// Connects to PostgreSQL. No statement is kept prepared and no session state is used, so that a pooler which
    /// hands out a backend per transaction may stand in between (FM-49).
    #[cfg(feature = "postgres")]
    pub(super) async fn postgres(options: &PgConnectOptions) -> Result<Self, sqlx::Error> {
        Ok(Self::of(Link::Postgres(options.connect().await?)))
    }

    /// Whether this is PostgreSQL.
    pub(super) fn is_postgres(&self) -> bool {
        !matches!(self.link, Link::Sqlite(_))
    }

    /// Runs a statement with the next one that is not put off, or before the commit.
    pub(super) fn defer(&mut self, sql: impl Into<Cow<'static, str>>, values: Vec<Value>) {
        self.waiting.push(Deferred { sql: sql.into(), values, one: false });
    }

    /// The same for one that must touch exactly one row; where it does not, somebody else was faster
    /// (`sqlx::Error::RowNotFound`), and whatever comes next says so.
    pub(super) fn defer_one(&mut self, sql: &'static str, values: Vec<Value>) {
        self.waiting.push(Deferred { sql: sql.into(), values, one: true });
    }

    /// Runs a statement; answers how many rows it touched.
    pub(super) async fn execute(&mut self, sql: &'static str, values: Vec<Value>) -> Result<u64, sqlx::Error> {
        self.defer(sql, values);
        Ok(self.flush().await?.1)
    }

    /// Runs a statement and answers its rows.
    pub(super) async fn rows(&mut self, sql: &'static str, values: Vec<Value>) -> Result<Vec<Row>, sqlx::Error> {
        self.defer(sql, values);
        Ok(self.flush().await?.0)
    }

    /// Runs a statement that answers one row or none.
    pub(super) async fn row(&mut self, sql: &'static str, values: Vec<Value>) -> Result<Option<Row>, sqlx::Error> {
        Ok(self.rows(sql, values).await?.into_iter().next())
    }

    /// Runs what waits; the outcome is that of the last statement.
    async fn flush(&mut self) -> Result<Outcome, sqlx::Error> {
        let waiting = std::mem::take(&mut self.waiting);
        self.begun |= !waiting.is_empty();
        match &mut self.link {
            Link::Sqlite(conn) => together(conn, waiting).await,
            #[cfg(feature = "postgres")]
            Link::Postgres(conn) => {
                let mut outcome = Outcome::default();
                for Deferred { sql, values, one } in waiting {
                    // Without a name: behind a pooler a named statement stays on a backend that the next may not get.
                    let query = bind(sqlx::query(AssertSqlSafe(sql.into_owned())), values).persistent(false);
                    outcome = Outcome::default();
                    let mut answer = (&mut *conn).fetch_many(query);
                    while let Some(part) = answer.try_next().await? {
                        match part {
                            Either::Left(done) => outcome.1 = done.rows_affected(),
                            Either::Right(row) => outcome.0.push(Row::Postgres(row)),
                        }
                    }
                    if one && outcome.1 != 1 {
                        return Err(sqlx::Error::RowNotFound);
                    }
                }
                Ok(outcome)
            }
        }
    }

    /// Runs several statements without values.
    pub(super) async fn script(&mut self, sql: &'static str) -> Result<(), sqlx::Error> {
        self.flush().await?;
        match &mut self.link {
            Link::Sqlite(conn) => conn.execute(sqlx::raw_sql(sql)).await.map(drop),
            #[cfg(feature = "postgres")]
            Link::Postgres(conn) => conn.execute(sqlx::raw_sql(sql)).await.map(drop),
        }
    }

    /// Begins a transaction that will write. What PostgreSQL must hold to is said in each transaction, because a
    /// session's settings do not survive a pooler.
    pub(super) async fn begin_write(&mut self) -> Result<(), sqlx::Error> {
        self.begun = false;
        if self.is_postgres() {
            self.begun = true;
            return self
                .script(
                    "BEGIN; SET LOCAL synchronous_commit = on; SET LOCAL statement_timeout = '10s'; \
                     SET LOCAL lock_timeout = '5s'; SET LOCAL idle_in_transaction_session_timeout = '30s'",
                )
                .await;
        }
        self.defer("BEGIN IMMEDIATE", vec![]);
        Ok(())
    }

    /// Begins a transaction that only reads, of one moment.
    pub(super) async fn begin_read(&mut self) -> Result<(), sqlx::Error> {
        self.begun = true;
        if self.is_postgres() {
            return self
                .script(
                    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = '30s'; \
                     SET LOCAL idle_in_transaction_session_timeout = '60s'",
                )
                .await;
        }
        self.script("BEGIN").await
    }

    /// Runs what waits. What fails here was never there; what fails in [`Connection::commit`] after it may be.
    pub(super) async fn settle(&mut self) -> Result<(), sqlx::Error> {
        self.flush().await.map(drop)
    }

    /// Commits.
    pub(super) async fn commit(&mut self) -> Result<(), sqlx::Error> {
        self.script("COMMIT").await
    }

    /// Takes everything back since the beginning.
    pub(super) async fn rollback(&mut self) -> Result<(), sqlx::Error> {
        self.waiting.clear();
        if self.begun { self.script("ROLLBACK").await } else { Ok(()) }
    }

    /// Carries SQLite's log into the file, syncs it, and empties the log. False when somebody is in the way.
    pub(super) async fn checkpoint(&mut self) -> Result<bool, sqlx::Error> {
        let row = self.row("PRAGMA wal_checkpoint(TRUNCATE)", vec![]).await?;
        Ok(row.map_or(Ok(1_i64), |row| row.get(0))? == 0)
    }

    /// Hangs up. What is open is rolled back by the database.
    pub(super) async fn close(self) {
        let _ = match self.link {
            Link::Sqlite(conn) => conn.close().await,
            #[cfg(feature = "postgres")]
            Link::Postgres(conn) => conn.close().await,
        };
    }
}

/// So many values have the steps of one credential; of longer calls hardly two are alike, so they are not kept prepared.
const KEPT_PREPARED: usize = 64;

/// Runs statements as one call. Their texts become one, which is kept prepared: steps of one form have one text.
async fn together(conn: &mut SqliteConnection, statements: Vec<Deferred>) -> Result<Outcome, sqlx::Error> {
    let (mut sql, mut all, mut must) = (String::new(), Vec::new(), Vec::with_capacity(statements.len()));
    for Deferred { sql: text, values, one } in statements {
        if !sql.is_empty() {
            sql.push(';');
        }
        renumbered(&text, all.len(), &mut sql);
        all.extend(values);
        must.push(one);
    }
    let mut outcome = Outcome::default();
    if must.is_empty() {
        return Ok(outcome);
    }
    let kept = all.len() <= KEPT_PREPARED;
    // Several statements in a prepared text are a thing of sqlx's SQLite driver alone, and one that it may drop: the
    // tests below would tell.
    let mut answer = conn.fetch_many(bind(sqlx::query(AssertSqlSafe(sql)), all).persistent(kept));
    let mut done = 0;
    while let Some(part) = answer.try_next().await? {
        match part {
            Either::Right(row) => outcome.0.push(Row::Sqlite(row)),
            Either::Left(end) => {
                if must[done] && end.rows_affected() != 1 {
                    return Err(sqlx::Error::RowNotFound);
                }
                outcome.1 = end.rows_affected();
                done += 1;
                if done < must.len() {
                    outcome.0.clear();
                }
            }
        }
    }
    Ok(outcome)
}

/// Appends a statement whose `$1` is the value after those of the statements before it.
fn renumbered(sql: &str, before: usize, out: &mut String) {
    use std::fmt::Write;
    let mut parts = sql.split('$');
    out.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        // Texts of statements are our own; a `$` in them is always a parameter.
        let number: usize = part[..digits].parse().unwrap_or(0);
        let _ = write!(out, "${}{}", number + before, &part[digits..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_go_on_where_the_last_statement_ended() {
        let mut sql = String::from("A $1;");
        renumbered("INSERT INTO x VALUES ($1, $2, $12) RETURNING y", 3, &mut sql);
        assert_eq!(sql, "A $1;INSERT INTO x VALUES ($4, $5, $15) RETURNING y");
    }

    #[tokio::test]
    async fn what_waits_goes_first_in_its_order_and_fails_what_comes_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.db");
        std::fs::write(&path, "").unwrap();
        let mut conn = Connection::sqlite(&path, Access::Write).await.unwrap();
        conn.script("CREATE TABLE t (n INTEGER UNIQUE)").await.unwrap();
        conn.begin_write().await.unwrap();
        conn.defer("INSERT INTO t VALUES ($1), ($2)", values![1_i64, 2_i64]);
        conn.defer_one("UPDATE t SET n = $2 WHERE n = $1", values![2_i64, 3_i64]);
        let rows = conn.rows("SELECT n FROM t WHERE n >= $1 ORDER BY n", values![1_i64]).await.unwrap();
        assert_eq!(rows.iter().map(|row| row.get::<i64>(0).unwrap()).collect::<Vec<_>>(), [1, 3]);
        conn.commit().await.unwrap();

        conn.begin_write().await.unwrap();
        conn.defer("DELETE FROM t WHERE n = $1", values![1_i64]);
        conn.defer_one("UPDATE t SET n = $2 WHERE n = $1", values![7_i64, 8_i64]);
        assert!(matches!(conn.settle().await, Err(sqlx::Error::RowNotFound)));
        conn.rollback().await.unwrap();
        assert_eq!(conn.rows("SELECT n FROM t", vec![]).await.unwrap().len(), 2, "all of it was taken back");

        // A transaction that nobody has begun yet is taken back without a word.
        conn.begin_write().await.unwrap();
        conn.defer("DELETE FROM t", vec![]);
        conn.rollback().await.unwrap();
        assert_eq!(conn.execute("DELETE FROM t", vec![]).await.unwrap(), 2);
    }
}

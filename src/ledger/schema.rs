//! The tables: migrations, each in a file, applied once and in order; and the check that the key is the right one.

use super::{
    LedgerError,
    connection::{Connection, values},
    signature,
};
use crate::{failpoint, seal::Sealer};

const SQLITE: &[&str] = &[
    include_str!("schema/sqlite/0001.sql"),
    include_str!("schema/sqlite/0002.sql"),
    include_str!("schema/sqlite/0003.sql"),
];
#[cfg(feature = "postgres")]
const POSTGRES: &[&str] = &[
    include_str!("schema/postgres/0001.sql"),
    include_str!("schema/postgres/0002.sql"),
    include_str!("schema/postgres/0003.sql"),
];
/// From this version on the ends of the audit log's chains are signed.
pub(super) const SIGNED: i64 = 3;
/// What the key's check value says since then. It is sealed: nobody without the key makes a ledger look older than it is,
/// so as to have a forged log signed by the next start.
pub(super) const SAYS_SIGNED: &str = "credd key check; the ends of the audit log are signed";
/// `cred`: says that a SQLite file is a ledger.
pub(super) const APPLICATION: i64 = 0x6372_6564;

fn steps(conn: &Connection) -> &'static [&'static str] {
    #[cfg(feature = "postgres")]
    if conn.is_postgres() {
        return POSTGRES;
    }
    let _ = conn;
    SQLITE
}

/// Brings the tables to this program's version, all or nothing, and checks the key. Replicas that start together wait
/// for the one that is first (FM-52).
pub(super) async fn migrate(conn: &mut Connection, sealer: &Sealer) -> Result<(), LedgerError> {
    conn.begin_write().await.map_err(failed)?;
    match steps_missing(conn, sealer).await {
        Ok(()) => conn.commit().await.map_err(failed),
        Err(error) => {
            let _ = conn.rollback().await;
            Err(error)
        }
    }
}

async fn steps_missing(conn: &mut Connection, sealer: &Sealer) -> Result<(), LedgerError> {
    if conn.is_postgres() {
        // Held until the transaction ends, so a pooler does not lose it.
        conn.script("SET LOCAL lock_timeout = '60s'; SET LOCAL statement_timeout = '90s'; SELECT pg_advisory_xact_lock(1668441444)")
            .await
            .map_err(failed)?;
    }
    conn.script("CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL)").await.map_err(failed)?;
    let found = version(conn).await?;
    for (version, step) in (1..).zip(steps(conn)).filter(|(version, _)| *version > found) {
        conn.script(step).await.map_err(failed)?;
        failpoint::reach("CP-22");
        conn.execute("INSERT INTO schema_version (version) VALUES ($1)", values![version]).await.map_err(failed)?;
    }
    if found == 0 {
        let check = values![sealer.check_value(SAYS_SIGNED)];
        conn.execute("INSERT INTO meta (name, value) VALUES ('key_check', $1)", check).await.map_err(failed)?;
        signature::sign_all(conn, sealer).await.map_err(failed)?;
    }
    let said = check_key(conn, sealer).await?;
    match (found, said == SAYS_SIGNED) {
        (1..SIGNED, false) => {
            signature::sign_all(conn, sealer).await.map_err(failed)?;
            let check = values![sealer.check_value(SAYS_SIGNED)];
            conn.execute("UPDATE meta SET value = $1 WHERE name = 'key_check'", check).await.map_err(failed)?;
        }
        (1..SIGNED, true) => {
            tracing::error!(
                "the ledger's tables are older than its key check says: somebody has changed them, and the audit log is not \
                 signed anew; `credd audit verify` says what does not fit"
            );
        }
        _ => {}
    }
    Ok(())
}

/// How far the tables are; refuses those of a newer program (FM-51).
pub(super) async fn version(conn: &mut Connection) -> Result<i64, LedgerError> {
    let row = conn.row("SELECT MAX(version) FROM schema_version", vec![]).await.map_err(failed)?;
    let found = row.map_or(Ok(None), |row| row.get::<Option<i64>>(0)).map_err(failed)?.unwrap_or(0);
    let known = i64::try_from(steps(conn).len()).unwrap_or(i64::MAX);
    if found > known {
        return Err(LedgerError::Unusable(format!(
            "its tables are of version {found} and this credd knows version {known}: start the newer credd that last used it"
        )));
    }
    Ok(found)
}

/// Refuses a key that did not seal this ledger, once and without a second try (FM-36). Answers what its check value says.
pub(super) async fn check_key(conn: &mut Connection, sealer: &Sealer) -> Result<String, LedgerError> {
    let row = conn.row("SELECT value FROM meta WHERE name = 'key_check'", vec![]).await.map_err(failed)?;
    let value = row.map_or(Ok(vec![]), |row| row.get::<Vec<u8>>(0)).map_err(failed)?;
    sealer.check(&value).map_err(|error| {
        LedgerError::Unusable(format!(
            "{error}; give the key that belongs to this ledger (`ledger.key` in the settings)"
        ))
    })
}

fn failed(error: sqlx::Error) -> LedgerError {
    LedgerError::Unusable(format!("its tables cannot be prepared: {error}"))
}

//! Where a ledger lies: who may see its files, who holds it, and whether it is whole. Nothing here changes a ledger.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{FallocateFlags, FlockOperation};

use super::{
    LedgerError,
    connection::{Access, Connection},
    schema,
};
use crate::{credential::Secret, seal::Sealer};

/// Where the ledger lies, with everything resolved.
#[derive(Clone, Debug)]
pub enum Place {
    /// SQLite in this file. Beside it: `.lock`, `.ballast`, `.reached`, `.spill/`.
    Sqlite(PathBuf),
    /// PostgreSQL.
    Postgres {
        /// How to reach it; holds the password.
        url: Secret,
        /// Our own directory, for replies that could not be written (`ledger.spill/` in it) and for marks (`ledger.reached`).
        beside: PathBuf,
    },
}

/// Opens connections to a place.
#[derive(Clone, Debug)]
pub(super) enum Opener {
    Sqlite(PathBuf),
    #[cfg(feature = "postgres")]
    Postgres(Box<sqlx::postgres::PgConnectOptions>),
}

impl Opener {
    #[cfg(feature = "postgres")]
    #[expect(clippy::disallowed_methods, reason = "the database's URL holds its password")]
    pub(super) fn postgres(url: &Secret) -> Result<Self, LedgerError> {
        let options: sqlx::postgres::PgConnectOptions = url.expose().parse().map_err(|_| {
            // The parser's own text may quote the URL.
            LedgerError::Unusable(
                "`ledger.postgres` is no PostgreSQL URL: postgres://user:password@host:5432/database".into(),
            )
        })?;
        use sqlx::ConnectOptions;
        let options = options
            .application_name("credd")
            .extra_float_digits(None)
            .statement_cache_capacity(0)
            .disable_statement_logging();
        Ok(Self::Postgres(Box::new(options)))
    }

    pub(super) async fn connect(&self, access: Access) -> Result<Connection, sqlx::Error> {
        match self {
            Self::Sqlite(path) => Connection::sqlite(path, access).await,
            #[cfg(feature = "postgres")]
            Self::Postgres(options) => Connection::postgres(options).await,
        }
    }

    /// The place in words, without the password.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Sqlite(path) => std::path::absolute(path).unwrap_or_else(|_| path.clone()).display().to_string(),
            #[cfg(feature = "postgres")]
            Self::Postgres(at) => {
                format!("PostgreSQL {}:{}/{}", at.get_host(), at.get_port(), at.get_database().unwrap_or("postgres"))
            }
        }
    }
}

/// `ledger.db` and a suffix.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Refuses a directory or a file that others could read or replace (FM-37).
pub(super) fn check_owner(path: &Path, forbidden: u32, mode: &str) -> Result<(), LedgerError> {
    let unusable = |reason: String| Err(LedgerError::Unusable(format!("{} {reason}", path.display())));
    let meta = match path.symlink_metadata() {
        Ok(meta) => meta,
        Err(error) => return unusable(format!("cannot be read: {error}")),
    };
    let me = rustix::process::geteuid().as_raw();
    if meta.is_symlink() {
        return unusable("is a symbolic link: name the file or directory itself".into());
    }
    if meta.uid() != me && !(meta.is_dir() && meta.uid() == 0) {
        return unusable(format!("belongs to uid {}, and credd runs as uid {me}: chown it", meta.uid()));
    }
    if meta.mode() & forbidden != 0 {
        return unusable(format!(
            "has mode {:04o}, so others could use or replace it: run `chmod {mode} {}`",
            meta.mode() & 0o7777,
            path.display()
        ));
    }
    Ok(())
}

/// Makes the directory of a ledger if it is missing, and checks that it is ours alone to change.
pub(super) fn directory(of: &Path) -> Result<(), LedgerError> {
    let folder = parent(of);
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| LedgerError::Unusable(format!("{} cannot be made: {error}", folder.display())))?;
    // The path may lead through links of the operator's; the directory at its end is what counts.
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.into());
    check_owner(&folder, 0o022, "0700")
}

/// Makes the ledger's directory entries durable.
pub(super) fn sync_directory(of: &Path) -> io::Result<()> {
    File::open(parent(of))?.sync_all()
}

/// Holds the ledger for this process; whoever comes second is told who was first (FM-39).
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    pub(super) fn take(ledger: &Path) -> Result<Self, LedgerError> {
        let path = beside(ledger, ".lock");
        let failed = |error: io::Error| LedgerError::Unusable(format!("{} cannot be used: {error}", path.display()));
        let no_follow = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(no_follow)
            .open(&path)
            .map_err(failed)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut pid = String::new();
                let _ = (&file).take(20).read_to_string(&mut pid);
                return Err(LedgerError::Unusable(format!(
                    "another credd holds {}: pid {}; stop that one first",
                    ledger.display(),
                    pid.trim()
                )));
            }
            Err(error) => return Err(failed(error.into())),
        }
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        // The lock is what counts: a full disk must not keep us from starting for want of the pid.
        let _ = write(&mut file);
        Ok(Self { _file: file })
    }
}

/// Which process holds the ledger in this file, as it entered itself. Makes nothing.
pub fn holder(ledger: &Path) -> Option<String> {
    let file = File::open(beside(ledger, ".lock")).ok()?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut pid = String::new();
            let _ = file.take(20).read_to_string(&mut pid);
            Some(pid.trim().to_owned())
        }
        _ => None,
    }
}

/// Space kept for the day when the disk is full: a reply that was received must still find room (FM-32).
#[derive(Clone, Debug)]
pub(super) struct Ballast(pub(super) PathBuf);

impl Ballast {
    /// Room for 60 replies of 64 KiB.
    const SIZE: u64 = 4 * 1024 * 1024;

    /// Takes the space, if it is not taken yet.
    pub(super) fn ensure(&self) -> Result<(), LedgerError> {
        if self.0.metadata().is_ok_and(|meta| meta.len() == Self::SIZE) {
            return Ok(());
        }
        let take = || {
            let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&self.0)?;
            match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, Self::SIZE) {
                Err(rustix::io::Errno::OPNOTSUPP) => {
                    let block = vec![0_u8; 64 * 1024];
                    (0..Self::SIZE / 65536).try_for_each(|_| (&file).write_all(&block))?;
                }
                result => result?,
            }
            file.sync_all()
        };
        take().map_err(|error| {
            let _ = fs::remove_file(&self.0);
            LedgerError::Unwritable(format!("{} cannot be reserved: {error}; free some space", self.0.display()))
        })
    }

    /// Gives the space back to whoever writes next.
    pub(super) fn release(&self) -> bool {
        fs::remove_file(&self.0).is_ok()
    }
}

/// Looks at a SQLite ledger without changing it: whole (FM-35), ours, and sealed with this key (FM-36).
pub(super) async fn inspect(path: &Path, sealer: &Sealer) -> Result<(), LedgerError> {
    check_owner(path, 0o077, "0600")?;
    let damaged = |reason: &str| {
        LedgerError::Unusable(format!(
            "{} is damaged ({reason}); it was left as it is: restore it from a backup, with its -wal file if there is one",
            path.display()
        ))
    };
    if path.metadata().is_ok_and(|meta| meta.len() == 0) {
        return Err(damaged("it is empty"));
    }
    let broken = |error: sqlx::Error| damaged(&error.to_string());
    let mut conn = Connection::sqlite(path, Access::Read).await.map_err(broken)?;
    let verdict = async {
        let application = conn.row("PRAGMA application_id", vec![]).await.map_err(broken)?;
        let application: i64 = application.map_or(Ok(0), |row| row.get(0)).map_err(broken)?;
        if application != schema::APPLICATION {
            return Err(damaged("it is no ledger of credd"));
        }
        let found = conn.row("PRAGMA quick_check(1)", vec![]).await.map_err(broken)?;
        let found: String = found.map_or(Ok("no answer".into()), |row| row.get(0)).map_err(broken)?;
        if found != "ok" {
            return Err(damaged(&found));
        }
        if !log_belongs(path, &mut conn).await.map_err(broken)? {
            return Err(damaged("its -wal file is that of another ledger, or of another time"));
        }
        schema::version(&mut conn).await?;
        schema::check_key(&mut conn, sealer).await.map(drop)
    }
    .await;
    conn.close().await;
    verdict
}

/// Whether the log beside a SQLite file is that file's own (FM-38): SQLite itself would apply any.
///
/// Each opening of the ledger enters its name in the file before it writes into the log, and each of its transactions
/// counts there. So a log that counts for a name which the file alone does not know comes from elsewhere.
async fn log_belongs(path: &Path, merged: &mut Connection) -> Result<bool, sqlx::Error> {
    if beside(path, "-wal").metadata().map_or(true, |log| log.len() == 0) {
        return Ok(true);
    }
    async fn names(conn: &mut Connection, sql: &'static str) -> Result<BTreeSet<String>, sqlx::Error> {
        conn.rows(sql, vec![]).await?.iter().map(|row| row.get(0)).collect()
    }
    const ALL: &str = "SELECT instance FROM writer";
    let mut alone = Connection::sqlite(path, Access::FileAlone).await?;
    // A file whose pages were being written when power failed may not be readable without its log. Then the log decides.
    let known = names(&mut alone, ALL).await.ok();
    alone.close().await;
    let Some(known) = known else { return Ok(true) };
    let counted = names(merged, "SELECT instance FROM writer WHERE batch > 0").await?;
    let all = names(merged, ALL).await?;
    Ok(counted.is_subset(&known) && (known.is_empty() || !known.is_disjoint(&all)))
}

/// Makes a new SQLite ledger under another name and moves it into place when it is complete, so that an empty or
/// half-made file is always damage and never a beginning.
pub(super) async fn create(path: &Path, sealer: &Sealer) -> Result<(), LedgerError> {
    let wal = beside(path, "-wal");
    if wal.exists() {
        return Err(LedgerError::Unusable(format!(
            "{} is missing, but {} is there: restore the ledger from a backup, or move that file away to begin anew",
            path.display(),
            wal.display()
        )));
    }
    let failed = |error: io::Error| LedgerError::Unusable(format!("{} cannot be made: {error}", path.display()));
    let fresh = beside(path, ".new");
    for suffix in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(beside(&fresh, suffix));
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh).map_err(failed)?;
    let mut conn = Connection::sqlite(&fresh, Access::Write).await.map_err(|error| failed(io::Error::other(error)))?;
    let made = schema::migrate(&mut conn, sealer).await;
    conn.close().await;
    made?;
    File::open(&fresh).and_then(|file| file.sync_all()).map_err(failed)?;
    fs::rename(&fresh, path).and_then(|()| sync_directory(path)).map_err(failed)
}

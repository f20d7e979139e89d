//! Replies that the database would not take: sealed files beside the ledger, until it takes them again.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use uuid::Uuid;

use super::{LedgerError, place};

/// The folder of spilled replies. A file is `ATTEMPT.MICROSECONDS.sealed`.
#[derive(Clone, Debug)]
pub(super) struct Spills(pub(super) PathBuf);

pub(super) struct Spill {
    pub(super) path: PathBuf,
    pub(super) attempt: Uuid,
    pub(super) at: Timestamp,
    pub(super) sealed: Vec<u8>,
}

impl Spills {
    /// Writes a file and makes it and its name durable.
    pub(super) fn write(&self, attempt: Uuid, at: Timestamp, sealed: &[u8]) -> Result<(), LedgerError> {
        let path = self.0.join(format!("{attempt}.{}.sealed", at.as_microsecond()));
        let write = || {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
            let fresh = path.with_extension("new");
            let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
            file.write_all(sealed)?;
            file.sync_all()?;
            fs::rename(&fresh, &path)?;
            place::sync_directory(&path)?;
            place::sync_directory(&self.0)
        };
        write().map_err(|error: io::Error| {
            LedgerError::Unwritable(format!("{}: {error}; free some space, and do not stop credd", path.display()))
        })
    }

    /// What lies there. A file that is not ours is left alone.
    pub(super) fn list(&self) -> Result<Vec<Spill>, LedgerError> {
        let failed = |path: &Path, error: io::Error| {
            LedgerError::Unusable(format!(
                "{} cannot be read: {error}; it may hold a token, so keep it",
                path.display()
            ))
        };
        let folder = match fs::read_dir(&self.0) {
            Ok(folder) => folder,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(&self.0, error)),
        };
        place::check_owner(&self.0, 0o077, "0700")?;
        let mut spills = Vec::new();
        for entry in folder {
            let path = entry.map_err(|error| failed(&self.0, error))?.path();
            let Some((attempt, at)) = path.file_name().and_then(|name| parse(name.to_str()?)) else { continue };
            place::check_owner(&path, 0o077, "0600")?;
            let sealed = fs::read(&path).map_err(|error| failed(&path, error))?;
            spills.push(Spill { path, attempt, at, sealed });
        }
        Ok(spills)
    }

    /// Removes a file whose reply the ledger holds now.
    pub(super) fn remove(&self, path: &Path) -> Result<(), LedgerError> {
        fs::remove_file(path)
            .map_err(|error| LedgerError::Unusable(format!("{} cannot be removed: {error}", path.display())))
    }
}

fn parse(name: &str) -> Option<(Uuid, Timestamp)> {
    let (attempt, at) = name.strip_suffix(".sealed")?.split_once('.')?;
    Some((attempt.parse().ok()?, Timestamp::from_microsecond(at.parse().ok()?).ok()?))
}

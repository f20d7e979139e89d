//! Reading and replacing one file below the folder. The kernel keeps every step inside it (`openat2`): neither `..` nor a
//! link can leave, while links that stay inside work, as Kubernetes makes them (`token -> ..data/token`).

use std::{
    fs::File,
    io::{ErrorKind, Read, Write},
    os::fd::OwnedFd,
    path::Path,
};

use rustix::fs::{
    AtFlags, FileType, FlockOperation, Mode, OFlags, ResolveFlags, flock, fstat, fsync, openat2, renameat, statat,
    unlinkat,
};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{
    credential::{MaterialError, Secret},
    store::StoreError,
};

/// More than any credential has; [`crate::credential::Material`] refuses what is longer.
const LIMIT: usize = 64 * 1024;

pub(super) fn open_folder(folder: &Path) -> Result<OwnedFd, StoreError> {
    rustix::fs::open(folder, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| trouble(&folder.display().to_string(), error))
}

pub(super) fn read(folder: &Path, path: &str) -> Result<Zeroizing<Vec<u8>>, StoreError> {
    let place = folder.join(path);
    let folder = open_folder(folder)?;
    // NONBLOCK: opening a FIFO must not wait for its writer.
    let file = beneath(&folder, path, OFlags::RDONLY | OFlags::NONBLOCK)?;
    let stat = fstat(&file).map_err(|error| trouble(path, error))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(denied(path, "it is not a regular file"));
    }
    if stat.st_mode & 0o077 != 0 {
        let mode = stat.st_mode & 0o777;
        let reason = format!(
            "mode {mode:04o} opens it to others; chmod 600 {} (Kubernetes: `defaultMode: 0400`)",
            place.display()
        );
        return Err(denied(path, &reason));
    }
    // Full size at once: a vector that grows leaves copies of the secret behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(LIMIT + 1));
    let read = File::from(file).take(LIMIT as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| StoreError::Unreachable { path: path.into(), reason: error.kind().to_string() })?;
    if bytes.len() > LIMIT {
        let reason = MaterialError::TooLarge(usize::try_from(stat.st_size).unwrap_or(usize::MAX));
        return Err(StoreError::Malformed { path: path.into(), reason });
    }
    Ok(bytes)
}

/// Held while a file is compared and replaced; other writers that keep to the rule (`flock` on the folder) wait or retry.
pub(super) fn lock(folder: &Path, path: &str) -> Result<OwnedFd, StoreError> {
    let folder = open_folder(folder)?;
    match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(folder),
        Err(_) => {
            Err(StoreError::Unreachable { path: path.into(), reason: "somebody else holds the folder's lock".into() })
        }
    }
}

/// Why that file can never be replaced, if so.
pub(super) fn unwritable(folder: &Path, path: &str) -> Option<String> {
    let folder = open_folder(folder).ok()?;
    let (parent, name) = parent(&folder, path).ok()?;
    let stat = statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => None,
        FileType::Symlink => Some("it is a link; whoever made it (Kubernetes?) would not see what is written".into()),
        _ => Some("it is not a regular file".into()),
    }
}

/// Replaces a file at once and for good: written beside, synced, renamed, folder synced.
#[expect(clippy::disallowed_methods, reason = "a secret goes back to its home store")]
pub(super) fn replace(folder: &Path, path: &str, text: &Secret, attempt: Uuid) -> Result<(), StoreError> {
    if let Some(reason) = unwritable(folder, path) {
        return Err(StoreError::ReadOnly { path: path.into(), reason });
    }
    let folder = open_folder(folder)?;
    let (parent, name) = parent(&folder, path)?;
    let beside = format!(".{name}.{attempt}.tmp");
    let written = (|| {
        // Its name is this attempt's, so what stands there was left by a crash of ours.
        let _ = unlinkat(&parent, &beside, AtFlags::empty());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::openat(&parent, &beside, flags, Mode::RUSR | Mode::WUSR)?);
        file.write_all(text.expose().as_bytes())?;
        file.sync_all()?;
        renameat(&parent, &beside, &parent, name)?;
        fsync(&parent).map_err(std::io::Error::from)
    })();
    written.map_err(|error: std::io::Error| {
        let _ = unlinkat(&parent, &beside, AtFlags::empty());
        match error.kind() {
            ErrorKind::PermissionDenied => denied(path, "the folder may not be written"),
            ErrorKind::ReadOnlyFilesystem => {
                StoreError::ReadOnly { path: path.into(), reason: "the file system is read-only".into() }
            }
            kind => StoreError::Unreachable { path: path.into(), reason: kind.to_string() },
        }
    })
}

/// The folder that holds the file, opened, and the file's own name.
fn parent<'a>(folder: &OwnedFd, path: &'a str) -> Result<(OwnedFd, &'a str), StoreError> {
    let (parent, name) = path.rsplit_once('/').unwrap_or((".", path));
    if matches!(name, "" | "." | "..") {
        return Err(denied(path, "it does not name a file"));
    }
    Ok((beneath(folder, parent, OFlags::RDONLY | OFlags::DIRECTORY)?, name))
}

fn beneath(folder: &OwnedFd, path: &str, flags: OFlags) -> Result<OwnedFd, StoreError> {
    let rules = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    openat2(folder, path, flags | OFlags::CLOEXEC, Mode::empty(), rules).map_err(|error| trouble(path, error))
}

fn trouble(path: &str, error: rustix::io::Errno) -> StoreError {
    use rustix::io::Errno;
    match error {
        Errno::NOENT | Errno::NOTDIR => StoreError::NotFound { path: path.into() },
        Errno::XDEV => denied(path, "it leads out of the store's folder"),
        Errno::LOOP => denied(path, "its links lead nowhere"),
        Errno::ACCESS | Errno::PERM => denied(path, "the daemon's user may not read it"),
        Errno::NOSYS => denied(path, "this kernel is too old to confine the store to its folder (Linux 5.6 can)"),
        other => StoreError::Unreachable { path: path.into(), reason: std::io::Error::from(other).kind().to_string() },
    }
}

fn denied(path: &str, reason: &str) -> StoreError {
    StoreError::Denied { path: path.into(), reason: reason.into() }
}

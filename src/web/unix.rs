//! A Unix socket at a path: taken over from the dead, never from the living, and put back when somebody deletes it.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures_util::future::BoxFuture;
use rustix::fs::FlockOperation;
use tokio::net::{UnixListener, UnixSocket, UnixStream};

use super::{Caller, Listener};
use crate::clock::Clock;

/// How often a look is taken whether the socket file is still there.
const LOOK: Duration = Duration::from_secs(5);
/// Connections that the kernel keeps until they are accepted (it may allow fewer: `net.core.somaxconn`).
const BACKLOG: u32 = 4096;

/// Why a path cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A live daemon has it.
    #[error(
        "{0}: a running credd answers there; stop it first (`systemctl stop credd`), or set another `server.socket`"
    )]
    Taken(PathBuf),
    /// Something stands there that is not a socket; it is left as it is.
    #[error("{0}: this is not a socket, so it is left alone; move it away, or set another `server.socket`")]
    Foreign(PathBuf),
    /// The kernel keeps 107 bytes of a socket's path.
    #[error("{0}: the path of a socket may have 107 bytes; set a shorter `server.socket`")]
    TooLong(PathBuf),
    /// The system refuses.
    #[error("{path}: cannot listen there ({error}); check the folder's owner and mode, or set another `server.socket`")]
    System {
        /// Where.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

type Rebound = Box<dyn Fn(&Path) + Send>;

/// A bound Unix socket. Dropping it removes the file, if it is still ours.
pub struct UnixDoor {
    listener: UnixListener,
    path: PathBuf,
    mode: u32,
    /// Device and inode of our file.
    file: (u64, u64),
    /// Held as long as we live, so that two starting daemons never both find the path free.
    _lock: File,
    clock: Arc<dyn Clock>,
    look: BoxFuture<'static, ()>,
    rebound: Option<Rebound>,
    complained: bool,
}

impl UnixDoor {
    /// Binds a path. A stale socket file is replaced; a live daemon's or a file of another sort is refused.
    pub async fn bind(path: &Path, mode: u32, clock: Arc<dyn Clock>) -> Result<Self, BindError> {
        let system = |error| BindError::System { path: path.to_owned(), error };
        if path.as_os_str().len() > 107 {
            return Err(BindError::TooLong(path.to_owned()));
        }
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(system)?;
        }
        let mut lock = path.as_os_str().to_owned();
        lock.push(".lock");
        let lock = File::options().create(true).truncate(false).write(true).open(lock).map_err(system)?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(BindError::Taken(path.to_owned())),
            other => other.map_err(|error| system(error.into()))?,
        }
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(system(error)),
            Ok(found) if !found.file_type().is_socket() => return Err(BindError::Foreign(path.to_owned())),
            Ok(_) => match UnixStream::connect(path).await {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    fs::remove_file(path).map_err(system)?
                }
                // Whoever accepts, or is too busy to accept at once, lives.
                Ok(_) => return Err(BindError::Taken(path.to_owned())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(BindError::Taken(path.to_owned()));
                }
                Err(error) => return Err(system(error)),
            },
        }
        let (listener, file) = listen(path, mode).map_err(system)?;
        let look = clock.sleep(LOOK);
        let path = path.to_owned();
        Ok(Self { listener, path, mode, file, _lock: lock, clock, look, rebound: None, complained: false })
    }

    /// Calls this after the socket file was gone and has been put back.
    pub fn on_rebound(mut self, tell: impl Fn(&Path) + Send + 'static) -> Self {
        self.rebound = Some(Box::new(tell));
        self
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts the socket file back if it is gone. Connections that are open stay open.
    fn look_after(&mut self) {
        match identity(&self.path) {
            Ok(file) if file == self.file => self.complained = false,
            Ok(_) => {
                self.complain("something else stands at the socket's path; remove it, and credd listens there again")
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => match listen(&self.path, self.mode) {
                Ok((listener, file)) => {
                    (self.listener, self.file) = (listener, file);
                    tracing::warn!(path = %self.path.display(), "the socket file was deleted; it is back");
                    if let Some(rebound) = &self.rebound {
                        rebound(&self.path);
                    }
                }
                Err(error) => self.complain(&format!("the socket file was deleted and cannot be put back: {error}")),
            },
            Err(error) => self.complain(&format!("the socket file cannot be looked at: {error}")),
        }
    }

    fn complain(&mut self, why: &str) {
        if !std::mem::replace(&mut self.complained, true) {
            tracing::error!(path = %self.path.display(), "{why}");
        }
    }
}

impl Listener for UnixDoor {
    type Io = UnixStream;

    async fn accept(&mut self) -> io::Result<(UnixStream, Caller)> {
        loop {
            tokio::select! {
                biased;
                () = &mut self.look => {
                    self.look = self.clock.sleep(LOOK);
                    self.look_after();
                }
                taken = self.listener.accept() => {
                    let (stream, _) = taken?;
                    let caller = Caller::of(&stream)?;
                    return Ok((stream, caller));
                }
            }
        }
    }
}

impl Drop for UnixDoor {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|file| file == self.file) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn listen(path: &Path, mode: u32) -> io::Result<(UnixListener, (u64, u64))> {
    let socket = UnixSocket::new_stream()?;
    socket.bind(path)?;
    // Before `listen`, so that nobody connects under the mode that the umask happened to give.
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    let listener = socket.listen(BACKLOG)?;
    Ok((listener, identity(path)?))
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}

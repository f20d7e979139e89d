//! Where sockets and ledger stand, for the daemon and for everybody who asks it.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

use super::StartError;
use crate::config::Config;

/// Where things stand.
#[derive(Clone, Debug)]
pub struct Places {
    /// The readers' socket.
    pub socket: PathBuf,
    /// The operator's, beside it.
    pub admin: PathBuf,
    /// The ledger's file, where it is SQLite.
    pub ledger: PathBuf,
    /// The sockets' folder, where its own folder is open to all: somebody else may have been there first.
    pub exposed: Option<PathBuf>,
}

/// Where things stand by these settings and this environment.
pub fn places(config: &Config) -> Places {
    places_of(config, |name| std::env::var_os(name), rustix::process::geteuid().as_raw())
}

fn places_of(config: &Config, env: impl Fn(&str) -> Option<OsString>, uid: u32) -> Places {
    let root = uid == 0;
    let from_env = |name: &str| env(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let temporary = || from_env("TMPDIR").unwrap_or_else(|| "/tmp".into());
    let runtime = from_env("RUNTIME_DIRECTORY")
        .or_else(|| if root { Some("/run/credd".into()) } else { Some(from_env("XDG_RUNTIME_DIR")?.join("credd")) });
    let state = || match from_env("STATE_DIRECTORY") {
        Some(folder) => folder,
        None if root => PathBuf::from("/var/lib/credd"),
        None => from_env("XDG_STATE_HOME")
            .or_else(|| from_env("HOME").map(|home| home.join(".local/state")))
            .unwrap_or_else(temporary)
            .join("credd"),
    };
    let named = from_env("CREDD_SOCKET").or_else(|| config.server.socket.clone());
    let exposed = (named.is_none() && runtime.is_none()).then(|| temporary().join(format!("credd-{uid}")));
    let socket = named
        .or_else(|| Some(runtime.or_else(|| exposed.clone())?.join("credd.sock")))
        .expect("the last of the places is always there");
    let admin = socket.with_file_name("admin.sock");
    let ledger = config.ledger.path.clone().unwrap_or_else(|| state().join("ledger.db"));
    Places { socket, admin, ledger, exposed }
}

impl Places {
    /// Makes the folder of the sockets, for its owner alone to write.
    pub(super) fn make_folder(&self) -> Result<(), StartError> {
        let folder = self.socket.parent().unwrap_or(Path::new("."));
        let made = match &self.exposed {
            // Not with its parents: nobody but us may come before us.
            Some(folder) => match fs::DirBuilder::new().mode(0o700).create(folder) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                made => made,
            },
            None => fs::DirBuilder::new().recursive(true).mode(0o755).create(folder),
        };
        made.map_err(|error| {
            StartError::Environment(format!(
                "cannot make the folder {}: {error}; create it for the daemon's user",
                folder.display()
            ))
        })?;
        self.trusted().map_err(StartError::Environment)
    }

    /// Refuses sockets in a folder that somebody else made, or may write: whoever owns the folder can put a socket of
    /// their own there. A folder that is not there yet is no danger.
    pub fn trusted(&self) -> Result<(), String> {
        self.exposed.as_deref().map_or(Ok(()), own_and_private)
    }
}

fn own_and_private(folder: &Path) -> Result<(), String> {
    let found = match fs::symlink_metadata(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(format!("the sockets' folder {} cannot be looked at: {error}", folder.display())),
        Ok(found) => found,
    };
    let (owner, mode, me) = (found.uid(), found.mode() & 0o7777, rustix::process::geteuid().as_raw());
    if found.is_dir() && owner == me && mode == 0o700 {
        return Ok(());
    }
    let what = if found.is_dir() { "folder" } else { "thing that is no folder" };
    Err(format!(
        "the sockets would stand in {}, a {what} of uid {owner} with mode {mode:04o}; it must be a folder of our own \
         (uid {me}) with mode 0700, or its owner could answer in credd's place. Remove it (credd makes it anew), or set \
         XDG_RUNTIME_DIR, CREDD_SOCKET or `server.socket` to a place of your own",
        folder.display()
    ))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_socket_is_where_it_is_said_to_be() {
        let place = |set: &[(&str, &str)], uid| {
            let set: Vec<(String, OsString)> = set.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
            let env = move |name: &str| set.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
            let places = places_of(&Config::default(), env, uid);
            (places.socket.display().to_string(), places.exposed.is_some())
        };
        let session = ("XDG_RUNTIME_DIR", "/run/user/7");
        assert_eq!(place(&[session, ("CREDD_SOCKET", "/srv/x.sock")], 7), ("/srv/x.sock".into(), false));
        assert_eq!(place(&[session, ("RUNTIME_DIRECTORY", "/run/a")], 7), ("/run/a/credd.sock".into(), false));
        assert_eq!(place(&[session], 7), ("/run/user/7/credd/credd.sock".into(), false));
        assert_eq!(place(&[session], 0), ("/run/credd/credd.sock".into(), false));
        assert_eq!(place(&[], 7), ("/tmp/credd-7/credd.sock".into(), true));
        assert_eq!(place(&[("TMPDIR", "/t")], 7), ("/t/credd-7/credd.sock".into(), true));
    }

    #[test]
    fn a_folder_in_the_open_must_be_ours_alone() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("credd-7");
        let env = |name: &str| (name == "TMPDIR").then(|| parent.path().into());
        let places = places_of(&Config::default(), env, 7);
        assert_eq!(places.exposed.as_deref(), Some(folder.as_path()));
        places.trusted().unwrap();
        places.make_folder().unwrap();
        assert_eq!(folder.metadata().unwrap().mode() & 0o7777, 0o700);
        places.make_folder().unwrap();
        for loose in [0o777, 0o750, 0o701] {
            fs::set_permissions(&folder, fs::Permissions::from_mode(loose)).unwrap();
            let why = places.make_folder().unwrap_err().to_string();
            assert!(why.contains(&format!("mode {loose:04o}")) && why.contains("XDG_RUNTIME_DIR"), "{why}");
            assert!(places.trusted().is_err());
        }
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
        // Only root can give a folder away.
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&folder, Some(7), None).unwrap();
            assert!(places.trusted().unwrap_err().contains("of uid 7"));
        }
        fs::remove_dir(&folder).unwrap();
        std::os::unix::fs::symlink("/root", &folder).unwrap();
        assert!(places.trusted().unwrap_err().contains("no folder"));
    }
}

//! From a path to settings that are whole, or to all that is wrong with them.

use std::{
    fs::{File, Metadata},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use aws_lc_rs::digest;

use super::{
    Config, check,
    document::Document,
    locate,
    problem::{Problem, Problems},
};
use crate::{pager, store};

/// Larger is no settings file.
const MOST_BYTES: u64 = 64 << 20;

/// Settings in force, and where they came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings; paths in them are absolute or relative to the working directory.
    pub config: Arc<Config>,
    /// Their file; `None` when there is none and the defaults hold.
    pub path: Option<PathBuf>,
    /// The first 12 hex digits of the file's SHA-256, so that people can tell which settings run. Empty without a file.
    pub sha256_prefix: String,
}

impl Loaded {
    /// Reads the file once more, for problems that somebody who knows more than the settings finds in them.
    pub fn places(&self) -> Places {
        let path = self.path.as_deref().unwrap_or(Path::new(""));
        // Without its text the setting is still named.
        let text = std::fs::read_to_string(path).unwrap_or_default();
        Places(Document::parse(path, &text).0)
    }
}

/// Where each setting stands in its file.
pub struct Places(Document);

impl Places {
    /// What is wrong with a setting, and what is allowed or to be done, unless the message says so.
    pub fn problem(&self, at: &str, message: impl Into<String>, help: Option<String>) -> Problem {
        self.0.problem(at, message, help)
    }
}

/// Finds, reads and checks the settings. `path` is what `--config` says; `providers` are the names that the built-in
/// catalogue knows (those of the settings' own folder are added here).
pub fn load(path: Option<&Path>, providers: &[String]) -> Result<Loaded, Problems> {
    match locate(path)? {
        Some(path) => load_file(&path, providers),
        None => Ok(Loaded { config: Arc::default(), path: None, sha256_prefix: String::new() }),
    }
}

/// Reads and checks one file.
fn load_file(path: &Path, providers: &[String]) -> Result<Loaded, Problems> {
    load_bytes(path, read(path)?, providers)
}

/// Checks what a file holds.
pub(super) fn load_bytes(path: &Path, bytes: Vec<u8>, providers: &[String]) -> Result<Loaded, Problems> {
    let sha256_prefix = fingerprint(&bytes);
    let text = String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let message = format!("not UTF-8 text on line {line}");
        Problems(vec![Problem::of_file(path, message, "save it as UTF-8")])
    })?;
    let folder = path.parent().unwrap_or(Path::new("")).to_owned();
    let (own, mut problems) = own_providers(path, &folder, &text);
    let providers: Vec<String> = providers.iter().cloned().chain(own).collect();
    match check::check(path, &text, &providers) {
        Ok(mut config) if problems.is_empty() => {
            anchor(&mut config, &folder);
            Ok(Loaded { config: Arc::new(config), path: Some(path.to_owned()), sha256_prefix })
        }
        Ok(_) => Err(Problems(problems)),
        Err(Problems(more)) => {
            problems.extend(more);
            Err(Problems(problems))
        }
    }
}

/// Names some bytes.
pub(super) fn fingerprint(bytes: &[u8]) -> String {
    digest::digest(&digest::SHA256, bytes).as_ref()[..6].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads a settings file that nobody but its owner can have written.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Problems> {
    let problem = |message: String, help: &str| Problems(vec![Problem::of_file(path, message, help)]);
    let unreadable = |error: io::Error| {
        let help = "the daemon's user must be able to read it: `ls -l` shows its owner and mode";
        problem(format!("cannot be read: {}", error.kind()), help)
    };
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(problem("is not a file".into(), "name the settings file itself"));
    }
    let file = File::open(path).map_err(unreadable)?;
    let about = file.metadata().map_err(unreadable)?;
    if let Some((message, help)) = untrusted(&about, path) {
        return Err(problem(message, &help));
    }
    let mut bytes = vec![];
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(problem("is larger than 64 MiB".into(), "this cannot be a settings file"));
    }
    Ok(bytes)
}

/// Who writes the settings decides who reads every secret.
fn untrusted(about: &Metadata, path: &Path) -> Option<(String, String)> {
    let (me, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let (mode, owner) = (about.mode() & 0o7777, about.uid());
    if owner != 0 && owner != me {
        let help = format!("it must belong to root or to the daemon's user: chown root {}", path.display());
        return Some((format!("belongs to user {owner}"), help));
    }
    let by_group = mode & 0o020 != 0 && about.gid() != 0 && about.gid() != group;
    (mode & 0o002 != 0 || by_group)
        .then(|| (format!("can be written by others (mode {mode:04o})"), format!("chmod go-w {}", path.display())))
}

/// Names of the provider files in the settings' own folder. Read ahead of the check, which needs them.
fn own_providers(file: &Path, base: &Path, text: &str) -> (Vec<String>, Vec<Problem>) {
    let table = toml::de::DeTable::parse_recoverable(text).0;
    let Some(folder) = table.get_ref().get("providers").and_then(|value| value.get_ref().as_str()) else {
        return (vec![], vec![]);
    };
    let folder = base.join(folder);
    match std::fs::read_dir(&folder) {
        Ok(entries) => {
            let names = entries.flatten().map(|entry| entry.path());
            let names = names.filter(|path| path.extension().is_some_and(|extension| extension == "toml"));
            (names.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect(), vec![])
        }
        Err(error) => {
            let message = format!("providers: the folder cannot be read: {}", error.kind());
            (vec![], vec![Problem::of_file(file, message, format!("make the folder {}", folder.display()))])
        }
    }
}

/// Relative paths mean "beside the settings file": a daemon's working directory is nobody's choice.
fn anchor(config: &mut Config, base: &Path) {
    let mut paths: Vec<&mut PathBuf> = vec![];
    paths.extend(&mut config.providers);
    paths.extend(&mut config.ledger.path);
    paths.extend(&mut config.server.socket);
    for store in config.stores.values_mut() {
        match store {
            store::Settings::Vault(vault) => paths.extend(&mut vault.ca),
            store::Settings::Aws(_) => {}
            store::Settings::Exec(exec) => paths.extend(&mut exec.directory),
            store::Settings::File(file) => paths.push(&mut file.folder),
        }
    }
    for channel in config.pager.channels.values_mut() {
        match channel {
            pager::Settings::Email(email) => paths.extend(&mut email.ca),
            pager::Settings::Webhook(hook) => paths.extend(&mut hook.ca),
        }
    }
    for path in paths {
        *path = base.join(&path);
    }
}

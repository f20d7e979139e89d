//! Fetches the secrets that the settings point at.

use std::{
    cell::LazyCell,
    env, fmt,
    fs::OpenOptions,
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use futures_util::future::BoxFuture;
use serde_json::Value;
use zeroize::Zeroizing;

use super::{
    document::{below, dotted},
    load::Loaded,
    problem::Problem,
};
use crate::{
    credential::{EnvReference, FileReference, Reference, Resolve, Secret, StoreReference},
    telemetry::Redactor,
};

/// Reads a secret of a home store. Bound after the stores are made, because making them may need references.
pub type Lookup = Arc<dyn Fn(StoreReference) -> BoxFuture<'static, Result<Secret, String>> + Send + Sync>;

/// Larger is no secret of the settings.
const MOST_BYTES: u64 = 64 << 10;

/// Files, environment variables and home stores. What it fetches, the logs mask from then on.
pub struct References {
    /// The settings file's folder.
    base: PathBuf,
    /// Where systemd puts this service's credentials.
    credentials: Option<PathBuf>,
    stores: OnceLock<Lookup>,
    redactor: Redactor,
}

/// Whether one reference of the settings leads somewhere.
#[derive(Clone, Debug)]
pub struct Finding {
    /// Which setting: `stores.vault-main.auth.token`.
    pub path: String,
    /// Where it points.
    pub reference: Reference,
    /// What is wrong, if anything, and where it stands. References into home stores are not followed here.
    pub problem: Option<Problem>,
}

impl References {
    /// For the settings in that file.
    pub fn new(settings: Option<&Path>, redactor: Redactor) -> Self {
        let base = settings.and_then(Path::parent).unwrap_or(Path::new("")).to_owned();
        let credentials = env::var_os("CREDENTIALS_DIRECTORY").filter(|path| !path.is_empty()).map(PathBuf::from);
        Self { base, credentials, stores: OnceLock::new(), redactor }
    }

    /// From now on references into home stores can be followed. The first binding stays.
    pub fn bind(&self, lookup: Lookup) {
        self.stores.get_or_init(|| lookup);
    }

    /// Follows every reference to a file or a variable, without keeping what it finds.
    pub fn check(&self, loaded: &Loaded) -> Vec<Finding> {
        let mut found = vec![];
        collect(&serde_json::to_value(&loaded.config).unwrap_or(Value::Null), "", &mut found);
        let places = LazyCell::new(|| loaded.places());
        let findings = found.into_iter().map(|(at, reference)| {
            let wrong = match &reference {
                Reference::File(FileReference { file }) => self.file(file).err(),
                Reference::Env(EnvReference { env }) => variable(env).err(),
                Reference::Store(_) => None,
            };
            Finding { path: dotted(&at), reference, problem: wrong.map(|message| places.problem(&at, message, None)) }
        });
        findings.collect()
    }

    /// The path itself where it is absolute, one of systemd's credentials of that name, or beside the settings file.
    fn path(&self, file: &Path) -> Result<(PathBuf, bool), String> {
        if let Ok(name) = file.strip_prefix("${CREDENTIALS_DIRECTORY}") {
            let folder = self.credentials.as_ref().ok_or_else(|| {
                format!(
                    "file {}: CREDENTIALS_DIRECTORY is not set; add LoadCredential= to the systemd unit",
                    file.display()
                )
            })?;
            return Ok((folder.join(name), true));
        }
        match &self.credentials {
            Some(folder) if file.is_absolute() => Ok((file.to_owned(), file.starts_with(folder))),
            Some(folder) if folder.join(file).exists() => Ok((folder.join(file), true)),
            _ => Ok((self.base.join(file), false)),
        }
    }

    fn file(&self, file: &Path) -> Result<Secret, String> {
        let (path, by_systemd) = self.path(file)?;
        let about = |reason: String| format!("file {}: {reason}", path.display());
        let unreadable = |error: io::Error| {
            about(format!("cannot be read ({}); the daemon's user must own it, mode 0600", error.kind()))
        };
        // A pipe in its place must not hold up the daemon.
        let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let opened = OpenOptions::new().read(true).custom_flags(flags).open(&path).map_err(unreadable)?;
        let metadata = opened.metadata().map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(about("is not a file".into()));
        }
        let (mode, owner) = (metadata.mode() & 0o777, metadata.uid());
        if owner != 0 && owner != rustix::process::geteuid().as_raw() {
            return Err(about(format!("belongs to user {owner}; it must belong to root or to the daemon's user")));
        }
        // systemd guards its folder and opens the file to the service by an access list, which shows as group bits.
        if mode & if by_systemd { 0o027 } else { 0o077 } != 0 {
            return Err(about(format!("others may open it (mode {mode:04o}); chmod 600 {}", path.display())));
        }
        let mut bytes = Zeroizing::new(vec![]);
        opened.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() as u64 > MOST_BYTES {
            return Err(about("is larger than 64 KiB; this cannot be a secret".into()));
        }
        let text = std::str::from_utf8(&bytes).map_err(|_| about("is not UTF-8 text".into()))?;
        // Editors and `echo` add one line break.
        let text = text.strip_suffix('\n').unwrap_or(text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        if text.trim().is_empty() {
            return Err(about("is empty; write the secret into it".into()));
        }
        Ok(Secret::new(text))
    }
}

fn variable(name: &str) -> Result<Secret, String> {
    match env::var(name) {
        Ok(value) if value.trim().is_empty() => Err(format!("environment variable {name} is empty")),
        Ok(value) => Ok(Secret::new(value)),
        Err(env::VarError::NotUnicode(_)) => Err(format!("environment variable {name} is not UTF-8 text")),
        Err(env::VarError::NotPresent) => {
            Err(format!("environment variable {name} is not set; set it where the daemon is started, or use a file"))
        }
    }
}

impl Resolve for References {
    fn resolve<'a>(&'a self, reference: &'a Reference) -> BoxFuture<'a, Result<Secret, String>> {
        Box::pin(async move {
            let secret = match reference {
                Reference::File(FileReference { file }) => self.file(file)?,
                Reference::Env(EnvReference { env }) => variable(env)?,
                Reference::Store(reference) => match self.stores.get() {
                    Some(lookup) => lookup(reference.clone()).await?,
                    None => return Err(format!("store {} is not open yet; try again", reference.store)),
                },
            };
            self.redactor.register(&secret);
            Ok(secret)
        })
    }
}

impl fmt::Debug for References {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("References").field("base", &self.base).finish_non_exhaustive()
    }
}

/// Every table that is a reference, whatever setting it belongs to. Placeholders (`with`) are free text.
fn collect(value: &Value, at: &str, found: &mut Vec<(String, Reference)>) {
    // A start looks at every setting, and only a small table can be one: nothing else is copied.
    let reference = |value: &Value| serde_json::from_value::<Reference>(value.clone()).ok();
    match value {
        Value::Object(table) => match Some(value).filter(|_| table.len() <= 2).and_then(reference) {
            Some(reference) if !at.ends_with("/with") => found.push((at.to_owned(), reference)),
            _ => table.iter().for_each(|(key, value)| collect(value, &below(at, key), found)),
        },
        Value::Array(values) => {
            values.iter().enumerate().for_each(|(index, value)| collect(value, &below(at, &index.to_string()), found));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn write(path: &Path, text: &str, mode: u32) {
        std::fs::write(path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn file(path: &str) -> Reference {
        Reference::File(FileReference { file: path.into() })
    }

    #[tokio::test]
    async fn a_file_must_be_ours_alone() {
        let folder = tempfile::tempdir().unwrap();
        let references = References::new(Some(&folder.path().join("credd.toml")), Redactor::default());
        write(&folder.path().join("good"), "canary-value\n", 0o600);
        write(&folder.path().join("open"), "canary-value\n", 0o640);
        write(&folder.path().join("empty"), "\n", 0o600);
        assert_eq!(references.resolve(&file("good")).await.unwrap(), Secret::new("canary-value"));
        assert_eq!(references.redactor.mask("a canary-value b"), "a [redacted] b");
        for (name, words) in
            [("open", "chmod 600"), ("empty", "empty"), ("none", "cannot be read"), ("..", "not a file")]
        {
            let error = references.resolve(&file(name)).await.unwrap_err();
            assert!(error.contains(words) && !error.contains("canary"), "{name}: {error}");
        }
    }

    #[tokio::test]
    async fn systemd_credentials_are_found_by_name() {
        let (folder, own) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        write(&folder.path().join("ledger.key"), "from systemd", 0o440);
        let mut references = References::new(Some(&own.path().join("credd.toml")), Redactor::default());
        references.credentials = Some(folder.path().to_owned());
        for name in ["ledger.key", "${CREDENTIALS_DIRECTORY}/ledger.key"] {
            assert_eq!(references.resolve(&file(name)).await.unwrap(), Secret::new("from systemd"));
        }
        references.credentials = None;
        let error = references.resolve(&file("${CREDENTIALS_DIRECTORY}/x")).await.unwrap_err();
        assert!(error.contains("LoadCredential="), "{error}");
    }

    #[tokio::test]
    async fn variables_and_stores() {
        let references = References::new(None, Redactor::default());
        let path = Reference::Env(EnvReference { env: "PATH".into() });
        assert!(references.resolve(&path).await.is_ok());
        let none = Reference::Env(EnvReference { env: "CREDD_TEST_NOT_SET".into() });
        assert!(references.resolve(&none).await.unwrap_err().contains("CREDD_TEST_NOT_SET is not set"));
        let store = Reference::Store(StoreReference { store: "vault".into(), at: "smtp#password".into() });
        assert!(references.resolve(&store).await.unwrap_err().contains("not open yet"));
        references.bind(Arc::new(|asked| Box::pin(async move { Ok(Secret::new(asked.at)) })));
        assert_eq!(references.resolve(&store).await.unwrap(), Secret::new("smtp#password"));
    }

    #[test]
    fn every_reference_of_the_settings_is_followed() {
        let config: super::super::Config = toml::from_str(
            "[ledger]\nkey = { file = \"/nowhere/key\" }\n[pager.channels.hook]\nkind = \"webhook\"\nurl = \"https://x.example\"\n\
             secrets = [{ env = \"CREDD_TEST_NOT_SET\" }, { store = \"embedded\", at = \"x\" }]\n\
             [credentials.a]\nprovider = \"x\"\nkind = \"pat\"\nupstream.with = { env = \"production\" }\n",
        )
        .unwrap();
        let loaded = Loaded { config: std::sync::Arc::new(config), path: None, sha256_prefix: String::new() };
        let findings = References::new(None, Redactor::default()).check(&loaded);
        let shown: Vec<_> = findings.iter().map(|finding| (finding.path.as_str(), finding.problem.is_some())).collect();
        let wanted =
            [("ledger.key", true), ("pager.channels.hook.secrets[0]", true), ("pager.channels.hook.secrets[1]", false)];
        assert_eq!(shown, wanted);
    }
}

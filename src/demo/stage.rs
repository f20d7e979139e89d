//! The stage: the sandbox, the daemon on a folder of its own, and the receivers of pages.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, DirBuilder, OpenOptions},
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    api::{Api, Health},
    cast::{self, CAST},
    crowd::Tally,
    sinks::{Inbox, Sinks},
    view::Looks,
};
use crate::{
    cli::{self, out::note},
    clock::Clock,
    config::References,
    credential::{CredentialId, Secret},
    daemon::{self, Daemon, Environment},
    publish::Subscriber,
    sandbox::{Options, Running, Sandbox, Totals},
    telemetry::Redactor,
};

/// Everything that the script plays with.
pub struct Stage {
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// The provider.
    pub sandbox: Arc<Running>,
    /// What the sandbox calls each credential.
    pub grants: BTreeMap<&'static str, String>,
    /// What the receivers of pages have got.
    pub inbox: Arc<Inbox>,
    /// What the crowd has counted.
    pub tally: Arc<Tally>,
    /// Credentials that have no value at the moment, because their grant is dead: no read of them can succeed.
    pub withdrawn: Arc<Withdrawn>,
    /// How `/health` has answered.
    pub health: Arc<Health>,
    /// Calls over loopback.
    pub api: Arc<Api>,
    daemon: Daemon,
    // Closed in this order: the receivers after the daemon, the folder last.
    sinks: Sinks,
    folder: Folder,
}

/// What is left when all is closed.
pub struct Last {
    /// The provider's count.
    pub theirs: Totals,
    /// Our count of refreshes sent, and of those that brought no value.
    pub ours: (u64, u64),
}

impl Stage {
    /// Builds it: the settings are written and read as any others, and every credential is put into the embedded store.
    pub async fn build(clock: Arc<dyn Clock>) -> Result<Self, String> {
        if std::env::var_os("CREDD_SOCKET").is_some_and(|path| !path.is_empty()) {
            // It wins over the settings, and would put the demo in the place of the daemon that stands there.
            return Err(
                "CREDD_SOCKET is set, and the demo has a socket of its own: env -u CREDD_SOCKET credd demo".into()
            );
        }
        let folder = Folder::new()?;
        let options = Options { clock: clock.clone(), ..Options::default() };
        let sandbox = Arc::new(Sandbox::start(options).await.map_err(|error| error.to_string())?);
        let key = signing_secret()?;
        let hook_key = folder.write("webhook.secret", &key.0)?;
        let inbox = Arc::new(Inbox::default());
        let sinks = Sinks::start(inbox.clone(), key.1, clock.clone()).await?;
        let settings = cast::settings(&cast::Addresses {
            token_endpoint: &sandbox.token_endpoint(),
            probe_url: &sandbox.probe_url(),
            smtp: sinks.smtp.port(),
            webhook: &format!("http://{}/pages", sinks.webhook),
            webhook_secret: &hook_key,
        });
        folder.sub("providers")?;
        for (name, text) in cast::PROVIDERS {
            folder.write(&format!("providers/{name}.toml"), text)?;
        }
        let path = folder.write("credd.toml", &settings)?;
        let context = cli::Context { config: Some(path), socket: None };
        let loaded = cli::run::load(&context).map_err(|problems| problems.to_string())?;
        let redactor = Redactor::default();
        let references = References::new(loaded.path.as_deref(), redactor.clone());
        let ledger =
            daemon::ledger(&loaded.config, &references, clock.clone()).await.map_err(|error| error.to_string())?;
        let mut grants = BTreeMap::new();
        for role in &CAST {
            let (id, document) = role.grant(&sandbox);
            let name = CredentialId::new(role.name).map_err(|error| error.to_string())?;
            daemon::put(&ledger, &*clock, &daemon::Residents::default(), &name, document, "demo").await?;
            grants.insert(role.name, id);
        }
        ledger.close().await;
        let environment = Environment {
            clock: clock.clone(),
            redactor,
            dice: Arc::new(cli::run::throw),
            machine: None,
            telemetry: None,
        };
        let daemon = Daemon::start(loaded, environment).await.map_err(|error| error.to_string())?;
        let api = Arc::new(Api::new()?);
        Ok(Self {
            clock,
            sandbox,
            grants,
            inbox,
            tally: Arc::default(),
            withdrawn: Arc::default(),
            health: Arc::default(),
            api,
            daemon,
            sinks,
            folder,
        })
    }

    /// The readers' socket.
    pub fn socket(&self) -> &Path {
        &self.daemon.socket
    }

    /// What is published.
    pub fn watched(&self) -> Subscriber {
        self.daemon.subscriber.clone()
    }

    /// What the live table is drawn from.
    pub fn looks(&self) -> Looks {
        Looks {
            subscriber: self.watched(),
            tally: self.tally.clone(),
            inbox: self.inbox.clone(),
            metrics: self.daemon.metrics.clone(),
        }
    }

    /// The document that orchestrators poll.
    pub fn health_url(&self) -> String {
        format!("http://{}/health", self.daemon.health)
    }

    /// Where all of it lies.
    pub fn folder(&self) -> &Path {
        &self.folder.0
    }

    /// Closes everything, the daemon first, and counts both sides once nothing is under way.
    pub async fn close(self) -> Last {
        let metrics = self.daemon.metrics.clone();
        self.daemon.stop().await;
        let sum = |count: &dyn Fn(&str) -> u64| CAST.iter().map(|role| count(role.name)).sum();
        let sent = sum(&|name| metrics.credd_refresh_attempts_total.total(name));
        let failed = sum(&|name| {
            let failures = crate::credential::Failure::ALL.iter();
            failures.map(|f| metrics.credd_refresh_failures_total.with_label_values(&[name, f.as_str()]).get()).sum()
        });
        drop(self.sinks);
        Last { theirs: self.sandbox.admin().counters(), ours: (sent, failed) }
    }
}

/// Credentials whose grant is dead.
#[derive(Debug, Default)]
pub struct Withdrawn(Mutex<BTreeSet<&'static str>>);

impl Withdrawn {
    fn set(&self) -> std::sync::MutexGuard<'_, BTreeSet<&'static str>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on it has no value.
    pub fn begin(&self, name: &'static str) {
        self.set().insert(name);
    }

    /// It has one again.
    pub fn end(&self, name: &str) {
        self.set().remove(name);
    }

    /// Whether it has none.
    pub fn has(&self, name: &str) -> bool {
        self.set().contains(name)
    }
}

/// A folder that goes when the demo ends.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self, String> {
        let mut bytes = [0; 6];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| "the system gives no random numbers")?;
        let name = bytes.iter().fold("credd-demo-".to_owned(), |name, byte| name + &format!("{byte:02x}"));
        let path = std::env::temp_dir().join(name);
        // A Unix socket's path has 107 bytes at most, and the longest of ours ends so.
        if path.join("run/credd.sock").as_os_str().len() > 100 {
            return Err(format!("{} is too long for a socket: TMPDIR=/tmp credd demo", path.display()));
        }
        DirBuilder::new().mode(0o700).create(&path).map_err(|error| {
            format!("cannot make the folder {}: {error}; TMPDIR names another place", path.display())
        })?;
        Ok(Self(path))
    }

    fn sub(&self, name: &str) -> Result<(), String> {
        let path = self.0.join(name);
        fs::create_dir(&path).map_err(|error| format!("cannot make the folder {}: {error}", path.display()))
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf, String> {
        let path = self.0.join(name);
        let mut open = OpenOptions::new();
        let file = open.write(true).create_new(true).mode(0o600).open(&path);
        let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            note!("the folder {} could not be removed: {error}", self.0.display());
        }
    }
}

/// A signing secret of Standard Webhooks: as text for the settings' file, and as the receiver holds it.
fn signing_secret() -> Result<(String, Secret), String> {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| "the system gives no random numbers")?;
    let text = format!("whsec_{}", STANDARD.encode(bytes));
    Ok((text.clone(), Secret::new(text)))
}

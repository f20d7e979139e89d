//! A whole house: a sandbox for the providers, a folder, settings loaded as a user's are, and the daemon itself, in this
//! process ([`World::start`]) or as the real program ([`binary`]).

pub mod binary;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use credd::{
    clock::{Clock, SystemClock},
    config,
    credential::{CredentialId, Secret},
    daemon::{self, Daemon, Environment, StartError},
    ledger::{Entry, Filter, Incident},
    sandbox::{self, Admin, NewGrant, Sandbox, Seed},
    telemetry::Redactor,
};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::board::{Client, Got};

/// Whatever takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(90);

/// Looks again and again until there is something; `what` is for whoever reads why it failed.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let began = up();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(up() - began < PATIENCE, "this never came: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub struct World {
    pub sandbox: sandbox::Running,
    pub folder: tempfile::TempDir,
    pub tables: String,
    head: String,
    daemon: Option<Daemon>,
    /// What a daemon in this process takes for its machine's name.
    pub machine: Option<String>,
    /// Throws of 0 to 1 of a daemon in this process.
    pub dice: Arc<dyn Fn() -> f64 + Send + Sync>,
    /// Of a daemon in this process.
    pub clock: Arc<dyn Clock>,
}

impl Drop for World {
    /// Whoever reads why a test failed wants to know what the program said.
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Ok(log) = fs::read_to_string(self.path("credd.log"))
        {
            eprintln!("{log}");
        }
    }
}

/// A grant like that, for the client of all sandboxes.
pub fn grant(access_ttl: f64) -> NewGrant {
    NewGrant { access_ttl: Duration::from_secs_f64(access_ttl), ..NewGrant::default() }
}

impl World {
    pub async fn new() -> Self {
        Self::within(&std::env::temp_dir()).await
    }

    /// Everything of it lies below that folder.
    pub async fn within(folder: &Path) -> Self {
        let sandbox = Sandbox::start(sandbox::Options::default()).await.unwrap();
        Self {
            sandbox,
            folder: tempfile::tempdir_in(folder).unwrap(),
            tables: String::new(),
            head: String::new(),
            daemon: None,
            machine: None,
            dice: Arc::new(credd::cli::run::throw),
            clock: Arc::new(SystemClock),
        }
    }

    pub fn admin(&self) -> Admin {
        self.sandbox.admin()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Settings of the whole file, before any table.
    pub fn head(&mut self, text: &str) {
        self.head += &format!("{text}\n");
    }

    /// More tables.
    pub fn tables(&mut self, text: &str) {
        self.tables += &format!("{text}\n");
    }

    /// A provider file in the folder of overrides.
    pub fn provider(&mut self, name: &str, text: &str) {
        let folder = self.path("providers");
        if !folder.exists() {
            fs::create_dir(&folder).unwrap();
            self.head("providers = \"providers\"");
        }
        fs::write(folder.join(format!("{name}.toml")), text).unwrap();
    }

    /// Watches a credential of the sandbox; `more` are further settings of it.
    pub fn credential(&mut self, name: &str, kind: &str, more: &str) {
        let (token, probe) = (self.sandbox.token_endpoint(), self.sandbox.probe_url());
        let provider = if more.contains("provider =") { "" } else { "provider = \"rfc6749\"" };
        self.tables(&format!(
            "[credentials.{name}]\n{provider}\nkind = \"{kind}\"\n{more}\n\
             [credentials.{name}.upstream]\ntoken_endpoint = \"{token}\"\nprobe_url = \"{probe}\"\n"
        ));
    }

    /// A grant of the sandbox that lies in the embedded store, watched.
    pub async fn granted(&mut self, name: &str, terms: NewGrant, more: &str) -> Seed {
        let seed = self.admin().grant(terms);
        self.keep(name, &seed.document()).await;
        self.credential(name, "refresh_token", more);
        seed
    }

    pub fn settings_path(&self) -> PathBuf {
        self.path("credd.toml")
    }

    /// Writes the settings file as an editor does: beside, then over.
    pub fn write_settings(&self) {
        let text = format!(
            "{}\n[server]\nhealth = \"127.0.0.1:0\"\nsocket = \"{}\"\n[ledger]\npath = \"{}\"\n{}",
            self.head,
            self.socket().display(),
            self.path("state/ledger.db").display(),
            self.tables
        );
        let beside = self.path("credd.toml.new");
        fs::write(&beside, text).unwrap();
        fs::rename(beside, self.settings_path()).unwrap();
    }

    pub fn socket(&self) -> PathBuf {
        self.path("run/credd.sock")
    }

    fn load(&self) -> config::Loaded {
        self.write_settings();
        let catalogue = credd::catalogue::Catalogue::embedded().unwrap();
        let names: Vec<String> = catalogue.names().map(str::to_owned).collect();
        config::load(Some(&self.settings_path()), &names).unwrap_or_else(|problems| panic!("{problems}"))
    }

    /// Puts a document into the embedded store: through the daemon if one runs, as the command line does.
    pub async fn keep(&self, name: &str, document: &Secret) {
        if self.daemon.is_some() {
            let got = self.put(name, document.expose()).await;
            assert_eq!(got.status, 200, "{}", got.body);
            return;
        }
        let loaded = self.load();
        let references = config::References::new(Some(&self.settings_path()), Redactor::default());
        let ledger = daemon::ledger(&loaded.config, &references, Arc::new(SystemClock)).await.unwrap();
        let nobody = daemon::Residents::default();
        daemon::put(&ledger, &SystemClock, &nobody, &id(name), document.clone(), "uid 0").await.unwrap();
        ledger.close().await;
    }

    pub async fn put(&self, name: &str, document: &str) -> Got {
        let mut client = self.operator().await;
        let length = document.len();
        client
            .send(&format!("PUT /v1/embedded/{name} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{document}"))
            .await;
        client.answer().await
    }

    /// Starts, or says why not.
    pub async fn try_start(&mut self) -> Result<(), StartError> {
        let environment = Environment {
            clock: self.clock.clone(),
            redactor: Redactor::default(),
            dice: self.dice.clone(),
            machine: self.machine.clone(),
            telemetry: None,
        };
        self.daemon = Some(Daemon::start(self.load(), environment).await?);
        Ok(())
    }

    pub async fn start(&mut self) {
        self.try_start().await.unwrap_or_else(|error| panic!("{error}"));
    }

    pub async fn stop(&mut self) {
        self.daemon.take().expect("it runs").stop().await;
    }

    pub fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().expect("it runs")
    }

    pub async fn reader(&self) -> Client {
        Client::connect(&self.socket()).await
    }

    pub async fn operator(&self) -> Client {
        Client::connect(&self.path("run/admin.sock")).await
    }

    /// Reads a token once.
    pub async fn read(&self, name: &str) -> Got {
        self.reader().await.get(&format!("/v1/tokens/{name}")).await
    }

    /// What the operator sees of a credential.
    pub async fn view(&self, name: &str) -> Value {
        self.operator().await.get(&format!("/v1/credentials/{name}")).await.json()
    }

    pub async fn act(&self, name: &str, verb: &str) -> Got {
        self.operator().await.post(&format!("/v1/credentials/{name}/{verb}"), "").await
    }

    /// Waits for a state.
    pub async fn becomes(&self, name: &str, state: &str) -> Value {
        until(&format!("{name} becomes {state}"), async || {
            let view = self.view(name).await;
            (view["state"] == state).then_some(view)
        })
        .await
    }

    /// Waits until it stands at that generation, or a later one.
    pub async fn reaches(&self, name: &str, generation: i64) -> Value {
        until(&format!("{name} reaches generation {generation}"), async || {
            let view = self.view(name).await;
            (view["generation"].as_i64() >= Some(generation)).then_some(view)
        })
        .await
    }

    /// Reports a refused call, as a reader does.
    pub async fn refused(&self, name: &str, generation: i64, status: u16, reply: &str) -> Got {
        let headers = json!({ "www-authenticate": "Bearer error=\"invalid_token\"" });
        let report = json!({ "generation": generation, "status": status, "headers": headers, "body": reply });
        self.reader().await.post(&format!("/v1/tokens/{name}/refused"), &report.to_string()).await
    }

    /// `/health` and its siblings.
    pub async fn health(&self, path: &str) -> Got {
        get_tcp(self.daemon().health, path).await
    }

    pub async fn incidents(&self) -> Vec<Incident> {
        self.daemon().ledger.incidents().open().await.unwrap()
    }

    /// The audit log's lines of one event of one credential.
    pub async fn logged(&self, name: &str, event: &str) -> Vec<Entry> {
        let filter = Filter { credential: Some(name.to_owned()), event: Some(event.to_owned()), ..Filter::default() };
        let tail = self.daemon().ledger.audit().tail(&filter, 10_000).await.unwrap();
        tail.into_iter().map(|logged| logged.entry).collect()
    }
}

pub async fn get_tcp(address: std::net::SocketAddr, path: &str) -> Got {
    let stream = TcpStream::connect(address).await.unwrap();
    Client::over(stream).get(path).await
}

pub fn id(name: &str) -> CredentialId {
    CredentialId::new(name).unwrap()
}

/// The token of an answer.
pub fn token(got: &Got) -> String {
    assert_eq!(got.status, 200, "{}", got.body);
    got.json()["access_token"].as_str().unwrap().to_owned()
}

pub fn generation(got: &Got) -> i64 {
    assert_eq!(got.status, 200, "{}", got.body);
    got.json()["generation"].as_i64().unwrap()
}

/// Calls the sandbox's API as a reader would, and says what it answered.
pub async fn call_api(url: &str, token: &str) -> (u16, String) {
    let url = url::Url::parse(url).unwrap();
    let address = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap());
    let mut client = Client::over(TcpStream::connect(address).await.unwrap());
    let got = client.get_with(url.path(), &format!("authorization: Bearer {token}\r\n")).await;
    (got.status, got.body)
}

/// Time since the machine's start, for measuring.
pub fn up() -> Duration {
    SystemClock.now().boot
}

pub fn now() -> jiff::Timestamp {
    SystemClock.now().wall
}

pub fn write(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    let beside = path.with_extension("new");
    fs::write(&beside, text).unwrap();
    fs::set_permissions(&beside, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(beside, path).unwrap();
}

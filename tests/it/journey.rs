//! A house for whole journeys: settings in a folder, the daemon in this process or as the real binary, and readers that
//! never stop reading.

use std::{
    collections::BTreeMap,
    future::Future,
    io::Write,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use credd::{
    catalogue::Catalogue,
    clock::{Clock, SystemClock},
    config,
    daemon::{Daemon, Environment},
    ledger::{Filter, Ledger, Place, Record},
    seal::Sealer,
    telemetry::Redactor,
};
use jiff::Timestamp;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    task::JoinHandle,
};

/// Whether the long form was asked for.
pub fn long() -> bool {
    std::env::var_os("CREDD_LONG").is_some()
}

/// Looks until it is so; nothing here may take longer than this.
pub async fn until<F: Future<Output = bool>>(what: &str, mut look: impl FnMut() -> F) {
    let patience = Duration::from_secs(if long() { 900 } else { 60 });
    let wait = async {
        while !look().await {
            SystemClock.sleep(Duration::from_millis(25)).await;
        }
    };
    tokio::time::timeout(patience, wait).await.unwrap_or_else(|_| panic!("not within {patience:?}: {what}"));
}

/// What a daemon is made of, in a folder that goes with it.
pub struct House {
    folder: tempfile::TempDir,
}

impl House {
    /// Sockets and ledger inside; the rest of the settings is handed in. Provider files by name.
    pub fn new(settings: &str, providers: &[(&str, String)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::create_dir(root.join("providers")).unwrap();
        for (name, text) in providers {
            let text = format!("title = \"{name}\"\nextends = \"rfc6749\"\n{text}");
            std::fs::write(root.join("providers").join(format!("{name}.toml")), text).unwrap();
        }
        let house = Self { folder };
        house.settle("path = \"state/ledger.db\"", settings);
        house
    }

    /// Writes the settings anew, with another ledger.
    pub fn settle(&self, ledger: &str, settings: &str) {
        let text = format!(
            "providers = \"providers\"\n[server]\nhealth = \"127.0.0.1:0\"\nsocket = \"run/credd.sock\"\n\
             [ledger]\n{ledger}\n[policies.default]\nprobe = \"*/5 * * * * *\"\n{settings}"
        );
        std::fs::write(self.path("credd.toml"), text).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn socket(&self) -> PathBuf {
        self.path("run/credd.sock")
    }

    /// Fills the embedded store, as an operator does before the first start.
    pub fn import(&self, secrets: &BTreeMap<String, Value>) {
        let mut import = self.command(&["credential", "import"]).stdin(Stdio::piped()).spawn().unwrap();
        let text = serde_json::to_string(secrets).unwrap();
        import.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(import.wait().unwrap().success());
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_credd"));
        command.arg("--config").arg(self.path("credd.toml")).args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// The daemon in this process.
    pub async fn start(&self) -> Daemon {
        let names: Vec<String> = Catalogue::embedded().unwrap().names().map(str::to_owned).collect();
        let loaded =
            config::load(Some(&self.path("credd.toml")), &names).unwrap_or_else(|problems| panic!("{problems}"));
        let environment = Environment {
            clock: Arc::new(SystemClock),
            redactor: Redactor::default(),
            dice: Arc::new(fraction),
            machine: None,
            telemetry: None,
        };
        Daemon::start(loaded, environment).await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// The daemon as a process of its own.
    pub fn spawn(&self, environment: &[(&str, &str)]) -> Process {
        let log = std::fs::File::options().create(true).append(true).open(self.path("log")).unwrap();
        let mut command = self.command(&["run"]);
        Process(command.envs(environment.iter().copied()).stderr(log).spawn().unwrap())
    }

    /// The log of all processes so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// The ledger, when no daemon holds it.
    pub async fn ledger(&self) -> Ledger {
        let place = Place::Sqlite(self.path("state/ledger.db"));
        let sealer = Sealer::from_file(&self.path("state/ledger.key")).unwrap();
        Ledger::open(place, sealer, Arc::new(SystemClock)).await.unwrap()
    }

    /// What the socket says of each credential: name, generation.
    pub async fn generations(&self) -> BTreeMap<String, i64> {
        let Some((200, list)) = ask(&self.socket(), "GET", "/v1/credentials").await else { return BTreeMap::new() };
        let items = list["credentials"].as_array().unwrap();
        items.iter().map(|it| (it["name"].as_str().unwrap().to_owned(), it["generation"].as_i64().unwrap())).collect()
    }

    /// Whether the operator's socket answers.
    pub async fn is_operated(&self) -> bool {
        ask(&self.path("run/admin.sock"), "GET", "/v1/status").await.is_some()
    }

    /// One verb of the operator for one credential.
    pub async fn operate(&self, name: &str, verb: &str) -> (u16, Value) {
        let path = format!("/v1/credentials/{name}/{verb}");
        let answer = ask(&self.path("run/admin.sock"), "POST", &path).await;
        answer.unwrap_or_else(|| panic!("the operator is not answered:\n{}", self.log()))
    }
}

/// What the ledger holds in the end.
pub struct Books {
    pub records: Vec<Record>,
    ledger: Ledger,
}

impl Books {
    /// Opens them, and holds the audit chain to its promise.
    pub async fn open(ledger: Ledger) -> Self {
        ledger.audit().verify().await.unwrap();
        Self { records: ledger.rotation().load_all().await.unwrap(), ledger }
    }

    /// How often something happened to a credential, with those words in its detail.
    pub async fn count(&self, credential: Option<&str>, event: &str, words: &str) -> u64 {
        let filter =
            Filter { credential: credential.map(str::to_owned), event: Some(event.to_owned()), ..Filter::default() };
        let entries = self.ledger.audit().tail(&filter, 1_000_000).await.unwrap();
        let told = |detail: &Option<String>| detail.as_deref().unwrap_or_default().contains(words);
        entries.iter().filter(|logged| told(&logged.entry.detail)).count() as u64
    }

    /// Replies that belong to no grant any more, and are kept.
    pub async fn orphans(&self) -> usize {
        self.ledger.rotation().orphans().await.unwrap().len()
    }

    pub async fn close(self) {
        self.ledger.close().await;
    }
}

/// A daemon that can be killed.
pub struct Process(Child);

impl Process {
    /// As the kernel does when memory is short.
    pub fn kill(&mut self) {
        let _ = self.0.kill();
        self.0.wait().unwrap();
    }

    /// Whether it has died, and by which signal.
    pub fn died_of(&mut self) -> Option<i32> {
        let status = self.0.try_wait().unwrap()?;
        Some(status.signal().unwrap_or_else(|| panic!("it ended by itself: {status}")))
    }

    /// Asks it to end, and waits.
    pub async fn stop(mut self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let status = tokio::task::spawn_blocking(move || self.0.wait()).await.unwrap().unwrap();
        assert!(status.success(), "{status}");
    }
}

/// Evenly spread in 0 to 1.
pub fn fraction() -> f64 {
    let mut bytes = [0; 4];
    aws_lc_rs::rand::fill(&mut bytes).unwrap();
    f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX)
}

/// One request over a connection of its own; `None` where nobody answers.
pub async fn ask(socket: &Path, method: &str, path: &str) -> Option<(u16, Value)> {
    let mut stream = UnixStream::connect(socket).await.ok()?;
    let request = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.ok()?;
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, serde_json::from_str(body).unwrap_or(Value::Null)))
}

/// Readers, one for each name, that read without end.
pub struct Readers {
    stop: Arc<AtomicBool>,
    reads: Arc<AtomicU64>,
    failed: Arc<Mutex<Vec<String>>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Readers {
    /// Each of these has a token now.
    pub fn start(socket: &Path, names: &[String]) -> Self {
        let (stop, reads, failed) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default(), Arc::default());
        let read = |name: &String| {
            let (socket, name) = (socket.to_owned(), name.clone());
            let (stop, reads, failed) = (stop.clone(), reads.clone(), Arc::<Mutex<Vec<String>>>::clone(&failed));
            tokio::spawn(async move {
                let path = format!("/v1/tokens/{name}");
                while !stop.load(Ordering::SeqCst) {
                    // Nobody answers while the daemon is restarted; whoever answers must have a token.
                    let asked = SystemClock.now().wall;
                    if let Some((status, body)) = ask(&socket, "GET", &path).await {
                        reads.fetch_add(1, Ordering::SeqCst);
                        let end: Option<Timestamp> = body["expires_at"].as_str().map(|end| end.parse().unwrap());
                        if status != 200 || body["access_token"].is_null() || end.is_some_and(|end| end <= asked) {
                            failed.lock().unwrap().push(format!("{asked} {name}: {status} {}", body["failure"]));
                        }
                    }
                    SystemClock.sleep(Duration::from_millis(20)).await;
                }
            })
        };
        let tasks = names.iter().map(read).collect();
        Self { stop, reads, failed, tasks }
    }

    /// Ends them: none of their reads may have failed. Answers how many there were.
    pub async fn end(self) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        for task in self.tasks {
            task.await.unwrap();
        }
        let failed = self.failed.lock().unwrap();
        let reads = self.reads.load(Ordering::SeqCst);
        assert!(
            failed.is_empty(),
            "{} of {reads} reads failed:\n{}",
            failed.len(),
            failed[..failed.len().min(20)].join("\n")
        );
        reads
    }
}

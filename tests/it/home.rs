//! The real program in a folder of its own, with a sandbox as its provider.

use std::{
    fmt::Write as _,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use credd::{
    credential::Secret,
    sandbox::{NewGrant, Options, Running, Sandbox, Seed},
};
use serde_json::Value;
use tokio::sync::watch;

/// Longer than anything here takes; it only bounds a test that hangs.
pub const LIMIT: Duration = Duration::from_secs(180);

/// Settings, state and sockets of one daemon, which outlive its process.
pub struct Home {
    pub folder: tempfile::TempDir,
    pub sandbox: Running,
    /// Of the process's environment.
    pub secrets: Vec<(String, String)>,
}

/// A running `credd run`; dropping it kills it.
pub struct Credd {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    news: watch::Receiver<usize>,
    /// Where health and metrics are.
    pub health: String,
}

impl Home {
    pub async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sandbox = Sandbox::start(Options::default()).await.unwrap();
        Self { folder, sandbox, secrets: Vec::new() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Settings with these credentials of the sandbox in the embedded store, and whatever else.
    pub fn settings(&self, grants: &[&str], more: &str) {
        let mut text = format!(
            "[server]\nhealth = \"127.0.0.1:0\"\nsocket = {:?}\n[ledger]\npath = {:?}\n[policies.default]\nprobe = \"*/2 * * * * *\"\n{more}\n",
            self.path("run/credd.sock"),
            self.path("state/ledger.db"),
        );
        for name in grants {
            write!(
                text,
                "[credentials.{name}]\nprovider = \"rfc6749\"\nkind = \"refresh_token\"\nstartup = \"warn\"\n[credentials.{name}.upstream]\n\
                 token_endpoint = {:?}\nprobe_url = {:?}\n",
                self.sandbox.token_endpoint(),
                self.sandbox.probe_url()
            )
            .unwrap();
        }
        std::fs::write(self.path("credd.toml"), text).unwrap();
    }

    pub fn grant(&self, access_ttl: Duration) -> Seed {
        self.sandbox.admin().grant(NewGrant { access_ttl, ..NewGrant::default() })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_credd"));
        command.arg("--config").arg(self.path("credd.toml")).args(arguments);
        command.env("CREDD_SOCKET", self.path("run/credd.sock")).env_remove("CREDD_LOG").env_remove("NOTIFY_SOCKET");
        command.envs(self.secrets.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs a command to its end.
    pub async fn credd(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let input = input.to_owned();
        let run = tokio::task::spawn_blocking(move || {
            let mut child = command.spawn().unwrap();
            child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
            child.wait_with_output().unwrap()
        });
        tokio::time::timeout(LIMIT, run).await.expect("the command hangs").unwrap()
    }

    /// Puts a secret into the embedded store.
    pub async fn put(&self, name: &str, document: &Secret) {
        let said = self.credd(&["credential", "put", name], document.expose()).await;
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    }

    /// Starts the daemon and waits until it says that it is ready.
    pub async fn start(&self, arguments: &[&str]) -> Credd {
        let mut command = self.command(&[&["run"], arguments].concat());
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (tell, news) = watch::channel(0);
        let kept = lines.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                kept.lock().unwrap().push(line);
                tell.send_modify(|count| *count += 1);
            }
        });
        let mut credd = Credd { child, lines, news, health: String::new() };
        let line = credd.line_with("health=").await.unwrap_or_else(|| panic!("it ended:\n{}", credd.log()));
        let from = line.split_once("health=").unwrap().1;
        credd.health = from.split_whitespace().next().unwrap().to_owned();
        credd
    }

    /// Every file below the state folder.
    pub fn state(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        collect(&self.path("state"), &mut found);
        found
    }
}

pub fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() { collect(&entry, found) } else { found.push(entry) }
    }
}

impl Credd {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything it wrote so far.
    pub fn log(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }

    /// The first line that holds the text, once it is there; `None` when the process ended without it.
    pub async fn line_with(&mut self, text: &str) -> Option<String> {
        let find = |lines: &Mutex<Vec<String>>| lines.lock().unwrap().iter().find(|line| line.contains(text)).cloned();
        let wait = async {
            loop {
                if let Some(line) = find(&self.lines) {
                    return Some(line);
                }
                if self.news.changed().await.is_err() {
                    return find(&self.lines);
                }
            }
        };
        let found = tokio::time::timeout(LIMIT, wait).await;
        found.unwrap_or_else(|_| panic!("never said {text:?}:\n{}", self.log()))
    }

    pub async fn get(&self, path: &str) -> String {
        let reply = reqwest::get(format!("http://{}{path}", self.health)).await.unwrap();
        String::from_utf8(reply.bytes().await.unwrap().to_vec()).unwrap()
    }

    /// Asks for the metrics until they are as wanted.
    pub async fn until_metrics(&self, wanted: impl Fn(&str) -> bool) -> String {
        let wait = async {
            loop {
                let text = self.get("/metrics").await;
                if wanted(&text) {
                    return text;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        let found = tokio::time::timeout(LIMIT, wait).await;
        match found {
            Ok(text) => text,
            Err(_) => panic!("never as wanted:\n{}\n{}", self.get("/metrics").await, self.log()),
        }
    }

    /// Until the credential is in that state.
    pub async fn until_state(&self, name: &str, state: &str) {
        let line = format!("credd_credential_state{{credential=\"{name}\",state=\"{state}\"}} 1");
        self.until_metrics(|text| text.lines().any(|found| found == line)).await;
    }

    /// `kill -9`.
    pub fn kill(mut self) -> String {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.log()
    }

    /// SIGTERM, and what it wrote until its end.
    pub async fn stop(mut self) -> String {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let ended = async {
            while self.news.changed().await.is_ok() {}
        };
        tokio::time::timeout(LIMIT, ended).await.expect("it does not stop");
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}\n{}", self.log());
        self.log()
    }
}

impl Drop for Credd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A document of the admin or read socket, as JSON.
pub fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

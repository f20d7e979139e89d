//! Starts the real servers that tests need (`tests/components/*.sh`) and ends them when dropped.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use serde_json::Value;

/// From an empty machine: it is downloaded, unpacked and started in this time.
const READY: Duration = Duration::from_secs(300);

/// Where the servers are installed.
pub fn tools() -> PathBuf {
    let usual = || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools");
    std::env::var_os("TOOLS_DIR").map_or_else(usual, PathBuf::from)
}

/// A running server.
pub struct Component {
    /// What its script says of it: `url`, `token`, `pid` and the like.
    pub ready: Value,
    child: Child,
}

impl Component {
    /// Starts a script and waits until the server answers.
    pub fn start(script: &str, environment: &[(&str, &str)]) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        // Named, so that nothing hangs on the mode of a file.
        let mut child = Command::new(if script.ends_with(".py") { "python3" } else { "bash" })
            .arg(root.join("tests/components").join(script))
            .env("TOOLS_DIR", tools())
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("bash and python3 start");
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        let (found, ready) = mpsc::channel();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if let Some(json) = line.strip_prefix("READY ") {
                    let _ = found.send(json.to_owned());
                }
            }
        });
        let mut component = Self { ready: Value::Null, child };
        let line = ready.recv_timeout(READY).unwrap_or_else(|_| panic!("{script} did not become ready; see above"));
        component.ready = serde_json::from_str(&line).expect("READY is followed by JSON");
        component
    }

    /// A text of the READY line.
    pub fn text(&self, field: &str) -> &str {
        self.ready[field].as_str().unwrap_or_else(|| panic!("no {field} in {}", self.ready))
    }

    /// A number of the READY line (`port`, `pid`).
    pub fn number(&self, field: &str) -> i64 {
        self.ready[field].as_i64().unwrap_or_else(|| panic!("no number {field} in {}", self.ready))
    }
}

impl Drop for Component {
    /// The script ends its server and removes its state when it is asked to end.
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        for _ in 0..500 {
            if let Ok(Some(_)) = self.child.try_wait() {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The scripts.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/components")
}

//! Real servers for tests: `tests/components/*.sh`, started here and ended with the test.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

/// A server that answers. Dropping it ends it.
pub struct Component {
    /// What it said of itself: `url`, `pid`, `ca`, …
    pub ready: serde_json::Value,
    script: Child,
}

impl Component {
    /// Starts a script and waits until its server answers; the first time, that includes installing it.
    #[track_caller]
    pub fn start(script: &str, environment: &[(&str, &str)]) -> Self {
        let mut child = Command::new(folder().join(script))
            .env("TOOLS_DIR", tools())
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("tests/components/{script} does not start: {error}"));
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let (send, receive) = mpsc::channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if let Some(ready) = line.strip_prefix("READY ") {
                    send.send(serde_json::from_str(ready)).ok();
                }
            }
        });
        // Made before the wait, so that a script that never gets ready is ended too.
        let mut component = Self { ready: serde_json::Value::Null, script: child };
        let ready = receive.recv_timeout(Duration::from_secs(300));
        component.ready = ready.unwrap_or_else(|_| panic!("{script} did not get ready")).expect("READY is JSON");
        component
    }

    /// A text of the READY line.
    #[track_caller]
    pub fn text(&self, name: &str) -> &str {
        self.ready[name].as_str().unwrap_or_else(|| panic!("READY has no {name}: {}", self.ready))
    }
}

impl Drop for Component {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.script.id()).ok().and_then(rustix::process::Pid::from_raw) {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).ok();
        }
        for _ in 0..200 {
            if !matches!(self.script.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        self.script.kill().ok();
        self.script.wait().ok();
    }
}

/// The scripts.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/components")
}

/// Where installed servers live.
fn tools() -> PathBuf {
    std::env::var_os("TOOLS_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools"), PathBuf::from)
}

//! Starts the real programs that tests talk to: `tests/components/*.sh`.

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

/// Long enough for a first start, which installs the program.
const START: Duration = Duration::from_secs(300);

/// A running program; it ends when this is dropped, or with the test process.
pub struct Component {
    /// What the script said on its READY line.
    pub ready: serde_json::Value,
    script: Child,
}

impl Component {
    /// Starts a script and waits until its program answers.
    pub fn start(script: &str, env: &[(&str, &str)]) -> Self {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let tools = std::env::var_os("TOOLS_DIR").map_or_else(|| root.join("target/tools"), PathBuf::from);
        let mut child = Command::new("bash")
            .arg(root.join("tests/components").join(script))
            .env("TOOLS_DIR", tools)
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("bash runs");
        let out = child.stdout.take().expect("its output is ours");
        let (send, receive) = mpsc::channel();
        std::thread::spawn(move || {
            // Reads to the end, so that a program which goes on writing is not stopped by a full pipe.
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if let Some(json) = line.strip_prefix("READY ") {
                    let _ = send.send(serde_json::from_str(json).expect("READY is followed by JSON"));
                }
            }
        });
        match receive.recv_timeout(START) {
            Ok(ready) => Self { ready, script: child },
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                panic!("{script} did not become ready ({error}); its last words are above");
            }
        }
    }

    /// A text of the READY line.
    pub fn text(&self, name: &str) -> &str {
        self.ready[name].as_str().unwrap_or_else(|| panic!("READY has no text {name:?}: {}", self.ready))
    }

    /// A number of the READY line.
    pub fn number(&self, name: &str) -> u64 {
        self.ready[name].as_u64().unwrap_or_else(|| panic!("READY has no number {name:?}: {}", self.ready))
    }
}

impl Drop for Component {
    fn drop(&mut self) {
        // The script ends its program and clears up when it is asked to; killing it would orphan both.
        let _ = rustix::process::kill_process(
            rustix::process::Pid::from_child(&self.script),
            rustix::process::Signal::TERM,
        );
        let _ = self.script.wait();
    }
}

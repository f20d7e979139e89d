//! Starts the real servers that tests talk to: one script each in `tests/components`.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// A running server; it ends when this is dropped.
pub struct Component {
    /// What its READY line said.
    pub ready: serde_json::Value,
    child: Child,
}

impl Component {
    /// Starts a script with these variables and waits for its READY line. Tools come from `$TOOLS_DIR`, or `target/tools`.
    pub fn start(script: &str, env: &[(&str, &str)]) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let tools = std::env::var_os("TOOLS_DIR").map_or_else(|| root.join("target/tools"), PathBuf::from);
        let mut child = Command::new(root.join("tests/components").join(script))
            .env("TOOLS_DIR", tools)
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{script} does not start: {error}"));
        let lines = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
        let ready = lines
            .map_while(Result::ok)
            .find_map(|line| serde_json::from_str(line.strip_prefix("READY ")?).ok())
            .unwrap_or_else(|| panic!("{script} ended before it was ready"));
        Self { ready, child }
    }

    /// A text of the READY line.
    pub fn text(&self, field: &str) -> &str {
        self.ready[field].as_str().unwrap_or_else(|| panic!("READY has no text {field}: {}", self.ready))
    }
}

impl Drop for Component {
    fn drop(&mut self) {
        let process = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(process, rustix::process::Signal::TERM);
        let _ = self.child.wait();
    }
}

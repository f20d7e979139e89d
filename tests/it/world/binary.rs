//! The real program, started and ended by the test that needs it.

use std::{
    io::Write,
    process::{Child, Command, Output, Stdio},
};

use super::{World, get_tcp, until};
use crate::board::Got;

/// A running `credd run`. Dropping it kills that process and no other.
pub struct Running {
    child: Option<Child>,
}

impl World {
    /// `credd …` with this world's settings, and nothing of this process's environment that it looks at.
    pub fn credd(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_credd"));
        for name in ["CREDD_SOCKET", "CREDD_CONFIG", "RUNTIME_DIRECTORY", "STATE_DIRECTORY", "NOTIFY_SOCKET"] {
            command.env_remove(name);
        }
        command.arg("--config").arg(self.settings_path()).args(arguments).stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.credd(arguments).output().unwrap()
    }

    /// Runs a command to its end, with something on its standard input.
    pub fn run_with(&self, arguments: &[&str], input: &str) -> Output {
        let mut child =
            self.credd(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// What the running program shows of a credential.
    pub fn view_by_binary(&self, name: &str) -> serde_json::Value {
        let shown = self.run(&["status", "--json"]);
        let status: serde_json::Value = serde_json::from_str(&out(&shown)).unwrap();
        status["credentials"].as_array().unwrap().iter().find(|view| view["name"] == name).unwrap().clone()
    }

    /// Starts `credd run`; its log goes into a file beside the settings.
    pub fn launch(&self) -> Running {
        self.write_settings();
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path("credd.log")).unwrap();
        let child = self.credd(&["run"]).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        Running { child: Some(child) }
    }

    /// Starts it and waits until the operator's socket answers, which it does when the start is over.
    pub async fn launched(&self) -> Running {
        let mut running = self.launch();
        until("the operator's socket answers", async || {
            if let Some(code) = running.child.as_mut().unwrap().try_wait().unwrap() {
                panic!("credd ended with {code}: {}", std::fs::read_to_string(self.path("credd.log")).unwrap());
            }
            self.run(&["status", "--json"]).status.code().filter(|code| *code != 69)
        })
        .await;
        running
    }
}

impl Running {
    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// As a crash ends it.
    pub fn kill(mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// As an init system ends it; its exit code.
    pub fn terminate(mut self) -> Option<i32> {
        let mut child = self.child.take().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        child.wait().unwrap().code()
    }

    /// SIGHUP: read the settings again.
    pub fn hang_up(&self) {
        let pid = rustix::process::Pid::from_child(self.child.as_ref().unwrap());
        rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    }

    /// Seconds of processor time that it has used.
    pub fn processor_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
        ticks / 100.0
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl World {
    /// Everything that the program has written to its log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("credd.log")).unwrap_or_default()
    }

    /// `/metrics`, `/health` and their siblings of a launched program.
    pub async fn asked(&self, path: &str) -> Got {
        let status = self.operator().await.get("/v1/status").await.json();
        get_tcp(status["daemon"]["health"].as_str().unwrap().parse().unwrap(), path).await
    }

    /// Waits until a line of `/metrics` is there.
    pub async fn measures(&self, line: &str) -> String {
        until(line, async || Some(self.asked("/metrics").await.body).filter(|text| text.lines().any(|one| one == line)))
            .await
    }
}

/// What a command printed.
pub fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What a command complained about.
pub fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

//! Child processes, descriptors, cores, and what the kernel says of memory and time.

use std::{
    fs,
    io::{BufRead, BufReader, Lines, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use credd::clock::{Clock, SystemClock};
use rustix::{
    process::{Resource, Rlimit, getrlimit, setrlimit},
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};

/// A child that is told lines and says lines. It ends with this value.
pub struct Role {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Role {
    /// This program again, in a role.
    pub fn play(role: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
        command.arg(format!("--role={role}")).args(arguments);
        Self::of(command)
    }

    /// The daemon's own program.
    pub fn credd(arguments: &[&str]) -> Self {
        Self::of(credd(arguments))
    }

    fn of(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a child can be started");
        let stdin = child.stdin.take();
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        Self { child, stdin, lines }
    }

    /// Waits for its next line.
    pub fn hear(&mut self) -> String {
        self.lines.next().expect("the child goes on talking").expect("it talks text")
    }

    /// Waits for its next line, a number.
    pub fn hear_number(&mut self) -> u64 {
        let line = self.hear();
        line.parse().unwrap_or_else(|_| panic!("{line:?} is no number"))
    }

    /// Sends a line.
    pub fn tell(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().expect("it is open"), "{line}").expect("the child listens");
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end as a service manager would, and waits for that.
    pub fn terminate(mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
        self.child.wait().expect("it ends");
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The daemon's own program, built in the same profile.
pub fn credd(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_credd"));
    command.args(arguments).env_remove("CREDD_SOCKET").env_remove("CREDD_CONFIG").env("CREDD_LOG", "error");
    command
}

/// A child's first lines on the other side: tells the parent that it is there.
pub fn say(line: impl std::fmt::Display) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).expect("the parent listens");
}

/// A child's ear: the next line from the parent; `None` once the parent is gone.
pub fn listen() -> Option<String> {
    let mut line = String::new();
    (std::io::stdin().read_line(&mut line).ok()? > 0).then(|| line.trim_end().to_owned())
}

/// Nanoseconds since boot; all processes of the machine read the same clock.
pub fn nanoseconds() -> u64 {
    u64::try_from(SystemClock.now().boot.as_nanos()).expect("boot was not that long ago")
}

/// Resident memory of a process, in KiB.
pub fn resident(pid: u32) -> u64 {
    of_status(pid, "VmRSS:")
}

fn of_status(pid: u32, field: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process lives");
    let line = text.lines().find_map(|line| line.strip_prefix(field)).expect("Linux says so");
    line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
}

/// Ten thousand connections need as many descriptors; the usual soft limit is 1,024.
pub fn open_more_files() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).ok();
}

/// How many descriptors a process may have.
pub fn most_files() -> usize {
    getrlimit(Resource::Nofile).current.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX))
}

/// Keeps this thread, and what it starts, on the first of its cores while `work` runs.
pub fn on_one_core<T>(work: impl FnOnce() -> T) -> T {
    let before = sched_getaffinity(None).expect("Linux says so");
    let first = (0..CpuSet::MAX_CPU).find(|core| before.is_set(*core)).expect("it runs somewhere");
    let mut one = CpuSet::new();
    one.set(first);
    sched_setaffinity(None, &one).expect("a thread may choose among its cores");
    let done = work();
    sched_setaffinity(None, &before).expect("a thread may have back what it had");
    done
}

/// A folder for a ledger, on the disk where the project is built: a temporary folder may lie in memory.
pub fn folder() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let place = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let folder = tempfile::tempdir_in(place).expect("the target folder can be written");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).expect("it is ours");
    folder
}

//! The only starter of other programs: nothing inherited, bounded.

use std::{ffi::OsString, fs, os::fd::BorrowedFd, path::PathBuf, process::Stdio, time::Duration};

use rustix::{
    io::{FdFlags, fcntl_setfd},
    process::{Pid, Signal, kill_process_group},
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use zeroize::Zeroizing;

use crate::{clock::Clock, credential::Secret};

/// What a program may print on each of its two outputs, in bytes.
pub const OUTPUT_LIMIT: usize = 64 * 1024;

/// One run of a program, complete. No shell sees any of it.
pub struct Run {
    /// Absolute path.
    pub program: PathBuf,
    /// As they are; visible to every user of the machine, so never a secret.
    pub arguments: Vec<OsString>,
    /// Where it runs; `/` if nothing is said.
    pub directory: Option<PathBuf>,
    /// All of its environment.
    pub environment: Vec<(OsString, OsString)>,
    /// What it reads on standard input.
    pub input: Secret,
    /// Then it is killed, with everything it started.
    pub timeout: Duration,
}

/// How a run ended.
pub struct Finished {
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// What it printed; may be secret, so it is wiped when dropped.
    pub output: Zeroizing<Vec<u8>>,
    /// Its last words: one line, printable, at most 200 characters, with everything that looks like a token left out.
    pub words: String,
}

/// Why there is no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpawnError {
    /// It could not be started.
    #[error("{program} cannot be started: {reason}")]
    NotStarted {
        /// Which.
        program: String,
        /// What the kernel said.
        reason: String,
    },
    /// It took too long and was killed.
    #[error("{program} took longer than {seconds} s and was ended")]
    TimedOut {
        /// Which.
        program: String,
        /// The limit.
        seconds: u64,
    },
    /// It printed more than [`OUTPUT_LIMIT`] and was killed.
    #[error("{program} printed more than 64 KiB and was ended")]
    TooMuch {
        /// Which.
        program: String,
    },
}

/// Kills the whole process group when the run is over before the program is: a timeout, or a caller that went away.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

/// Runs a program to its end.
#[expect(clippy::disallowed_methods, reason = "the input of the program that is started")]
pub async fn run(run: Run, clock: &dyn Clock) -> Result<Finished, SpawnError> {
    let program = run.program.display().to_string();
    keep_descriptors();
    let mut child = tokio::process::Command::new(&run.program)
        .args(&run.arguments)
        .current_dir(run.directory.unwrap_or_else(|| "/".into()))
        .env_clear()
        .envs(run.environment)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| SpawnError::NotStarted { program: program.clone(), reason: error.kind().to_string() })?;
    let mut group = Group(child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)));
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());

    let talk = async {
        let write = async {
            if let Some(mut stdin) = stdin {
                // A program that does not read its input is free not to.
                let _ = stdin.write_all(run.input.expose().as_bytes()).await;
            }
        };
        // The outputs first, the end afterwards: until it is waited for, its process group cannot be another's.
        let (output, words, ()) = tokio::join!(drain(stdout), drain(stderr), write);
        let (Some(output), Some(words)) = (output, words) else {
            return Err(SpawnError::TooMuch { program: program.clone() });
        };
        let status = child
            .wait()
            .await
            .map_err(|error| SpawnError::NotStarted { program: program.clone(), reason: error.kind().to_string() })?;
        Ok(Finished { code: status.code(), output, words: last_words(&words) })
    };
    let result = tokio::select! {
        result = talk => result,
        () = clock.sleep(run.timeout) => Err(SpawnError::TimedOut { program: program.clone(), seconds: run.timeout.as_secs() }),
    };
    if result.is_ok() {
        group.0 = None;
    }
    result
}

/// What we open ourselves closes on exec; what we were started with (by a supervisor, a shell) does not, until now.
#[expect(unsafe_code, reason = "there is no other way to name a descriptor that nobody in this process owns")]
fn keep_descriptors() {
    for entry in fs::read_dir("/proc/self/fd").into_iter().flatten().flatten() {
        if let Some(number @ 3..) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
            // SAFETY: only a flag is set that every descriptor of this process has or should have; if the number is
            // closed or used again meanwhile, the call fails or sets what is set already.
            let _ = fcntl_setfd(unsafe { BorrowedFd::borrow_raw(number) }, FdFlags::CLOEXEC);
        }
    }
}

/// Everything until the end, or `None` when it is too much.
async fn drain(stream: Option<impl AsyncRead + Unpin>) -> Option<Zeroizing<Vec<u8>>> {
    // Full size at once: a vector that grows leaves copies of the secret behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(OUTPUT_LIMIT + 1));
    if let Some(stream) = stream {
        let mut limited = stream.take(OUTPUT_LIMIT as u64 + 1);
        while let Ok(1..) = limited.read_buf(&mut *bytes).await {}
    }
    (bytes.len() <= OUTPUT_LIMIT).then_some(bytes)
}

/// The last line that says something, fit for a log: no control characters, and no word that could be a token.
fn last_words(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let line = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let quiet = |word: &str| {
        let run = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '+' | '=');
        let token = word.split(|c| !run(c)).any(|part| part.len() >= 16 && part.contains(|c: char| c.is_ascii_digit()));
        if token { "[withheld]".to_owned() } else { word.chars().filter(|c| !c.is_control()).collect() }
    };
    line.split_whitespace().map(quiet).collect::<Vec<_>>().join(" ").chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    fn shell(script: &str, seconds: u64) -> Run {
        Run {
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            directory: None,
            environment: vec![("ONLY".into(), "this".into())],
            input: Secret::new("from stdin"),
            timeout: Duration::from_secs(seconds),
        }
    }

    #[tokio::test]
    async fn a_program_gets_its_input_and_nothing_else() {
        // A descriptor as a careless supervisor leaves it: it would go to every child.
        let _leak = rustix::io::dup(fs::File::open("/dev/null").unwrap()).unwrap();
        let done = run(shell("cat; echo; env; ls /proc/self/fd; exit 7", 30), &SystemClock).await.unwrap();
        let output = String::from_utf8(done.output.to_vec()).unwrap();
        assert_eq!(done.code, Some(7));
        let mut lines: Vec<_> = output.lines().collect();
        assert_eq!(lines.remove(0), "from stdin");
        // PWD and _ are the shell's own doing; descriptor 3 is the listed folder itself.
        lines.retain(|line| !line.starts_with("PWD=") && !line.starts_with("_="));
        assert_eq!(lines, ["ONLY=this", "0", "1", "2", "3"]);
    }

    #[tokio::test]
    async fn a_timeout_ends_the_program_and_its_children() {
        let folder = tempfile::tempdir().unwrap();
        let pid = folder.path().join("pid");
        let script = format!("sleep 300 & echo $! > {}; wait", pid.display());
        let error = run(shell(&script, 2), &SystemClock).await.err().unwrap();
        assert_eq!(error, SpawnError::TimedOut { program: "/bin/sh".into(), seconds: 2 });
        let child: i32 = fs::read_to_string(pid).unwrap().trim().parse().unwrap();
        let gone =
            |child: i32| fs::read_to_string(format!("/proc/{child}/stat")).map_or(true, |stat| stat.contains(") Z "));
        for _ in 0..100 {
            if gone(child) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the grandchild lives");
    }

    #[tokio::test]
    async fn a_flood_is_cut() {
        let error = run(shell("yes", 30), &SystemClock).await.err().unwrap();
        assert_eq!(error, SpawnError::TooMuch { program: "/bin/sh".into() });
    }

    #[test]
    fn last_words_hold_no_token_and_no_control_characters() {
        assert_eq!(
            last_words(b"first\nlogin \x1b[31mfailed for ghp_abcd1234efgh5678\n\n"),
            "login [31mfailed for [withheld]"
        );
        assert_eq!(
            last_words(b"open /etc/doppler/config.yaml: permission denied"),
            "open /etc/doppler/config.yaml: permission denied"
        );
        assert!(!last_words(b"token=s3cr3ts3cr3ts3cr3t!").contains("s3cr3t"));
    }

    #[tokio::test]
    async fn a_missing_program_is_named() {
        let mut missing = shell("", 5);
        missing.program = "/nowhere/at-all".into();
        let error = run(missing, &SystemClock).await.err().unwrap().to_string();
        assert!(error.contains("/nowhere/at-all"), "{error}");
    }
}

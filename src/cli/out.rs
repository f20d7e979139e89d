//! Standard output and standard error that may end early: `credd audit | head -3` is no failure of ours.

use std::{
    fmt,
    io::{self, Write},
    pin::Pin,
    process::ExitCode,
    sync::atomic::{AtomicU8, Ordering},
    task::{Context, Poll},
};

use tokio::io::AsyncWrite;

/// As shells report a program that SIGPIPE ended.
const EXIT_PIPE: u8 = 128 + 13;

const OPEN: u8 = 0;
/// Whoever read has seen enough.
const GONE: u8 = 1;
/// A full disk, for one.
const BROKEN: u8 = 2;
static STATE: AtomicU8 = AtomicU8::new(OPEN);

/// Standard output. Every verb writes through it; what cannot be written is noted, and decides the exit code.
#[derive(Clone, Copy, Debug, Default)]
pub struct Out;

impl Out {
    /// Whether anybody still gets what we write.
    pub fn is_open() -> bool {
        STATE.load(Ordering::Relaxed) == OPEN
    }

    /// A line. A verb goes on when nobody reads it: what it does may be worth more than what it says.
    pub fn line(mut self, text: fmt::Arguments<'_>) {
        let _ = writeln!(self, "{text}").and_then(|()| self.flush());
    }

    /// The exit code of a verb that ended with `code`, seen together with what became of its output.
    pub fn ended(code: ExitCode) -> ExitCode {
        match STATE.load(Ordering::Relaxed) {
            GONE if code == ExitCode::SUCCESS => ExitCode::from(EXIT_PIPE),
            BROKEN if code == ExitCode::SUCCESS => ExitCode::FAILURE,
            _ => code,
        }
    }

    fn noted<T>(done: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &done {
            let pipe = error.kind() == io::ErrorKind::BrokenPipe;
            let before = STATE.swap(if pipe { GONE } else { BROKEN }, Ordering::Relaxed);
            if !pipe && before == OPEN {
                note!("error: standard output cannot be written: {error}");
            }
        }
        done
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Self::noted(io::stdout().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Self::noted(io::stdout().flush())
    }
}

impl AsyncWrite for Out {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(self.write(bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.flush())
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}

/// A line for the person who waits, on standard error. Whoever closed it does not want to know.
pub(crate) fn told(text: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// `println!` that never panics.
macro_rules! say {
    ($($text:tt)*) => { $crate::cli::out::Out.line(format_args!($($text)*)) };
}
pub(super) use say;

/// `eprintln!` that never panics.
macro_rules! note {
    ($($text:tt)*) => { $crate::cli::out::told(format_args!($($text)*)) };
}
pub(crate) use note;

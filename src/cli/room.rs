//! What the process must be allowed before a daemon can be built in it (FM-70). Without it a start would fail half-way, in
//! words that speak of something else, or in a panic of a library.

use std::{
    io,
    sync::{Arc, Barrier},
    thread,
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Open files: an idle daemon has some thirty; each reader and each call needs one more.
const FILES: u64 = 64;
/// Threads beside those that run tasks: databases, watched files, blocking calls.
const THREADS: usize = 16;

/// Why there is no room, and what to raise.
pub(super) fn find() -> Result<(), String> {
    files()?;
    let wanted = thread::available_parallelism().map_or(1, usize::from) + THREADS;
    threads(wanted).map_err(|(got, error)| {
        format!(
            "only {got} threads can be started here ({error}), and credd needs {wanted}: raise TasksMax= of its unit, \
             pids.max of its container, or the limit of `ulimit -u`"
        )
    })
}

/// Raises the soft limit where that is all it takes.
fn files() -> Result<(), String> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let enough = |limit: Option<u64>| limit.is_none_or(|limit| limit >= FILES);
    if enough(current) {
        return Ok(());
    }
    if enough(maximum) && setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok() {
        return Ok(());
    }
    let allowed = current.unwrap_or(u64::MAX);
    Err(format!(
        "this process may have {allowed} open files, and credd needs at least {FILES}, and one more for each reader: \
         raise LimitNOFILE= of its unit, or the limit of `ulimit -n`"
    ))
}

/// Starts so many at once, and ends them again; how many there were when the system refused the next.
fn threads(wanted: usize) -> Result<(), (usize, io::Error)> {
    let mut started = Vec::with_capacity(wanted);
    let refused = (0..wanted).find_map(|number| {
        // Each waits for a word of its own, so that all are there in the same moment.
        let gate = Arc::new(Barrier::new(2));
        let waits = Arc::clone(&gate);
        match thread::Builder::new().stack_size(64 * 1024).spawn(move || _ = waits.wait()) {
            Ok(thread) => {
                started.push((gate, thread));
                None
            }
            Err(error) => Some((number, error)),
        }
    });
    for (gate, thread) in started {
        gate.wait();
        let _ = thread.join();
    }
    refused.map_or(Ok(()), Err)
}

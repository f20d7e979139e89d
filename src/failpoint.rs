//! Crash points: named places (CP-01 … CP-23) where a test can kill the process. They are in debug builds, whose binary the
//! tests kill, and with the feature `failpoints`; elsewhere they are empty.

/// Kills the process, as `kill -9` does, when `CREDD_FAILPOINT` names this point (`CP-08`, or `CP-08:3` for the third pass).
#[cfg(any(debug_assertions, feature = "failpoints"))]
pub fn reach(point: &str) {
    use std::sync::atomic::{AtomicU32, Ordering};
    static PASSED: AtomicU32 = AtomicU32::new(0);
    let Ok(wanted) = std::env::var("CREDD_FAILPOINT") else { return };
    let (name, pass) =
        wanted.split_once(':').map_or((wanted.as_str(), 1), |(name, pass)| (name, pass.parse().unwrap_or(1)));
    if name == point && PASSED.fetch_add(1, Ordering::SeqCst) + 1 == pass {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}

/// Nothing.
#[cfg(not(any(debug_assertions, feature = "failpoints")))]
#[inline(always)]
pub fn reach(_point: &str) {}

//! The only reader of clocks: wall time for dates, boot time (which counts suspend) for durations.

mod steady;

use std::{fmt, time::Duration};

use futures_util::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

pub use steady::{Noticed, Steady, SteadyClock};

/// One look at both clocks. Decisions take it as an argument, so that tests can move time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Now {
    /// The date, which an administrator or NTP may step.
    pub wall: Timestamp,
    /// Time since boot, suspend included; it never steps, and means nothing after a reboot.
    pub boot: Duration,
}

/// Where time comes from.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Both clocks, now.
    fn now(&self) -> Now;
    /// Ends when that much time has passed (or a little later).
    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()>;
    /// The sum of the steps of the wall clock that were taken over since the start; what was planned by date moves along.
    fn stepped(&self) -> SignedDuration {
        SignedDuration::ZERO
    }
    /// Whether the wall clock has jumped so far that its dates are not believed for now.
    fn is_doubted(&self) -> bool {
        false
    }
}

/// The machine's own clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the wall clock")]
    fn now(&self) -> Now {
        let boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let boot = Duration::new(boot.tv_sec.unsigned_abs(), u32::try_from(boot.tv_nsec).unwrap_or(0));
        Now { wall: Timestamp::now(), boot }
    }

    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(time))
    }
}

/// Names this machine; nothing where it has no name of its own (many containers). Confidential, as machine-id(5) says:
/// only fingerprints of it are kept.
pub fn machine_id() -> Option<String> {
    let text = std::fs::read_to_string("/etc/machine-id").ok()?;
    Some(text.trim().to_owned()).filter(|id| id.len() == 32)
}

/// Names this boot, so that boot times are only compared within one. `unknown` where the kernel does not say.
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map_or_else(|_| "unknown".into(), |id| id.trim().to_owned())
}

//! Whether the daemon makes progress: parts that must work at regular times leave a mark when they do.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use crate::clock::Clock;

/// All parts that must keep going. Clones share them.
#[derive(Clone, Debug)]
pub struct Pulse {
    clock: Arc<dyn Clock>,
    parts: Arc<Mutex<Vec<Part>>>,
}

#[derive(Clone, Debug)]
struct Part {
    name: String,
    silence: Duration,
    beat: Beat,
}

/// One part's mark.
#[derive(Clone, Debug)]
pub struct Beat {
    clock: Arc<dyn Clock>,
    /// Milliseconds of boot time.
    last: Arc<AtomicU64>,
}

impl Beat {
    /// The part works, as of now.
    pub fn mark(&self) {
        self.last.store(millis(self.clock.now().boot), Relaxed);
    }
}

impl Pulse {
    /// Nothing to watch yet.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, parts: Arc::default() }
    }

    /// A part that counts as wedged when it leaves no mark for longer than `silence`.
    pub fn part(&self, name: impl Into<String>, silence: Duration) -> Beat {
        let beat = Beat { clock: self.clock.clone(), last: Arc::default() };
        beat.mark();
        self.parts().push(Part { name: name.into(), silence, beat: beat.clone() });
        beat
    }

    /// Every part, and whether it is alive.
    pub fn list(&self) -> Vec<(String, bool)> {
        let now = millis(self.clock.now().boot);
        let alive = |part: &Part| now.saturating_sub(part.beat.last.load(Relaxed)) <= millis(part.silence);
        self.parts().iter().map(|part| (part.name.clone(), alive(part))).collect()
    }

    fn parts(&self) -> std::sync::MutexGuard<'_, Vec<Part>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

//! A clock moved by hand, which tells when the code under test waits.

use std::{sync::Arc, time::Duration};

use credd::clock::{Clock, Now};
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use tokio::sync::watch;

#[derive(Clone, Debug)]
pub struct HandClock(Arc<watch::Sender<State>>);

#[derive(Debug, Default)]
struct State {
    time: Duration,
    /// When each task that waits is to wake.
    ends: Vec<Duration>,
}

impl State {
    /// Those whose time has come are awake, even if they have not run yet.
    fn asleep(&self) -> usize {
        self.ends.iter().filter(|end| **end > self.time).count()
    }
}

/// One task that waits, for as long as it does.
struct Asleep(HandClock, Duration);

impl Drop for Asleep {
    fn drop(&mut self) {
        self.0.0.send_modify(|state| {
            let own = state.ends.iter().position(|end| *end == self.1).expect("it was entered");
            state.ends.swap_remove(own);
        });
    }
}

impl HandClock {
    pub fn new() -> Self {
        Self(Arc::default())
    }

    pub fn wall(&self) -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap() + self.0.borrow().time
    }

    /// Moves time once so many tasks wait for it: whoever was to act on the old time has acted.
    pub async fn advance(&self, asleep: usize, by: Duration) {
        self.asleep(asleep).await;
        self.0.send_modify(|state| state.time += by);
    }

    /// Until so many tasks wait for time to pass.
    pub async fn asleep(&self, count: usize) {
        self.0.subscribe().wait_for(|state| state.asleep() == count).await.expect("we hold the sender");
    }
}

impl Clock for HandClock {
    fn now(&self) -> Now {
        Now { wall: self.wall(), boot: self.0.borrow().time }
    }

    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        let (clock, end) = (self.clone(), self.0.borrow().time + time);
        Box::pin(async move {
            let mut changes = clock.0.subscribe();
            clock.0.send_modify(|state| state.ends.push(end));
            let _asleep = Asleep(clock.clone(), end);
            changes.wait_for(|state| state.time >= end).await.expect("we hold a sender");
        })
    }
}

//! A clock moved by hand, which tells when the code under test waits.

use std::{sync::Arc, time::Duration};

use credd::clock::{Clock, Now};
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use tokio::sync::watch;

#[derive(Clone, Debug)]
pub struct HandClock(Arc<watch::Sender<(Duration, usize)>>);

/// Counts one sleeper for as long as it lives.
struct Asleep(HandClock);

impl Drop for Asleep {
    fn drop(&mut self) {
        self.0.0.send_modify(|(_, asleep)| *asleep -= 1);
    }
}

impl HandClock {
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new((Duration::ZERO, 0))))
    }

    pub fn wall(&self) -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap() + self.0.borrow().0
    }

    /// Moves time once so many tasks wait for it: whoever was to act on the old time has acted.
    pub async fn advance(&self, asleep: usize, by: Duration) {
        self.asleep(asleep).await;
        self.0.send_modify(|(time, _)| *time += by);
    }

    /// Until so many tasks wait for time to pass.
    pub async fn asleep(&self, count: usize) {
        self.0.subscribe().wait_for(|(_, asleep)| *asleep == count).await.expect("we hold the sender");
    }
}

impl Clock for HandClock {
    fn now(&self) -> Now {
        Now { wall: self.wall(), boot: self.0.borrow().0 }
    }

    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        let (clock, end) = (self.clone(), self.0.borrow().0 + time);
        Box::pin(async move {
            let mut changes = clock.0.subscribe();
            clock.0.send_modify(|(_, asleep)| *asleep += 1);
            let _asleep = Asleep(clock.clone());
            changes.wait_for(|(now, _)| *now >= end).await.expect("we hold a sender");
        })
    }
}

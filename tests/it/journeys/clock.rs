//! RF-36, FM-66: the whole daemon on a machine whose clock is moved.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::SeqCst},
    },
    time::Duration,
};

use credd::clock::{Clock, Now, SystemClock};
use futures_util::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};

use crate::world::{World, grant, token, until, up};

/// The machine's clock, moved by hand: seconds of the wall alone, and of a suspend, which moves both.
#[derive(Clone, Debug, Default)]
struct Moved {
    wall: Arc<AtomicI64>,
    suspended: Arc<AtomicI64>,
}

impl Clock for Moved {
    fn now(&self) -> Now {
        let (now, suspended) = (SystemClock.now(), self.suspended.load(SeqCst));
        let wall = now.wall + SignedDuration::from_secs(self.wall.load(SeqCst) + suspended);
        Now { wall, boot: now.boot + Duration::from_secs(suspended.unsigned_abs()) }
    }

    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        SystemClock.sleep(time)
    }
}

async fn world() -> (World, Moved) {
    let (mut world, clock) = (World::new().await, Moved::default());
    world.clock = Arc::new(clock.clone());
    for name in ["a", "b", "c"] {
        world.granted(name, grant(3600.0), "").await;
    }
    world.start().await;
    for name in ["a", "b", "c"] {
        // From here on how long it lives is known as a span.
        assert_eq!(world.act(name, "refresh").await.status, 200);
    }
    (world, clock)
}

async fn metric(world: &World, line: &str) {
    until(line, async || world.health("/metrics").await.body.contains(&format!("\n{line}\n")).then_some(())).await;
}

async fn end(world: &World, name: &str) -> Timestamp {
    world.view(name).await["expires_at"].as_str().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn rf36_steps_of_the_clock_refresh_nothing_and_end_nothing() {
    let (mut world, clock) = world().await;
    let before = end(&world, "a").await;
    clock.wall.store(300, SeqCst);
    metric(&world, "credd_clock_steps_total 1").await;
    let moved = until("its end moves along", async || Some(end(&world, "a").await).filter(|end| *end != before)).await;
    let by = moved.duration_since(before);
    assert!((by - SignedDuration::from_mins(5)).abs() < SignedDuration::from_secs(1), "{by:#}");

    for wild in [300 + 3_600, -1_800_000_000] {
        clock.wall.store(wild, SeqCst);
        metric(&world, "credd_clock_untrusted 1").await;
        let health = until("health warns", async || {
            Some(world.health("/health").await).filter(|health| health.body.contains("clock has jumped"))
        })
        .await;
        assert_eq!((health.status, &health.json()["status"]), (200, &"warn".into()), "{}", health.body);
        let open =
            until("on-call is told", async || Some(world.incidents().await).filter(|open| !open.is_empty())).await;
        assert_eq!(open[0].kind, "clock_untrusted");
        assert!(!token(&world.read("a").await).is_empty(), "served all the while");
        clock.wall.store(300, SeqCst);
        metric(&world, "credd_clock_untrusted 0").await;
        until("the incident is over", async || world.incidents().await.is_empty().then_some(())).await;
    }
    for name in ["a", "b", "c"] {
        let view = world.view(name).await;
        assert_eq!((&view["generation"], &view["state"]), (&2.into(), &"fresh".into()), "no refresh: {view}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rf36_after_a_suspend_the_first_refresh_comes_at_once() {
    let (mut world, clock) = world().await;
    let woke = up();
    clock.suspended.store(7_200, SeqCst);
    for name in ["a", "b", "c"] {
        world.reaches(name, 3).await;
    }
    // Twenty seconds by the rule; twice that is a machine under load, and never the next planned refresh.
    assert!(up() - woke < Duration::from_secs(40), "{:?}", up() - woke);
    assert_eq!(world.incidents().await.len(), 0, "a suspend is no step");
    world.stop().await;
}

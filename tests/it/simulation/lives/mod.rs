//! Credentials that live for months in a moment: a driver that carries out effects as a shard does, a provider that
//! misbehaves, crashes at every step of a flight, and a person who heals what was paged. A failure names its seed.
//! The benchmark of a simulated year runs the same.

mod life;
mod provider;

use std::{thread, time::Duration};

use credd::{
    credential::{Kind, Rotation},
    lifecycle::Policy,
};
pub use life::{Life, Tally};

/// Seeded dice, the same on every machine (SplitMix64).
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// 0 to 1.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.next() % (to - from)
    }
}

const PROFILES: [(Kind, Rotation); 6] = [
    (Kind::RefreshToken, Rotation::None),
    (Kind::RefreshToken, Rotation::Grace),
    (Kind::RefreshToken, Rotation::UntilFirstUse),
    (Kind::RefreshToken, Rotation::Strict),
    (Kind::RefreshToken, Rotation::Sporadic),
    (Kind::ClientCredentials, Rotation::None),
];

fn policy(number: u64) -> Policy {
    let (kind, rotation) = PROFILES[usize::try_from(number % 6).unwrap()];
    Policy { rotation, grace: Duration::from_secs(30), ..Policy::new(kind) }
}

/// Lives so many credentials for so many days, on all processors, and adds up what happened.
pub fn run(credentials: u64, days: u64, beat: Duration, seed: u64) -> Tally {
    let workers = thread::available_parallelism().map_or(2, usize::from) as u64;
    let work = |worker: u64| {
        let mut all = Tally::default();
        for number in (worker..credentials).step_by(usize::try_from(workers).unwrap()) {
            all.add(&Life::new(policy(number), seed * 1_000_003 + number, days, beat).run());
        }
        all
    };
    let mut all = Tally::default();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|worker| scope.spawn(move || work(worker))).collect();
        workers.into_iter().for_each(|worker| all.add(&worker.join().expect("a life broke a promise")));
    });
    println!("seed {seed}: {credentials} credentials, {days} days: {all:?}");
    all
}

/// What must hold of all of them together.
pub fn check(all: &Tally) {
    assert!(all.promotions > 0 && all.crashes > 0 && all.lost_commits > 0 && all.outages > 0 && all.deaths > 0);
    // P-3: whatever the provider handed out was kept, or its reply was lost on the way, or it was replaced from outside.
    assert_eq!(all.commits, all.promotions + all.lost_commits + all.orphans, "P-3: a rotation was wasted");
    assert_eq!(all.pages, all.deaths, "P-7: one page for each death, and P-6: none else");
}

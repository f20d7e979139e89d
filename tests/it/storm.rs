//! Thousands of credentials on one token endpoint that is away and comes back (RF-26, P-9): the machine, the bucket and
//! the breaker together, with a clock that runs as fast as it can.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use credd::{
    credential::{CredentialId, ExpirySource, Failure, Kind, Rotation, Verdict},
    lifecycle::{Commit, Effect, Event, Lifecycle, Loaded, Origin, Policy, Promoted, advisory_window},
    watcher::{Admission, Endpoints},
};
use uuid::Uuid;

use crate::{lifecycle::at, simulation::Dice};

const LIFE: Duration = Duration::from_secs(3600);
/// All become due a little later than the outage begins.
const OUTAGE: (u64, u64) = (2_600_000, 2_600_000 + 30 * 60_000);
const ENDPOINT: &str = "https://acme.example/token client";

/// How the endpoint is away.
#[derive(Clone, Copy, Debug)]
enum Away {
    Refuses,
    Hangs,
}

impl Away {
    /// How long a call lasts, in milliseconds, and what is known of it then.
    fn call(self) -> (u64, Commit) {
        match self {
            Self::Refuses => (5, Commit::NotSent),
            Self::Hangs => (30_000, Commit::Ambiguous),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Next {
    /// The planned moment of that number; an older one is not looked at.
    Deadline(u32),
    /// The call has an answer; sent then.
    Landed(u64),
}

struct Storm {
    away: Away,
    policy: Policy,
    lives: Vec<(CredentialId, Lifecycle, u32)>,
    endpoints: Endpoints,
    queue: BinaryHeap<Reverse<(u64, usize, Next)>>,
    dice: Dice,
    now: u64,
    /// When each call was made.
    calls: Vec<u64>,
    most_out: usize,
    out: usize,
}

fn seconds(millis: u64) -> f64 {
    millis as f64 / 1e3
}

impl Storm {
    fn new(count: usize, away: Away) -> Self {
        let policy = Policy { rotation: Rotation::None, has_probe: false, ..Policy::new(Kind::RefreshToken) };
        let lives = (0..count).map(|n| (CredentialId::new(&format!("c{n}")).unwrap(), Lifecycle::default(), 0));
        let mut storm = Self {
            away,
            policy,
            lives: lives.collect(),
            endpoints: Endpoints::default(),
            queue: BinaryHeap::new(),
            dice: Dice::new(26),
            now: 0,
            calls: vec![],
            most_out: 0,
            out: 0,
        };
        for one in 0..count {
            storm.endpoints.join(ENDPOINT, &storm.lives[one].0, Some(LIFE), at(0.0).wall);
            let loaded = Event::Loaded(Loaded {
                generation: Lifecycle::default().generation.next(),
                has_token: true,
                expires_at: Some(at(0.0).wall + LIFE),
                source: ExpirySource::Configured,
                refresh_expires_at: None,
                origin: Origin::HomeStore,
            });
            // The same dice for all: they are due in the same moment.
            let life = &mut storm.lives[one].1;
            life.step(loaded, at(0.0), 0.5, &storm.policy);
            storm.plan(one);
        }
        storm
    }

    fn step(&mut self, one: usize, event: Event) {
        let (now, dice) = (at(seconds(self.now)), self.dice.unit());
        let (id, life, _) = &mut self.lives[one];
        let effects = life.step(event, now, dice, &self.policy);
        if effects.iter().any(|effect| matches!(effect, Effect::Prepare(_))) {
            match self.endpoints.admit(ENDPOINT, id, now.wall) {
                Admission::Wait(until) => {
                    let verdict = Verdict::of(Failure::UpstreamUnavailable, "paced");
                    return self.step(one, Event::Aborted { verdict, retry_at: Some(until) });
                }
                Admission::Go => {
                    life.step(Event::Prepared(Uuid::from_u128(1)), now, dice, &self.policy);
                    life.step(Event::Sent(now.wall + Duration::from_secs(60)), now, dice, &self.policy);
                    self.calls.push(self.now);
                    self.out += 1;
                    self.most_out = self.most_out.max(self.out);
                    let long = if self.is_away(self.now) { self.away.call().0 } else { 300 };
                    self.queue.push(Reverse((self.now + long, one, Next::Landed(self.now))));
                }
            }
        }
        self.plan(one);
    }

    fn plan(&mut self, one: usize) {
        let (_, life, number) = &mut self.lives[one];
        *number += 1;
        if let Some(next) = life.next_deadline(at(seconds(self.now)), &self.policy) {
            let after = next.duration_since(at(0.0).wall).as_millis().max(0);
            let when = u64::try_from(after).unwrap().max(self.now) + 1;
            self.queue.push(Reverse((when, one, Next::Deadline(*number))));
        }
    }

    fn is_away(&self, when: u64) -> bool {
        (OUTAGE.0..OUTAGE.1).contains(&when)
    }

    fn land(&mut self, one: usize, sent: u64) {
        self.out -= 1;
        let (id, life) = (self.lives[one].0.clone(), &self.lives[one].1);
        let wall = at(seconds(self.now)).wall;
        let event = if self.is_away(sent) {
            self.endpoints.failed(ENDPOINT, &id, wall);
            let verdict = Verdict::of(Failure::UpstreamUnavailable, "");
            Event::Failed { verdict, commit: self.away.call().1 }
        } else {
            self.endpoints.answered(ENDPOINT, &id, wall);
            Event::Promoted(Promoted {
                generation: life.generation.next(),
                sent_at: at(seconds(sent)),
                life: Some(LIFE),
                source: ExpirySource::Response,
                refresh_expires_at: None,
                repaired: false,
            })
        };
        self.step(one, event);
    }

    /// Until every credential has a new value.
    fn run(&mut self) {
        let mut fresh = 0;
        while fresh < self.lives.len() {
            let Reverse((when, one, next)) = self.queue.pop().expect("something is always planned");
            self.now = self.now.max(when);
            match next {
                Next::Deadline(number) if number == self.lives[one].2 => self.step(one, Event::Tick),
                Next::Deadline(_) => {}
                Next::Landed(sent) => {
                    fresh += usize::from(!self.is_away(sent));
                    self.land(one, sent);
                }
            }
        }
    }
}

/// An outage of half an hour with all of them due: a handful of calls until the breaker opens, then one in 30 s; and
/// when it is over, no more than the bucket gives.
#[test]
fn rf26_p9_thousands_that_wait_out_an_outage_make_no_storm_before_or_after() {
    let count = if std::env::var_os("CREDD_LONG").is_some() { 10_000 } else { 1_000 };
    // What the endpoint's bucket gives in a second.
    let rate = (1.5 * count as f64 / advisory_window(LIFE).as_secs_f64()).max(5.0);
    for away in [Away::Refuses, Away::Hangs] {
        let mut storm = Storm::new(count, away);
        storm.run();
        let during = storm.calls.iter().filter(|when| storm.is_away(**when)).count();
        assert!((25..=75).contains(&during), "{away:?}: {during} calls to an endpoint that was away");
        let after: Vec<u64> = storm.calls.iter().copied().filter(|when| *when >= OUTAGE.1).collect();
        assert_eq!(after.len(), count, "{away:?}: one call each");
        let busiest = after.iter().map(|from| after.iter().filter(|at| (*from..from + 10_000).contains(*at)).count());
        let busiest = busiest.max().unwrap() as f64;
        // A bucket that nobody drew from for a while gives ten at once.
        assert!(busiest <= rate * 10.0 + 10.0, "{away:?}: {busiest} calls in ten seconds, at {rate:.1} a second");
        let took = seconds(after.last().unwrap() - OUTAGE.1);
        // One trial may have been on its way when the endpoint came back, and be lost.
        let bound = count as f64 / rate + 60.0 + seconds(away.call().0);
        assert!(took <= bound, "{away:?}: all were fresh after {took:.0} s, not {bound:.0}");
        println!("{away:?}: {during} calls, then {busiest} in ten seconds at most, all fresh after {took:.0} s");
    }
}

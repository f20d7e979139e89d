//! RF-36, FM-66: a wall clock that jumps moves nothing that was planned as a span.

use std::time::Duration;

use credd::{
    clock::Now,
    credential::{ExpirySource, Generation, Kind, Rotation},
    lifecycle::{Effect, Event, Lifecycle, Loaded, Origin, Policy, Promoted, State},
};
use jiff::SignedDuration;
use proptest::prelude::*;
use uuid::Uuid;

use crate::lifecycle::at;

fn policy() -> Policy {
    Policy { rotation: Rotation::Strict, has_probe: false, ..Policy::new(Kind::RefreshToken) }
}

fn later(now: Now, off: SignedDuration) -> Now {
    Now { wall: now.wall + off, ..now }
}

fn loaded(generation: i64, expires_at: Option<jiff::Timestamp>) -> Event {
    let source = ExpirySource::Configured;
    let (generation, has_token) = (Generation(generation), expires_at.is_some());
    let origin = Origin::HomeStore;
    Event::Loaded(Loaded { generation, has_token, expires_at, source, refresh_expires_at: None, origin })
}

fn fly(life: &mut Lifecycle, now: Now, lives: u64) {
    life.step(Event::RefreshNow, now, 0.5, &policy());
    life.step(Event::Prepared(Uuid::from_u128(1)), now, 0.5, &policy());
    life.step(Event::Sent(now.wall + Duration::from_secs(60)), now, 0.5, &policy());
    let promoted = Promoted {
        generation: life.generation.next(),
        sent_at: now,
        life: Some(Duration::from_secs(lives)),
        source: ExpirySource::Response,
        refresh_expires_at: None,
        repaired: false,
    };
    life.step(Event::Promoted(promoted), now, 0.5, &policy());
}

fn takes_off(effects: &[Effect]) -> bool {
    effects.iter().any(|effect| matches!(effect, Effect::Prepare(_)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Two machines with the same token; the clock of one jumps, to 1970 or by a leap. Their refreshes, expiries and words
    /// come in the same moments of boot time.
    #[test]
    fn rf36_a_step_moves_nothing(lives in 120_u64..100_000, when in 0.0_f64..1.0, by in -1_700_000_000_i64..10_000_000) {
        let (mut steady, mut stepped, by) = (Lifecycle::default(), Lifecycle::default(), SignedDuration::from_secs(by));
        for life in [&mut steady, &mut stepped] {
            life.step(loaded(1, None), at(0.0), 0.5, &policy());
            fly(life, at(0.0), lives);
        }
        let moment = at(lives as f64 * when);
        prop_assert!(!takes_off(&stepped.step(Event::ClockStepped(by), later(moment, by), 0.9, &policy())) || takes_off(&steady.step(Event::Tick, moment, 0.9, &policy())));
        for tenth in 0..=20 {
            let now = at(lives as f64 * (when + f64::from(tenth) / 10.0));
            let one = steady.step(Event::Tick, now, 0.5, &policy());
            let other = stepped.step(Event::Tick, later(now, by), 0.5, &policy());
            prop_assert_eq!(takes_off(&one), takes_off(&other));
            prop_assert_eq!(steady.state(now, &policy()), stepped.state(later(now, by), &policy()));
            prop_assert_eq!(steady.is_servable(now), stepped.is_servable(later(now, by)));
            let left = |life: &Lifecycle, now: Now| life.validity().unwrap().left(now);
            prop_assert_eq!(left(&steady, now), left(&stepped, later(now, by)));
        }
    }
}

/// RF-36: an hour forward makes a thousand refreshes due only where the end was told as a date, and those are spread
/// over a minute; an hour back and none is late.
#[test]
fn rf36_what_was_told_as_a_date_is_spread_over_a_minute() {
    let by = SignedDuration::from_hours(1);
    let mut dice = crate::simulation::Dice::new(1);
    let mut seconds = Vec::new();
    for _ in 0..1_000 {
        let mut life = Lifecycle::default();
        life.step(loaded(1, Some(at(5_400.0).wall)), at(0.0), dice.unit(), &policy());
        let now = later(at(600.0), by);
        let effects = life.step(Event::ClockStepped(by), now, dice.unit(), &policy());
        assert!(!takes_off(&effects), "not at once");
        let next = life.next_deadline(now, &policy()).unwrap();
        seconds.push(next.duration_since(now.wall).as_secs_f64());
    }
    assert!(seconds.iter().all(|wait| (0.0..=60.0).contains(wait)));
    let first_half = seconds.iter().filter(|wait| **wait < 30.0).count();
    assert!((400..600).contains(&first_half), "{first_half} of 1000 in the first half minute");
}

/// RF-36: a suspend is no step. What came due meanwhile is due at the first tick.
#[test]
fn rf36_a_suspend_of_two_hours_makes_due_what_is_due() {
    let mut life = Lifecycle::default();
    life.step(loaded(1, None), at(0.0), 0.5, &policy());
    fly(&mut life, at(0.0), 3_600);
    assert_eq!(life.state(at(7_300.0), &policy()), State::Expired);
    assert!(takes_off(&life.step(Event::Tick, at(7_300.0), 0.5, &policy())));
}

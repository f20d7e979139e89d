//! Credentials that live for months in a moment. A failure names its seed.

pub mod lives;

use std::{env, time::Duration};

use credd::{
    credential::{ExpirySource, Failure, Kind, Rotation, Verdict},
    lifecycle::{Commit, Effect, Event, Lifecycle, Loaded, Origin, Policy, Promoted, State},
};
use jiff::SignedDuration;
use uuid::Uuid;

use crate::lifecycle::at;
pub use lives::Dice;
use lives::{Tally, check, run};

/// P-1, P-2, P-3, P-5, P-6, P-7, and RF-39 in those whose token changes now and then: the short form, with several seeds.
#[test]
fn p1_p2_p3_p5_p6_p7_rf39_many_lives_keep_every_promise() {
    let mut all = Tally::default();
    for seed in 1..=3 {
        all.add(&run(30, 15, Duration::from_secs(300), seed));
    }
    check(&all);
    assert!(all.strict_losses > 0, "the window of loss was never hit: the simulation has become too kind");
    assert!(all.expired_reads < all.reads / 100, "{all:?}");
}

/// A year of a thousand credentials: `CREDD_LONG=1 cargo test --release --test it simulation::`.
#[test]
fn p1_p2_p3_a_year_of_a_thousand_credentials() {
    if env::var_os("CREDD_LONG").is_none() {
        println!("CREDD_LONG=1 runs it");
        return;
    }
    check(&run(1_000, 365, Duration::from_secs(1_800), 2026));
}

fn bare(rotation: Rotation) -> Policy {
    Policy { rotation, has_probe: false, ..Policy::new(Kind::RefreshToken) }
}

/// Takes a flight from take-off to a new token that lives so long, within the same moment.
fn fly(life: &mut Lifecycle, seconds: f64, lives: Duration, policy: &Policy) -> Vec<Effect> {
    let now = at(seconds);
    life.step(Event::Prepared(Uuid::from_u128(1)), now, 0.5, policy);
    life.step(Event::Sent(now.wall + Duration::from_secs(60)), now, 0.5, policy);
    life.step(Event::Received, now, 0.5, policy);
    let promoted = Promoted {
        generation: life.generation.next(),
        sent_at: now,
        life: Some(lives),
        source: ExpirySource::Response,
        refresh_expires_at: None,
        repaired: false,
    };
    life.step(Event::Promoted(promoted), now, 0.5, policy)
}

fn loaded(lives: Duration) -> Event {
    Event::Loaded(Loaded {
        generation: Lifecycle::default().generation.next(),
        has_token: true,
        expires_at: Some(at(0.0).wall + lives),
        source: ExpirySource::Configured,
        refresh_expires_at: None,
        origin: Origin::HomeStore,
    })
}

fn wait(life: &Lifecycle, seconds: f64, policy: &Policy) -> f64 {
    let deadline = life.next_deadline(at(seconds), policy).expect("something is always planned");
    deadline.duration_since(at(0.0).wall).as_secs_f64().max(seconds)
}

/// RF-37: 400 days in which nobody asks, with a grant that dies after 90 idle days and a token that outlives it.
#[test]
fn rf37_an_idle_grant_never_dies() {
    const DAY: u64 = 86_400;
    let policy = Policy { refresh_idle: Some(Duration::from_secs(90 * DAY)), ..bare(Rotation::None) };
    let lives = Duration::from_secs(3_650 * DAY);
    let (mut life, mut seconds, mut used, mut refreshes) = (Lifecycle::default(), 0.0, 0.0_f64, 0);
    life.step(loaded(lives), at(0.0), 0.5, &policy);
    while seconds < 400.0 * DAY as f64 {
        seconds = wait(&life, seconds, &policy);
        if life.step(Event::Tick, at(seconds), 0.5, &policy).iter().any(|effect| matches!(effect, Effect::Prepare(_))) {
            assert!(seconds - used <= 30.0 * DAY as f64, "a third of the idle time at most");
            (used, refreshes) = (seconds, refreshes + 1);
            fly(&mut life, seconds, lives, &policy);
        }
    }
    assert!((13..=16).contains(&refreshes), "{refreshes} in 400 days");
}

/// RF-37: a grant that dies a year after consent, used or not: counted once from when it came, moved by no refresh, and
/// overruled by what the provider tells.
#[test]
fn rf37_an_absolute_end_is_counted_once_and_the_provider_knows_better() {
    const YEAR: Duration = Duration::from_secs(365 * 86_400);
    let policy = Policy { refresh_absolute: Some(YEAR), ..bare(Rotation::Strict) };
    let mut life = Lifecycle::default();
    let ends = |life: &Lifecycle| {
        let validity = life.validity().unwrap();
        (validity.refresh_expires_at.unwrap(), validity.refresh_source.unwrap())
    };
    life.step(loaded(Duration::from_secs(3_600)), at(0.0), 0.5, &policy);
    let assumed = (at(0.0).wall + YEAR, ExpirySource::Assumed);
    assert_eq!(ends(&life), assumed);
    life.step(Event::RefreshNow, at(1_800.0), 0.5, &policy);
    fly(&mut life, 1_800.0, Duration::from_secs(3_600), &policy);
    assert_eq!(ends(&life), assumed, "a refresh moves it not");
    life.step(Event::RefreshNow, at(3_600.0), 0.5, &policy);
    life.step(Event::Prepared(Uuid::from_u128(1)), at(3_600.0), 0.5, &policy);
    let told = (at(0.0).wall + Duration::from_secs(86_400), ExpirySource::Response);
    let promoted = Promoted {
        generation: life.generation.next(),
        sent_at: at(3_600.0),
        life: Some(Duration::from_secs(3_600)),
        source: ExpirySource::Response,
        refresh_expires_at: Some(told),
        repaired: false,
    };
    life.step(Event::Promoted(promoted), at(3_600.0), 0.5, &policy);
    assert_eq!(ends(&life), told);
}

/// An upstream that refuses every refresh of a 90-minute token: yellow at 60 minutes left, red at 10, at exactly
/// these moments, and green after the first success.
#[test]
fn p5_thresholds_turn_at_exactly_their_moments() {
    let minutes = |n: u64| Duration::from_secs(60 * n);
    // The refresh lead stands after the warning, so that the word turns by the threshold alone.
    let policy = Policy {
        ttl_warn: Some(minutes(60)),
        ttl_fail: Some(minutes(10)),
        lead: Some(minutes(50)),
        ..bare(Rotation::None)
    };
    let mut life = Lifecycle::default();
    life.step(loaded(minutes(90)), at(0.0), 0.0, &policy);
    let (mut dice, mut seconds, mut yellow, mut red, mut refusals) = (Dice::new(3), 0.0, None, None, 0);
    while seconds < 5_395.0 {
        seconds = wait(&life, seconds, &policy);
        let now = at(seconds);
        let left = life.validity().unwrap().left(now).unwrap();
        if seconds < 5_400.0 && left <= SignedDuration::try_from(policy.fail_below(Some(minutes(90)))).unwrap() {
            red.get_or_insert(seconds);
        }
        if life.step(Event::Tick, now, 0.0, &policy).iter().any(|effect| matches!(effect, Effect::Prepare(_))) {
            refusals += 1;
            life.step(Event::Prepared(Uuid::from_u128(1)), now, 0.5, &policy);
            life.step(Event::Sent(now.wall + Duration::from_secs(60)), now, 0.5, &policy);
            let verdict = Verdict::of(Failure::UpstreamUnavailable, "");
            life.step(Event::Failed { verdict, commit: Commit::NotCommitted }, now, dice.unit(), &policy);
        }
        match life.state(now, &policy) {
            State::Degraded => _ = yellow.get_or_insert(seconds),
            State::Expired => assert!(seconds >= 5_400.0),
            other => assert!(yellow.is_none() && other == State::Fresh, "{other} at {seconds}"),
        }
    }
    assert_eq!((yellow, red), (Some(1_800.0), Some(4_800.0)));
    assert!(refusals > 10);
    life.step(Event::RefreshNow, at(seconds), 0.5, &policy);
    fly(&mut life, seconds, minutes(90), &policy);
    assert_eq!(life.state(at(seconds), &policy), State::Fresh, "green after the first success");
}

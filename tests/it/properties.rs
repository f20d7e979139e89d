//! No sequence of events, however mad, breaks what the lifecycle promises.

use std::{collections::BTreeSet, time::Duration};

use credd::{
    clock::Now,
    credential::{ExpirySource, Failure, Generation, Kind, Rotation, Verdict},
    lifecycle::{
        Commit, Effect, Event, Found, Incident, Lifecycle, Loaded, Origin, Policy, Probed, Promoted, Standing,
    },
};
use jiff::Timestamp;
use proptest::prelude::*;
use uuid::Uuid;

use crate::lifecycle::at;

/// Something that happens; what it refers to is looked up when it does.
#[derive(Clone, Debug)]
enum Happening {
    /// Events that need nothing of the moment.
    Plain(Event),
    /// Material whose token ends then; `None`: it has no token.
    Loaded(Option<Option<i64>>),
    /// A value, so many generations on, that lives so long, perhaps malformed.
    Promoted(i64, Option<Duration>, bool),
    /// A probe of that many generations ago.
    Probed(i64, Result<(), Verdict>),
    /// A reader's refusal of that many generations ago.
    Refused(i64, Verdict),
    /// The call will be dead so long from now.
    Sent(u64),
    /// A restart that found a request sent so long ago, dead so long from now.
    FoundSent(u64, u64),
    /// The driver waits for the next deadline.
    UntilDeadline,
}

fn verdicts() -> impl Strategy<Value = Verdict> {
    let after = prop_oneof![Just(None), (0_u64..100_000).prop_map(|seconds| Some(Duration::from_secs(seconds)))];
    (proptest::sample::select(Failure::ALL.to_vec()), after, any::<bool>(), any::<bool>()).prop_map(
        |(failure, retry_after, definitive, retryable)| Verdict {
            retry_after,
            definitive,
            retryable,
            ..Verdict::of(failure, "")
        },
    )
}

fn lives() -> impl Strategy<Value = Option<Duration>> {
    prop_oneof![
        1 => Just(None),
        1 => Just(Some(Duration::MAX)),
        1 => (0_u64..100).prop_map(|seconds| Some(Duration::from_secs(seconds))),
        6 => (100_u64..100_000).prop_map(|seconds| Some(Duration::from_secs(seconds))),
    ]
}

fn happenings() -> impl Strategy<Value = Happening> {
    use Happening as H;
    let commits = vec![Commit::NotSent, Commit::NotCommitted, Commit::Doubtful, Commit::Ambiguous];
    let found = vec![Found::Prepared, Found::Nothing, Found::Received { attempt: Uuid::from_u128(9) }];
    prop_oneof![
        8 => Just(H::UntilDeadline),
        2 => prop_oneof![Just(None), Just(Some(None)), (-100_i64..100_000).prop_map(|ends| Some(Some(ends)))]
            .prop_map(H::Loaded),
        1 => Just(H::Plain(Event::Unchanged)),
        2 => Just(H::Plain(Event::Tick)),
        2 => prop_oneof![Just(Duration::MAX), (0_u64..600).prop_map(Duration::from_secs)]
            .prop_map(|offset| H::Plain(Event::Beat(offset))),
        5 => (1_u128..99).prop_map(|name| H::Plain(Event::Prepared(Uuid::from_u128(name)))),
        5 => (1_u64..90).prop_map(H::Sent),
        1 => (verdicts(), any::<bool>()).prop_map(|(verdict, asked)| {
            let retry_at = asked.then(|| at(2_000.0).wall);
            H::Plain(Event::Aborted { verdict, retry_at })
        }),
        3 => Just(H::Plain(Event::Received)),
        1 => Just(H::Plain(Event::Turned)),
        5 => (-1_i64..3, lives(), any::<bool>()).prop_map(|(on, life, repaired)| H::Promoted(on, life, repaired)),
        6 => (verdicts(), proptest::sample::select(commits))
            .prop_map(|(verdict, commit)| H::Plain(Event::Failed { verdict, commit })),
        3 => (0_i64..2, verdicts()).prop_map(|(ago, verdict)| H::Probed(ago, Err(verdict))),
        3 => (0_i64..2).prop_map(|ago| H::Probed(ago, Ok(()))),
        3 => (0_i64..2, verdicts()).prop_map(|(ago, verdict)| H::Refused(ago, verdict)),
        2 => (0_u64..10_000).prop_map(|seconds| H::Plain(Event::Wanted(Duration::from_secs(seconds)))),
        1 => Just(H::Plain(Event::RefreshNow)),
        1 => Just(H::Plain(Event::ProbeNow)),
        1 => Just(H::Plain(Event::Hold)),
        2 => Just(H::Plain(Event::Release)),
        1 => proptest::sample::select(found).prop_map(|found| H::Plain(Event::Found(found))),
        1 => (0_u64..100, 0_u64..90).prop_map(|(ago, dead)| H::FoundSent(ago, dead)),
    ]
}

/// Often by the full second, so that things fall due together.
fn pauses() -> impl Strategy<Value = f64> {
    prop_oneof![0.0_f64..900.0, (0_u32..90).prop_map(f64::from)]
}

pub fn policies() -> impl Strategy<Value = Policy> {
    let kinds = vec![Kind::RefreshToken, Kind::RefreshToken, Kind::ClientCredentials, Kind::JwtBearer, Kind::ApiKey];
    let profiles = vec![
        Rotation::None,
        Rotation::Grace,
        Rotation::UntilFirstUse,
        Rotation::Strict,
        Rotation::Sporadic,
        Rotation::Unknown,
    ];
    let (kinds, profiles) = (proptest::sample::select(kinds), proptest::sample::select(profiles));
    let idle = prop_oneof![Just(None), Just(Some(Duration::MAX)), Just(Some(Duration::from_secs(9_000)))];
    let lead = proptest::option::of((0_u64..100_000).prop_map(Duration::from_secs));
    (kinds, profiles, any::<bool>(), any::<bool>(), idle, lead).prop_map(
        |(kind, rotation, has_probe, reuse_kills_access_token, refresh_idle, lead)| Policy {
            rotation,
            grace: Duration::from_secs(30),
            reuse_kills_access_token,
            refresh_idle,
            has_probe,
            lead,
            ..Policy::new(kind)
        },
    )
}

/// Watches what the machine asks for, and remembers what it was told.
#[derive(Default)]
struct Watch {
    in_the_air: bool,
    open: BTreeSet<Incident>,
    evidence: bool,
    /// The newest value that the API refused.
    refused: Option<Generation>,
}

fn is_refusal(verdict: &Verdict) -> bool {
    matches!(verdict.failure, Failure::CredentialExpired | Failure::CredentialRejected | Failure::CredentialRevoked)
}

impl Watch {
    fn told(&mut self, event: &Event, life: &Lifecycle, policy: &Policy) {
        match event {
            Event::Found(Found::Received { .. }) => self.in_the_air = true,
            Event::Aborted { .. } | Event::Turned | Event::Found(_) => self.in_the_air = false,
            Event::Failed { verdict, .. } => {
                self.in_the_air = false;
                self.evidence |= verdict.failure == Failure::CredentialRevoked;
            }
            Event::Promoted(promoted) if promoted.generation > life.generation => self.in_the_air = false,
            Event::Loaded(_) => (self.evidence, self.refused) = (false, None),
            Event::Probed { generation, outcome: Probed::No(verdict) } if *generation == life.generation => {
                // What can be renewed is dead only when its successor is refused as well.
                self.evidence |= is_refusal(verdict)
                    && (!policy.kind.is_refreshable() || self.refused.is_some_and(|refused| refused < *generation));
                self.refused = if is_refusal(verdict) { Some(*generation) } else { self.refused };
            }
            Event::Refused { generation, verdict } if *generation == life.generation && is_refusal(verdict) => {
                self.refused = Some(*generation);
            }
            _ => {}
        }
    }

    fn asked(&mut self, effects: &[Effect], policy: &Policy) {
        for effect in effects {
            match effect {
                Effect::Prepare(_) => {
                    assert!(!self.in_the_air, "P-2: two flights");
                    assert!(policy.kind.is_refreshable(), "a static key does not fly");
                    self.in_the_air = true;
                }
                Effect::Raise(incident) => {
                    assert!(self.open.insert(*incident), "P-7: {incident:?} was raised while it was open");
                    let accused = *incident == Incident::CredentialRevoked;
                    assert!(!accused || self.evidence, "P-6: a page of a revocation without evidence");
                }
                Effect::Clear(incident) => {
                    assert!(self.open.remove(incident), "P-7: {incident:?} was cleared and is not open");
                }
                Effect::Probe(_) => assert!(policy.has_probe),
                Effect::Reload | Effect::Publish => {}
            }
        }
    }
}

fn resolve(happening: &Happening, life: &Lifecycle, now: Now) -> Event {
    let generation = life.generation;
    match happening {
        Happening::Plain(event) => event.clone(),
        Happening::UntilDeadline => Event::Tick,
        Happening::Loaded(token) => {
            let expires_at = token.flatten().map(|ends| now.wall + jiff::SignedDuration::from_secs(ends));
            Event::Loaded(Loaded {
                generation: generation.next(),
                has_token: token.is_some(),
                expires_at,
                source: ExpirySource::Configured,
                refresh_expires_at: None,
                origin: Origin::HomeStore,
            })
        }
        Happening::Promoted(on, life, repaired) => Event::Promoted(Promoted {
            generation: Generation(generation.0 + on),
            sent_at: now,
            life: *life,
            source: ExpirySource::Response,
            refresh_expires_at: None,
            repaired: *repaired,
        }),
        Happening::Probed(ago, outcome) => Event::Probed {
            generation: Generation(generation.0 - ago),
            outcome: match outcome {
                Ok(()) => Probed::Works(None),
                Err(verdict) => Probed::No(verdict.clone()),
            },
        },
        Happening::Refused(ago, verdict) => {
            Event::Refused { generation: Generation(generation.0 - ago), verdict: verdict.clone() }
        }
        Happening::Sent(dead) => Event::Sent(now.wall + Duration::from_secs(*dead)),
        Happening::FoundSent(ago, dead) => Event::Found(Found::Sent {
            prepared_at: now.wall - Duration::from_secs(*ago),
            dead_at: now.wall + Duration::from_secs(*dead),
        }),
    }
}

/// Reports whose repetition says nothing new.
fn may_be_repeated(event: &Event) -> bool {
    matches!(
        event,
        Event::Tick
            | Event::Unchanged
            | Event::Prepared(_)
            | Event::Sent(_)
            | Event::Received
            | Event::Promoted(_)
            | Event::Hold
    )
}

fn live(policy: &Policy, story: &[(f64, f64, Happening)]) {
    let (mut life, mut watch, mut seconds) = (Lifecycle::default(), Watch::default(), 0.0);
    for (pause, dice, happening) in story {
        let before = at(seconds);
        let deadline = life.next_deadline(before, policy);
        seconds = match (happening, deadline) {
            (Happening::UntilDeadline, Some(deadline)) => {
                let wait = deadline.duration_since(before.wall).as_secs_f64().clamp(0.0, 1e6);
                seconds + wait
            }
            _ => seconds + pause,
        };
        let now = at(seconds);
        let event = resolve(happening, &life, now);
        let (state, early) = (life.state(before, policy), deadline.is_none_or(|deadline| deadline > now.wall));
        watch.told(&event, &life, policy);
        let effects = life.step(event.clone(), now, *dice, policy);
        watch.asked(&effects, policy);
        if matches!(event, Event::Tick) && early {
            let calls = |effect: &Effect| matches!(effect, Effect::Prepare(_) | Effect::Probe(_) | Effect::Reload);
            assert!(!effects.iter().any(calls), "something was due before the deadline: {effects:?}");
            assert_eq!(state, life.state(now, policy), "the word changed before the deadline");
        }
        if may_be_repeated(&event) {
            let again = life.step(event.clone(), now, *dice, policy);
            let spurious = |effect: &Effect| !matches!(effect, Effect::Publish | Effect::Probe(_));
            assert!(!again.iter().any(spurious), "{event:?}, said twice, did {again:?}");
            watch.asked(&again, policy);
            let settled = life.clone();
            assert_eq!(life.step(event.clone(), now, *dice, policy), vec![], "{event:?}, said three times");
            assert_eq!(life, settled);
        }
        let next = life.next_deadline(now, policy);
        assert!(next.is_none_or(|next| next > now.wall), "P-9: something due was left undone at {next:?}: {life:?}");
        let text = serde_json::to_string(&life).unwrap();
        let read: Lifecycle = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
        assert!(life.probes().out || read == life, "a stored life is the life");
        assert_eq!(life.is_in_flight(), watch.in_the_air, "what the machine thinks is in the air is");
        let revoked = matches!(life.standing(), Standing::Revoked { .. });
        assert!(!revoked || !life.is_servable(now), "a revoked value is served");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if std::env::var_os("CREDD_LONG").is_some() { 20_000 } else { 300 }, failure_persistence: None, ..ProptestConfig::default() })]

    /// P-2, P-6, P-7, P-9: whatever happens, in whatever order.
    #[test]
    fn p2_p6_p7_p9_no_story_breaks_the_machine(
        policy in policies(),
        story in proptest::collection::vec((pauses(), 0.0_f64..1.0, happenings()), 1..120),
    ) {
        live(&policy, &story);
    }
}

/// Drives one credential for a day: every flight ends after a second, as `answer` says; readers nag all the while.
pub fn a_day(policy: &Policy, mut answer: impl FnMut(Timestamp, &Lifecycle) -> Event) -> (u32, Vec<Effect>) {
    let mut rng = crate::simulation::Dice::new(7);
    let (mut life, mut seconds, mut calls, mut told) = (Lifecycle::default(), 0_u32, 0, vec![]);
    let loaded = Happening::Loaded(Some(Some(3_600)));
    let mut next = Some(resolve(&loaded, &life, at(0.0)));
    while seconds < 86_400 {
        let now = at(f64::from(seconds));
        let event = next.take().unwrap_or(Event::Wanted(Duration::from_secs(7_200)));
        let effects = life.step(event, now, rng.unit(), policy);
        if effects.iter().any(|effect| matches!(effect, Effect::Prepare(_))) {
            calls += 1;
            life.step(Event::Prepared(Uuid::from_u128(1)), now, 0.5, policy);
            life.step(Event::Sent(now.wall + Duration::from_secs(60)), now, 0.5, policy);
            next = Some(answer(now.wall, &life));
        }
        told.extend(effects.into_iter().filter(|effect| matches!(effect, Effect::Raise(_) | Effect::Clear(_))));
        seconds += 1;
    }
    (calls, told)
}

pub fn promoted(life: &Lifecycle, sent: Timestamp, lives: Option<Duration>, repaired: bool) -> Event {
    let boot = Duration::try_from(sent.duration_since(at(0.0).wall)).unwrap() + at(0.0).boot;
    Event::Promoted(Promoted {
        generation: life.generation.next(),
        sent_at: Now { wall: sent, boot },
        life: lives,
        source: ExpirySource::Response,
        refresh_expires_at: None,
        repaired,
    })
}

pub fn bare(rotation: Rotation) -> Policy {
    Policy { rotation, has_probe: false, ..Policy::new(Kind::RefreshToken) }
}

/// RF-41: malformed lifetimes for a day: at most one call in five minutes, and one page that stays open.
#[test]
fn rf41_malformed_lifetimes_burn_nothing() {
    let (calls, told) =
        a_day(&bare(Rotation::Strict), |sent, life| promoted(life, sent, Some(Duration::from_secs(60)), true));
    assert!((100..=288).contains(&calls), "{calls} calls");
    assert_eq!(told, [Effect::Raise(Incident::RefreshThrottled)]);
    let (calls, _) = a_day(&bare(Rotation::Strict), |sent, life| promoted(life, sent, None, false));
    assert!(calls <= 288, "{calls} calls without any lifetime");
}

/// RF-41: readers who want more than a token ever has do not refresh it more than three times in its life.
#[test]
fn rf41_greedy_readers_burn_at_most_three_in_a_life() {
    let (calls, _) =
        a_day(&bare(Rotation::None), |sent, life| promoted(life, sent, Some(Duration::from_secs(3_600)), false));
    assert!(calls <= 3 * 24 + 3, "{calls} calls");
}

/// P-9: an endpoint that is down for a day is asked by back-off, however much readers nag; it is never a revocation.
#[test]
fn p9_an_outage_is_not_made_worse() {
    for (rotation, commit) in [
        (Rotation::None, Commit::NotSent),
        (Rotation::Grace, Commit::Doubtful),
        (Rotation::Strict, Commit::Ambiguous),
        (Rotation::Unknown, Commit::Ambiguous),
        (Rotation::UntilFirstUse, Commit::Ambiguous),
    ] {
        let (calls, told) = a_day(&bare(rotation), |_, _| Event::Failed {
            verdict: Verdict::of(Failure::UpstreamUnavailable, ""),
            commit,
        });
        // A back-off of 60 s with full jitter asks every 30 s on average.
        assert!((24..3_300).contains(&calls), "{rotation:?}: {calls} calls");
        assert!(!told.contains(&Effect::Raise(Incident::CredentialRevoked)), "{rotation:?}: {told:?}");
    }
}

/// RF-16: a dead grant is presented twice more at most in a whole day, and told once.
#[test]
fn rf16_a_dead_grant_is_left_alone() {
    let (calls, told) = a_day(&bare(Rotation::None), |_, _| Event::Failed {
        verdict: Verdict::of(Failure::CredentialRevoked, ""),
        commit: Commit::NotCommitted,
    });
    assert!((2..=3).contains(&calls), "{calls} calls");
    assert_eq!(told, [Effect::Raise(Incident::CredentialRevoked)]);
}

/// RF-17: a client that is refused asks four times an hour.
#[test]
fn rf17_a_wrong_client_asks_every_quarter_of_an_hour() {
    let (calls, told) = a_day(&bare(Rotation::None), |_, _| Event::Failed {
        verdict: Verdict::of(Failure::ClientMisconfigured, ""),
        commit: Commit::NotCommitted,
    });
    assert!((80..=97).contains(&calls), "{calls} calls");
    assert_eq!(told, [Incident::ClientMisconfigured, Incident::CredentialExpired].map(Effect::Raise));
}

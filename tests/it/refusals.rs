//! What is no verdict on a grant, however it is worded: the catalogue's word for a reply, and what the machine makes of a
//! whole day of it.

use std::time::Duration;

use credd::{
    catalogue::{Catalogue, Refusal, Surface},
    credential::{ExpirySource, Failure, Kind, Reply, Rotation, Verdict},
    lifecycle::{
        Commit, Effect, Event, Incident, Lifecycle, Loaded, Origin, Policy, Probed, Promoted, Standing, State,
    },
};
use uuid::Uuid;

use crate::{
    lifecycle::at,
    properties::{a_day, bare},
};

fn said_by_a_token_endpoint(status: u16, content_type: &str, body: &str) -> Verdict {
    let catalogue = Catalogue::embedded().unwrap();
    let reply = Reply::new(status, [("content-type", content_type)], body);
    let refusal =
        Refusal { surface: Surface::TokenEndpoint, presented: "refresh_token", reply: &reply, now: at(0.0).wall };
    catalogue.provider("rfc6749").unwrap().classify(&refusal)
}

const JSON: &str = "application/json";

/// A day in which every refresh is answered so: what lives is served, and nothing is called dead.
fn a_day_of(verdict: &Verdict) -> (u32, Vec<Effect>) {
    let (mut served, mut unserved) = (0, 0);
    let (calls, told) = a_day(&bare(Rotation::Strict), |sent, life| {
        let now = credd::clock::Now { wall: sent, ..at(0.0) };
        let lives = sent.duration_since(at(0.0).wall).as_secs() < 3_600;
        (served, unserved) = (served + u32::from(lives), unserved + u32::from(lives && !life.is_servable(now)));
        Event::Failed { verdict: verdict.clone(), commit: Commit::NotCommitted }
    });
    assert!(served > 0 && unserved == 0, "its token was served while it lived");
    assert!(!told.contains(&Effect::Raise(Incident::CredentialRevoked)), "{told:?}");
    (calls, told)
}

#[test]
fn rf20_an_oauth_error_is_known_in_other_spellings_and_what_is_unknown_waits() {
    for error in [
        "invalid_grant",
        "Invalid_Grant",
        " invalid_grant ",
        "invalid_grant: Token is expired or invalid.",
        "INVALID_GRANT: refresh token revoked",
    ] {
        let verdict = said_by_a_token_endpoint(400, JSON, &serde_json::json!({ "error": error }).to_string());
        assert_eq!(verdict.failure, Failure::CredentialRevoked, "{error:?}: {verdict:?}");
    }
    for error in ["flux_capacitor_low", "invalid", "grant", "E-4711"] {
        let verdict = said_by_a_token_endpoint(400, JSON, &serde_json::json!({ "error": error }).to_string());
        assert_eq!(verdict.failure, Failure::Unclassified, "{error:?}: {verdict:?}");
        let (calls, told) = a_day_of(&verdict);
        assert!((24..3_300).contains(&calls), "{calls} calls");
        assert_eq!(told.first(), Some(&Effect::Raise(Incident::CredentialExpired)), "{told:?}");
    }
}

#[test]
fn rf21_a_bare_refusal_of_a_gateway_is_no_verdict_on_the_grant() {
    let page = "<html><head><title>403 Forbidden</title></head><body><h1>Forbidden</h1><hr>waf</body></html>";
    for (status, content_type, body, failure) in [
        (401, "text/html", "<html><body>401 Unauthorized</body></html>", Failure::CredentialRejected),
        (401, "text/plain", "", Failure::CredentialRejected),
        (403, "text/html", page, Failure::NotACredentialFailure),
        (403, JSON, "", Failure::NotACredentialFailure),
    ] {
        let verdict = said_by_a_token_endpoint(status, content_type, body);
        assert_eq!(verdict.failure, failure, "{status} {body}: {verdict:?}");
        let (calls, told) = a_day_of(&verdict);
        assert!((24..3_300).contains(&calls), "{status}: {calls} calls");
        // Somebody is told in the end: that the token is over, or that our client may be what is refused.
        assert!(told.iter().any(|effect| matches!(effect, Effect::Raise(_))), "{status}: {told:?}");
    }
}

#[test]
fn rf46_a_bad_request_that_says_to_come_back_is_an_outage() {
    for error in ["temporarily_unavailable", "server_error", "slow_down"] {
        let verdict = said_by_a_token_endpoint(400, JSON, &serde_json::json!({ "error": error }).to_string());
        assert!(
            matches!(verdict.failure, Failure::UpstreamUnavailable | Failure::RateLimitReached),
            "{error}: {verdict:?}"
        );
        a_day_of(&verdict);
    }
    let verdict = said_by_a_token_endpoint(400, JSON, r#"{"error":"temporarily_unavailable"}"#);
    assert_eq!(verdict.failure, Failure::UpstreamUnavailable);
}

/// The API that is probed is away for a day: refreshes go on as planned, and nobody is told anything.
#[test]
fn fm09_a_probe_endpoint_that_is_down_for_a_day_touches_no_refresh() {
    const DAY: f64 = 86_400.0;
    let policy = Policy { rotation: Rotation::Strict, ..Policy::new(Kind::RefreshToken) };
    let (mut life, mut dice) = (Lifecycle::default(), crate::simulation::Dice::new(9));
    let (mut probes, mut refreshes, mut degraded) = (0, 0, false);
    let mut coming = vec![(
        0.0,
        Event::Loaded(Loaded {
            generation: life.generation.next(),
            has_token: true,
            expires_at: Some(at(3_600.0).wall),
            source: ExpirySource::Configured,
            refresh_expires_at: None,
            origin: Origin::HomeStore,
        }),
    )];
    coming.extend((0..288_u32).map(|beat| (f64::from(beat) * 300.0 + 1.0, Event::Beat(Duration::from_secs(7)))));
    let mut seconds = 0.0;
    while seconds < DAY {
        let deadline = life.next_deadline(at(seconds), &policy);
        let due = deadline.map_or(DAY, |at_| at_.duration_since(at(0.0).wall).as_secs_f64().max(seconds));
        coming.sort_by(|a, b| a.0.total_cmp(&b.0));
        let event = if coming.first().is_some_and(|(when, _)| *when <= due) {
            let (when, event) = coming.remove(0);
            seconds = when.max(seconds);
            event
        } else {
            seconds = due;
            Event::Tick
        };
        let now = at(seconds);
        for effect in life.step(event, now, dice.unit(), &policy) {
            match effect {
                Effect::Probe(_) => {
                    probes += 1;
                    let verdict = Verdict::of(Failure::UpstreamUnavailable, "probe");
                    let probed = Event::Probed { generation: life.generation, outcome: Probed::No(verdict) };
                    coming.push((seconds + 1.0, probed));
                }
                Effect::Prepare(_) => {
                    refreshes += 1;
                    life.step(Event::Prepared(Uuid::from_u128(1)), now, 0.5, &policy);
                    life.step(Event::Sent(now.wall + Duration::from_secs(60)), now, 0.5, &policy);
                    let promoted = Promoted {
                        generation: life.generation.next(),
                        sent_at: now,
                        life: Some(Duration::from_secs(3_600)),
                        source: ExpirySource::Response,
                        refresh_expires_at: None,
                        repaired: false,
                    };
                    coming.push((seconds + 1.0, Event::Promoted(promoted)));
                }
                Effect::Raise(incident) => panic!("{incident:?} was raised at {seconds} s"),
                _ => {}
            }
        }
        degraded |= life.state(now, &policy) == State::Degraded;
        assert!(matches!(life.standing(), Standing::Usable), "{:?} at {seconds} s", life.standing());
        assert!(life.is_servable(now), "not served at {seconds} s");
    }
    assert!(degraded, "it is shown");
    assert!((29..=35).contains(&refreshes), "{refreshes} refreshes of tokens of an hour");
    assert!((24..=288).contains(&probes), "{probes} probes: it goes on asking, and at least once an hour");
}

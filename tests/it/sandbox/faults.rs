//! Each fault as an HTTP client sees it, and as the log tells it.

use credd::{
    fetch::Exchange,
    sandbox::{FaultKind, Place, RetryAfter},
};
use serde_json::{Value, json};

use super::{HandClock, World, read, replied};

/// What a fault looks like from the other end of the wire.
#[derive(Debug, PartialEq)]
enum Seen {
    Ambiguous(&'static str),
    Replied(u16),
}

#[tokio::test]
async fn rf13_rf22_every_fault_is_one_request_with_the_right_answer_to_the_commit_question() {
    use FaultKind::*;
    let world = World::new().await;
    let admin = world.sandbox.admin();
    let table = [
        (Delay { ms: 10, after_commit: false }, Seen::Replied(200), true),
        (Status { status: 500, after_commit: false }, Seen::Replied(500), false),
        (Status { status: 502, after_commit: false }, Seen::Replied(502), false),
        (Status { status: 503, after_commit: false }, Seen::Replied(503), false),
        (Status { status: 504, after_commit: true }, Seen::Replied(504), true),
        (Restamp { status: 500 }, Seen::Replied(500), true),
        (RateLimit { retry_after: RetryAfter::Seconds(7) }, Seen::Replied(429), false),
        (Html { status: 200 }, Seen::Replied(200), false),
        (Html { status: 502 }, Seen::Replied(502), false),
        (Truncated, Seen::Ambiguous("truncated"), true),
        (Malformed, Seen::Replied(200), true),
        (DuplicateMembers, Seen::Replied(200), true),
        (Empty, Seen::Replied(200), true),
        (ErrorInSuccess { error: "bad_refresh_token".into() }, Seen::Replied(200), false),
        (Refuse { status: 400, error: "temporarily_unavailable".into(), description: None }, Seen::Replied(400), false),
        (Redirect { status: 307, location: "http://127.0.0.1:1/".into() }, Seen::Replied(307), false),
        (DropAfterCommit, Seen::Ambiguous("reset"), true),
        (ResetAfterCommit, Seen::Ambiguous("reset"), true),
        (ResetBeforeCommit, Seen::Ambiguous("reset"), false),
        (SlowBytes { every_ms: 1 }, Seen::Replied(200), true),
        (Member { name: "expires_in".into(), value: Some(json!("3600abc")) }, Seen::Replied(200), true),
        (Raw { status: 418, headers: [].into(), body: "tea".into() }, Seen::Replied(418), false),
    ];
    for (kind, expected, committed) in table {
        let seed = world.grant("strict");
        admin.fault(kind.clone().next(1).of(&seed.id));
        let seen = match world.refresh(&seed.refresh_token).await {
            Exchange::Replied(reply) => Seen::Replied(reply.status),
            Exchange::Ambiguous(trouble) => Seen::Ambiguous(trouble.reason),
            Exchange::NotSent(trouble) => panic!("{kind:?}: {trouble:?}"),
        };
        assert_eq!(seen, expected, "{kind:?}");
        assert_eq!(!admin.is_live(&seed.refresh_token), committed, "{kind:?}");
        let log = admin.log_of(&seed.id);
        assert_eq!(log.len(), 1, "{kind:?}");
        assert_eq!(log[0].committed.is_some(), committed, "{kind:?}");
        assert_eq!(log[0].faults, [kind.as_str()]);
        let whole = matches!(seen, Seen::Replied(_));
        assert_eq!((log[0].replied.is_some(), log[0].status.is_some() || !whole), (whole, true), "{kind:?}");
    }
    assert!(admin.faults().is_empty(), "each was for one call");
    assert_eq!(admin.counters().total.overlaps, 0);
    assert_eq!(admin.counters().total.in_flight, 0);
}

#[tokio::test]
async fn rf24_retry_after_takes_every_form() {
    let world = World::new().await;
    let seed = world.grant("strict");
    let mut seen = Vec::new();
    for retry_after in [
        RetryAfter::None,
        RetryAfter::Seconds(0),
        RetryAfter::Seconds(u64::MAX),
        RetryAfter::Date(30),
        RetryAfter::Date(-30),
        RetryAfter::Text("soon".into()),
    ] {
        world.sandbox.admin().fault(FaultKind::RateLimit { retry_after }.next(1));
        let reply = replied(world.refresh(&seed.refresh_token).await);
        seen.push(reply.header("retry-after").map(str::to_owned));
    }
    assert_eq!(seen[0], None);
    assert_eq!(seen[1].as_deref(), Some("0"));
    assert_eq!(seen[2].as_deref(), Some("18446744073709551615"));
    assert!(seen[3].as_ref().unwrap().ends_with(" GMT") && seen[4].as_ref().unwrap().ends_with(" GMT"), "{seen:?}");
    assert_ne!(seen[3], seen[4]);
    assert_eq!(seen[5].as_deref(), Some("soon"));
}

#[tokio::test]
async fn rf28_rf30_members_are_replaced_and_left_out() {
    let world = World::new().await;
    let admin = world.sandbox.admin();
    let seed = world.grant("strict");
    let ask = async |name: &str, value: Option<Value>| {
        admin.fault(FaultKind::Member { name: name.into(), value }.next(1));
        read(world.refresh(&seed.refresh_token).await).1
    };
    // The refresh token that is not handed out is not replaced either: the same one goes on.
    assert!(ask("refresh_token", None).await.get("refresh_token").is_none());
    assert_eq!(ask("refresh_token", Some(json!(""))).await["refresh_token"], "");
    assert_eq!(ask("refresh_token", Some(Value::Null)).await.get("refresh_token"), Some(&Value::Null));
    assert!(admin.is_live(&seed.refresh_token));
    assert_eq!(ask("expires_in", Some(json!([]))).await["expires_in"], json!([]));
}

#[tokio::test]
async fn duplicate_members_stand_twice_and_malformed_is_no_json() {
    let world = World::new().await;
    let seed = world.grant("none");
    world.sandbox.admin().fault(FaultKind::DuplicateMembers.next(1));
    let body = replied(world.refresh(&seed.refresh_token).await).body.clone();
    assert_eq!(String::from_utf8(body).unwrap().matches("\"access_token\":").count(), 2);
    world.sandbox.admin().fault(FaultKind::Malformed.next(1));
    let body = replied(world.refresh(&seed.refresh_token).await).body.clone();
    assert!(serde_json::from_slice::<Value>(&body).is_err() && body.starts_with(b"{\""));
}

#[tokio::test]
async fn the_api_has_faults_of_its_own() {
    let world = World::new().await;
    let seed = world.grant("strict");
    let refuse = FaultKind::Refuse { status: 403, error: "insufficient_scope".into(), description: None };
    world.sandbox.admin().fault(refuse.next(1).at(Place::Api));
    let reply = world.me(&seed.access_token).await;
    assert_eq!(reply.status, 403);
    assert!(reply.header("www-authenticate").unwrap().contains("insufficient_scope"));
    assert_eq!(world.me(&seed.access_token).await.status, 200);
    world.renewed(&seed.refresh_token).await;
}

#[tokio::test]
async fn bad_weather_is_the_same_for_the_same_seed() {
    let sky = async |seed| {
        let world =
            World::with(HandClock::new(false), |options| (options.misbehave, options.seed) = (true, Some(seed))).await;
        let grant = world.grant("none");
        for _ in 0..150 {
            world.refresh(&grant.refresh_token).await;
        }
        let path = world.sandbox.url.rsplit_once('/').unwrap().1.to_owned();
        let faults: Vec<_> = world.sandbox.admin().log().into_iter().map(|call| call.faults).collect();
        (path, faults)
    };
    let (first, again) = tokio::join!(sky(11), sky(11));
    assert_eq!(first, again);
    assert_eq!(first.1.len(), 150);
    assert!(first.1.iter().any(|faults| !faults.is_empty()));
    assert_ne!(first.0, sky(12).await.0);
}

#[tokio::test]
async fn a_scripted_reply_comes_as_it_was_written() {
    let world = World::new().await;
    let seed = world.grant("strict");
    let headers = [("Content-Length", "7"), ("X-Tag", "a"), ("content-type", "text/csv")];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    world.sandbox.admin().fault(FaultKind::Raw { status: 402, headers, body: "a,b".into() }.next(1));
    let reply = replied(world.refresh(&seed.refresh_token).await);
    assert_eq!((reply.status, reply.body.as_slice(), reply.header("x-tag")), (402, b"a,b".as_slice(), Some("a")));
    assert_eq!((reply.header("content-type"), reply.header("content-length")), (Some("text/csv"), Some("3")));
}

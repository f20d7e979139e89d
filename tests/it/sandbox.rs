//! The sandbox keeps its word: profiles, lives, faults, counters, as its own log and an HTTP client see them.

use std::{sync::Arc, time::Duration};

use credd::{
    clock::{Clock, Now, SystemClock},
    credential::{Reply, Secret},
    fetch::{Call, Exchange, Fetch, FetchSettings},
    sandbox::{FaultKind, NewGrant, NewKey, Options, Place, Profile, RetryAfter, Running, Sandbox, Seed, StartError},
};
use futures_util::future::{BoxFuture, join_all};
use serde_json::{Value, json};
use tokio::{net::TcpStream, sync::watch};

/// A clock that moves when told. Who waits by it moves it to the end of the wait, or, where it is gated, stays until
/// somebody else does.
#[derive(Debug)]
pub struct HandClock {
    now: Arc<watch::Sender<Now>>,
    gated: bool,
}

impl HandClock {
    pub fn new(gated: bool) -> Arc<Self> {
        Arc::new(Self { now: Arc::new(watch::Sender::new(SystemClock.now())), gated })
    }

    pub fn advance(&self, seconds: u64) {
        self.now.send_modify(|now| *now = later(*now, Duration::from_secs(seconds)));
    }
}

fn later(now: Now, time: Duration) -> Now {
    Now { wall: now.wall + time, boot: now.boot + time }
}

impl Clock for HandClock {
    fn now(&self) -> Now {
        *self.now.borrow()
    }

    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        let until = self.now().boot + time;
        if !self.gated {
            self.now.send_modify(|now| *now = later(*now, time));
        }
        let mut seen = self.now.subscribe();
        Box::pin(async move {
            seen.wait_for(|now| now.boot >= until).await.ok();
        })
    }
}

/// Waits for something that must come about.
async fn eventually(mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait).await.expect("it comes about");
}

struct World {
    sandbox: Running,
    clock: Arc<HandClock>,
    fetch: Fetch,
}

impl World {
    async fn new() -> Self {
        Self::with(HandClock::new(false), |_| ()).await
    }

    async fn with(clock: Arc<HandClock>, change: impl FnOnce(&mut Options)) -> Self {
        let mut options = Options { clock: Arc::clone(&clock) as Arc<dyn Clock>, ..Options::default() };
        change(&mut options);
        let sandbox = Sandbox::start(options).await.unwrap();
        Self { sandbox, clock, fetch: Fetch::new(FetchSettings::default()).unwrap() }
    }

    fn grant(&self, profile: &str) -> Seed {
        self.sandbox.admin().grant(NewGrant { profile: profile.parse().unwrap(), ..NewGrant::default() })
    }

    async fn post(&self, path: &str, form: &[(&str, &str)]) -> Exchange {
        let mut body = url::form_urlencoded::Serializer::new(String::new());
        body.extend_pairs([("client_id", "sandbox"), ("client_secret", "sandbox-secret")]).extend_pairs(form);
        let kind = Secret::new("application/x-www-form-urlencoded");
        let call = Call {
            method: http::Method::POST,
            url: format!("{}{path}", self.sandbox.url).parse().unwrap(),
            headers: vec![(http::header::CONTENT_TYPE, kind)],
            body: Some(Secret::new(body.finish())),
            timeout: Duration::from_secs(20),
        };
        self.fetch.exchange(call).await
    }

    async fn refresh(&self, token: &Secret) -> Exchange {
        self.post("/token", &[("grant_type", "refresh_token"), ("refresh_token", token.expose())]).await
    }

    /// A refresh that must succeed: access token, refresh token.
    async fn renewed(&self, token: &Secret) -> (Secret, Secret) {
        let (status, body) = read(self.refresh(token).await);
        assert_eq!(status, 200, "{body}");
        (secret(&body["access_token"]), secret(&body["refresh_token"]))
    }

    async fn refused(&self, token: &Secret) {
        let (status, body) = read(self.refresh(token).await);
        assert_eq!((status, &body["error"]), (400, &json!("invalid_grant")));
    }

    async fn me(&self, token: &Secret) -> Reply {
        let call = Call {
            method: http::Method::GET,
            url: self.sandbox.probe_url().parse().unwrap(),
            headers: vec![(http::header::AUTHORIZATION, Secret::new(format!("Bearer {}", token.expose())))],
            body: None,
            timeout: Duration::from_secs(20),
        };
        replied(self.fetch.exchange(call).await)
    }

    async fn admin(&self, method: http::Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let call = Call {
            method,
            url: format!("{}{path}", self.sandbox.admin_url).parse().unwrap(),
            headers: Vec::new(),
            body: body.map(|body| Secret::new(body.to_string())),
            timeout: Duration::from_secs(20),
        };
        read(self.fetch.exchange(call).await)
    }
}

#[track_caller]
fn replied(exchange: Exchange) -> Reply {
    let Exchange::Replied(reply) = exchange else { panic!("{exchange:?}") };
    reply
}

#[track_caller]
fn read(exchange: Exchange) -> (u16, Value) {
    let reply = replied(exchange);
    (reply.status, serde_json::from_slice(&reply.body).unwrap_or_default())
}

fn secret(value: &Value) -> Secret {
    Secret::new(value.as_str().expect("a text"))
}

#[tokio::test]
async fn none_keeps_the_refresh_token() {
    let world = World::new().await;
    let seed = world.grant("none");
    for _ in 0..3 {
        let (_, next) = world.renewed(&seed.refresh_token).await;
        assert_eq!(next, seed.refresh_token);
    }
    let counters = world.sandbox.admin().counters_of(&seed.id);
    assert_eq!((counters.refresh_calls, counters.commits, counters.access_tokens_minted), (3, 3, 3));
    assert_eq!((counters.refresh_tokens_minted, counters.reuse_seen), (0, 0));
}

#[tokio::test]
async fn grace_forgives_for_its_time_and_no_longer() {
    let world = World::new().await;
    let seed = world.grant("grace(30)");
    let (_, second) = world.renewed(&seed.refresh_token).await;
    world.clock.advance(30);
    let (_, third) = world.renewed(&seed.refresh_token).await;
    world.clock.advance(1);
    world.refused(&seed.refresh_token).await;
    world.renewed(&second).await;
    world.renewed(&third).await;
    let counters = world.sandbox.admin().counters_of(&seed.id);
    assert_eq!((counters.refresh_calls, counters.commits), (5, 4));
    assert_eq!((counters.reuse_seen, counters.reuse_refused), (2, 1));
    let generations: Vec<_> =
        world.sandbox.admin().log_of(&seed.id).iter().map(|call| (call.presented, call.minted)).collect();
    let expected = [(1, Some(2)), (1, Some(3)), (1, None), (2, Some(4)), (3, Some(5))];
    assert_eq!(generations, expected.map(|(presented, minted)| (Some(presented), minted)));
}

#[tokio::test]
async fn until_first_use_forgives_until_the_new_pair_is_used() {
    let world = World::new().await;
    for by_api in [true, false] {
        let seed = world.grant("until_first_use");
        world.renewed(&seed.refresh_token).await;
        world.clock.advance(1_000_000);
        let (access, next) = world.renewed(&seed.refresh_token).await;
        if by_api {
            assert_eq!(world.me(&access).await.status, 200);
        } else {
            world.renewed(&next).await;
        }
        world.refused(&seed.refresh_token).await;
        assert!(world.sandbox.admin().is_live(&next) || !by_api);
    }
}

#[tokio::test]
async fn strict_refuses_reuse_and_nothing_else() {
    let world = World::new().await;
    let seed = world.grant("strict");
    let (access, next) = world.renewed(&seed.refresh_token).await;
    assert!(!world.sandbox.admin().is_live(&seed.refresh_token));
    assert_eq!(world.sandbox.admin().find(&next), Some((seed.id.clone(), 2)));
    world.refused(&seed.refresh_token).await;
    assert_eq!(world.me(&access).await.status, 200);
    world.renewed(&next).await;
    let counters = world.sandbox.admin().counters_of(&seed.id);
    assert_eq!((counters.reuse_seen, counters.reuse_refused, counters.commits), (1, 1, 2));
}

#[tokio::test]
async fn strict_kill_family_ends_the_grant_on_reuse() {
    let world = World::new().await;
    let seed = world.grant("strict_kill_family");
    let (access, next) = world.renewed(&seed.refresh_token).await;
    world.refused(&seed.refresh_token).await;
    world.refused(&next).await;
    let reply = world.me(&access).await;
    assert_eq!(reply.status, 401);
    assert!(reply.header("www-authenticate").unwrap().contains("was revoked"));
    let outcomes: Vec<_> = world.sandbox.admin().log_of(&seed.id).into_iter().map(|call| call.outcome).collect();
    assert_eq!(outcomes, ["rotated", "reuse_killed_family", "revoked", "revoked"]);
}

#[tokio::test]
async fn sporadic_rotates_now_and_then_and_the_old_one_lasts_a_day() {
    let world = World::with(HandClock::new(false), |options| options.seed = Some(7)).await;
    let seed = world.grant("sporadic(0.3)");
    let (mut token, mut changes, mut old) = (seed.refresh_token.clone(), 0, None);
    for _ in 0..60 {
        let (_, next) = world.renewed(&token).await;
        if next != token {
            changes += 1;
            old = Some(std::mem::replace(&mut token, next));
        }
    }
    assert_eq!(world.sandbox.admin().counters_of(&seed.id).refresh_tokens_minted, changes);
    assert!((1..60).contains(&changes), "{changes}");
    let old = old.unwrap();
    let (_, latest) = world.renewed(&old).await;
    assert_eq!(latest, token);
    world.clock.advance(24 * 3600 + 1);
    world.refused(&old).await;
    assert!(Profile::Sporadic(0.3) == "sporadic(0.3)".parse().unwrap());
}

#[tokio::test]
async fn lives_end_and_the_api_says_how() {
    let world = World::new().await;
    let terms = NewGrant {
        access_ttl: Duration::from_secs(60),
        refresh_ttl: Some(Duration::from_secs(600)),
        grant_ttl: Some(Duration::from_secs(1000)),
        expiry_header: true,
        ..NewGrant::default()
    };
    let seed = world.sandbox.admin().grant(terms);
    let good = world.me(&seed.access_token).await;
    assert_eq!(good.header("x-token-expires-at").unwrap(), seed.expires_at.to_string());
    world.clock.advance(59);
    assert_eq!(world.me(&seed.access_token).await.status, 200);
    world.clock.advance(1);
    let expired = world.me(&seed.access_token).await;
    assert_eq!(expired.status, 401);
    let challenge = expired.header("www-authenticate").unwrap();
    assert!(challenge.contains("error=\"invalid_token\"") && challenge.contains("expired"), "{challenge}");
    world.clock.advance(539);
    let (_, next) = world.renewed(&seed.refresh_token).await;
    world.clock.advance(401);
    assert_eq!(world.me(&Secret::new("sbx_at_never")).await.status, 401);
    world.refused(&next).await;
    let log = world.sandbox.admin().log_of(&seed.id);
    assert_eq!(log.last().unwrap().outcome, "expired", "the grant's own end");
}

#[tokio::test]
async fn a_new_access_token_may_end_the_old_one() {
    let world = World::new().await;
    let seed = world.sandbox.admin().grant(NewGrant { single_access: true, ..NewGrant::default() });
    let (access, _) = world.renewed(&seed.refresh_token).await;
    assert_eq!((world.me(&seed.access_token).await.status, world.me(&access).await.status), (401, 200));
}

#[tokio::test]
async fn revocation_takes_what_it_should() {
    let world = World::new().await;
    let admin = world.sandbox.admin();
    let active = async |token: &Secret| read(world.post("/introspect", &[("token", token.expose())]).await).1["active"] == json!(true);
    let by_client = world.grant("strict");
    assert!(active(&by_client.refresh_token).await && active(&by_client.access_token).await);
    assert_eq!(read(world.post("/revoke", &[("token", by_client.refresh_token.expose())]).await).0, 200);
    assert!(!active(&by_client.refresh_token).await && !active(&by_client.access_token).await);
    world.refused(&by_client.refresh_token).await;

    let by_operator = world.grant("strict");
    assert!(admin.revoke(&by_operator.id));
    world.refused(&by_operator.refresh_token).await;
    assert_eq!(world.me(&by_operator.access_token).await.status, 401);
    assert!(!admin.revoke("grant-99"));

    let (id, key) = admin.key(&NewKey { ttl: Some(Duration::from_secs(60)), expiry_header: true });
    assert!(world.me(&key).await.header("x-token-expires-at").is_some());
    world.clock.advance(60);
    assert!(world.me(&key).await.header("www-authenticate").unwrap().contains("expired"));
    let (forever, key) = admin.key(&NewKey::default());
    assert_eq!(world.me(&key).await.status, 200);
    assert!(admin.revoke(&forever) && admin.revoke(&id));
    assert!(world.me(&key).await.header("www-authenticate").unwrap().contains("revoked"));
    assert_eq!(admin.counters_of(&forever).api_refused, 1);
}

#[tokio::test]
async fn a_client_must_be_who_it_says() {
    let world = World::new().await;
    let seed = world.grant("strict");
    let form = [("grant_type", "refresh_token"), ("refresh_token", seed.refresh_token.expose())];
    let twice = [("client_id", "sandbox"), form[0], form[1]];
    assert_eq!(read(world.post("/token", &twice).await).1["error"], "invalid_request", "a parameter twice");
    world.sandbox.admin().client(credd::sandbox::Client {
        id: "sandbox".into(),
        secret: Some(Secret::new("another")),
        public_key: None,
        access_ttl: Duration::from_secs(60),
    });
    let reply = replied(world.post("/token", &form).await);
    assert_eq!(reply.status, 401);
    assert!(reply.header("www-authenticate").unwrap().starts_with("Basic"));
    assert!(world.sandbox.admin().is_live(&seed.refresh_token), "nothing was spent");
}

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
async fn p2_two_refreshes_at_once_are_counted_as_an_overlap() {
    let world = World::with(HandClock::new(true), |_| ()).await;
    let admin = world.sandbox.admin();
    let seed = world.grant("none");
    admin.fault(FaultKind::Delay { ms: 1_000, after_commit: false }.next(2));
    let both_there = async {
        eventually(|| admin.counters_of(&seed.id).in_flight == 2).await;
        world.clock.advance(1);
    };
    tokio::join!(world.refresh(&seed.refresh_token), world.refresh(&seed.refresh_token), both_there);
    let counters = admin.counters_of(&seed.id);
    assert_eq!((counters.refresh_calls, counters.overlaps, counters.in_flight), (2, 1, 0));
    for _ in 0..200 {
        world.renewed(&seed.refresh_token).await;
    }
    assert_eq!(admin.counters_of(&seed.id).overlaps, 1, "one after the other is no overlap");
}

#[tokio::test]
async fn rf04_a_caller_that_leaves_stops_nothing() {
    let world = World::with(HandClock::new(true), |_| ()).await;
    let admin = world.sandbox.admin();
    let seed = world.grant("strict");
    admin.fault(FaultKind::Delay { ms: 1_000, after_commit: false }.next(1));
    tokio::select! {
        exchange = world.refresh(&seed.refresh_token) => panic!("{exchange:?}"),
        () = eventually(|| admin.counters_of(&seed.id).in_flight == 1) => {}
    }
    world.clock.advance(1);
    eventually(|| admin.counters_of(&seed.id).in_flight == 0).await;
    assert!(admin.log_of(&seed.id)[0].committed.is_some());
    assert!(!admin.is_live(&seed.refresh_token));
}

#[tokio::test]
async fn bad_weather_is_the_same_for_the_same_seed() {
    let sky = async |seed| {
        let world = World::with(HandClock::new(false), |options| (options.misbehave, options.seed) = (true, Some(seed))).await;
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
async fn the_admin_api_does_over_http_what_the_handle_does() {
    use http::Method;
    let world = World::new().await;
    let terms = json!({"profile": "grace(1.5)", "access_ttl": 5, "refresh_ttl": null});
    let (status, grant) = world.admin(Method::POST, "/admin/grants", Some(terms)).await;
    assert_eq!((status, &grant["id"], &grant["client_secret"]), (200, &json!("grant-1"), &json!("sandbox-secret")));
    let (_, next) = world.renewed(&secret(&grant["refresh_token"])).await;
    assert_eq!(world.admin(Method::GET, "/admin/counters", None).await.1["grants"]["grant-1"]["commits"], 1);
    let log = world.admin(Method::GET, "/admin/log?grant=grant-1", None).await.1;
    assert_eq!((&log[0]["presented"], &log[0]["minted"], log.as_array().unwrap().len()), (&json!(1), &json!(2), 1));
    assert_eq!(world.admin(Method::GET, "/admin/log?after=1", None).await.1, json!([]));

    let fault = json!({"fault": "status", "status": 503, "at": "any"});
    let id = world.admin(Method::POST, "/admin/faults", Some(fault)).await.1["id"].clone();
    assert_eq!(replied(world.refresh(&next).await).status, 503);
    assert_eq!(world.admin(Method::GET, "/admin/faults", None).await.1[id.to_string()]["status"], 503);
    assert_eq!(world.admin(Method::DELETE, &format!("/admin/faults/{id}"), None).await.0, 200);
    assert_eq!(world.admin(Method::DELETE, "/admin/faults/99", None).await.0, 404);
    world.renewed(&next).await;

    let key = world.admin(Method::POST, "/admin/keys", None).await.1;
    assert_eq!(world.me(&secret(&key["api_key"])).await.status, 200);
    assert_eq!(world.admin(Method::DELETE, "/admin/keys/key-1", None).await.0, 200);
    assert_eq!(world.me(&secret(&key["api_key"])).await.status, 401);
    assert_eq!(world.admin(Method::DELETE, "/admin/grants/grant-1", None).await.0, 200);
    let (status, problem) = world.admin(Method::POST, "/admin/faults", Some(json!({"fault": "sulk"}))).await;
    assert_eq!(status, 400);
    assert!(problem["error"].as_str().unwrap().contains("unknown variant `sulk`"), "{problem}");
    assert!(world.admin(Method::GET, "/admin", None).await.1["requests"].is_array());
}

#[tokio::test]
async fn the_admin_api_is_for_this_machine_and_not_for_web_pages() {
    let options = Options { admin: "0.0.0.0:0".parse().unwrap(), ..Options::default() };
    assert!(matches!(Sandbox::start(options).await, Err(StartError::Admin(_))));
    let world = World::new().await;
    let call = Call {
        method: http::Method::POST,
        url: format!("{}/admin/grants", world.sandbox.admin_url).parse().unwrap(),
        headers: vec![(http::header::ORIGIN, Secret::new("https://evil.example"))],
        body: None,
        timeout: Duration::from_secs(20),
    };
    assert_eq!(replied(world.fetch.exchange(call).await).status, 403);
    let taken = world.sandbox.url.trim_start_matches("http://").parse().unwrap();
    let error = Sandbox::start(Options { listen: taken, ..Options::default() }).await.unwrap_err();
    assert!(error.to_string().contains("choose another port"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_of_connections_is_fine() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).ok();
    let room = limit.maximum.unwrap_or(65_536).saturating_sub(1_000) / 2;
    let crowd = usize::try_from(room).unwrap().min(4_000);
    let world = World::new().await;
    let address = world.sandbox.url.trim_start_matches("http://").to_owned();
    let mut idle = Vec::with_capacity(crowd);
    for _ in 0..crowd {
        idle.push(TcpStream::connect(&address).await.unwrap());
    }
    let seed = world.grant("none");
    let calls = join_all((0..200).map(|_| world.me(&seed.access_token))).await;
    assert!(calls.iter().all(|reply| reply.status == 200));
    assert_eq!(world.sandbox.admin().counters_of(&seed.id).api_calls, 200);
    drop(idle);
}

//! The sandbox keeps its word: profiles, lives, faults, counters, as its own log and an HTTP client see them.

mod faults;
mod grants;

use std::{sync::Arc, time::Duration};

use credd::{
    clock::{Clock, Now, SystemClock},
    credential::{Reply, Secret},
    fetch::{Call, Exchange, Fetch, FetchSettings},
    sandbox::{FaultKind, NewGrant, Options, Running, Sandbox, Seed, StartError},
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
    let crowd = usize::try_from(room).unwrap().min(10_000);
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

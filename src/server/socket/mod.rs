//! The readers' socket: HTTP/1.1 over a Unix socket. Who calls is what the kernel says; what they may read, the settings.
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/tokens/{name}` | the token; `ETag` is its generation, `If-None-Match` gives 304; `?min_ttl=30s` joins or starts a refresh, `?wait=30s` waits for the next generation |
//! | `GET /v1/services/{service}/token?use=read` | the same, for the narrowest credential that will do among those that the caller may read; the answer's `name` tells which |
//! | `GET /v1/watch?names=a,b`, `?service=a&use=read` | server-sent events `token`, `state`, `withdrawn`, `removed`: what is, then each change |
//! | `POST /v1/tokens/{name}/refused` | `{generation, status, headers, body, surface}` of an upstream's no; answered with `{verdict, message, token}` |
//! | `GET /v1/credentials` | what the caller may read, and how it does |

mod answer;
mod list;
mod read;
mod refused;
mod target;
mod wanted;
mod watch;

use std::{convert::Infallible, fmt, path::Path, sync::Arc, time::Duration};

use futures_util::future::{BoxFuture, Either, Ready, ready};
use http::{Method, Request, StatusCode};
use hyper::{body::Incoming, service::Service};
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    metrics::Metrics,
    publish::{Asks, Peer, Subscriber},
    web::{self, Caller, Problem, UnixDoor},
};
use answer::Response;
use target::Target;

/// The value of the label `interface` in metrics.
const INTERFACE: &str = "uds";

/// What a peer of this socket may.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections and patience.
    pub web: web::Limits,
    /// A read of an expired token waits at most that long for the next one.
    pub flight: Duration,
    /// A long poll waits at most that long, whatever it asks.
    pub poll: Duration,
    /// A refusal's verdict is waited for at most that long.
    pub verdict: Duration,
    /// Between two heartbeats of a watch.
    pub heartbeat: Duration,
}

impl Limits {
    /// The usual, with that many connections for each user.
    pub fn per_uid(connections: usize) -> Self {
        let total = connections.saturating_mul(16);
        Self {
            web: web::Limits { per_party: connections, total, idle: None, ..web::Limits::default() },
            ..Self::default()
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            web: web::Limits { per_party: 1024, total: 16 * 1024, idle: None, ..web::Limits::default() },
            flight: Duration::from_secs(5),
            poll: Duration::from_secs(300),
            verdict: Duration::from_secs(45),
            heartbeat: Duration::from_secs(15),
        }
    }
}

/// What the audit log should know of the socket. The caller of [`serve`] writes it there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Occurrence {
    /// A peer asked for a credential that it may not read, or that does not exist.
    Denied {
        /// Who.
        peer: Peer,
        /// What for; only if it has the form of a name.
        name: Option<crate::credential::CredentialId>,
    },
}

/// Told of each [`Occurrence`], in the task of a request: it must not wait.
pub type Witness = Arc<dyn Fn(Occurrence) + Send + Sync>;

/// What the socket works with.
#[derive(Clone)]
pub struct Parts {
    /// What is published.
    pub subscriber: Subscriber,
    /// The way to the shards.
    pub asks: Asks,
    /// Where deliveries are counted.
    pub metrics: Metrics,
    /// The only source of time.
    pub clock: Arc<dyn Clock>,
    /// Hears what the audit log should know.
    pub witness: Witness,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Parts")
    }
}

/// Binds the readers' socket, and makes it known by `rebound` when its file had to be put back.
pub async fn bind(
    path: &Path,
    mode: u32,
    clock: Arc<dyn Clock>,
    rebound: impl Fn(&Path) + Send + 'static,
) -> Result<UnixDoor, web::BindError> {
    Ok(UnixDoor::bind(path, mode, clock).await?.on_rebound(rebound))
}

/// Serves until `stop`, then drains: watches and waits end at once, answers under way are completed.
pub async fn serve<L: web::Listener>(listener: L, parts: Parts, limits: Limits, stop: CancellationToken) {
    let clock = parts.clock.clone();
    let own_uid = rustix::process::geteuid().as_raw();
    let desk = Arc::new(Desk { parts, limits, own_uid, wanted: wanted::Wanted::default(), stop: stop.clone() });
    let service = move |caller| {
        // A Unix socket has local callers only; whoever is not known to the kernel is nobody.
        let peer = match caller {
            Caller::Local { uid, gid, .. } => Peer { uid, gid },
            Caller::Remote(_) => Peer { uid: u32::MAX, gid: u32::MAX },
        };
        Counter { desk: desk.clone(), peer }
    };
    web::serve(listener, service, limits.web, clock, stop).await;
}

/// What all connections share.
struct Desk {
    parts: Parts,
    limits: Limits,
    own_uid: u32,
    wanted: wanted::Wanted,
    stop: CancellationToken,
}

/// One connection's service.
struct Counter {
    desk: Arc<Desk>,
    peer: Peer,
}

type Answered = Result<Response, Infallible>;

impl Service<Request<Incoming>> for Counter {
    type Response = Response;
    type Error = Infallible;
    type Future = Either<Ready<Answered>, BoxFuture<'static, Answered>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        match self.desk.quick(&request, self.peer) {
            Some(response) => Either::Left(ready(Ok(response))),
            None => {
                let (desk, peer) = (self.desk.clone(), self.peer);
                Either::Right(Box::pin(async move { Ok(desk.answer(request, peer).await) }))
            }
        }
    }
}

impl Desk {
    /// Everything but the plain read of a token that is there.
    async fn answer(self: Arc<Self>, request: Request<Incoming>, peer: Peer) -> Response {
        let now = self.parts.clock.now().wall;
        if hyper::body::Body::size_hint(request.body()).lower() > web::BODY_CAP as u64 {
            return answer::of_body(web::BodyError::TooLarge, now);
        }
        let path = request.uri().path().to_owned();
        let get = request.method() == Method::GET;
        match path.strip_prefix("/v1/") {
            Some("credentials") if get => self.list(peer),
            Some("watch") if get => self.watch(request.uri().query().unwrap_or(""), peer),
            Some("credentials" | "watch") => answer::wrong_method("GET", now),
            Some(rest) if Target::of(rest, "").is_some() => match Target::of(rest, request.uri().query().unwrap_or(""))
            {
                Some(target) if get => self.read(&target, &request, peer).await,
                _ => answer::wrong_method("GET", now),
            },
            Some(rest) => match rest.strip_prefix("tokens/").and_then(|rest| rest.split_once('/')) {
                Some((name, "refused")) if request.method() == Method::POST => self.refused(name, request, peer).await,
                Some((_, "refused")) => answer::wrong_method("POST", now),
                _ => answer::no_such_path(now),
            },
            None => answer::no_such_path(now),
        }
    }

    fn bad_request(&self, detail: &str) -> Response {
        answer::problem(&Problem::plain(StatusCode::BAD_REQUEST, detail), self.parts.clock.now().wall)
    }
}

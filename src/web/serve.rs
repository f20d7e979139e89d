//! Serving HTTP/1.1: connections counted, peers given limited time, and a drain at the end.

use std::{
    collections::HashMap,
    convert::Infallible,
    fmt,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use hyper::{
    body::{Body, Incoming},
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use super::{
    Caller, Listener,
    accept::{Accepting, Party},
    ending::{Ending, Stage},
    patience::{Patient, Phase},
};
use crate::clock::Clock;

/// How much a peer may, and how long it may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From connecting to the first byte.
    pub first: Duration,
    /// From the first byte of a request's head to its last.
    pub head: Duration,
    /// Between two requests; `None` where a waiting connection costs only its place.
    pub idle: Option<Duration>,
    /// For a peer that takes nothing of what we send.
    pub blocked: Duration,
    /// For a request's body.
    pub body: Duration,
    /// Connections of one user, or of one address.
    pub per_party: usize,
    /// Connections of all.
    pub total: usize,
    /// For connections to end by themselves when the daemon stops.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(30),
            head: Duration::from_secs(5),
            idle: Some(Duration::from_secs(30)),
            blocked: Duration::from_secs(10),
            body: Duration::from_secs(10),
            per_party: 256,
            total: 4096,
            drain: Duration::from_secs(5),
        }
    }
}

/// A request's head and a connection's buffer may have that many bytes.
const BUFFER: usize = 16 * 1024;

pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-type: text/plain\r\n\
    content-length: 22\r\nconnection: close\r\n\r\ntoo many connections.\n";

/// Serves until `stop`, then drains. `service` makes what answers one connection's requests, knowing who calls.
pub async fn serve<L, S, B, F>(listener: L, service: F, limits: Limits, clock: Arc<dyn Clock>, stop: CancellationToken)
where
    L: Listener,
    F: Fn(Caller) -> S,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send + 'static,
    S::Future: Send,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let places = Places::default();
    let connections = TaskTracker::new();
    let ending = Arc::new(Ending::default());
    let mut accepting = Accepting::new(listener, clock.clone());
    loop {
        let (mut io, caller) = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            taken = accepting.next() => taken,
        };
        let Some(place) = places.take(caller.party(), &limits) else {
            tracing::debug!(?caller, "turned away: too many connections");
            // As far as it goes in one write: a peer that we turn away is not waited for.
            connections.spawn(async move {
                tokio::select! { biased; _ = io.write_all(BUSY) => {}, () = std::future::ready(()) => {} }
            });
            continue;
        };
        let connection = connection(io, service(caller), limits, clock.clone(), ending.clone());
        connections.spawn(async move {
            let _place = place;
            connection.await;
        });
    }
    drop(accepting);
    connections.close();
    ending.reach(Stage::Drain);
    tokio::select! { () = connections.wait() => {}, () = clock.sleep(limits.drain) => ending.reach(Stage::Cut) }
    connections.wait().await;
}

/// Serves a router. Its handlers find the [`Caller`] among the request's extensions.
pub async fn serve_router<L: Listener>(
    listener: L,
    router: axum::Router,
    limits: Limits,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) {
    let service = move |caller: Caller| {
        let router = router.clone();
        service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(caller);
            router.clone().oneshot(request)
        })
    };
    serve(listener, service, limits, clock, stop).await;
}

fn connection<Io, S, B>(
    io: Io,
    service: S,
    limits: Limits,
    clock: Arc<dyn Clock>,
    ending: Arc<Ending>,
) -> impl Future<Output = ()>
where
    Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body<Data = Bytes, Error: Into<BoxError>> + 'static,
{
    let phase = Phase::default();
    let io = TokioIo::new(Patient::new(io, phase.clone(), limits, clock));
    let service = service_fn(move |request| {
        phase.serving();
        service.call(request)
    });
    async move {
        let connection = http1::Builder::new().max_buf_size(BUFFER).serve_connection(io, service);
        if let Err(error) = ending.serve(connection).await {
            // Peers hang up, dawdle and babble: their affair.
            tracing::debug!(%error, "a connection ended early");
        }
    }
}

/// Who has how many connections.
#[derive(Clone, Default)]
struct Places(Arc<Mutex<Taken>>);

#[derive(Default)]
struct Taken {
    parties: HashMap<Party, usize>,
    total: usize,
}

struct Place {
    places: Places,
    party: Party,
}

impl Places {
    fn take(&self, party: Party, limits: &Limits) -> Option<Place> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = taken.parties.get(&party).copied().unwrap_or(0);
        if mine >= limits.per_party || taken.total >= limits.total {
            return None;
        }
        taken.parties.insert(party, mine + 1);
        taken.total += 1;
        Some(Place { places: self.clone(), party })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.0.lock().unwrap_or_else(PoisonError::into_inner);
        taken.total -= 1;
        if let Some(mine) = taken.parties.get_mut(&self.party) {
            *mine -= 1;
            if *mine == 0 {
                taken.parties.remove(&self.party);
            }
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Place({:?})", self.party)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_by_party_and_given_back() {
        let (places, limits) = (Places::default(), Limits { per_party: 2, total: 3, ..Limits::default() });
        let (a, _b) = (places.take(Party::User(1), &limits), places.take(Party::User(1), &limits));
        assert!(a.is_some() && places.take(Party::User(1), &limits).is_none());
        let _c = places.take(Party::User(2), &limits).unwrap();
        assert!(places.take(Party::User(3), &limits).is_none(), "all places are taken");
        drop(a);
        assert!(places.take(Party::User(1), &limits).is_some());
    }
}

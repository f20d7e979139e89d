//! Health and metrics: a listener of its own, plain HTTP, because it carries no secret.
//!
//! `/livez` and `/readyz` never look at a credential: a restart cures no revoked token. `/health` is the document that
//! orchestrators poll.

mod help;
mod judge;
mod probes;
mod stores;

pub use judge::{Check, Checks, Document, Status, Terms, judge, judge_one};
pub use stores::{StoreCheck, StoreState, Stores};

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::{Extension, Path, RawQuery, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
    routing::get,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use url::form_urlencoded;

use super::{FailOn, scrape};
use crate::{
    clock::Clock,
    credential::{Reference, Resolve, Secret},
    publish::{Criticality, Reader, Slot, Subscriber, View},
    web::{self, AuthFailure, Caller, Problem, Pulse, Readiness},
};

/// What health works with.
#[derive(Clone, Debug)]
pub struct Parts {
    /// What is published.
    pub subscriber: Subscriber,
    /// Whether the daemon is ready.
    pub readiness: Readiness,
    /// Whether it makes progress.
    pub pulse: Pulse,
    /// The home stores.
    pub stores: Stores,
    /// `/metrics`.
    pub scrape: scrape::Scrape,
    /// The only source of time.
    pub clock: Arc<dyn Clock>,
    /// `server.fail_on`.
    pub fail_on: FailOn,
    /// `server.details_token`.
    pub details_token: Option<Reference>,
    /// Fetches the details token at each use.
    pub resolve: Arc<dyn Resolve>,
    /// Names this daemon (`credd@host-a`).
    pub service_id: String,
}

/// Binds the listener of health and metrics. The error is a sentence for the operator.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|error| {
        format!("{address}: cannot listen there ({error}); see who does (`ss -ltnp`), or set another `server.health`")
    })
}

/// Serves health and metrics until `stop`.
pub async fn serve<L: web::Listener>(listener: L, parts: Parts, limits: web::Limits, stop: CancellationToken) {
    let clock = parts.clock.clone();
    web::serve_router(listener, router(parts), limits, clock, stop).await;
}

/// The routes. `HEAD` works wherever `GET` does.
pub fn router(parts: Parts) -> Router {
    Router::new()
        .route("/livez", get(probes::livez))
        .route("/healthz", get(probes::livez))
        .route("/readyz", get(probes::readyz))
        .route("/readyz/{*check}", get(probes::readyz_part))
        .route("/health", get(all))
        .route("/health/credentials/{name}", get(one))
        .route("/health/consumers/{name}", get(consumer))
        .route("/metrics", get(metrics))
        .fallback(no_such_path)
        .with_state(Arc::new(parts))
}

type Parted = State<Arc<Parts>>;
type Called = Extension<Caller>;

async fn all(State(parts): Parted, call: Called, headers: HeaderMap, RawQuery(query): RawQuery) -> Response {
    parts.aggregate(parts.subscriber.slots(), &call, &headers, query).await
}

async fn consumer(
    State(parts): Parted,
    call: Called,
    headers: HeaderMap,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let mut slots = parts.subscriber.slots();
    slots.retain(|slot| slot.current().readers().iter().any(|reader| reader.name.as_deref() == Some(&name)));
    if slots.is_empty() {
        let detail = "no credential names this consumer in its `readers`";
        return problem(&Problem::plain(StatusCode::NOT_FOUND, detail), &parts);
    }
    parts.aggregate(slots, &call, &headers, query).await
}

async fn one(
    State(parts): Parted,
    call: Called,
    headers: HeaderMap,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let asked = match Asked::read(query.as_deref().unwrap_or(""), parts.fail_on) {
        Ok(asked) => asked,
        Err(words) => return problem(&Problem::plain(StatusCode::BAD_REQUEST, &words), &parts),
    };
    let Some(slot) = parts.subscriber.get(&name) else { return unknown(&name, &parts) };
    let document = judge_one(&slot.current().view, parts.clock.now().wall, &asked.terms);
    parts.answer(document, &[slot], &asked, &call, &headers).await
}

impl Parts {
    async fn aggregate(
        &self,
        mut slots: Vec<Arc<Slot>>,
        call: &Caller,
        headers: &HeaderMap,
        query: Option<String>,
    ) -> Response {
        let asked = match Asked::read(query.as_deref().unwrap_or(""), self.fail_on) {
            Ok(asked) => asked,
            Err(words) => return problem(&Problem::plain(StatusCode::BAD_REQUEST, &words), self),
        };
        if let Some(consumer) = &asked.consumer {
            // Who reads a cut needs the cut.
            let reads = |reader: &Reader| reader.name.as_ref() == Some(consumer) && reader.cut.is_none();
            slots.retain(|slot| slot.current().readers().iter().any(reads));
        }
        if !asked.credentials.is_empty() {
            slots.retain(|slot| asked.credentials.contains(slot.current().view.name.as_str()));
            let found: BTreeSet<String> = slots.iter().map(|slot| slot.current().view.name.to_string()).collect();
            if let Some(missing) = asked.credentials.difference(&found).next() {
                return unknown(missing, self);
            }
        }
        let views: Vec<View> = slots.iter().map(|slot| slot.current().view.clone()).collect();
        let document = judge(&views, self.clock.now().wall, &asked.terms);
        self.answer(document, &slots, &asked, call, headers).await
    }

    async fn answer(
        &self,
        mut document: Document,
        slots: &[Arc<Slot>],
        asked: &Asked,
        call: &Caller,
        headers: &HeaderMap,
    ) -> Response {
        document.service_id.clone_from(&self.service_id);
        let current: Vec<_> = slots.iter().map(|slot| slot.current()).collect();
        let homes: BTreeSet<&str> = current
            .iter()
            .filter(|edition| edition.view.criticality != Criticality::Ignore)
            .map(|edition| edition.view.store.as_str())
            .collect();
        let mut stores = self.stores.list();
        stores.retain(|store| homes.contains(store.name.as_str()));
        document.add_stores(&stores, self.clock.now().wall);
        if self.may_see_readers(call, headers).await {
            for (slot, edition) in slots.iter().zip(&current) {
                let Some([check]) = document.checks.credentials.get_mut(&format!("{}:ttl", edition.view.name)) else {
                    continue;
                };
                check.readers = Some(slot.usage.list());
                if check.status != Status::Pass {
                    check.affected_endpoints = edition.readers().iter().filter_map(endpoint).collect();
                }
            }
        }
        let status = match document.status {
            Status::Pass => StatusCode::OK,
            Status::Warn => asked.warn_status,
            Status::Fail => StatusCode::SERVICE_UNAVAILABLE,
        };
        let body = serde_json::to_vec(&document).expect("plain words and numbers always serialise");
        let mut response = respond(status, "application/health+json", body);
        if document.status == Status::Fail {
            let seconds = document.retry_after.map_or(10, |time| time.as_secs().max(1));
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }

    /// Details that name readers: for this host, or for whoever holds the details token.
    ///
    /// A name in `Host`, or a proxy's header, means that the caller only looks local (DNS rebinding, a proxy on this host).
    async fn may_see_readers(&self, call: &Caller, headers: &HeaderMap) -> bool {
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("");
        let forwarded = ["forwarded", "x-forwarded-for"].iter().any(|name| headers.contains_key(*name));
        let local = match call {
            Caller::Remote(address) => address.ip().to_canonical().is_loopback() && is_loopback(host),
            Caller::Local { .. } => true,
        };
        if local && !forwarded {
            return true;
        }
        let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let bearer = bearer.and_then(|value| value.strip_prefix("Bearer ")).map(|text| Secret::new(text.trim()));
        match (bearer, &self.details_token) {
            (Some(bearer), Some(reference)) => match self.resolve.resolve(reference).await {
                Ok(token) => !token.is_empty() && token == bearer,
                Err(why) => {
                    tracing::warn!("server.details_token cannot be read: {why}");
                    false
                }
            },
            _ => false,
        }
    }
}

/// A reader as the draft's "affected endpoints" have it: a URI. Who reads a cut is affected by what becomes of the cut.
fn endpoint(reader: &Reader) -> Option<String> {
    let scheme = |scheme: &str, name: &str| {
        let name: String = form_urlencoded::byte_serialize(name.as_bytes()).collect();
        format!("{scheme}{}", name.replace('+', "%20"))
    };
    match (&reader.name, reader.uid, reader.gid) {
        _ if reader.cut.is_some() => None,
        (Some(name), ..) => Some(scheme("mcp://", name)),
        (None, Some(uid), _) => Some(scheme("uid:", &uid.to_string())),
        (None, None, gid) => Some(scheme("gid:", &gid?.to_string())),
    }
}

fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(""),
        None => host.split(':').next().unwrap_or(""),
    };
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The knobs of a query.
struct Asked {
    terms: Terms,
    credentials: BTreeSet<String>,
    consumer: Option<String>,
    warn_status: StatusCode,
}

impl Asked {
    fn read(query: &str, fail_on: FailOn) -> Result<Self, String> {
        let terms = Terms { fail_on, ..Terms::default() };
        let mut asked = Self { terms, credentials: BTreeSet::new(), consumer: None, warn_status: StatusCode::OK };
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match name.as_ref() {
                "fail_on" => {
                    asked.terms.fail_on = serde_json::from_value(value.as_ref().into())
                        .map_err(|_| "`fail_on` must be degraded, expired or revoked")?;
                }
                "min_ttl" => asked.terms.min_ttl = Some(super::duration("min_ttl", &value)?),
                "credential" => asked.credentials.extend(value.split(',').map(str::to_owned)),
                "consumer" => asked.consumer = Some(value.into_owned()),
                "verbose" => asked.terms.verbose = value != "false" && value != "0",
                "warn_status" => {
                    asked.warn_status = value
                        .parse()
                        .ok()
                        .filter(|code| (200..500).contains(code))
                        .and_then(|code| StatusCode::from_u16(code).ok())
                        .ok_or("`warn_status` must be a status from 200 to 499")?;
                }
                _ => {}
            }
        }
        Ok(asked)
    }
}

async fn metrics(State(parts): Parted) -> Response {
    let text = parts.scrape.text().await;
    respond(StatusCode::OK, scrape::CONTENT_TYPE, text)
}

async fn no_such_path(State(parts): Parted) -> Response {
    let detail =
        "the paths are /livez, /readyz, /health, /health/credentials/{name}, /health/consumers/{name}, /metrics";
    problem(&Problem::plain(StatusCode::NOT_FOUND, detail), &parts)
}

fn unknown(name: &str, parts: &Parts) -> Response {
    let name: String = name.chars().take(80).collect();
    let detail = format!("there is no credential named {name:?}");
    problem(&Problem::failure(AuthFailure::unknown(&name), detail), parts)
}

fn problem(problem: &Problem, parts: &Parts) -> Response {
    problem.response(parts.clock.now().wall).map(Body::new)
}

fn respond(status: StatusCode, kind: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_loopback_host_is_local() {
        for local in ["127.0.0.1", "127.0.0.1:7421", "[::1]:7421", "localhost:7421"] {
            assert!(is_loopback(local), "{local}");
        }
        for other in ["", "evil.example", "evil.example:7421", "10.0.0.1", "127.0.0.1.evil.example"] {
            assert!(!is_loopback(other), "{other}");
        }
    }
}

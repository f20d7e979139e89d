//! Responses of the socket.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use futures_util::stream::BoxStream;
use http::{HeaderName, HeaderValue, StatusCode, header};
use http_body_util::{Either, Full, StreamBody};
use hyper::body::Frame;
use jiff::Timestamp;

use crate::{
    publish::Ready,
    web::{BodyError, Problem},
};

/// Ready bytes, or a stream of events.
pub type Body = Either<Full<Bytes>, StreamBody<BoxStream<'static, Result<Frame<Bytes>, Infallible>>>>;
/// What the socket answers.
pub type Response = http::Response<Body>;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const MIN_TTL: HeaderName = HeaderName::from_static("credd-min-ttl");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// The token, under that entity tag.
pub fn token(ready: &Ready, tag: HeaderValue) -> Response {
    let mut response = full(StatusCode::OK, ready.body.clone());
    put(&mut response, header::CONTENT_TYPE, JSON);
    put(&mut response, header::CACHE_CONTROL, NO_STORE);
    put(&mut response, header::ETAG, tag);
    response
}

/// Whether the token lives as long as was asked, as a structured field (RFC 9651): `?1`, or `?0` with the seconds that
/// are left and the most that is worth asking for, because a refresh brings no more. A token that lives too short is
/// better than none, but its reader must be able to tell.
pub fn say_min_ttl(response: &mut Response, wanted: Duration, left: Option<Duration>, most: Duration) {
    let value = match left {
        Some(left) if left < wanted => format!("?0;left={};most={}", left.as_secs(), most.as_secs()),
        _ => "?1".to_owned(),
    };
    put(response, MIN_TTL, HeaderValue::from_str(&value).expect("digits and signs"));
}

/// The caller has what that entity tag stands for.
pub fn not_modified(tag: HeaderValue) -> Response {
    let mut response = full(StatusCode::NOT_MODIFIED, Bytes::new());
    put(&mut response, header::CACHE_CONTROL, NO_STORE);
    put(&mut response, header::ETAG, tag);
    response
}

/// JSON, made for this answer.
pub fn json(body: Bytes) -> Response {
    let mut response = full(StatusCode::OK, body);
    put(&mut response, header::CONTENT_TYPE, JSON);
    put(&mut response, header::CACHE_CONTROL, NO_STORE);
    response
}

/// A stream of server-sent events.
pub fn events(stream: BoxStream<'static, Result<Frame<Bytes>, Infallible>>) -> Response {
    let mut response = http::Response::new(Either::Right(StreamBody::new(stream)));
    put(&mut response, header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    put(&mut response, header::CACHE_CONTROL, NO_STORE);
    response
}

/// A "no".
pub fn problem(problem: &Problem, now: Timestamp) -> Response {
    problem.response(now).map(Either::Left)
}

/// A body that was not read.
pub fn of_body(error: BodyError, now: Timestamp) -> Response {
    error.response(now).map(Either::Left)
}

/// 405.
pub fn wrong_method(allowed: &'static str, now: Timestamp) -> Response {
    let detail = format!("this path knows {allowed} only");
    let mut response = problem(&Problem::plain(StatusCode::METHOD_NOT_ALLOWED, &detail), now);
    put(&mut response, header::ALLOW, HeaderValue::from_static(allowed));
    response
}

/// 404 for a path.
pub fn no_such_path(now: Timestamp) -> Response {
    let detail = "the paths are /v1/tokens/{name}, /v1/tokens/{name}/refused, /v1/services/{service}/token, /v1/watch and /v1/credentials";
    problem(&Problem::plain(StatusCode::NOT_FOUND, detail), now)
}

fn full(status: StatusCode, body: Bytes) -> Response {
    let mut response = http::Response::new(Either::Left(Full::new(body)));
    *response.status_mut() = status;
    response
}

fn put(response: &mut Response, name: HeaderName, value: HeaderValue) {
    response.headers_mut().insert(name, value);
}

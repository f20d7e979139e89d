//! The only HTTP client of the house: limits, TLS, redaction, and the answer to "may the upstream have acted?".

use std::time::Duration;

use crate::credential::{Reply, Secret};

/// One request, complete. Its parts may be secret, so it prints as method and host alone.
pub struct Call {
    /// `GET`, `POST`.
    pub method: http::Method,
    /// Where to.
    pub url: url::Url,
    /// Names and values; values may be secret.
    pub headers: Vec<(http::HeaderName, Secret)>,
    /// Body, if any.
    pub body: Option<Secret>,
    /// For all of it: connect, send, read.
    pub timeout: Duration,
}

/// How a call ended, as seen from the wire. The commit question is answered here and nowhere else (FAULTS §3).
#[derive(Debug)]
pub enum Exchange {
    /// Nothing reached the upstream: it cannot have acted. A plain retry is safe.
    NotSent(Trouble),
    /// Some of the request left us and no complete reply came back: the upstream may have acted.
    Ambiguous(Trouble),
    /// A complete reply.
    Replied(Reply),
}

/// What went wrong on the way, without URL and without secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// A reason code of the metrics: `dns`, `connect`, `tls`, `proxy`, `timeout`, `reset`, `truncated`, `too_large`, `malformed`.
    pub reason: &'static str,
    /// For a person: "connection refused by api.example.com:443".
    pub detail: String,
}

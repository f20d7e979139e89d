//! From the client's errors to a reason and a sentence. Their own texts may hold the URL, so none is passed on.

use std::{error::Error, fmt, io};

use url::Url;

use super::Trouble;

/// Who was called, as a person may read it.
pub(super) struct Target {
    host: String,
    port: u16,
    proxied: bool,
}

impl Target {
    pub(super) fn of(url: &Url, proxied: bool) -> Self {
        Self {
            host: url.host_str().unwrap_or("?").to_owned(),
            port: url.port_or_known_default().unwrap_or(0),
            proxied: proxied && url.scheme() == "https",
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// No connection came about.
pub(super) fn connecting(error: &reqwest::Error, target: &Target) -> Trouble {
    let (reason, detail) = if let Some(tls) = find::<rustls::Error>(error) {
        ("tls", format!("TLS with {target} failed: {tls}"))
    } else if target.proxied {
        ("proxy", format!("the proxy made no connection to {target}: {}", innermost(error)))
    } else if error.is_dns() {
        ("dns", format!("{} does not resolve: {}", target.host, innermost(error)))
    } else if error.is_timeout() {
        ("connect", format!("{target} did not accept a connection in time"))
    } else {
        match system(error).map(io::Error::kind) {
            Some(io::ErrorKind::ConnectionRefused) => ("connect", format!("connection refused by {target}")),
            Some(io::ErrorKind::UnexpectedEof) => ("tls", format!("{target} hung up during the TLS handshake")),
            Some(kind) => ("connect", format!("no connection to {target}: {kind}")),
            None => ("connect", format!("no connection to {target}")),
        }
    };
    Trouble { reason, detail }
}

/// The connection stood, and no reply began.
pub(super) fn sending(error: &reqwest::Error, target: &Target) -> Trouble {
    if find::<hyper::Error>(error).is_some_and(hyper::Error::is_parse) {
        Trouble { reason: "malformed", detail: format!("{target} did not reply in HTTP") }
    } else {
        Trouble { reason: "reset", detail: format!("{target} closed the connection without a reply") }
    }
}

/// A reply began and did not end.
pub(super) fn reading(error: &reqwest::Error, target: &Target) -> Trouble {
    if find::<hyper::Error>(error).is_some_and(hyper::Error::is_parse) {
        Trouble { reason: "malformed", detail: format!("{target} broke the rules of HTTP within its reply") }
    } else {
        Trouble { reason: "truncated", detail: format!("{target} closed the connection within its reply") }
    }
}

/// The innermost cause of an error in its own words; only for those that never saw a URL or a secret.
pub(super) fn root(error: &(dyn Error + 'static)) -> String {
    causes(error).last().map_or_else(|| error.to_string(), ToString::to_string)
}

/// As [`root`], but in the words of the operating system alone where it spoke.
fn innermost(error: &reqwest::Error) -> String {
    match system(error) {
        Some(io) if io.raw_os_error().is_some() => io.kind().to_string(),
        _ => root(error),
    }
}

/// The innermost I/O error: the outer ones only wrap it.
fn system(error: &reqwest::Error) -> Option<&io::Error> {
    causes(error).filter_map(|cause| cause.downcast_ref::<io::Error>()).last()
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    fn next<'a>(cause: &&'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
        let cause: &'a (dyn Error + 'static) = *cause;
        // An io::Error hides what it wraps from `source`: look inside first.
        match cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => cause.source(),
        }
    }
    std::iter::successors(error.source(), next)
}

fn find<E: Error + 'static>(error: &reqwest::Error) -> Option<&E> {
    causes(error).find_map(|cause| cause.downcast_ref::<E>())
}

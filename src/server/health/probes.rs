//! `/livez` and `/readyz`, in the text form that Kubernetes' own components have.

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    extract::{Path, RawQuery, State},
    http::{StatusCode, header},
    response::Response,
};
use url::form_urlencoded;

use super::{Parts, respond};

const TEXT: &str = "text/plain; charset=utf-8";

/// Whether the daemon makes progress. It never looks at a credential, a store or the disk.
pub(super) async fn livez(State(parts): State<Arc<Parts>>, RawQuery(query): RawQuery) -> Response {
    report("livez", parts.pulse.list(), query.as_deref().unwrap_or(""))
}

/// Whether it is ready to serve. It never looks at a credential.
pub(super) async fn readyz(State(parts): State<Arc<Parts>>, RawQuery(query): RawQuery) -> Response {
    report("readyz", parts.readiness.parts(), query.as_deref().unwrap_or(""))
}

/// One part of it.
pub(super) async fn readyz_part(State(parts): State<Arc<Parts>>, Path(check): Path<String>) -> Response {
    let part: Vec<_> = parts.readiness.parts().into_iter().filter(|(name, _)| *name == check).collect();
    if part.is_empty() {
        return respond(StatusCode::NOT_FOUND, TEXT, "there is no such check\n");
    }
    report(&format!("readyz/{check}"), part, "")
}

/// `ok`, or what is not; `?verbose` lists every part, `?exclude=` (repeatable) leaves some out.
fn report(what: &str, parts: Vec<(String, bool)>, query: &str) -> Response {
    let pairs = || form_urlencoded::parse(query.as_bytes());
    let verbose = pairs().any(|(name, _)| name == "verbose");
    let excluded: BTreeSet<_> = pairs().filter(|(name, _)| name == "exclude").map(|(_, value)| value).collect();
    let failed = parts.iter().any(|(name, good)| !good && !excluded.contains(name.as_str()));
    if !failed && !verbose {
        return respond(StatusCode::OK, TEXT, "ok\n");
    }
    let mut text = String::new();
    for (name, good) in &parts {
        let (sign, words) = match (excluded.contains(name.as_str()), good) {
            (true, _) => ('+', "excluded: ok"),
            (false, true) => ('+', "ok"),
            (false, false) => ('-', "failed: reason withheld"),
        };
        text.push_str(&format!("[{sign}]{name} {words}\n"));
    }
    text.push_str(&format!("{what} check {}\n", if failed { "failed" } else { "passed" }));
    let status = if failed { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let mut response = respond(status, TEXT, text);
    if failed {
        response.headers_mut().insert(header::RETRY_AFTER, 1.into());
    }
    response
}

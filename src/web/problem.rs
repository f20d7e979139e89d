//! Every "no" of ours: RFC 9457 problem+json, with a `failure` object inside that agents can follow.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use jiff::Timestamp;
use serde::{Serialize, Serializer, ser::SerializeMap};
use uuid::Uuid;

use crate::{
    credential::{Failure, Generation, Verdict},
    lifecycle::State,
};

/// Where the problem types are explained.
const TYPES: &str = "https://credd.dev/problems/";

/// What the caller should do. It can be followed without knowing our failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Try again later; nobody need do anything.
    Wait,
    /// Try again later, and less often.
    Backoff,
    /// A person must authorise anew.
    Reauthorize,
    /// An operator must mend settings.
    FixConfig,
    /// Another tool may do; this one will not without a person.
    SwitchTool,
    /// Tell a person.
    Page,
}

/// Why a credential does not do, in the form that reaches agents.
#[derive(Clone, Debug, Serialize)]
pub struct AuthFailure {
    /// Always `auth_failure`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// One of the nine failures, or `not_ready`, or `unknown_credential`.
    pub subtype: &'static str,
    /// Whether the same call may succeed later without a person.
    pub retryable: bool,
    /// When, in milliseconds, if that is known.
    pub retry_after_ms: Option<u64>,
    /// What to do.
    pub action: Action,
    /// A finer word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// Which credential.
    pub credential: String,
    /// The generation that is meant.
    pub generation: Option<Generation>,
    /// Where the credential stands.
    pub state: Option<State>,
    /// Since when.
    pub since: Option<Timestamp>,
    /// Where a person can authorise anew.
    pub authorize_url: Option<String>,
}

impl AuthFailure {
    /// One of the nine.
    pub fn of(failure: Failure, credential: &str) -> Self {
        let (retryable, action) = match failure {
            Failure::CredentialExpired | Failure::UpstreamUnavailable => (true, Action::Wait),
            Failure::CredentialRejected => (false, Action::Wait),
            Failure::RateLimitReached => (true, Action::Backoff),
            Failure::CredentialRevoked | Failure::InsufficientScope => (false, Action::Reauthorize),
            Failure::ClientMisconfigured => (false, Action::FixConfig),
            Failure::NotACredentialFailure => (false, Action::Wait),
            Failure::Unclassified => (true, Action::Page),
        };
        Self::word(failure.as_str(), retryable, action, credential)
    }

    /// What a verdict says to whoever handed in the refusal.
    pub fn judged(verdict: &Verdict, credential: &str) -> Self {
        let mut failure = Self::of(verdict.failure, credential);
        failure.retryable = verdict.retryable;
        failure.cause.clone_from(&verdict.cause);
        failure.retry_after_ms = verdict.retry_after.map(millis);
        if verdict.failure == Failure::NotACredentialFailure && verdict.needs_human {
            failure.action = Action::SwitchTool;
        }
        failure
    }

    /// Nothing is loaded yet.
    pub fn not_ready(credential: &str) -> Self {
        Self::word("not_ready", true, Action::Wait, credential)
    }

    /// No such credential, or none for this caller: there is no difference.
    pub fn unknown(credential: &str) -> Self {
        Self::word("unknown_credential", false, Action::FixConfig, credential)
    }

    fn word(subtype: &'static str, retryable: bool, action: Action, credential: &str) -> Self {
        Self {
            kind: "auth_failure",
            subtype,
            retryable,
            retry_after_ms: None,
            action,
            cause: None,
            credential: credential.to_owned(),
            generation: None,
            state: None,
            since: None,
            authorize_url: None,
        }
    }

    /// Says when to try again.
    pub fn retry_after(mut self, time: Duration) -> Self {
        self.retry_after_ms = Some(millis(time));
        self
    }

    /// The status of our API for it.
    fn status(&self) -> StatusCode {
        match self.subtype {
            "credential_expired" | "not_ready" => StatusCode::SERVICE_UNAVAILABLE,
            "credential_revoked" | "client_misconfigured" => StatusCode::FAILED_DEPENDENCY,
            "rate_limit_reached" => StatusCode::TOO_MANY_REQUESTS,
            "insufficient_scope" => StatusCode::FORBIDDEN,
            "unknown_credential" => StatusCode::NOT_FOUND,
            _ => StatusCode::BAD_GATEWAY,
        }
    }

    fn title(&self) -> &'static str {
        match self.subtype {
            "credential_expired" => "Credential expired",
            "credential_revoked" => "Credential revoked",
            "client_misconfigured" => "Client misconfigured",
            "rate_limit_reached" => "Rate limit reached",
            "insufficient_scope" => "Insufficient scope",
            "upstream_unavailable" => "Upstream unavailable",
            "not_ready" => "Not ready",
            "unknown_credential" => "Unknown credential",
            _ => "Credential refused",
        }
    }
}

/// A "no".
#[derive(Clone, Debug)]
pub struct Problem {
    status: StatusCode,
    detail: String,
    failure: Option<AuthFailure>,
    retry_after: Option<Duration>,
}

impl Problem {
    /// About a credential. The status follows from the failure.
    pub fn failure(failure: AuthFailure, detail: impl Into<String>) -> Self {
        let retry_after = failure.retry_after_ms.map(Duration::from_millis);
        Self { status: failure.status(), detail: detail.into(), failure: Some(failure), retry_after }
    }

    /// About the request itself.
    pub fn plain(status: StatusCode, detail: &str) -> Self {
        Self { status, detail: detail.to_owned(), failure: None, retry_after: None }
    }

    /// Under another status.
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// Says when to try again.
    pub fn retry_after(mut self, time: Duration) -> Self {
        self.retry_after = Some(time);
        self
    }

    /// The failure inside, if it is about a credential.
    pub fn auth_failure(&self) -> Option<&AuthFailure> {
        self.failure.as_ref()
    }

    /// As a response. Each has an id of its own, by which it can be found in the log.
    pub fn response(&self, now: Timestamp) -> Response<Full<Bytes>> {
        let second = u64::try_from(now.as_second()).unwrap_or(0);
        let nanosecond = now.subsec_nanosecond().unsigned_abs();
        let id = Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, second, nanosecond));
        let body = serde_json::to_vec(&Told { problem: self, id }).expect("texts and numbers always serialise");
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(time) = self.retry_after {
            // Whole seconds, and never "at once": a client that obeys must not spin.
            headers.insert(header::RETRY_AFTER, (time.as_millis().div_ceil(1000).max(1) as u64).into());
        }
        response
    }
}

struct Told<'a> {
    problem: &'a Problem,
    id: Uuid,
}

impl Serialize for Told<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Problem { status, detail, failure, .. } = self.problem;
        let mut map = serializer.serialize_map(None)?;
        match failure {
            Some(failure) => {
                map.serialize_entry("type", &format!("{TYPES}{}", failure.subtype.replace('_', "-")))?;
                map.serialize_entry("title", failure.title())?;
            }
            None => {
                map.serialize_entry("type", "about:blank")?;
                map.serialize_entry("title", status.canonical_reason().unwrap_or("Error"))?;
            }
        }
        map.serialize_entry("status", &status.as_u16())?;
        map.serialize_entry("detail", detail)?;
        map.serialize_entry("instance", &format!("urn:uuid:{}", self.id))?;
        if let Some(failure) = failure {
            map.serialize_entry("failure", failure)?;
        }
        map.end()
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_and_actions_are_those_of_the_table() {
        let table = [
            (Failure::CredentialExpired, 503, true, Action::Wait),
            (Failure::CredentialRevoked, 424, false, Action::Reauthorize),
            (Failure::RateLimitReached, 429, true, Action::Backoff),
            (Failure::InsufficientScope, 403, false, Action::Reauthorize),
            (Failure::ClientMisconfigured, 424, false, Action::FixConfig),
            (Failure::UpstreamUnavailable, 502, true, Action::Wait),
        ];
        for (failure, status, retryable, action) in table {
            let told = AuthFailure::of(failure, "x");
            assert_eq!((told.status().as_u16(), told.retryable, told.action), (status, retryable, action), "{failure}");
        }
        assert_eq!(AuthFailure::not_ready("x").status().as_u16(), 503);
        assert_eq!(AuthFailure::unknown("x").status().as_u16(), 404);
    }

    #[test]
    fn a_wait_is_told_in_whole_seconds_and_never_as_zero() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        for (time, seconds) in [(0, "1"), (1, "1"), (1000, "1"), (1001, "2"), (4000, "4")] {
            let failure = AuthFailure::of(Failure::CredentialExpired, "x").retry_after(Duration::from_millis(time));
            let response = Problem::failure(failure, "").response(now);
            assert_eq!(response.headers()["retry-after"], seconds);
        }
    }

    #[test]
    fn a_person_who_must_act_on_something_else_means_another_tool() {
        let mut verdict = Verdict::of(Failure::NotACredentialFailure, "billing");
        assert_eq!(AuthFailure::judged(&verdict, "x").action, Action::Wait);
        verdict.needs_human = true;
        assert_eq!(AuthFailure::judged(&verdict, "x").action, Action::SwitchTool);
    }
}

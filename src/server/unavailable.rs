//! Why a credential has no token to serve, as the problem that its reader gets.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::{
    credential::Failure,
    lifecycle::State,
    publish::{Subtype, View},
    web::{AuthFailure, Problem},
};

/// How soon a caller may try again where no better time is known.
const SOON: Duration = Duration::from_secs(1);
/// The same, while something outside must recover first.
const LATER: Duration = Duration::from_secs(10);

/// What is wrong with a credential, in the form that reaches its readers; `None` while nothing is.
///
/// An expired token whose refresh is blocked is told by the blocker; `credential_expired` only while a flight is out or due.
pub fn failure(view: &View, state: State, now: Timestamp) -> Option<AuthFailure> {
    let name = view.name.as_str();
    let problem = view.problem.as_ref();
    let blocker = problem.and_then(|problem| problem.failure.failure()).filter(|failure| {
        use Failure::{
            ClientMisconfigured, CredentialRevoked, InsufficientScope, RateLimitReached, UpstreamUnavailable,
        };
        matches!(
            failure,
            ClientMisconfigured | CredentialRevoked | InsufficientScope | RateLimitReached | UpstreamUnavailable
        )
    });
    let limited = view.flags.contains(&"rate_limited").then_some(Failure::RateLimitReached);
    let mut told = match state {
        State::Uninitialised => AuthFailure::not_ready(name),
        State::Revoked => AuthFailure::of(Failure::CredentialRevoked, name),
        // Nobody can renew a static key: its end is a person's affair.
        State::Expired if !view.kind.is_refreshable() => AuthFailure::of(Failure::CredentialRevoked, name),
        State::Expired => AuthFailure::of(blocker.or(limited).unwrap_or(Failure::CredentialExpired), name),
        _ => match problem?.failure {
            Subtype::Failure(failure) => AuthFailure::of(failure, name),
            Subtype::NotReady => AuthFailure::not_ready(name),
        },
    };
    told.state = Some(state);
    told.generation = Some(view.generation);
    told.since = Some(match state {
        State::Expired if view.state != State::Expired => view.expires_at.unwrap_or(view.since),
        _ => problem.map_or(view.since, |problem| problem.since),
    });
    told.cause = problem.and_then(|problem| problem.cause.clone());
    if told.cause.is_none() && state == State::Expired && !view.kind.is_refreshable() {
        told.cause = Some("expired".into());
    }
    if told.retryable {
        let planned = problem.and_then(|problem| problem.retry_at).map(|at| at.duration_since(now));
        let usual = if told.subtype == Failure::CredentialExpired.as_str() { SOON } else { LATER };
        let wait = planned.map_or(usual, |left| Duration::try_from(left).unwrap_or_default().max(SOON));
        told = told.retry_after(wait);
    }
    Some(told)
}

/// The answer to a read that cannot be served.
pub fn problem(view: &View, state: State, now: Timestamp) -> Problem {
    let name = &view.name;
    let Some(failure) = failure(view, state, now) else {
        let failure = AuthFailure::not_ready(name.as_str()).retry_after(SOON);
        return Problem::failure(failure, format!("{name} has no token yet; it is {state}"));
    };
    let since = failure.since.map_or(String::new(), |since| format!(" for {}", span(now.duration_since(since))));
    let detail = match (state, failure.subtype) {
        (State::Uninitialised, _) => format!("{name} is not loaded yet; `credd status` on the host says why"),
        (State::Expired, "credential_revoked") => {
            format!(
                "{name} has ended and cannot be renewed by itself; an operator must put a new one into its home store"
            )
        }
        (_, "credential_revoked") => {
            format!("{name} has been revoked{since}; do not retry: an operator must authorise it again")
        }
        (State::Expired, "credential_expired") => format!("{name} expired; its refresh is under way or due"),
        (_, subtype) => format!("{name} expired and cannot be refreshed now ({subtype}{since})"),
    };
    Problem::failure(failure, detail)
}

/// A span as people read it: its two greatest units at most.
pub fn span(time: SignedDuration) -> String {
    let seconds = time.as_secs().unsigned_abs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min"),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

//! What an exchange means: the wire's answer and the catalogue's, put together. Pure.

use std::time::Duration;

use uuid::Uuid;

use super::{Assignment, flight::Landing, probe::Look};
use crate::{
    catalogue::{Provider, Refusal, ScopeGap, Surface, Tokens, TokensError, presented, scopes},
    clock::Now,
    credential::{Failure, Generation, Kind, Material, Reply, Value, Verdict},
    fetch::{Exchange, Trouble},
    lifecycle::{Commit, Probed},
    upstream::{Settings, Unmakable, introspects},
};

/// What a refresh brought.
pub(super) enum Refreshed {
    Tokens(Box<Tokens>),
    /// A server error whose body holds a token (FM-05).
    Doubtful {
        tokens: Box<Tokens>,
        verdict: Verdict,
    },
    No {
        verdict: Verdict,
        commit: Commit,
    },
}

/// Reads the end of a flight.
pub(super) fn refresh(provider: &Provider, kind: Kind, landing: &Landing, last_life: Option<Duration>) -> Refreshed {
    match &landing.result {
        Err(error) => Refreshed::No { verdict: unmakable(error), commit: Commit::NotSent },
        Ok(Exchange::NotSent(trouble)) => Refreshed::No { verdict: troubled(trouble), commit: Commit::NotSent },
        Ok(Exchange::Ambiguous(trouble)) => Refreshed::No { verdict: troubled(trouble), commit: Commit::Ambiguous },
        Ok(Exchange::Replied(reply)) => reply_to_refresh(provider, kind, reply, landing.sent_at.wall, last_life),
    }
}

/// Reads a complete reply of a token endpoint, fresh or found captured in the ledger.
pub(super) fn reply_to_refresh(
    provider: &Provider,
    kind: Kind,
    reply: &Reply,
    sent_at: jiff::Timestamp,
    last_life: Option<Duration>,
) -> Refreshed {
    if (300..400).contains(&reply.status) {
        // RF-14: never followed, because the refresh token goes to the configured origin alone.
        let verdict = Verdict::of(Failure::ClientMisconfigured, "redirect");
        return Refreshed::No { verdict, commit: Commit::NotCommitted };
    }
    if reply.is_success() {
        let presented = presented(kind, Surface::TokenEndpoint);
        let read = match kind {
            Kind::AwsSession => provider.session_for(reply, presented, sent_at),
            _ => provider.tokens_for(reply, presented, sent_at, last_life),
        };
        return match read {
            Ok(tokens) => Refreshed::Tokens(Box::new(tokens)),
            Err(TokensError::Refused(verdict)) => Refreshed::No { verdict, commit: Commit::NotCommitted },
            Err(TokensError::Unreadable { reason }) => Refreshed::No {
                verdict: Verdict { evidence: reason, ..Verdict::of(Failure::UpstreamUnavailable, "malformed") },
                commit: Commit::Ambiguous,
            },
        };
    }
    let surface = Surface::TokenEndpoint;
    let verdict = provider.classify(&Refusal { surface, presented: presented(kind, surface), reply, now: sent_at });
    let commit = match reply.status {
        // A gateway gave up waiting: what it waited for may have happened.
        504 => Commit::Ambiguous,
        503 => Commit::NotCommitted,
        500.. => Commit::Doubtful,
        _ => Commit::NotCommitted,
    };
    // A 5xx is never proof that a grant is dead.
    let verdict = if reply.status >= 500 && verdict.failure == Failure::CredentialRevoked {
        Verdict::of(Failure::UpstreamUnavailable, "server_error")
    } else {
        verdict
    };
    if reply.status >= 500 {
        // Whoever stamped it so may not be the one who wrote it.
        let mut as_success = reply.clone();
        as_success.status = 200;
        if let Ok(tokens) = provider.tokens_for(&as_success, presented(kind, surface), sent_at, last_life) {
            return Refreshed::Doubtful { tokens: Box::new(tokens), verdict };
        }
    }
    Refreshed::No { verdict, commit }
}

/// Reads the end of a probe; the verdict is for the log.
pub(super) fn probe(provider: &Provider, kind: Kind, settings: &Settings, look: &Look) -> (Probed, Option<Verdict>) {
    let verdict = match &look.result {
        Err(error) => unmakable(error),
        Ok(Exchange::NotSent(trouble) | Exchange::Ambiguous(trouble)) => troubled(trouble),
        Ok(Exchange::Replied(reply)) => {
            let now = look.landed_at.wall;
            if introspects(provider, kind, settings) {
                return match provider.introspected(reply, now) {
                    Ok(end) => (Probed::Works(end), None),
                    Err(verdict) => (Probed::No(verdict.clone()), Some(verdict)),
                };
            }
            let seen = Refusal { surface: Surface::Probe, presented: presented(kind, Surface::Probe), reply, now };
            if provider.probe_proves(kind, &seen) {
                return (Probed::Works(None), None);
            }
            match refusal(provider, kind, Surface::Probe, reply, now) {
                None => return (Probed::Works(provider.probe_expiry(kind, reply, now)), None),
                Some(verdict) => verdict,
            }
        }
    };
    (Probed::No(verdict.clone()), Some(verdict))
}

/// What an API's reply says against the credential, if it says anything: some say no with 200.
pub(super) fn refusal(
    provider: &Provider,
    kind: Kind,
    surface: Surface,
    reply: &Reply,
    now: jiff::Timestamp,
) -> Option<Verdict> {
    let verdict = provider.classify(&Refusal { surface, presented: presented(kind, surface), reply, now });
    let says_nothing = matches!(verdict.failure, Failure::Unclassified | Failure::NotACredentialFailure);
    if reply.is_success() && says_nothing { None } else { Some(verdict) }
}

/// The old material with what the reply brought. What it does not bring stays (RF-30, RF-31).
pub(super) fn renewed(
    old: &Material,
    tokens: &crate::catalogue::Tokens,
    sent_at: Now,
    generation: Generation,
    attempt: Uuid,
) -> Material {
    let end = |life: Option<Duration>| life.and_then(|life| sent_at.wall.checked_add(life).ok());
    let (access_token, session) = match tokens.value.clone() {
        Value::Token(token) => (Some(token), None),
        Value::AccessKey(key) => (old.access_token.clone(), Some(key)),
    };
    Material {
        access_token,
        session,
        refresh_token: tokens.refresh_token.clone().or_else(|| old.refresh_token.clone()),
        token_type: tokens.token_type.clone().or_else(|| old.token_type.clone()),
        expires_at: end(tokens.lifetime),
        refresh_expires_at: end(tokens.refresh_lifetime).or(old.refresh_expires_at),
        scope: tokens.scope.clone().or_else(|| old.scope.clone()),
        grant_id: old.grant_id.clone().or_else(|| Some(attempt.to_string())),
        generation: Some(generation),
        attempt_id: Some(attempt.to_string()),
        ..old.clone()
    }
}

fn troubled(trouble: &Trouble) -> Verdict {
    Verdict { evidence: trouble.detail.clone(), ..Verdict::of(Failure::UpstreamUnavailable, trouble.reason) }
}

fn unmakable(error: &Unmakable) -> Verdict {
    Verdict { evidence: error.to_string(), ..Verdict::of(Failure::ClientMisconfigured, "request") }
}

/// Loads and probes one credential outside of any shard, for `credd check --online`: a severity and a sentence.
pub async fn prove(
    assignment: &Assignment,
    upstream: &dyn crate::upstream::Upstream,
    clock: &dyn crate::clock::Clock,
) -> (&'static str, String) {
    let material = match assignment.store.load(&assignment.at).await {
        Ok(loaded) => loaded.material,
        Err(error) => return ("failure", error.to_string()),
    };
    let now = clock.now();
    let end = material.expires_at.or(assignment.expires_at);
    let left = end.map(|end| end.duration_since(now.wall));
    if left.is_some_and(|left| left <= jiff::SignedDuration::ZERO) {
        let severity = if assignment.kind.is_refreshable() { "warning" } else { "failure" };
        return (severity, "its value is over; credd refreshes it when it runs, if it can".to_owned());
    }
    if material.value(assignment.kind).is_none() {
        return ("success", "loaded; it has no access token yet, and credd asks for one when it runs".to_owned());
    }
    if !assignment.policy.has_probe {
        return ("success", "loaded; its provider has no probe".to_owned());
    }
    let granted = material.scope.as_deref().map(scopes);
    let subject = crate::upstream::Subject {
        provider: assignment.provider.clone(),
        kind: assignment.kind,
        material: std::sync::Arc::new(material),
        settings: assignment.upstream.clone(),
    };
    let result = upstream.probe(&subject, now.wall).await;
    let landed_at = clock.now();
    let generation = crate::credential::Generation(0);
    let look = Look { generation, trigger: crate::lifecycle::Trigger::Operator, sent_at: now, landed_at, result };
    let left = left.map(|left| format!(", {left:#} left")).unwrap_or_default();
    match probe(&assignment.provider, assignment.kind, &assignment.upstream, &look) {
        (Probed::Works(_), _) => {
            let told = match &look.result {
                Ok(Exchange::Replied(reply)) => assignment.provider.probe_scopes(assignment.kind, reply),
                _ => None,
            };
            let (severity, words) = held_to(&assignment.scopes, told.or(granted));
            (severity, format!("works{left}{words}"))
        }
        (Probed::No(verdict), _) => {
            let severity = if verdict.failure == Failure::CredentialRevoked { "failure" } else { "warning" };
            (severity, format!("{}{}: {} (rule {})", verdict.failure, left, verdict.evidence, verdict.rule))
        }
    }
}

/// What its scopes are, beside those that it needs: a severity, and words to add.
fn held_to(needed: &[String], granted: Option<std::collections::BTreeSet<String>>) -> (&'static str, String) {
    let Some(granted) = granted.filter(|_| !needed.is_empty()) else {
        let untold = if needed.is_empty() { "" } else { "; its provider does not tell its scopes" };
        return ("success", untold.to_owned());
    };
    let ScopeGap { missing, wider } = ScopeGap::between(needed, &granted);
    let more = match wider.as_slice() {
        [] => String::new(),
        wider => format!("; wider than needed: {}; make a narrower one", wider.join(", ")),
    };
    match missing.as_slice() {
        [] if more.is_empty() => ("success", "; its scopes are those that it needs".to_owned()),
        [] => ("warning", more),
        missing => {
            let lacks = missing.join(", ");
            (
                "failure",
                format!("; but insufficient_scope: it lacks {lacks}, and calls that need it will be refused{more}"),
            )
        }
    }
}

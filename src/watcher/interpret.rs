//! What an exchange means: the wire's answer and the catalogue's, put together. Pure.

use std::time::Duration;

use uuid::Uuid;

use super::{flight::Landing, probe::Look};
use crate::{
    catalogue::{Provider, Refusal, Surface, Tokens, TokensError, presented},
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

pub(super) fn troubled(trouble: &Trouble) -> Verdict {
    Verdict { evidence: trouble.detail.clone(), ..Verdict::of(Failure::UpstreamUnavailable, trouble.reason) }
}

pub(super) fn unmakable(error: &Unmakable) -> Verdict {
    Verdict { evidence: error.to_string(), ..Verdict::of(Failure::ClientMisconfigured, "request") }
}

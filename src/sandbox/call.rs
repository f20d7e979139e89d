//! A call from arrival to reply: what meets it before the provider acts, what after.

use std::{sync::Arc, time::Duration};

use http::{HeaderName, Response, header, request::Parts};
use jiff::{SignedDuration, fmt::rfc2822};
use serde_json::json;
use url::form_urlencoded;

use super::{
    Shared, Ticket, api,
    fault::{self, FaultKind, Place, RetryAfter},
    oauth::{self, Asked},
    reply::{Answer, Draft, HangUp},
};
use crate::clock::Now;

/// A call of the token endpoint.
pub(super) async fn token(shared: &Arc<Shared>, asked: Asked) -> Result<Response<Answer>, HangUp> {
    let (endpoint, grant_type, presented) = match &asked {
        Asked::Refresh { token, .. } => ("token", Some("refresh_token"), Some(token.clone())),
        Asked::Client { .. } => ("token", Some("client_credentials"), None),
        Asked::Assertion { .. } => ("token", Some("jwt-bearer"), None),
        Asked::App { .. } => ("app_token", None, None),
        Asked::Wrong(_) => ("token", None, None),
    };
    let app = endpoint == "app_token";
    let refresh = presented.is_some();
    let now = shared.clock.now();
    let (ticket, faults) = {
        let state = &mut *shared.state();
        let known = presented.and_then(|token| state.authority.find(&token).map(|(id, at)| (id.to_owned(), at)));
        let grant = match (&known, &asked) {
            (Some((id, _)), _) => Some(id.clone()),
            (None, Asked::Client { client: Ok(client), .. }) => Some(format!("client:{client}")),
            (None, Asked::Assertion { assertion, .. } | Asked::App { assertion, .. }) => oauth::issuer(assertion)
                .filter(|issuer| state.authority.clients.contains_key(issuer))
                .map(|issuer| format!("client:{issuer}")),
            _ => None,
        };
        let seq = state.log.open(endpoint, grant.as_deref(), refresh, now.wall);
        state.log.note(seq, |call| {
            call.grant_type = grant_type.map(str::to_owned);
            call.presented = known.map(|(_, generation)| generation);
        });
        let faults = met(shared.misbehave, state, Place::Token, grant.as_deref());
        (Ticket { shared: Arc::clone(shared), seq, grant, refresh, handed_over: false }, faults)
    };
    let keep = faults.iter().any(|fault| matches!(fault, FaultKind::Member { name, .. } if name == "refresh_token"));
    run(shared, ticket, Place::Token, &faults, |ticket, now| {
        let (result, draft) = shared.act(asked, keep, now);
        let mut state = shared.state();
        let (outcome, draft) = match result {
            Ok(minted) => {
                let grant = ticket.grant.as_deref().unwrap_or(&minted.grant);
                state.log.totals.count(Some(grant), |counters| {
                    counters.commits += 1;
                    counters.access_tokens_minted += u64::from(minted.fresh);
                    counters.refresh_tokens_minted += u64::from(minted.rotated);
                    counters.reuse_seen += u64::from(minted.reuse);
                });
                state.log.note(ticket.seq, |call| {
                    call.grant.get_or_insert_with(|| minted.grant.clone());
                    call.committed = Some(now.wall);
                    call.minted = minted.refresh_token.as_ref().map(|(_, generation)| *generation);
                    call.access = Some(minted.access);
                    call.scope = Some(minted.scope.clone());
                });
                let outcome = match (&minted.refresh_token, minted.rotated) {
                    (None, _) => "issued",
                    (_, true) => "rotated",
                    (_, false) => "kept",
                };
                (outcome, oauth::granted(&minted, app, now))
            }
            Err((word, reuse)) => {
                state.log.totals.count(ticket.grant.as_deref(), |counters| {
                    counters.reuse_seen += u64::from(reuse);
                    counters.reuse_refused += u64::from(reuse);
                });
                (word, draft.unwrap_or_else(|| oauth::refusal(400, "invalid_grant", word)))
            }
        };
        (draft, outcome)
    })
    .await
}

/// A call of the API.
pub(super) async fn api(shared: &Arc<Shared>, parts: &Parts) -> Result<Response<Answer>, HangUp> {
    let token = api::credential(&parts.headers);
    let now = shared.clock.now();
    // Whose it is, without a trace: what the call does counts at its commit.
    let holder = token.and_then(|token| match shared.state().authority.present(token, true, now) {
        Ok(holder) => Some(holder),
        Err((_, holder)) => holder,
    });
    let (ticket, faults) = {
        let state = &mut *shared.state();
        let grant = holder.as_ref().map(|holder| holder.grant.clone());
        let seq = state.log.open("api", grant.as_deref(), false, now.wall);
        state.log.note(seq, |call| call.access = holder.and_then(|holder| holder.access));
        let faults = met(shared.misbehave, state, Place::Api, grant.as_deref());
        (Ticket { shared: Arc::clone(shared), seq, grant, refresh: false, handed_over: false }, faults)
    };
    let query = parts.uri.query().unwrap_or("");
    let wanted = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "scope").map(|(_, scope)| scope);
    run(shared, ticket, Place::Api, &faults, |ticket, now| match shared.present(token, now) {
        Ok(holder) => {
            ticket.note(|call| call.committed = Some(now.wall));
            api::welcome(&holder, wanted.as_deref(), now)
        }
        Err((word, _)) => {
            shared.state().log.totals.count(ticket.grant.as_deref(), |counters| counters.api_refused += 1);
            (api::refused(word), word)
        }
    })
    .await
}

fn met(misbehave: bool, state: &mut super::State, place: Place, grant: Option<&str>) -> Vec<FaultKind> {
    let mut faults = state.faults.take(place, grant);
    if misbehave && faults.is_empty() {
        faults.extend(fault::weather(&mut state.dice));
    }
    faults
}

/// Lets a call meet its faults in their order: waits, refusals before the commit, the commit, damage after it.
async fn run(
    shared: &Arc<Shared>,
    ticket: Ticket,
    place: Place,
    faults: &[FaultKind],
    act: impl FnOnce(&Ticket, Now) -> (Draft, &'static str),
) -> Result<Response<Answer>, HangUp> {
    ticket.note(|call| call.faults = faults.iter().map(|fault| fault.as_str().to_owned()).collect());
    wait(shared, faults, false).await;
    if let Some(instead) = faults.iter().find_map(|fault| before(fault, place, shared.clock.now())) {
        let status = instead.as_ref().ok().map(|draft| draft.status);
        ticket.note(|call| (call.status, call.outcome) = (status, "fault".into()));
        return Ok(instead?.send(super::reply::Manner::Whole, Some(ticket), &shared.clock));
    }
    let (draft, outcome) = act(&ticket, shared.clock.now());
    ticket.note(|call| call.outcome = outcome.into());
    wait(shared, faults, true).await;
    let (mut draft, manner) = draft.damage(faults);
    for fault in faults {
        match fault {
            FaultKind::DropAfterCommit => return Err(HangUp::Close),
            FaultKind::ResetAfterCommit => return Err(HangUp::Reset),
            FaultKind::Status { status, .. } => draft = bare(*status),
            _ => {}
        }
    }
    ticket.note(|call| call.status = Some(draft.status));
    Ok(draft.send(manner, Some(ticket), &shared.clock))
}

async fn wait(shared: &Arc<Shared>, faults: &[FaultKind], after: bool) {
    for fault in faults {
        if let FaultKind::Delay { ms, after_commit } = fault
            && *after_commit == after
        {
            shared.clock.sleep(Duration::from_millis(*ms)).await;
        }
    }
}

fn bare(status: u16) -> Draft {
    let reason = http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    Draft::text(status, "text/plain", reason.unwrap_or("?"))
}

/// What a fault says instead of letting the provider act.
fn before(fault: &FaultKind, place: Place, now: Now) -> Option<Result<Draft, HangUp>> {
    Some(Ok(match fault {
        FaultKind::ResetBeforeCommit => return Some(Err(HangUp::Reset)),
        FaultKind::Status { status, after_commit: false } => bare(*status),
        FaultKind::RateLimit { retry_after } => limited(retry_after, now),
        FaultKind::Html { status } => {
            let page = "<!DOCTYPE html><html><head><title>Sign in</title></head><body><h1>Welcome</h1></body></html>";
            Draft::text(*status, "text/html; charset=utf-8", page)
        }
        FaultKind::ErrorInSuccess { error } => Draft::json(200, &json!({"ok": false, "error": error})),
        FaultKind::Refuse { status, error, description } => {
            let description = description.as_deref().unwrap_or("refused on purpose");
            match place {
                Place::Api => api::challenge(*status, error, description),
                _ => oauth::refusal(*status, error, description),
            }
        }
        FaultKind::Redirect { status, location } => bare(*status).header(header::LOCATION, location),
        FaultKind::Raw { status, headers, body } => {
            let mut draft = Draft::text(*status, "", body.as_bytes());
            for (name, value) in headers {
                // The length is the body's; for another there is `truncated`.
                if let Some(name) = name.parse::<HeaderName>().ok().filter(|name| name != header::CONTENT_LENGTH) {
                    draft = draft.header(name, value);
                }
            }
            draft
        }
        _ => return None,
    }))
}

fn limited(retry_after: &RetryAfter, now: Now) -> Draft {
    let draft = Draft::json(429, &json!({"error": "rate_limited", "error_description": "too many requests"}));
    let value = match retry_after {
        RetryAfter::None => return draft,
        RetryAfter::Seconds(seconds) => seconds.to_string(),
        RetryAfter::Text(text) => text.clone(),
        RetryAfter::Date(ahead) => {
            let date = now.wall.checked_add(SignedDuration::from_secs(*ahead)).unwrap_or(now.wall);
            rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&date).unwrap_or_default()
        }
    };
    draft.header(header::RETRY_AFTER, value)
}

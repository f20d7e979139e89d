//! The API behind the tokens: `/api/me` says who calls, or refuses as RFC 6750 has it.

use http::{HeaderMap, HeaderName, header};
use serde_json::json;

use super::{
    Shared,
    authority::{Holder, Refused},
    reply::Draft,
};
use crate::clock::Now;

/// The credential of a call: `Authorization: Bearer …`, or `X-Api-Key: …`.
pub(super) fn credential(headers: &HeaderMap) -> Option<&str> {
    let text = |name: &str| headers.get(name)?.to_str().ok();
    let bearer = text("authorization").and_then(|value| value.split_once(' '));
    let bearer = bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
    bearer.or_else(|| text("x-api-key"))
}

impl Shared {
    /// Who calls, or why not.
    pub(super) fn present(&self, token: Option<&str>, now: Now) -> Result<Holder, (Refused, Option<Holder>)> {
        match token {
            Some(token) => self.state().authority.present(token, false, now),
            None => Err(("no_token", None)),
        }
    }
}

/// The reply to a good call. `scope` is what the call wants beyond being known.
pub(super) fn welcome(holder: &Holder, wanted: Option<&str>, now: Now) -> (Draft, &'static str) {
    if let Some(wanted) = wanted.filter(|wanted| holder.scope.split(' ').all(|scope| scope != *wanted)) {
        let draft = challenge(403, "insufficient_scope", "The request requires higher privileges");
        return (draft.header(HeaderName::from_static("x-accepted-scopes"), wanted), "insufficient_scope");
    }
    let ends = holder.ends.map(|ends| now.wall + ends.saturating_sub(now.boot));
    let body = json!({"login": "sandbox", "credential": holder.grant, "scope": holder.scope});
    let draft = Draft::json(200, &body);
    let draft = match holder.scope.as_str() {
        "" => draft,
        scope => draft.header(HeaderName::from_static("x-oauth-scopes"), scope.replace(' ', ", ")),
    };
    match ends.filter(|_| holder.expiry_header) {
        Some(ends) => (draft.header(HeaderName::from_static("x-token-expires-at"), ends.to_string()), "good"),
        None => (draft, "good"),
    }
}

/// The reply to a bad one.
pub(super) fn refused(word: Refused) -> Draft {
    let text = match word {
        "no_token" => {
            // RFC 6750 §3.1: no error code where nothing was presented.
            let draft = Draft::json(401, &json!({"message": "Authentication is required"}));
            return draft.header(header::WWW_AUTHENTICATE, "Bearer realm=\"sandbox\"");
        }
        "expired" => "The access token expired",
        "revoked" => "The access token was revoked",
        _ => "The access token is invalid",
    };
    challenge(401, "invalid_token", text)
}

/// A refusal with its challenge (RFC 6750 §3).
pub(super) fn challenge(status: u16, error: &str, description: &str) -> Draft {
    let value = format!("Bearer realm=\"sandbox\", error=\"{error}\", error_description=\"{description}\"");
    Draft::json(status, &json!({"error": error, "error_description": description}))
        .header(header::WWW_AUTHENTICATE, value)
}

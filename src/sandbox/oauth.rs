//! The OAuth endpoints: token, revocation, introspection, and GitHub's way of exchanging an app's assertion.

use std::{collections::BTreeMap, time::Duration};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use http::{HeaderMap, header};
use jsonwebtoken::{AlgorithmFamily, DecodingKey, Validation};
use serde_json::{Value, json};
use url::form_urlencoded;

use super::{
    Shared,
    authority::{Minted, Refused},
    reply::Draft,
};
use crate::{clock::Now, credential::Secret};

/// What a token request said.
pub(super) type Form = BTreeMap<String, String>;

/// Who asks, by which right.
#[derive(Debug)]
pub(super) enum Asked {
    Refresh {
        client: Result<String, Draft>,
        token: String,
        scope: String,
    },
    Client {
        client: Result<String, Draft>,
        scope: String,
    },
    Assertion {
        assertion: String,
        scope: String,
    },
    /// An app's own: `POST /app/installations/{id}/access_tokens` with the assertion as bearer.
    /// The token is for these repositories and permissions alone, where any are named.
    App {
        assertion: String,
        narrow: Result<String, Draft>,
    },
    Wrong(Draft),
}

/// The members of a form or a JSON object; one that stands twice is an error (RFC 6749 §3.2).
pub(super) fn form(headers: &HeaderMap, body: &[u8]) -> Result<Form, Draft> {
    let bad = || refusal(400, "invalid_request", "the body must be a form, or a JSON object of texts");
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if kind.starts_with("application/json") {
        return serde_json::from_slice(body).map_err(|_| bad());
    }
    if !kind.starts_with("application/x-www-form-urlencoded") && !body.is_empty() {
        return Err(bad());
    }
    let mut form = Form::new();
    for (name, value) in form_urlencoded::parse(body).into_owned() {
        if form.insert(name, value).is_some() {
            return Err(refusal(400, "invalid_request", "a parameter stands twice"));
        }
    }
    Ok(form)
}

impl Shared {
    /// What a request to the token endpoint asks for.
    pub(super) fn asked(&self, headers: &HeaderMap, form: &Form) -> Asked {
        let text = |name: &str| form.get(name).cloned().unwrap_or_default();
        match form.get("grant_type").map(String::as_str) {
            Some("refresh_token") => {
                let client = self.client(headers, form);
                Asked::Refresh { client, token: text("refresh_token"), scope: text("scope") }
            }
            Some("client_credentials") => Asked::Client { client: self.client(headers, form), scope: text("scope") },
            Some("urn:ietf:params:oauth:grant-type:jwt-bearer") => {
                Asked::Assertion { assertion: text("assertion"), scope: text("scope") }
            }
            Some(_) => {
                Asked::Wrong(refusal(400, "unsupported_grant_type", "refresh_token, client_credentials, jwt-bearer"))
            }
            None => Asked::Wrong(refusal(400, "invalid_request", "grant_type is missing")),
        }
    }

    /// Acts. The word of the log, and the reply or refusal.
    pub(super) fn act(&self, asked: Asked, keep: bool, now: Now) -> (Result<Minted, (Refused, bool)>, Option<Draft>) {
        let state = &mut *self.state();
        let refused = |word, draft| (Err((word, false)), Some(draft));
        let invalid = |text: &str| refusal(400, "invalid_grant", text);
        match asked {
            Asked::Wrong(draft) => refused("bad_request", draft),
            Asked::Refresh { client: Err(draft), .. } | Asked::Client { client: Err(draft), .. } => {
                refused("invalid_client", draft)
            }
            // RFC 6749 §6: no more than was granted.
            Asked::Refresh { token, scope, .. } if state.authority.exceeds(&token, &scope) => {
                refused("invalid_scope", refusal(400, "invalid_scope", "more than was granted"))
            }
            Asked::Refresh { client: Ok(client), token, .. } => {
                match state.authority.refresh(&client, &token, keep, now, &mut state.dice) {
                    Ok(minted) => (Ok(minted), None),
                    // One text for all reasons, as real providers do; the log knows which it was.
                    Err(refused) => (Err(refused), Some(invalid("the refresh token is invalid, expired or revoked"))),
                }
            }
            Asked::Client { client: Ok(client), scope } => {
                if state.authority.clients.get(&client).is_none_or(|client| client.secret.is_none()) {
                    return refused("unauthorized_client", refusal(400, "unauthorized_client", "a public client"));
                }
                let minted = state.authority.issue(&client, &scope, now);
                (minted.ok_or(("unknown_client", false)), None)
            }
            Asked::Assertion { assertion, scope } => {
                let audience = Some(self.token_endpoint());
                let known = |id: &str| state.authority.clients.get(id).and_then(|client| client.public_key.clone());
                match verified(&assertion, known, audience.as_deref(), now) {
                    Err(why) => refused("bad_assertion", invalid(why)),
                    Ok(client) => (state.authority.issue(&client, &scope, now).ok_or(("unknown_client", false)), None),
                }
            }
            Asked::App { narrow: Err(draft), .. } => refused("narrowing_refused", draft),
            Asked::App { assertion, narrow: Ok(scope) } => {
                let known = |id: &str| state.authority.clients.get(id).and_then(|client| client.public_key.clone());
                match verified(&assertion, known, None, now) {
                    Err(why) => refused("bad_assertion", Draft::json(401, &json!({"message": why}))),
                    Ok(client) => (state.authority.issue(&client, &scope, now).ok_or(("unknown_client", false)), None),
                }
            }
        }
    }

    /// Who the client is, by Basic or by the body (RFC 6749 §2.3.1).
    pub(super) fn client(&self, headers: &HeaderMap, form: &Form) -> Result<String, Draft> {
        let denied = || {
            refusal(401, "invalid_client", "client authentication failed")
                .header(header::WWW_AUTHENTICATE, "Basic realm=\"sandbox\", error=\"invalid_client\"")
        };
        let basic = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Basic "));
        let (id, secret) = match basic {
            Some(pair) => {
                let pair =
                    STANDARD.decode(pair).ok().and_then(|pair| String::from_utf8(pair).ok()).ok_or_else(denied)?;
                let (id, secret) = pair.split_once(':').ok_or_else(denied)?;
                (decoded(id), Some(decoded(secret)))
            }
            None => (form.get("client_id").cloned().unwrap_or_default(), form.get("client_secret").cloned()),
        };
        let state = self.state();
        let client = state.authority.clients.get(&id).ok_or_else(denied)?;
        if client.secret != secret.map(Secret::new) {
            return Err(denied());
        }
        Ok(id)
    }

    /// RFC 7009: the answer is 200 whether or not the token was known.
    pub(super) fn revoke(&self, headers: &HeaderMap, form: &Form) -> (Draft, &'static str) {
        if let Err(draft) = self.client(headers, form) {
            return (draft, "invalid_client");
        }
        let known = form.get("token").is_some_and(|token| self.state().authority.revoke_token(token));
        (Draft::text(200, "", ""), if known { "revoked" } else { "unknown_token" })
    }

    /// RFC 7662.
    pub(super) fn introspect(&self, headers: &HeaderMap, form: &Form, now: Now) -> (Draft, &'static str) {
        if let Err(draft) = self.client(headers, form) {
            return (draft, "invalid_client");
        }
        let token = form.get("token").map(String::as_str).unwrap_or_default();
        let mut state = self.state();
        if state.authority.is_live(token, now) {
            return (Draft::json(200, &json!({"active": true, "token_type": "refresh_token"})), "good");
        }
        match state.authority.present(token, true, now) {
            Err((word, _)) => (Draft::json(200, &json!({"active": false})), word),
            Ok(holder) => {
                let ends = holder.ends.map(|ends| (now.wall + ends.saturating_sub(now.boot)).as_second());
                let body = json!({"active": true, "scope": holder.scope, "sub": holder.grant, "exp": ends});
                (Draft::json(200, &body), "good")
            }
        }
    }
}

/// The repositories that every app's installation has.
const REPOSITORIES: [&str; 3] = ["web", "api", "docs"];

/// What an installation token shall be for, as its scope: `repositories:web permissions:contents:read`. Nothing named
/// is everything. As GitHub has it, what the installation does not have is refused with 422.
pub(super) fn narrowed(body: &[u8]) -> Result<String, Draft> {
    let wrong = |text: &str| Draft::json(422, &json!({"message": text}));
    let asked: Value = match serde_json::from_slice(body) {
        Ok(asked @ Value::Object(_)) => asked,
        // An empty body, or a form: nothing is named.
        _ => return Ok(String::new()),
    };
    let mut scope = Vec::new();
    for repository in asked["repositories"].as_array().into_iter().flatten() {
        let name = repository.as_str().filter(|name| REPOSITORIES.contains(name));
        let name = name.ok_or_else(|| {
            wrong(
                "There is at least one repository that does not exist or is not accessible to the parent installation.",
            )
        })?;
        scope.push(format!("repositories:{name}"));
    }
    for (name, level) in asked["permissions"].as_object().into_iter().flatten() {
        let level = level.as_str().filter(|level| ["read", "write"].contains(level));
        let level = level.ok_or_else(|| wrong("The permissions requested are not granted to this installation."))?;
        scope.push(format!("permissions:{name}:{level}"));
    }
    Ok(scope.join(" "))
}

/// A token response (RFC 6749 §5.1), or GitHub's for an app.
pub(super) fn granted(minted: &Minted, app: bool, now: Now) -> Draft {
    if app {
        let mut body = json!({"token": minted.access_token, "expires_at": (now.wall + minted.lifetime).to_string()});
        let named = |kind: &'static str| {
            minted.scope.split(' ').filter_map(move |word| word.strip_prefix(kind)?.strip_prefix(':'))
        };
        let repositories: Vec<Value> = named("repositories").map(|name| json!({"name": name})).collect();
        if !repositories.is_empty() {
            body["repositories"] = repositories.into();
        }
        for (name, level) in named("permissions").filter_map(|word| word.split_once(':')) {
            body["permissions"][name] = level.into();
        }
        return Draft::json(201, &body);
    }
    let mut body = json!({
        "access_token": minted.access_token,
        "token_type": "Bearer",
        "expires_in": minted.lifetime.as_secs(),
        "scope": minted.scope,
    });
    if let Some((token, _)) = &minted.refresh_token {
        body["refresh_token"] = Value::from(token.as_str());
    }
    Draft::json(200, &body)
}

pub(super) fn refusal(status: u16, error: &str, description: &str) -> Draft {
    Draft::json(status, &json!({"error": error, "error_description": description}))
}

fn decoded(text: &str) -> String {
    form_urlencoded::parse(format!("x={text}").as_bytes())
        .next()
        .map_or_else(String::new, |(_, value)| value.into_owned())
}

fn claims(assertion: &str) -> Option<Value> {
    let claims = URL_SAFE_NO_PAD.decode(assertion.split('.').nth(1)?).ok()?;
    serde_json::from_slice(&claims).ok()
}

/// Who an assertion says it comes from; nothing is proven yet.
pub(super) fn issuer(assertion: &str) -> Option<String> {
    claims(assertion)?["iss"].as_str().map(str::to_owned)
}

/// Checks an assertion with the public key of the client that it names (RFC 7523 §3); the client's id.
fn verified(
    assertion: &str,
    public_key: impl Fn(&str) -> Option<String>,
    audience: Option<&str>,
    now: Now,
) -> Result<String, &'static str> {
    let header = jsonwebtoken::decode_header(assertion).map_err(|_| "the assertion is no JWT")?;
    let claims = claims(assertion).ok_or("the assertion has no claims")?;
    let issuer = claims["iss"].as_str().ok_or("the assertion has no issuer")?;
    let pem = public_key(issuer).ok_or("the issuer is unknown or has no public key")?;
    let key = match header.alg.family() {
        AlgorithmFamily::Rsa => DecodingKey::from_rsa_pem(pem.as_bytes()),
        AlgorithmFamily::Ec => DecodingKey::from_ec_pem(pem.as_bytes()),
        AlgorithmFamily::Ed => DecodingKey::from_ed_pem(pem.as_bytes()),
        _ => return Err("the assertion must be signed with a private key"),
    };
    let mut validation = Validation::new(header.alg);
    // Times are checked below, by our own clock.
    validation.validate_exp = false;
    match audience {
        Some(audience) => validation.set_audience(&[audience]),
        None => validation.validate_aud = false,
    }
    let key = key.map_err(|_| "the client's public key does not fit the algorithm")?;
    jsonwebtoken::decode::<Value>(assertion, &key, &validation).map_err(|_| "signature or audience is wrong")?;
    let (issued, ends) = (claims["iat"].as_i64().unwrap_or(i64::MAX), claims["exp"].as_i64().unwrap_or(0));
    let second = now.wall.as_second();
    match () {
        () if issued > second => Err("the assertion was issued in the future"),
        () if ends <= second => Err("the assertion has expired"),
        () if ends - issued > Duration::from_secs(3600).as_secs().cast_signed() => {
            Err("the assertion lives for more than an hour")
        }
        () => Ok(issuer.to_owned()),
    }
}

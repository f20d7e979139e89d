//! Token requests: refresh token, client credentials, JWT bearer.

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{
    HeaderName, Method,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE},
};
use jiff::Timestamp;
use url::{Url, form_urlencoded};

use super::{REFRESH_BUDGET, Subject, Unmakable, assertion, aws, fill};
use crate::{
    catalogue::{ClientAuthentication, NarrowBy},
    credential::{Kind, Secret},
    fetch::Call,
};

/// The request that asks for a new access token.
#[expect(clippy::disallowed_methods, reason = "the signed assertion becomes the Authorization header")]
pub(super) fn call(subject: &Subject, now: Timestamp) -> Result<Call, Unmakable> {
    if subject.kind == Kind::AwsSession {
        return aws::session(subject, now);
    }
    let token = &subject.provider.token;
    let material = &subject.material;
    let url = endpoint(subject)?;
    let scope = scope(subject);
    let mut body = Body::default();
    let mut headers = vec![(ACCEPT, Secret::new("application/json"))];
    let mut authorised_by_body = true;
    match subject.kind {
        Kind::RefreshToken => {
            body.set("grant_type", Secret::new("refresh_token"));
            body.set("refresh_token", material.refresh_token.clone().ok_or(Unmakable::Missing("refresh_token"))?);
            headers.extend(authenticate(subject, &mut body)?);
        }
        Kind::ClientCredentials => {
            body.set("grant_type", Secret::new("client_credentials"));
            if token.client_authentication != ClientAuthentication::None && material.client_secret.is_none() {
                return Err(Unmakable::Missing("client_secret"));
            }
            headers.extend(authenticate(subject, &mut body)?);
        }
        Kind::JwtBearer => {
            let description = token.assertion.as_ref().ok_or_else(|| unsupported(subject))?;
            let signed = assertion::sign(description, subject, &url, scope.as_deref(), now)?;
            if description.bearer {
                authorised_by_body = false;
                headers.push((AUTHORIZATION, Secret::new(format!("Bearer {}", signed.expose()))));
            } else {
                body.set("grant_type", Secret::new("urn:ietf:params:oauth:grant-type:jwt-bearer"));
                body.set("assertion", signed);
                // The assertion speaks for the client as well, unless it has a secret of its own (RFC 7521 §4.1).
                if material.client_secret.is_some() {
                    headers.extend(authenticate(subject, &mut body)?);
                }
            }
        }
        Kind::ApiKey | Kind::Pat | Kind::AwsAccessKey | Kind::AwsSession => return Err(unsupported(subject)),
    }
    if authorised_by_body {
        if let Some(scope) = scope {
            body.set("scope", Secret::new(scope));
        }
        if let Some(resource) = &subject.settings.resource {
            body.set("resource", Secret::new(resource));
        }
    }
    let value = |name: &str| fill::value(subject, name);
    for (name, template) in &token.request.parameters {
        body.set(name, Secret::new(fill::text(template, value)?));
    }
    if let (Some(narrow), Some(NarrowBy::Body)) = (&subject.settings.narrow, narrowed_by(subject)) {
        narrow.0.iter().for_each(|(name, value)| body.narrow(name, value));
    }
    let (content_type, body) = body.render(token.request.json);
    headers.push((CONTENT_TYPE, Secret::new(content_type)));
    put(&mut headers, further(&token.request.headers, value)?);
    Ok(Call { method: Method::POST, url, headers, body: Some(body), timeout: REFRESH_BUDGET })
}

fn unsupported(subject: &Subject) -> Unmakable {
    Unmakable::Unsupported { provider: subject.provider.name.clone(), kind: subject.kind.as_str() }
}

/// The credential's own endpoint, else the provider's, else the one that a service account's key names.
fn endpoint(subject: &Subject) -> Result<Url, Unmakable> {
    if let Some(own) = &subject.settings.token_endpoint {
        return Ok(own.clone());
    }
    if let Some(template) = &subject.provider.token.endpoint {
        return fill::url(template, |name| fill::value(subject, name));
    }
    let named = (subject.kind == Kind::JwtBearer).then(|| subject.material.other.text("token_uri")).flatten();
    let named = named
        .ok_or_else(|| Unmakable::Undescribed { provider: subject.provider.name.clone(), what: "token_endpoint" })?;
    Url::parse(&named).map_err(|error| Unmakable::Address(format!("the secret's token_uri is no address: {error}")))
}

fn narrowed_by(subject: &Subject) -> Option<NarrowBy> {
    subject.provider.narrow.as_ref().map(|narrowing| narrowing.by)
}

fn scope(subject: &Subject) -> Option<String> {
    let separator = &subject.provider.token.scope_separator;
    let separator = if separator.is_empty() { " " } else { separator };
    let narrow = subject.settings.narrow.as_ref().filter(|_| narrowed_by(subject) == Some(NarrowBy::Scope));
    if let Some(fewer) = narrow.and_then(|narrow| narrow.texts("scopes")) {
        return Some(fewer.join(separator));
    }
    (!subject.settings.scopes.is_empty()).then(|| subject.settings.scopes.join(separator))
}

/// Shows who the client is. A client without a secret is a public one and says only its name (RFC 6749 §3.2.1).
#[expect(clippy::disallowed_methods, reason = "HTTP Basic is made of the client's secret")]
pub(super) fn authenticate(subject: &Subject, body: &mut Body) -> Result<Option<(HeaderName, Secret)>, Unmakable> {
    let id = fill::client_id(subject).ok_or(Unmakable::Missing("client_id (nor have the credential's settings)"))?;
    let secret = subject.material.client_secret.as_ref();
    match (subject.provider.token.client_authentication, secret) {
        (ClientAuthentication::Basic, Some(secret)) => {
            // RFC 6749 §2.3.1: form-encoded first, each by itself, so that a colon in either does no harm.
            let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
            let pair = Secret::new(format!("{}:{}", encode(&id), encode(secret.expose())));
            return Ok(Some((AUTHORIZATION, Secret::new(format!("Basic {}", STANDARD.encode(pair.expose()))))));
        }
        (ClientAuthentication::Post, Some(secret)) => {
            body.set("client_id", Secret::new(id));
            body.set("client_secret", secret.clone());
        }
        (ClientAuthentication::None, _) | (_, None) => body.set("client_id", Secret::new(id)),
    }
    Ok(None)
}

/// A provider's further headers, filled.
pub(super) fn further(
    headers: &std::collections::BTreeMap<String, String>,
    value: impl Fn(&str) -> Option<String>,
) -> Result<Vec<(HeaderName, Secret)>, Unmakable> {
    let filled = headers.iter().map(|(name, template)| {
        let known = name.parse().map_err(|_| Unmakable::Address(format!("{name:?} cannot name a header")))?;
        Ok((known, Secret::new(fill::text(template, &value)?)))
    });
    filled.collect()
}

/// Adds headers; one of the same name gives way.
pub(super) fn put(headers: &mut Vec<(HeaderName, Secret)>, more: Vec<(HeaderName, Secret)>) {
    headers.retain(|(name, _)| more.iter().all(|(other, _)| other != name));
    headers.extend(more);
}

/// Body members in order; a later one of the same name replaces the earlier.
#[derive(Default)]
pub(super) struct Body {
    texts: Vec<(String, Secret)>,
    /// What a token is narrowed to: no secrets, and no mere texts.
    narrow: Vec<(String, serde_json::Value)>,
}

impl Body {
    pub(super) fn set(&mut self, name: &str, value: Secret) {
        match self.texts.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => self.texts.push((name.to_owned(), value)),
        }
    }

    fn narrow(&mut self, name: &str, value: &serde_json::Value) {
        self.narrow.push((name.to_owned(), value.clone()));
    }

    #[expect(clippy::disallowed_methods, reason = "the body that is sent")]
    pub(super) fn render(&self, json: bool) -> (&'static str, Secret) {
        if json {
            let members = self.texts.iter().map(|(name, value)| (name.clone(), value.expose().into()));
            let object: serde_json::Map<String, serde_json::Value> =
                members.chain(self.narrow.iter().cloned()).collect();
            return ("application/json", Secret::new(serde_json::Value::Object(object).to_string()));
        }
        let mut form = form_urlencoded::Serializer::new(String::new());
        for (name, value) in &self.texts {
            form.append_pair(name, value.expose());
        }
        for (name, value) in &self.narrow {
            match value.as_str() {
                Some(text) => form.append_pair(name, text),
                None => form.append_pair(name, &value.to_string()),
            };
        }
        ("application/x-www-form-urlencoded", Secret::new(form.finish()))
    }
}

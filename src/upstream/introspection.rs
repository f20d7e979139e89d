//! RFC 7662: where a provider has no probe, its introspection endpoint says whether a token lives and until when.

use http::{
    Method,
    header::{ACCEPT, CONTENT_TYPE},
};

use super::{PROBE_BUDGET, Settings, Subject, Unmakable, fill, grant};
use crate::{catalogue::Provider, credential::Kind, credential::Secret, fetch::Call};

/// Whether a credential is proven by introspection: its provider offers it, and nothing nearer to what readers do. A
/// token endpoint of its own is an authorization server of its own, whose tokens the provider's would not know.
pub fn is_used(provider: &Provider, kind: Kind, settings: &Settings) -> bool {
    kind.is_refreshable()
        && provider.introspection_endpoint.is_some()
        && provider.probe(kind).is_none()
        && settings.probe_url.is_none()
        && settings.token_endpoint.is_none()
}

/// The request. The client shows who it is as at the token endpoint (RFC 7662 §2.1 wants it shown).
pub(super) fn call(subject: &Subject) -> Result<Call, Unmakable> {
    let undescribed = || Unmakable::Undescribed { provider: subject.provider.name.clone(), what: "probe_url" };
    let template = subject.provider.introspection_endpoint.as_ref().ok_or_else(undescribed)?;
    let url = fill::url(template, |name| fill::value(subject, name))?;
    let token = subject.material.access_token.clone().ok_or(Unmakable::Missing("access_token"))?;
    let mut body = grant::Body::default();
    body.set("token", token);
    body.set("token_type_hint", Secret::new("access_token"));
    let mut headers = vec![(ACCEPT, Secret::new("application/json"))];
    headers.extend(grant::authenticate(subject, &mut body)?);
    let (content_type, body) = body.render(false);
    headers.push((CONTENT_TYPE, Secret::new(content_type)));
    Ok(Call { method: Method::POST, url, headers, body: Some(body), timeout: PROBE_BUDGET })
}

//! Probes: the provider's cheap authenticated request, with the current access token in it.

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{
    Method,
    header::{ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE},
};

use jiff::Timestamp;
use zeroize::Zeroizing;

use super::{PROBE_BUDGET, Subject, Unmakable, aws, fill, grant};
use crate::{credential::Secret, fetch::Call};

const TOKEN: &str = "{access_token}";

/// The request that proves a credential.
#[expect(clippy::disallowed_methods, reason = "the token goes into the probe")]
pub(super) fn call(subject: &Subject, now: Timestamp) -> Result<Call, Unmakable> {
    if subject.kind.signs() {
        return aws::probe(subject, now);
    }
    let probe = subject.provider.probe(subject.kind);
    let token = subject.material.access_token.as_ref().ok_or(Unmakable::Missing("access_token"))?;
    let value = |name: &str| match name {
        "access_token" => Some(token.expose().to_owned()),
        _ => fill::value(subject, name),
    };
    let url = match (&subject.settings.probe_url, probe) {
        (Some(own), _) => own.clone(),
        (None, Some(probe)) => fill::url(&probe.url, value)?,
        (None, None) => {
            return Err(Unmakable::Undescribed { provider: subject.provider.name.clone(), what: "probe_url" });
        }
    };
    // An answer of yesterday proves nothing: caches on the way must ask the API itself (FM-12).
    let mut headers = vec![(ACCEPT, Secret::new("application/json")), (CACHE_CONTROL, Secret::new("no-cache"))];
    let mut method = Method::GET;
    let mut body = None;
    let mut carried = false;
    if let Some(probe) = probe {
        method = probe.method.parse().map_err(|_| Unmakable::Address(format!("{:?} is no method", probe.method)))?;
        if let Some(text) = &probe.body {
            if text.trim_start().starts_with(['{', '[']) {
                headers.push((CONTENT_TYPE, Secret::new("application/json")));
            }
            body = Some(Secret::new(fill::text(text, value)?));
        }
        grant::put(&mut headers, grant::further(&probe.headers, value)?);
        let by_url = subject.settings.probe_url.is_none() && probe.url.contains(TOKEN);
        let by_body = probe.body.as_ref().is_some_and(|text| text.contains(TOKEN));
        if let Some((username, password)) = &probe.basic {
            let pair = Zeroizing::new(format!("{}:{}", fill::text(username, value)?, fill::text(password, value)?));
            headers.push((AUTHORIZATION, Secret::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())))));
        }
        carried = by_url || by_body || probe.basic.is_some() || probe.headers.values().any(|text| text.contains(TOKEN));
    }
    if !carried {
        headers.push((AUTHORIZATION, Secret::new(format!("Bearer {}", token.expose()))));
    }
    Ok(Call { method, url, headers, body, timeout: PROBE_BUDGET })
}

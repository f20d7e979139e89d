//! Talking to Vault through vaultrs with an HTTP client of our own, and what Vault's refusals mean.
//!
//! vaultrs takes every setting that is not named from the environment, follows redirects and prints tokens in `Debug`:
//! so each setting is named here, the client is ours, and nothing of vaultrs is ever printed with `{:?}`.

use std::{error::Error, fmt, fs, time::Duration};

use rustify::{
    endpoint::Endpoint,
    enums::{RequestMethod, RequestType, ResponseType},
};
use vaultrs::{
    api::EndpointMiddleware,
    client::{VaultClient, VaultClientSettings},
    error::ClientError,
};

use super::Settings;
use crate::{credential::Secret, store::StoreError};

const CONNECT: Duration = Duration::from_secs(5);
const TOTAL: Duration = Duration::from_secs(10);

/// The way to one Vault.
pub(super) struct Wire {
    http: reqwest::Client,
    address: url::Url,
    namespace: Option<String>,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("address", &self.address.as_str()).field("namespace", &self.namespace).finish()
    }
}

impl Wire {
    /// Or a sentence about the setting that cannot work.
    pub(super) fn new(settings: &Settings) -> Result<Self, String> {
        let address = &settings.address;
        if !matches!(address.scheme(), "http" | "https") || !address.has_host() || address.path() != "/" {
            return Err("`address` must be like https://vault.example.com:8200, without a path".into());
        }
        if !address.username().is_empty() || address.password().is_some() || address.query().is_some() {
            return Err("`address` must hold no password and no query".into());
        }
        if let Some(namespace) = &settings.namespace {
            fits(namespace).map_err(|reason| format!("`namespace` {reason}"))?;
        }
        let mut http = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .timeout(TOTAL)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .referer(false);
        if address.scheme() == "http" {
            http = http.tls_certs_only([]);
        } else if let Some(ca) = &settings.ca {
            let cannot = |what: &str| format!("`ca` {} {what}", ca.display());
            let pem = fs::read(ca).map_err(|error| cannot(&format!("cannot be read: {}", error.kind())))?;
            let certificates = reqwest::Certificate::from_pem_bundle(&pem).map_err(|_| cannot("is not PEM"))?;
            if certificates.is_empty() {
                return Err(cannot("holds no certificate"));
            }
            http = http.tls_certs_only(certificates);
        }
        let http = http.build().map_err(|_| "the HTTP client cannot be made; is `ca` a certificate?".to_owned())?;
        Ok(Self { http, address: address.clone(), namespace: settings.namespace.clone() })
    }

    /// `https://vault.example.com:8200/`
    pub(super) fn address(&self) -> &str {
        self.address.as_str()
    }

    /// A client with that token, or with none for a login.
    #[expect(clippy::disallowed_methods, reason = "the token that Vault knows us by")]
    pub(super) fn client(&self, token: Option<&Secret>) -> VaultClient {
        VaultClient {
            http: rustify::clients::reqwest::Client::new(self.address.as_str(), self.http.clone()),
            middle: EndpointMiddleware {
                token: token.map(|token| token.expose().to_owned()).unwrap_or_default(),
                version: "v1".into(),
                wrap: None,
                namespace: self.namespace.clone(),
            },
            // Only the two fields above count; the token is not put here because this type prints it.
            settings: VaultClientSettings {
                address: self.address.clone(),
                ca_certs: Vec::new(),
                identity: None,
                timeout: Some(TOTAL),
                token: String::new(),
                verify: true,
                version: 1,
                wrapping: false,
                namespace: self.namespace.clone(),
                proxy: None,
            },
        }
    }

    /// A client for what only the root namespace answers.
    pub(super) fn root_client(&self) -> VaultClient {
        let mut client = self.client(None);
        client.middle.namespace = None;
        client
    }
}

/// A question that vaultrs does not know.
pub(super) struct Question<T> {
    path: String,
    body: Option<Vec<u8>>,
    answer: std::marker::PhantomData<fn() -> T>,
}

impl<T> Question<T> {
    pub(super) fn get(path: String) -> Self {
        Self { path, body: None, answer: std::marker::PhantomData }
    }

    pub(super) fn post(path: String, body: &serde_json::Value) -> Self {
        Self { path, body: Some(body.to_string().into_bytes()), answer: std::marker::PhantomData }
    }
}

impl<T: serde::de::DeserializeOwned + Send + Sync> Endpoint for Question<T> {
    type Response = T;
    const REQUEST_BODY_TYPE: RequestType = RequestType::JSON;
    const RESPONSE_BODY_TYPE: ResponseType = ResponseType::JSON;

    fn path(&self) -> String {
        self.path.clone()
    }

    fn method(&self) -> RequestMethod {
        if self.body.is_some() { RequestMethod::POST } else { RequestMethod::GET }
    }

    fn body(&self) -> Result<Option<Vec<u8>>, rustify::errors::ClientError> {
        Ok(self.body.clone())
    }
}

/// Whether a text can stand in a path or header; vaultrs panics or loses its way on others.
pub(super) fn fits(path: &str) -> Result<(), String> {
    if path.is_empty() || path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err("must be names joined by `/`, without `.` and `..`".into());
    }
    if path.bytes().any(|byte| !(b' '..=b'~').contains(&byte)) {
        return Err("must be printable ASCII".into());
    }
    Ok(())
}

/// The HTTP status of Vault's refusal.
pub(super) fn status(error: &ClientError) -> Option<u16> {
    match error {
        ClientError::APIError { code, .. } => Some(*code),
        ClientError::RestClientError { source: rustify::errors::ClientError::ServerResponseError { code, .. } } => {
            Some(*code)
        }
        _ => None,
    }
}

/// Whether Vault's words hold that phrase.
pub(super) fn says(error: &ClientError, phrase: &str) -> bool {
    matches!(error, ClientError::APIError { errors, .. } if errors.iter().any(|text| text.contains(phrase)))
}

/// What a refusal means to whoever asked for `path`. Vault's own words are only looked at, never repeated.
pub(super) fn refusal(path: &str, error: &ClientError) -> StoreError {
    let path = path.to_owned();
    let unreachable = |reason: &str| StoreError::Unreachable { path: path.clone(), reason: reason.into() };
    match status(error) {
        Some(403) => StoreError::Denied { path, reason: "Vault says permission denied".into() },
        Some(404) => StoreError::NotFound { path },
        Some(429) => StoreError::Throttled { path, retry_after: None },
        Some(503) if says(error, "sealed") => unreachable("Vault is sealed; unseal it"),
        Some(code @ 300..=399) => {
            unreachable(&format!("Vault redirects ({code}); point `address` at the active node or its load balancer"))
        }
        Some(400) if says(error, "check-and-set") => StoreError::Conflict { path },
        Some(400) if says(error, "pgrading") => unreachable("the KV engine is being upgraded to version 2"),
        Some(code) => unreachable(&format!("Vault answers with status {code}")),
        None => unreachable(&transport(error)),
    }
}

/// What happened on the way, without URL, headers or bodies.
fn transport(error: &ClientError) -> String {
    let ClientError::RestClientError { source } = error else {
        return "Vault's answer has another form than expected".into();
    };
    let source = match source {
        rustify::errors::ClientError::RequestError { source, .. }
        | rustify::errors::ClientError::ResponseError { source } => source,
        _ => return "Vault's answer has another form than expected".into(),
    };
    let Some(error) = source.downcast_ref::<reqwest::Error>() else {
        return "no complete answer".into();
    };
    if error.is_timeout() && error.is_connect() {
        return "no connection within 5 s".into();
    }
    if error.is_timeout() {
        return "no answer within 10 s".into();
    }
    // The innermost cause names the fault ("Connection refused", "invalid peer certificate: UnknownIssuer").
    let mut cause: &dyn Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string().chars().take(160).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(code: u16, words: &str) -> StoreError {
        refusal("secret/app", &ClientError::APIError { code, errors: vec![words.into()] })
    }

    #[test]
    fn refusals_mean_what_they_say() {
        assert!(matches!(said(403, "permission denied"), StoreError::Denied { .. }));
        assert!(matches!(said(404, ""), StoreError::NotFound { .. }));
        assert!(matches!(said(429, "quota"), StoreError::Throttled { .. }));
        let conflict = "check-and-set parameter did not match the current version";
        assert!(matches!(said(400, conflict), StoreError::Conflict { .. }));
        assert!(said(503, "Vault is sealed").to_string().contains("unseal"));
        assert!(said(307, "").to_string().contains("active node"));
        assert!(!said(500, "canary-value").to_string().contains("canary"));
    }

    #[test]
    fn paths_that_would_lead_elsewhere_are_refused() {
        assert!(fits("team/app").is_ok());
        for path in ["", "/a", "a/", "a//b", "a/../b", ".", "a\nb"] {
            assert!(fits(path).is_err(), "{path:?}");
        }
    }
}

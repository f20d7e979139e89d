//! Upstreams: turns a provider's description and a credential's material into requests, and sends them once.

mod assertion;
mod aws;
mod fill;
mod grant;
mod introspection;
mod placeholders;
mod probe;

pub use introspection::is_used as introspects;
pub use placeholders::unfilled;

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;

use crate::{
    catalogue::Provider,
    credential::{Kind, Material, Narrow},
    fetch::{Exchange, Fetch},
};

/// What one credential's calls are made of.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Who issued it.
    pub provider: Arc<Provider>,
    /// How it comes to a value.
    pub kind: Kind,
    /// Its secrets.
    pub material: Arc<Material>,
    /// Settings that fill placeholders and override endpoints.
    pub settings: Arc<Settings>,
}

/// A credential's own settings for its calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Instead of the provider's token endpoint.
    pub token_endpoint: Option<url::Url>,
    /// Instead of the provider's probe.
    pub probe_url: Option<url::Url>,
    /// The OAuth client, where it does not stand in the secret itself.
    pub client_id: Option<String>,
    /// Scopes to ask for.
    pub scopes: Vec<String>,
    /// RFC 8707 resource indicator.
    pub resource: Option<String>,
    /// Values of the provider's placeholders (`tenant = "contoso"`).
    pub with: std::collections::BTreeMap<String, String>,
    /// The token shall do less than its grant may; said by a reader's rule.
    #[serde(skip)]
    pub narrow: Option<Narrow>,
}

/// A request that cannot be made; nothing was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unmakable {
    /// The material lacks something.
    #[error("the secret has no {0}")]
    Missing(&'static str),
    /// A placeholder has no value.
    #[error("{{{0}}} has no value: set `upstream.with.{0}`, or `{0}` as a member of the secret")]
    Placeholder(String),
    /// The provider does not say how.
    #[error("provider {provider} has no {what}: set `upstream.{what}`")]
    Undescribed {
        /// Whose file.
        provider: String,
        /// `token_endpoint`, `probe`.
        what: &'static str,
    },
    /// The provider has no way for this kind of credential.
    #[error(
        "provider {provider} does not describe {kind} credentials: choose another kind, or describe it in the provider's file"
    )]
    Unsupported {
        /// Whose file.
        provider: String,
        /// `jwt_bearer`.
        kind: &'static str,
    },
    /// The private key does not sign.
    #[error("the private key cannot be used: {0}")]
    Key(String),
    /// This program cannot.
    #[error("this credd was built without the feature `{0}`: build it with the default features")]
    Unbuilt(&'static str),
    /// Not a usable address.
    #[error("{0}")]
    Address(String),
}

/// Whether a request for a new access token could be made; nothing is sent.
pub fn can_ask(subject: &Subject, now: jiff::Timestamp) -> Result<(), Unmakable> {
    grant::call(subject, now).map(drop)
}

/// The way to the outside. One call is one request: nothing below the lifecycle retries.
pub trait Upstream: Send + Sync {
    /// Asks the token endpoint for a new access token by whatever the kind needs.
    fn refresh<'a>(&'a self, subject: &'a Subject, now: jiff::Timestamp) -> BoxFuture<'a, Result<Exchange, Unmakable>>;
    /// Sends the provider's probe with the current access token, or asks its introspection endpoint where it has none.
    fn probe<'a>(&'a self, subject: &'a Subject, now: jiff::Timestamp) -> BoxFuture<'a, Result<Exchange, Unmakable>>;
}

/// A token request may take this long in all.
pub const REFRESH_BUDGET: Duration = Duration::from_secs(30);

/// A probe may take this long in all.
pub const PROBE_BUDGET: Duration = Duration::from_secs(10);

/// The upstreams behind HTTP. A refresh token goes to the endpoint of the settings or the provider, and nowhere else:
/// redirects are not followed, and no reply names an endpoint.
#[derive(Clone, Debug)]
pub struct HttpUpstream {
    fetch: Arc<Fetch>,
}

impl HttpUpstream {
    /// Sends by this client.
    pub fn new(fetch: Arc<Fetch>) -> Self {
        Self { fetch }
    }
}

impl Upstream for HttpUpstream {
    fn refresh<'a>(&'a self, subject: &'a Subject, now: jiff::Timestamp) -> BoxFuture<'a, Result<Exchange, Unmakable>> {
        Box::pin(async move { Ok(self.fetch.exchange(grant::call(subject, now)?).await) })
    }

    fn probe<'a>(&'a self, subject: &'a Subject, now: jiff::Timestamp) -> BoxFuture<'a, Result<Exchange, Unmakable>> {
        Box::pin(async move {
            let introspects = introspects(&subject.provider, subject.kind, &subject.settings);
            let call = if introspects { introspection::call(subject) } else { probe::call(subject, now) };
            Ok(self.fetch.exchange(call?).await)
        })
    }
}

#[cfg(test)]
mod tests;

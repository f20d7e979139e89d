//! The catalogue: what credd knows of upstreams. Pure: files in, answers out.

mod provider;

pub use provider::{Assertion, ClientAuthentication, Probe, Provider, Request, Response, Token};

use std::time::Duration;

use jiff::Timestamp;

use crate::credential::{ExpirySource, Kind, Reply, Secret};

/// A provider's failure rules, compiled.
#[derive(Clone, Debug, Default)]
pub struct Rules;

/// Where a refusal was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surface {
    /// An ordinary API call (live traffic).
    Api,
    /// The token endpoint.
    TokenEndpoint,
    /// A GraphQL call.
    Graphql,
    /// Our own probe.
    Probe,
}

/// All that classification may look at.
#[derive(Clone, Copy, Debug)]
pub struct Refusal<'a> {
    /// Where it was met.
    pub surface: Surface,
    /// What was presented, as the corpus words it (`refresh_token`, `oauth_access_token`, `api_key`, `pat`, …).
    pub presented: &'a str,
    /// The reply.
    pub reply: &'a Reply,
    /// The clock.
    pub now: Timestamp,
}

/// What a token endpoint's good answer brings, normalised (RF-27 to RF-35).
#[derive(Clone, Debug)]
pub struct Tokens {
    /// The new access token.
    pub access_token: Secret,
    /// A new refresh token; absent, empty and null mean "keep the old one".
    pub refresh_token: Option<Secret>,
    /// As given.
    pub token_type: Option<String>,
    /// How long the access token lives, counted from the sending of the request.
    pub lifetime: Option<Duration>,
    /// How the lifetime is known.
    pub lifetime_source: ExpirySource,
    /// How long the refresh token lives, where the answer says.
    pub refresh_lifetime: Option<Duration>,
    /// Granted scopes, as given.
    pub scope: Option<String>,
    /// The lifetime was malformed and had to be repaired or ignored: refreshes are limited to one in 5 minutes.
    pub repaired: bool,
}

/// What is presented at a surface for a kind of credential, in the corpus's words.
pub fn presented(kind: Kind, surface: Surface) -> &'static str {
    match (kind, surface) {
        (Kind::RefreshToken, Surface::TokenEndpoint) => "refresh_token",
        (Kind::ClientCredentials, Surface::TokenEndpoint) => "client_credentials",
        (Kind::JwtBearer, Surface::TokenEndpoint) => "service_account_jwt",
        (Kind::ApiKey, _) => "api_key",
        (Kind::Pat, _) => "pat",
        (Kind::RefreshToken | Kind::ClientCredentials | Kind::JwtBearer, _) => "oauth_access_token",
    }
}

//! A provider: the description of an upstream, one checked TOML file of `providers/`.

use std::{collections::BTreeMap, time::Duration};

use crate::credential::{Kind, Rotation};

/// What credd needs to know to run an upstream's credentials. What is not known is absent, never invented.
#[derive(Clone, Debug)]
pub struct Provider {
    /// The file's name without `.toml`: what settings say (`provider = "github"`).
    pub name: String,
    /// For people.
    pub title: String,
    /// The provider's own documentation.
    pub docs: Option<String>,
    /// How tokens are had.
    pub token: Token,
    /// How a person's consent is asked for.
    pub consent: Consent,
    /// Where replies tell how many calls are left.
    pub rate_limit: RateLimit,
    /// What goes without a person, with the provider's own words for it; what is not known is absent.
    pub unattended: BTreeMap<Topic, Fact>,
    /// Cheap authenticated requests that spend nothing, by which a credential is proven: the first that fits its kind.
    pub probes: Vec<Probe>,
    /// RFC 7009, or what this provider has instead.
    pub revocation_endpoint: Option<String>,
    /// RFC 7662.
    pub introspection_endpoint: Option<String>,
    /// How a token is narrowed when it is made, where that is known.
    pub narrow: Option<Narrowing>,
    /// What becomes of the old refresh token.
    pub rotation: Rotation,
    /// How long the old refresh token still works (`rotation = "grace"`).
    pub grace: Option<Duration>,
    /// Whether presenting a spent refresh token kills the access token too; `false` lets a strict one retry at once.
    pub reuse_kills_access_token: bool,
    /// A refresh token that nobody uses for this long dies.
    pub refresh_idle: Option<Duration>,
    /// A refresh token dies this long after it was granted, used or not.
    pub refresh_absolute: Option<Duration>,
    /// An access token's usual life, where the response does not say.
    pub default_lifetime: Option<Duration>,
    /// Never refresh earlier than this before the end (some providers answer with the same token).
    pub max_lead: Option<Duration>,
    /// Rules and examples, checked and compiled.
    pub rules: super::Rules,
}

/// How tokens are had.
#[derive(Clone, Debug, Default)]
pub struct Token {
    /// Where; may hold `{placeholders}` filled from the credential's settings or material (`{tenant}`).
    pub endpoint: Option<String>,
    /// How the client shows who it is.
    pub client_authentication: ClientAuthentication,
    /// What a refresh, a client-credentials request or an assertion is made of, where it departs from the RFCs.
    pub request: Request,
    /// Where the answer keeps what we need, as JSON pointers; the RFC's names where absent.
    pub response: Response,
    /// How assertions are made (`kind = "jwt_bearer"`).
    pub assertion: Option<Assertion>,
    /// Between scopes; RFC 6749 says a space.
    pub scope_separator: String,
}

/// How a person's consent is asked for.
#[derive(Clone, Debug, Default)]
pub struct Consent {
    /// RFC 6749 §3.1.
    pub authorization_endpoint: Option<String>,
    /// RFC 8628 §3.1.
    pub device_authorization_endpoint: Option<String>,
    /// Further parameters of the authorization request, without which a grant is less than it could be.
    pub parameters: BTreeMap<String, String>,
    /// RFC 7636.
    pub pkce: Option<Pkce>,
}

/// What the provider makes of PKCE (RFC 7636).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pkce {
    /// No code without it.
    Required,
    /// Checked where it is sent.
    Supported,
    /// Ignored or refused.
    Unsupported,
}

/// Response headers that tell the rate limit, by lower-case name.
#[derive(Clone, Debug, Default)]
pub struct RateLimit {
    /// How many calls fit into the window.
    pub limit: Option<String>,
    /// How many are left.
    pub remaining: Option<String>,
    /// When the window ends.
    pub reset: Option<String>,
    /// How `reset` is written.
    pub reset_is: Option<Reset>,
}

/// How a header writes the end of a rate limit's window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// Seconds from now.
    Seconds,
    /// Milliseconds from now.
    Milliseconds,
    /// Seconds since 1970.
    Epoch,
    /// Milliseconds since 1970.
    EpochMilliseconds,
    /// A date.
    Date,
}

/// What may or may not go without a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// The end of a credential is told: in an answer, a header or by a probe.
    Expiry,
    /// A new access token.
    Refresh,
    /// A new long-lived secret (key, client secret, refresh token) through an API.
    Rotation,
    /// The end of a credential through an API.
    Revocation,
    /// Keys or tokens limited to what they are needed for.
    Scopes,
    /// Revocations and rotations are announced by an event.
    Changes,
    /// Expired, revoked, limited and forbidden can be told apart.
    Errors,
}

impl Topic {
    /// All, in the order in which they are shown.
    pub const ALL: [(&str, Self); 7] = [
        ("expiry", Self::Expiry),
        ("refresh", Self::Refresh),
        ("rotation", Self::Rotation),
        ("revocation", Self::Revocation),
        ("scopes", Self::Scopes),
        ("changes", Self::Changes),
        ("errors", Self::Errors),
    ];
}

/// What is known of a topic.
#[derive(Clone, Debug)]
pub struct Fact {
    /// Whether it goes.
    pub answer: Answer,
    /// Where the provider says so.
    pub source: Option<String>,
    /// What a person should know of it, in a few words.
    pub note: Option<String>,
}

/// Whether something goes without a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It does.
    Yes,
    /// For some credentials, or not all of it.
    Partly,
    /// A person must.
    No,
}

/// How the client authenticates at the token endpoint (names of RFC 7591 §2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuthentication {
    /// `client_secret_basic`: HTTP Basic, form-encoded first (RFC 6749 §2.3.1).
    Basic,
    /// `client_secret_post`: in the body.
    #[default]
    Post,
    /// `none`: a public client sends its `client_id` alone.
    None,
}

/// Departures of a token request from the RFCs.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Body as JSON instead of a form.
    pub json: bool,
    /// Further headers; values may hold `{placeholders}`.
    pub headers: BTreeMap<String, String>,
    /// Further body members; values may hold `{placeholders}`.
    pub parameters: BTreeMap<String, String>,
}

/// Where the answer keeps what we need: JSON pointers (RFC 6901).
#[derive(Clone, Debug, Default)]
pub struct Response {
    /// Default `/access_token`.
    pub access_token: Option<String>,
    /// Default `/refresh_token`.
    pub refresh_token: Option<String>,
    /// Default `/expires_in`; may point at a date as well.
    pub expires: Option<String>,
    /// Default `/refresh_token_expires_in`, `/x_refresh_token_expires_in`, `/refresh_expires_in`.
    pub refresh_expires: Option<String>,
    /// Accept `application/x-www-form-urlencoded` answers.
    pub form: bool,
}

/// How an assertion is made.
#[derive(Clone, Debug)]
pub struct Assertion {
    /// JWS algorithm: `RS256`, `ES256`, `EdDSA`.
    pub algorithm: String,
    /// `aud`; the token endpoint where absent.
    pub audience: Option<String>,
    /// `iss`, with `{placeholders}`; `{client_id}` where absent.
    pub issuer: Option<String>,
    /// `sub`, with `{placeholders}`; left out where absent.
    pub subject: Option<String>,
    /// Its own life, in seconds.
    pub lifetime: Duration,
    /// `Grant`: RFC 7523, `assertion=` in the body. `Bearer`: in the Authorization header of the request (GitHub App).
    pub bearer: bool,
}

impl Provider {
    /// The probe for a kind of credential.
    pub fn probe(&self, kind: Kind) -> Option<&Probe> {
        self.probes.iter().find(|probe| probe.kinds.is_empty() || probe.kinds.contains(&kind))
    }
}

/// How a token is narrowed when it is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Narrowing {
    /// Where the request says it.
    pub by: NarrowBy,
    /// What may be said: the names that settings may use.
    pub members: Vec<String>,
}

/// Where a request for a token says that it shall be narrower than its grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NarrowBy {
    /// Body members of those names (GitHub App: `repositories`, `permissions`).
    Body,
    /// Fewer scopes (RFC 6749 §6 and §4.4.2, RFC 7521 §4.1).
    Scope,
    /// A session policy (AWS STS).
    SessionPolicy,
}

/// A cheap authenticated request.
#[derive(Clone, Debug, Default)]
pub struct Probe {
    /// Only for these kinds of credential; for all where none is named.
    pub kinds: Vec<Kind>,
    /// `GET` or `POST`.
    pub method: String,
    /// Where; may hold `{placeholders}`.
    pub url: String,
    /// Further headers; `{access_token}` stands for the token. Without an entry for it: `Authorization: Bearer {access_token}`.
    pub headers: BTreeMap<String, String>,
    /// HTTP Basic (RFC 7617) instead: user and password, one of which holds `{access_token}`.
    pub basic: Option<(String, String)>,
    /// Body, if any.
    pub body: Option<String>,
    /// JSON pointer into a good reply that tells the expiry, if any.
    pub expires: Option<String>,
    /// Response header that tells the expiry, if any.
    pub expires_header: Option<String>,
    /// JSON pointer into a good reply that tells the scopes, if any.
    pub scopes: Option<String>,
    /// Response header that tells the scopes, if any.
    pub scopes_header: Option<String>,
    /// A refusal that proves all the same that the credential lives (a token that may do one thing only, say).
    pub proves: Option<super::When>,
}

//! What an upstream's "no" means: nine words that a machine can act on.

use std::{fmt, str::FromStr, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The nine words. The same in logs, metrics, pages, the API and the catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// Over, and can be renewed: the daemon refreshes.
    CredentialExpired,
    /// The grant or key is dead: a human must act, and is paged.
    CredentialRevoked,
    /// Refused, and the reply cannot tell expired from revoked: one refresh or one more probe decides.
    CredentialRejected,
    /// Too many requests: wait.
    RateLimitReached,
    /// The credential is good, its rights are not: an operator's ticket.
    InsufficientScope,
    /// Our client, secret, scope or endpoint is wrong: one page per client.
    ClientMisconfigured,
    /// No verdict: wait, longer each time.
    UpstreamUnavailable,
    /// The reply says nothing bad about the credential (billing, an address list, an ordinary 404).
    NotACredentialFailure,
    /// No rule matched: counted, waits; a rule is missing.
    Unclassified,
}

impl Failure {
    /// All nine, in the order of the documentation.
    pub const ALL: [Self; 9] = [
        Self::CredentialExpired,
        Self::CredentialRevoked,
        Self::CredentialRejected,
        Self::RateLimitReached,
        Self::InsufficientScope,
        Self::ClientMisconfigured,
        Self::UpstreamUnavailable,
        Self::NotACredentialFailure,
        Self::Unclassified,
    ];

    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CredentialExpired => "credential_expired",
            Self::CredentialRevoked => "credential_revoked",
            Self::CredentialRejected => "credential_rejected",
            Self::RateLimitReached => "rate_limit_reached",
            Self::InsufficientScope => "insufficient_scope",
            Self::ClientMisconfigured => "client_misconfigured",
            Self::UpstreamUnavailable => "upstream_unavailable",
            Self::NotACredentialFailure => "not_a_credential_failure",
            Self::Unclassified => "unclassified",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is none of the nine.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a failure credd knows")]
pub struct UnknownFailure(String);

impl FromStr for Failure {
    type Err = UnknownFailure;
    fn from_str(text: &str) -> Result<Self, UnknownFailure> {
        Self::ALL.into_iter().find(|failure| failure.as_str() == text).ok_or_else(|| UnknownFailure(text.into()))
    }
}

/// What one refusal means, and why we think so. It holds no secret: evidence is redacted where it is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// One of the nine words.
    pub failure: Failure,
    /// Whether the same call may succeed later without a person.
    pub retryable: bool,
    /// How long the upstream asks us to wait; `None` when it does not say.
    pub retry_after: Option<Duration>,
    /// Whether a person must act.
    pub needs_human: bool,
    /// A finer word, lower_snake_case (`expired_by_inactivity`, `ip_not_allowed`, `redirect`).
    pub cause: Option<String>,
    /// The provider's code alone proves the death of the grant: no confirmation is needed before paging.
    pub definitive: bool,
    /// The provider's own code, as it stood in the reply (`invalid_grant`, `AADSTS50173`).
    pub code: Option<String>,
    /// The rule that decided: file and line, or the name of a built-in one.
    pub rule: String,
    /// What in the reply decided, redacted and short.
    pub evidence: String,
}

impl Verdict {
    /// A verdict of our own about a call that brought no reply to classify.
    pub fn of(failure: Failure, cause: &str) -> Self {
        Self {
            failure,
            retryable: matches!(
                failure,
                Failure::CredentialExpired
                    | Failure::RateLimitReached
                    | Failure::UpstreamUnavailable
                    | Failure::Unclassified
            ),
            retry_after: None,
            needs_human: matches!(
                failure,
                Failure::CredentialRevoked | Failure::InsufficientScope | Failure::ClientMisconfigured
            ),
            cause: (!cause.is_empty()).then(|| cause.to_owned()),
            definitive: false,
            code: None,
            rule: "credd".into(),
            evidence: String::new(),
        }
    }
}

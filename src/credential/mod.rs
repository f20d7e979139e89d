//! The words everybody shares: what a credential is called, what it consists of, what a refusal of it means.

mod access_key;
mod failure;
mod material;
mod narrow;
mod reference;
mod reply;
mod secret;
mod unusable;

pub use access_key::{AccessKey, Value};
pub use failure::{Failure, UnknownFailure, Verdict};
pub use material::Material;
pub use narrow::Narrow;
pub use reference::{EnvReference, FileReference, Reference, Resolve, StoreReference};
pub use reply::Reply;
pub use secret::{Fingerprint, Secret};
pub use unusable::MaterialError;

use std::{borrow::Borrow, fmt, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A credential's name: `^[a-z0-9][a-z0-9._-]{0,62}$`. Never a secret path, an account or a client id,
/// because it stands in logs, metrics, pages and URLs.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct CredentialId(Arc<str>);

/// A name that cannot be a credential's.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} cannot name a credential: 1 to 63 of a-z 0-9 . _ -, beginning with a letter or a digit")]
pub struct BadName(String);

impl CredentialId {
    /// Checks the form of a name.
    pub fn new(name: &str) -> Result<Self, BadName> {
        let fits = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
        let good = (1..=63).contains(&name.len())
            && fits(name.as_bytes()[0])
            && name.bytes().all(|c| fits(c) || matches!(c, b'.' | b'_' | b'-'));
        if good { Ok(Self(name.into())) } else { Err(BadName(name.chars().take(80).collect())) }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for CredentialId {
    type Error = BadName;
    fn try_from(name: String) -> Result<Self, BadName> {
        Self::new(&name)
    }
}

impl From<CredentialId> for String {
    fn from(id: CredentialId) -> Self {
        id.0.to_string()
    }
}

impl Borrow<str> for CredentialId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CredentialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for CredentialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Counts a credential's durable values, from 1; 0 is "none yet". It rises at each change of the value, whoever made it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Generation(pub i64);

impl Generation {
    /// The one after this.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How a credential comes to a usable value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// An OAuth grant: a refresh token that buys access tokens (RFC 6749 §6).
    RefreshToken,
    /// An access token for the client itself (RFC 6749 §4.4).
    ClientCredentials,
    /// An access token for a signed assertion (RFC 7523), or for a request that a signed JWT authorises (GitHub App).
    JwtBearer,
    /// A static key of a service: probed, never refreshed.
    ApiKey,
    /// A person's static token: probed, never refreshed.
    Pat,
    /// An AWS access key, or a session that somebody else made: probed by a signed call, never refreshed.
    AwsAccessKey,
    /// AWS sessions that credd makes with an access key (STS): of a role, or of the key's own user.
    AwsSession,
}

impl Kind {
    /// All kinds, in the order of the documentation.
    pub const ALL: [Self; 7] = [
        Self::RefreshToken,
        Self::ClientCredentials,
        Self::JwtBearer,
        Self::ApiKey,
        Self::Pat,
        Self::AwsAccessKey,
        Self::AwsSession,
    ];

    /// The word in settings, metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RefreshToken => "refresh_token",
            Self::ClientCredentials => "client_credentials",
            Self::JwtBearer => "jwt_bearer",
            Self::ApiKey => "api_key",
            Self::Pat => "pat",
            Self::AwsAccessKey => "aws_access_key",
            Self::AwsSession => "aws_session",
        }
    }

    /// Whether credd can make a new value by itself.
    pub fn is_refreshable(self) -> bool {
        !matches!(self, Self::ApiKey | Self::Pat | Self::AwsAccessKey)
    }

    /// Whether its calls are signed with an AWS access key.
    pub fn signs(self) -> bool {
        matches!(self, Self::AwsAccessKey | Self::AwsSession)
    }

    /// Whether making a new value may spend the old one (so that a lost reply matters).
    pub fn spends_grant(self) -> bool {
        matches!(self, Self::RefreshToken)
    }
}

/// How a lifetime came to be known; dashboards show it beside the date.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExpirySource {
    /// The token response said so (`expires_in` and its relatives).
    Response,
    /// The token is a JWT with `exp` (a hint: its signature is not ours to check).
    Jwt,
    /// RFC 7662 introspection.
    Introspection,
    /// A response header of the API.
    Header,
    /// The body of a probe's reply.
    Probe,
    /// The settings, or the material in its home store.
    Configured,
    /// The catalogue's usual lifetime for this provider, or the last one that it reported.
    Assumed,
    /// It does not end.
    Never,
    /// Nobody knows.
    Unknown,
}

/// What a provider does with the old refresh token when it hands out a new one: it decides what a lost reply means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rotation {
    /// The refresh token stays the same.
    None,
    /// The old one still works for a while after rotation.
    Grace,
    /// The old one works until the new one is first used.
    UntilFirstUse,
    /// The old one is dead at once, and presenting it again may kill the whole family.
    Strict,
    /// It changes now and then, and the old one goes on working for long.
    Sporadic,
    /// Nobody has written it down.
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_at_the_door() {
        for good in ["a", "github-bot", "9", "google.mail.7f3a2c", &"x".repeat(63)] {
            assert_eq!(CredentialId::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "-a", "A", "a b", "a/b", "ä", &"x".repeat(64)] {
            assert!(CredentialId::new(bad).is_err(), "{bad}");
        }
    }
}

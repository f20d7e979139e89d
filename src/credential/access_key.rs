//! AWS access keys: an id, a secret, and for a session its token.

use super::Secret;

/// What signs calls to AWS (SigV4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessKey {
    /// Names the key; not secret, and still nothing for logs.
    pub id: String,
    /// Signs.
    pub secret: Secret,
    /// Stands beside the signature; only a session has one.
    pub session_token: Option<Secret>,
}

/// What calls carry, and what a reader gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// An access token or a static key, as it is.
    Token(Secret),
    /// A key that signs.
    AccessKey(AccessKey),
}

impl Value {
    /// All in it that nobody may see.
    pub fn secrets(&self) -> impl Iterator<Item = &Secret> {
        let (first, second) = match self {
            Self::Token(token) => (token, None),
            Self::AccessKey(key) => (&key.secret, key.session_token.as_ref()),
        };
        [first].into_iter().chain(second)
    }
}

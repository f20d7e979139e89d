//! A value that keeps quiet: silent in every format, wiped when dropped.

use std::fmt;

use aws_lc_rs::hmac;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// A secret text: a token, a key, a password, a URL that is one. No `Display`, no `Serialize`, no `Deref`:
/// [`Secret::expose`] is the only way out, and a test knows every file that calls it.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Wraps a text; the caller keeps no copy.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// Lets the text out. Call it where the text is sent, sealed or handed to its reader, and nowhere else.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Its length in bytes; the only fact about it that may be logged beside its fingerprint.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl PartialEq for Secret {
    /// In constant time for equal lengths.
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl<'de> Deserialize<'de> for Secret {
    /// From text only, and with an error that never repeats what it saw: serde's own would.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Quiet;
        impl de::Visitor<'_> for Quiet {
            type Value = Secret;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a text")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Secret, E> {
                Ok(Secret::new(text))
            }
            fn visit_string<E: de::Error>(self, text: String) -> Result<Secret, E> {
                Ok(Secret::new(text))
            }
            fn visit_i64<E: de::Error>(self, _: i64) -> Result<Secret, E> {
                Err(E::custom("a secret must be a text, this is a number"))
            }
            fn visit_u64<E: de::Error>(self, _: u64) -> Result<Secret, E> {
                Err(E::custom("a secret must be a text, this is a number"))
            }
            fn visit_f64<E: de::Error>(self, _: f64) -> Result<Secret, E> {
                Err(E::custom("a secret must be a text, this is a number"))
            }
            fn visit_bool<E: de::Error>(self, _: bool) -> Result<Secret, E> {
                Err(E::custom("a secret must be a text, this is true or false"))
            }
        }
        deserializer.deserialize_any(Quiet)
    }
}

/// The first 12 hex digits of HMAC-SHA256(fingerprint key, secret): the only form of a token that may
/// stand in logs, ledger indexes, metrics or pages.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// Of a secret, under the installation's fingerprint key.
    #[expect(clippy::disallowed_methods, reason = "the digest that stands for it elsewhere")]
    pub fn of(secret: &Secret, key: &hmac::Key) -> Self {
        let tag = hmac::sign(key, secret.expose().as_bytes());
        Self(tag.as_ref()[..6].iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// One that the ledger kept.
    pub fn from_ledger(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_keeps_quiet() {
        let secret = Secret::new("canary-1234");
        assert!(!format!("{secret:?}").contains("canary"));
        let error = serde_json::from_str::<Secret>("12345678").unwrap_err().to_string();
        assert!(!error.contains("12345678"), "{error}");
    }

    #[test]
    fn a_fingerprint_depends_on_the_key() {
        let (a, b) = (hmac::Key::new(hmac::HMAC_SHA256, b"a"), hmac::Key::new(hmac::HMAC_SHA256, b"b"));
        let secret = Secret::new("t");
        assert_eq!(Fingerprint::of(&secret, &a).as_str().len(), 12);
        assert_ne!(Fingerprint::of(&secret, &a), Fingerprint::of(&secret, &b));
    }
}

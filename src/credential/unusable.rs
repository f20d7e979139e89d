//! Why a secret cannot be used: it is no material at all, or not what a credential of its kind is made of.

use super::{CredentialId, Kind, Material};

/// Why a document is no material. Names fields and reasons, never values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MaterialError {
    /// Nothing there, or only white space.
    #[error("the secret is empty")]
    Empty,
    /// Not text.
    #[error("the secret is not UTF-8 text")]
    NotText,
    /// A page or a certificate stands where a secret should.
    #[error("the secret looks like {0}, not like a token or a JSON object")]
    Foreign(&'static str),
    /// A control character in a bare key.
    #[error("the secret has a control character at byte {0}; was it cut or pasted wrongly?")]
    Control(usize),
    /// A member of the wrong form.
    #[error("field {field:?} must be {wanted}")]
    Field {
        /// Which one.
        field: &'static str,
        /// What it should be.
        wanted: &'static str,
    },
    /// JSON that does not parse.
    #[error("the secret begins like JSON but does not parse (line {line}, column {column})")]
    BadJson {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// The document is larger than any credential.
    #[error("the secret has {0} bytes; at most 64 KiB make sense")]
    TooLarge(usize),
    /// It is in use as another credential.
    #[error(
        "the secret is that of credential {0}; put the right one there, or set `shared = true` if it is a key for both"
    )]
    Anothers(CredentialId),
    /// Material, but not what a credential of this kind is made of.
    #[error("a credential of kind {kind} needs {wanted}, and the secret has none")]
    Lacks {
        /// `refresh_token`.
        kind: &'static str,
        /// What it lacks.
        wanted: &'static str,
    },
}

impl Material {
    /// Whether it has what a credential of this kind cannot do without (FM-74). A public client (RFC 6749 §2.1) has no
    /// secret to show.
    pub fn fits(&self, kind: Kind, public_client: bool) -> Result<(), MaterialError> {
        let (there, wanted) = match kind {
            Kind::RefreshToken => (self.refresh_token.is_some(), "a refresh_token"),
            Kind::ClientCredentials => (self.client_secret.is_some() || public_client, "a client_secret"),
            Kind::JwtBearer => (self.private_key.is_some(), "a private_key (PEM)"),
            Kind::ApiKey | Kind::Pat => (self.access_token.is_some(), "the key itself (bare, or as api_key)"),
            Kind::AwsAccessKey | Kind::AwsSession => (self.access_key.is_some(), "access_key_id and secret_access_key"),
        };
        if there { Ok(()) } else { Err(MaterialError::Lacks { kind: kind.as_str(), wanted }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fm74_each_kind_names_what_it_lacks() {
        let table = [
            (Kind::RefreshToken, r#"{"refresh_token":"r"}"#, "a refresh_token"),
            (Kind::ClientCredentials, r#"{"client_secret":"s"}"#, "a client_secret"),
            (Kind::JwtBearer, "-----BEGIN PRIVATE KEY-----", "a private_key"),
            (Kind::ApiKey, "k", "the key itself"),
            (Kind::Pat, r#"{"token":"k"}"#, "the key itself"),
            (Kind::AwsAccessKey, r#"{"access_key_id":"A","secret_access_key":"s"}"#, "access_key_id and secret"),
            (Kind::AwsSession, r#"{"AccessKeyId":"A","SecretAccessKey":"s"}"#, "access_key_id and secret"),
        ];
        for (number, (kind, good, words)) in table.iter().enumerate() {
            assert_eq!(Material::parse(good.as_bytes()).unwrap().fits(*kind, false), Ok(()), "{good}");
            // What the next kind but one is made of.
            let foreign = Material::parse(table[(number + 2) % table.len()].1.as_bytes()).unwrap();
            let error = foreign.fits(*kind, false).unwrap_err().to_string();
            assert!(error.contains(words) && error.contains(kind.as_str()), "{error}");
        }
        let public = Material::parse(br#"{"access_token":"a"}"#).unwrap();
        assert_eq!(public.fits(Kind::ClientCredentials, true), Ok(()));
    }
}

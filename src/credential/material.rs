//! What a home store keeps for a credential: its tokens and keys, with the words that mark whose they are.

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{AccessKey, Generation, Kind, MaterialError, Secret, Value as Carried};

/// The secret values behind a credential, as one JSON document of its home store.
///
/// A document that is not a JSON object is one static key: the whole text. Members that credd does not know are
/// kept as they are and written back with the rest, because somebody else may need them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Material {
    /// What calls carry: the access token, or the static key itself (also spelt `api_key`, `key`, `token`, `value`).
    pub access_token: Option<Secret>,
    /// Buys access tokens (RFC 6749 §6); it never reaches a reader.
    pub refresh_token: Option<Secret>,
    /// How to present the access token; absent means the provider's usual (`Bearer`).
    pub token_type: Option<String>,
    /// When the access token ends.
    pub expires_at: Option<Timestamp>,
    /// When the refresh token ends.
    pub refresh_expires_at: Option<Timestamp>,
    /// Granted scopes, as the provider spells them.
    pub scope: Option<String>,
    /// The OAuth client this grant belongs to (or a service account's or app's id).
    pub client_id: Option<String>,
    /// The client's secret.
    pub client_secret: Option<Secret>,
    /// The one that is to take its place: where the provider refuses the client with one of the two, the other is tried.
    pub client_secret_next: Option<Secret>,
    /// When the client's secret ends (RFC 7591 §3.2.1; 0 there means never).
    pub client_secret_expires_at: Option<Timestamp>,
    /// A PEM private key, for assertions.
    pub private_key: Option<Secret>,
    /// An AWS access key (`access_key_id`, `secret_access_key`, `session_token`, or as AWS itself spells them).
    pub access_key: Option<AccessKey>,
    /// A session that was made with that key.
    pub session: Option<AccessKey>,
    /// Our marker: which grant this is.
    pub grant_id: Option<String>,
    /// Our marker: how far it had come when it was written.
    pub generation: Option<Generation>,
    /// Our marker: the attempt that brought it.
    pub attempt_id: Option<String>,
    /// Everything else in the document, kept as it is.
    pub other: Other,
}

/// Members of the document that credd does not know. They may be secret, so they print as their names alone.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Other(BTreeMap<String, Value>);

impl Other {
    /// A text member, for requests that need more than the usual (`installation_id`, `tenant`).
    pub fn text(&self, name: &str) -> Option<String> {
        match self.0.get(name)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }
}

impl fmt::Debug for Other {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

const STATIC_NAMES: [&str; 5] = ["access_token", "api_key", "key", "token", "value"];

impl Material {
    /// Reads a home store's document. One trailing newline of a bare key is dropped, because editors add it.
    pub fn parse(document: &[u8]) -> Result<Self, MaterialError> {
        if document.len() > 64 * 1024 {
            return Err(MaterialError::TooLarge(document.len()));
        }
        let text = std::str::from_utf8(document).map_err(|_| MaterialError::NotText)?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let trimmed = text.trim();
        match trimmed.as_bytes().first() {
            None => Err(MaterialError::Empty),
            Some(b'{') => {
                let object: Map<String, Value> = serde_json::from_str(trimmed)
                    .map_err(|error| MaterialError::BadJson { line: error.line(), column: error.column() })?;
                Self::from_object(object)
            }
            Some(b'[') => Err(MaterialError::Foreign("a JSON array")),
            Some(b'<') => Err(MaterialError::Foreign("an HTML or XML page")),
            Some(_) if trimmed.starts_with("-----BEGIN ") => {
                Ok(Self { private_key: Some(Secret::new(trimmed)), ..Self::default() })
            }
            Some(_) => {
                let key = text.strip_suffix('\n').unwrap_or(text);
                let key = key.strip_suffix('\r').unwrap_or(key);
                match key.bytes().position(|byte| byte.is_ascii_control()) {
                    Some(at) => Err(MaterialError::Control(at)),
                    None => Ok(Self { access_token: Some(Secret::new(key)), ..Self::default() }),
                }
            }
        }
    }

    /// Reads a document that the store already holds as an object (Vault's KV).
    pub fn from_object(mut object: Map<String, Value>) -> Result<Self, MaterialError> {
        let mut material = Self::default();
        for name in STATIC_NAMES {
            if material.access_token.is_none() {
                material.access_token = take_secret(&mut object, name)?;
            }
        }
        material.refresh_token = take_secret(&mut object, "refresh_token")?;
        material.client_secret = take_secret(&mut object, "client_secret")?;
        material.client_secret_next = take_secret(&mut object, "client_secret_next")?;
        material.private_key = take_secret(&mut object, "private_key")?;
        material.access_key = take_key(&mut object)?;
        if let Some(Value::Object(mut session)) = object.remove("session") {
            material.session = take_key(&mut session)?;
        }
        material.token_type = take_text(&mut object, "token_type")?;
        material.scope = take_text(&mut object, "scope")?;
        material.client_id = take_text(&mut object, "client_id")?;
        material.grant_id = take_text(&mut object, "grant_id")?;
        material.attempt_id = take_text(&mut object, "attempt_id")?;
        material.expires_at = take_date(&mut object, "expires_at")?;
        if material.access_key.is_some() && material.expires_at.is_none() {
            material.expires_at = take_date(&mut object, "Expiration")?;
        }
        material.refresh_expires_at = take_date(&mut object, "refresh_expires_at")?;
        material.client_secret_expires_at =
            take_date(&mut object, "client_secret_expires_at")?.filter(|at| *at != Timestamp::UNIX_EPOCH);
        material.generation = match object.remove("generation") {
            None | Some(Value::Null) => None,
            Some(value) => {
                let number = value.as_i64().or_else(|| value.as_str()?.parse().ok());
                Some(Generation(number.ok_or(MaterialError::Field { field: "generation", wanted: "a whole number" })?))
            }
        };
        let usable = material.access_token.is_some()
            || material.refresh_token.is_some()
            || material.client_secret.is_some()
            || material.private_key.is_some()
            || material.access_key.is_some();
        if !usable {
            return Err(MaterialError::Field {
                field: "access_token",
                wanted: "there (or refresh_token, api_key, client_secret, private_key, access_key_id): the secret has none of them",
            });
        }
        material.other = Other(object.into_iter().collect());
        Ok(material)
    }

    /// The document to write back or to seal. The only place where material becomes text.
    #[expect(clippy::disallowed_methods, reason = "material becomes a document here alone")]
    pub fn render(&self) -> Secret {
        let mut object: Map<String, Value> = self.other.0.clone().into_iter().collect();
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                object.insert(name.to_owned(), value);
            }
        };
        let secret = |secret: &Option<Secret>| secret.as_ref().map(|s| Value::from(s.expose()));
        put("access_token", secret(&self.access_token));
        put("refresh_token", secret(&self.refresh_token));
        put("client_secret", secret(&self.client_secret));
        put("client_secret_next", secret(&self.client_secret_next));
        put("private_key", secret(&self.private_key));
        self.access_key.iter().flat_map(members).for_each(|(name, value)| put(name, Some(value)));
        put(
            "session",
            self.session.as_ref().map(|key| members(key).map(|(name, value)| (name.to_owned(), value)).collect()),
        );
        put("token_type", self.token_type.clone().map(Value::from));
        put("scope", self.scope.clone().map(Value::from));
        put("client_id", self.client_id.clone().map(Value::from));
        put("grant_id", self.grant_id.clone().map(Value::from));
        put("attempt_id", self.attempt_id.clone().map(Value::from));
        put("expires_at", self.expires_at.map(|at| Value::from(at.to_string())));
        put("refresh_expires_at", self.refresh_expires_at.map(|at| Value::from(at.to_string())));
        put("client_secret_expires_at", self.client_secret_expires_at.map(|at| Value::from(at.to_string())));
        put("generation", self.generation.map(|generation| Value::from(generation.0)));
        Secret::new(Value::Object(object).to_string())
    }

    /// Whether both show the same OAuth client, by the same secrets.
    pub fn is_of_same_client(&self, other: &Self) -> bool {
        let client = |it: &Self| {
            let secrets = (it.client_secret.clone(), it.client_secret_next.clone());
            (it.client_id.clone(), secrets, it.client_secret_expires_at)
        };
        client(self) == client(other)
    }

    /// The part that identifies the grant: a change of it in a home store is a change of the credential.
    pub fn root(&self) -> Option<&Secret> {
        self.refresh_token
            .as_ref()
            .or(self.private_key.as_ref())
            .or(self.client_secret.as_ref())
            .or(self.access_key.as_ref().map(|key| &key.secret))
            .or(self.access_token.as_ref())
    }

    /// What calls of such a credential carry, if there is one yet.
    pub fn value(&self, kind: Kind) -> Option<Carried> {
        match kind {
            Kind::AwsAccessKey => self.access_key.clone().map(Carried::AccessKey),
            Kind::AwsSession => self.session.clone().map(Carried::AccessKey),
            _ => self.access_token.clone().map(Carried::Token),
        }
    }

    /// What a cut is made of: the grant alone, without a value that may do more, and without our marks of it.
    pub fn root_alone(self) -> Self {
        Self {
            access_token: None,
            session: None,
            token_type: None,
            expires_at: None,
            scope: None,
            grant_id: None,
            generation: None,
            attempt_id: None,
            ..self
        }
    }

    /// Every secret in it that credd knows as one.
    pub fn secrets(&self) -> impl Iterator<Item = &Secret> {
        let clients = [&self.client_secret, &self.client_secret_next, &self.private_key];
        let plain = [&self.access_token, &self.refresh_token].into_iter().chain(clients);
        let keys = [&self.access_key, &self.session].into_iter().flatten();
        let keys = keys.flat_map(|key| [Some(&key.secret), key.session_token.as_ref()]);
        plain.map(Option::as_ref).chain(keys).flatten()
    }
}

/// An access key's members; without both halves there is none.
fn take_key(object: &mut Map<String, Value>) -> Result<Option<AccessKey>, MaterialError> {
    let mut any = |names: [&'static str; 2]| -> Result<Option<String>, MaterialError> {
        let (ours, theirs) = (take_text(object, names[0])?, take_text(object, names[1])?);
        Ok(ours.or(theirs))
    };
    let id = any(["access_key_id", "AccessKeyId"])?;
    let secret = any(["secret_access_key", "SecretAccessKey"])?;
    let session_token = any(["session_token", "SessionToken"])?.map(Secret::new);
    match (id, secret) {
        (Some(id), Some(secret)) => Ok(Some(AccessKey { id, secret: Secret::new(secret), session_token })),
        (None, None) => Ok(None),
        (None, _) => Err(MaterialError::Field { field: "access_key_id", wanted: "there, beside secret_access_key" }),
        (_, None) => Err(MaterialError::Field { field: "secret_access_key", wanted: "there, beside access_key_id" }),
    }
}

#[expect(clippy::disallowed_methods, reason = "material becomes a document here alone")]
fn members(key: &AccessKey) -> impl Iterator<Item = (&'static str, Value)> {
    let token = key.session_token.as_ref().map(|token| ("session_token", Value::from(token.expose())));
    let pair =
        [("access_key_id", Value::from(key.id.as_str())), ("secret_access_key", Value::from(key.secret.expose()))];
    pair.into_iter().chain(token)
}

fn take_secret(object: &mut Map<String, Value>, field: &'static str) -> Result<Option<Secret>, MaterialError> {
    Ok(take_text(object, field)?.map(Secret::new))
}

/// A text member; empty and null count as absent (RF-31).
fn take_text(object: &mut Map<String, Value>, field: &'static str) -> Result<Option<String>, MaterialError> {
    match object.remove(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.trim().is_empty() => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(MaterialError::Field { field, wanted: "a text" }),
    }
}

/// A date: RFC 3339, or seconds since 1970 as a number or a text of digits.
fn take_date(object: &mut Map<String, Value>, field: &'static str) -> Result<Option<Timestamp>, MaterialError> {
    let wanted = "a date (RFC 3339, or seconds since 1970)";
    let date = match object.remove(field) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) if text.trim().is_empty() => return Ok(None),
        Some(Value::Number(number)) => number.as_i64().and_then(|seconds| Timestamp::from_second(seconds).ok()),
        Some(Value::String(text)) => match text.parse::<i64>() {
            Ok(seconds) => Timestamp::from_second(seconds).ok(),
            Err(_) => text.parse().ok(),
        },
        Some(_) => None,
    };
    date.map(Some).ok_or(MaterialError::Field { field, wanted })
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "compared with what was put in")]
mod tests {
    use super::*;

    #[test]
    fn a_document_survives_the_round_trip_with_what_we_do_not_know() {
        let document =
            br#"{"refresh_token":"r","access_token":"a","expires_at":1767225600,"team":"ops","generation":"4",
                "client_secret":"s","client_secret_next":"n","client_secret_expires_at":1767225600}"#;
        let material = Material::parse(document).unwrap();
        assert_eq!(material.generation, Some(Generation(4)));
        assert_eq!(material.other.text("team").as_deref(), Some("ops"));
        assert_eq!(Material::parse(material.render().expose().as_bytes()).unwrap(), material);
    }

    #[test]
    fn fm74_garbage_is_refused_with_its_reason() {
        let table: &[(&[u8], &str)] = &[
            (b"", "empty"),
            (b" \n ", "empty"),
            (b"<!DOCTYPE html><p>login", "HTML"),
            (b"[1]", "array"),
            (b"{\"access_token\":", "line 1"),
            (b"{}", "access_token"),
            (b"{\"access_token\":12345678}", "must be a text"),
            (b"{\"access_token\":\"\"}", "access_token"),
            (b"{\"refresh_token\":null}", "access_token"),
            (b"{\"api_key\":\"k\",\"expires_at\":\"soon\"}", "a date"),
            (b"tok\0en", "control character at byte 3"),
            (b"two\nlines", "control character at byte 3"),
            (b"\xff\xfe", "UTF-8"),
        ];
        for (document, words) in table {
            let error = Material::parse(document).unwrap_err().to_string();
            assert!(error.contains(words), "{document:?}: {error}");
            assert!(!error.contains("12345678"));
        }
        assert!(Material::parse(&vec![b'x'; 70_000]).is_err());
    }

    #[test]
    fn access_keys_come_as_aws_or_we_spell_them() {
        let ours = br#"{"access_key_id":"AKIA","secret_access_key":"s","session_token":"t","expires_at":"2026-01-01T00:00:00Z"}"#;
        let theirs =
            br#"{"AccessKeyId":"AKIA","SecretAccessKey":"s","SessionToken":"t","Expiration":"2026-01-01T00:00:00Z"}"#;
        let mut key = Material::parse(ours).unwrap();
        assert_eq!(key, Material::parse(theirs).unwrap());
        assert_eq!(key.root(), Some(&Secret::new("s")));
        assert_eq!(key.value(Kind::AwsSession), None, "a session is made first");
        key.session = Some(AccessKey { id: "ASIA".into(), secret: Secret::new("u"), session_token: None });
        assert_eq!(Material::parse(key.render().expose().as_bytes()).unwrap(), key);
        assert_eq!(key.secrets().count(), 3);
        let half = Material::parse(br#"{"access_key_id":"AKIA"}"#).unwrap_err().to_string();
        assert!(half.contains("secret_access_key"), "{half}");
    }

    #[test]
    fn a_bare_key_loses_one_newline_only() {
        let key = |document: &[u8]| Material::parse(document).unwrap().access_token.unwrap();
        assert_eq!(key(b"abc\n"), Secret::new("abc"));
        assert_eq!(key(b"abc\r\n"), Secret::new("abc"));
        assert_eq!(key(b"abc"), Secret::new("abc"));
    }
}

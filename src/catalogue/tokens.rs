//! Reads a token endpoint's answer: tokens, a refusal, or something that is neither (RF-27 to RF-31, RF-35, FM-06, FM-07).

use std::{collections::HashSet, fmt, time::Duration};

use jiff::Timestamp;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::{
    Provider, Refusal, Surface, Tokens,
    expiry::{self, Lifetime},
};
use crate::credential::{ExpirySource, Reply, Secret, Verdict};

/// Why an answer brought no tokens.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokensError {
    /// The provider said no; also with status 200.
    #[error("the token endpoint refused: {}", .0.failure)]
    Refused(Verdict),
    /// A success that cannot be used. The provider may have rotated: what was captured is to be kept.
    #[error("the token endpoint answered with success, but {reason}")]
    Unreadable {
        /// For a person; names fields, never values.
        reason: String,
    },
}

const EXPIRES: [&str; 4] = ["/expires_in", "/expiresIn", "/expires", "/expires_in_sec"];
const EXPIRES_AT: [&str; 5] = ["/expires_at", "/expiresAt", "/expires_on", "/expiry", "/expiration"];
const REFRESH_EXPIRES: [&str; 5] = [
    "/refresh_token_expires_in",
    "/x_refresh_token_expires_in",
    "/refresh_expires_in",
    "/refreshTokenExpiresIn",
    "/refresh_token_expires_at",
];

impl Tokens {
    /// Whether the access token may be sent as a bearer token (RF-35): a missing type is the provider's usual, `DPoP`,
    /// `PoP` and `mac` need a proof that we do not make, and an unknown word is not trusted.
    pub fn is_bearer(&self) -> bool {
        let usual = ["bearer", "token", "bot", "user", "oauth", "bearertoken", "access_token"];
        self.token_type.as_ref().is_none_or(|kind| usual.contains(&kind.trim().to_ascii_lowercase().as_str()))
    }
}

impl Provider {
    /// Reads an answer. `presented` as the surface's words have it; `previous_lifetime` is the last that this
    /// provider told for this credential.
    pub fn tokens_for(
        &self,
        reply: &Reply,
        presented: &str,
        sent_at: Timestamp,
        previous_lifetime: Option<Duration>,
    ) -> Result<Tokens, TokensError> {
        let refused = || {
            let refusal = Refusal { surface: Surface::TokenEndpoint, presented, reply, now: sent_at };
            Err(TokensError::Refused(self.classify(&refusal)))
        };
        if !reply.is_success() {
            return refused();
        }
        let body = match self.body(reply) {
            Ok(body) => body,
            Err(reason) => return Err(TokensError::Unreadable { reason }),
        };
        if says_no(&body) {
            return refused();
        }
        self.read_tokens(&body, sent_at, previous_lifetime).map_err(|reason| TokensError::Unreadable { reason })
    }

    /// As [`Provider::tokens_for`] for a refresh token.
    pub fn tokens(
        &self,
        reply: &Reply,
        sent_at: Timestamp,
        previous_lifetime: Option<Duration>,
    ) -> Result<Tokens, TokensError> {
        self.tokens_for(reply, "refresh_token", sent_at, previous_lifetime)
    }

    fn body(&self, reply: &Reply) -> Result<Value, String> {
        let text = std::str::from_utf8(&reply.body).map_err(|_| "its body is not UTF-8 text".to_owned())?;
        let text = text.trim_start_matches('\u{feff}').trim();
        match text.as_bytes().first() {
            None => return Err("its body is empty".into()),
            Some(b'<') => return Err("its body is a page (HTML or XML), not JSON: is something between us?".into()),
            Some(b'{' | b'[') => {}
            // Refusals come as forms from some who answer JSON to everything else.
            Some(_) if self.token.response.form || text.starts_with("error=") => {
                let mut object = Map::new();
                for (name, value) in url::form_urlencoded::parse(text.as_bytes()) {
                    if object.insert(name.clone().into_owned(), Value::from(value.as_ref())).is_some()
                        && is_token(&name)
                    {
                        return Err(format!("it gives {name:?} twice"));
                    }
                }
                return Ok(Value::Object(object));
            }
            Some(_) => return Err("its body is neither JSON nor anything the provider's file expects".into()),
        }
        let mut reader = serde_json::Deserializer::from_str(text);
        let mut twice = None;
        let checked = OnceOnly { twice: &mut twice }.deserialize(&mut reader).and_then(|()| reader.end());
        if let Some(name) = twice {
            return Err(format!("it gives {name:?} twice"));
        }
        checked.map_err(|error| {
            if error.is_eof() {
                "its body broke off".to_owned()
            } else {
                format!("its body is not JSON (line {}, column {})", error.line(), error.column())
            }
        })?;
        serde_json::from_str(text).map_err(|error| format!("its body is not JSON (line {})", error.line()))
    }

    fn read_tokens(&self, body: &Value, sent_at: Timestamp, previous: Option<Duration>) -> Result<Tokens, String> {
        let response = &self.token.response;
        let access = response.access_token.as_deref().unwrap_or("/access_token");
        let access_token = match body.pointer(access) {
            None | Some(Value::Null) => Err(format!("it has no access token at {access}")),
            Some(Value::String(text)) if text.trim().is_empty() => Err("its access token is empty".into()),
            Some(Value::String(text)) if text.chars().any(char::is_control) => {
                Err("its access token holds a control character".into())
            }
            Some(Value::String(text)) => Ok(Secret::new(text.as_str())),
            Some(_) => Err("its access token is not a text".into()),
        }?;
        let refresh_token = match body.pointer(response.refresh_token.as_deref().unwrap_or("/refresh_token")) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) if text.trim().is_empty() => None,
            Some(Value::String(text)) => Some(Secret::new(text.as_str())),
            Some(_) => return Err("its refresh token is not a text".into()),
        };
        let told = match response.expires.as_deref() {
            Some(pointer) => expiry::deadline(body.pointer(pointer), sent_at),
            None => default_lifetime(body, sent_at),
        };
        let by_jwt = || {
            let seconds = expiry::jwt(&access_token)?.as_second().checked_sub(sent_at.as_second())?;
            u64::try_from(seconds).ok().filter(|seconds| *seconds > 0).map(Duration::from_secs)
        };
        let (lifetime, lifetime_source) = match told.duration() {
            Some(life) => (Some(life), ExpirySource::Response),
            None => match self.default_lifetime.or(previous) {
                Some(life) => (Some(life), ExpirySource::Assumed),
                None => by_jwt().map_or((None, ExpirySource::Unknown), |life| (Some(life), ExpirySource::Jwt)),
            },
        };
        let refresh_lifetime = match response.refresh_expires.as_deref() {
            Some(pointer) => expiry::deadline(body.pointer(pointer), sent_at).duration(),
            None => REFRESH_EXPIRES.iter().find_map(|at| expiry::deadline(body.pointer(at), sent_at).duration()),
        };
        let text = |name: &str| body.get(name)?.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        Ok(Tokens {
            access_token,
            refresh_token,
            token_type: text("token_type"),
            lifetime,
            lifetime_source,
            refresh_lifetime,
            scope: scope(body.get("scope").or_else(|| body.get("scopes"))),
            repaired: matches!(told, Lifetime::Malformed | Lifetime::Repaired(_)),
        })
    }
}

fn default_lifetime(body: &Value, sent_at: Timestamp) -> Lifetime {
    let first = |pointers: &[&str], read: fn(Option<&Value>, Timestamp) -> Lifetime| {
        let found = pointers.iter().map(|at| read(body.pointer(at), sent_at));
        found.fold(
            Lifetime::Missing,
            |best, next| if best.duration().is_some() || next == Lifetime::Missing { best } else { next },
        )
    };
    match first(&EXPIRES, expiry::lifetime) {
        told @ (Lifetime::Told(_) | Lifetime::Repaired(_)) => told,
        other => match first(&EXPIRES_AT, expiry::deadline) {
            Lifetime::Missing => other,
            date => date,
        },
    }
}

/// A list of scopes, as text, or joined by blanks.
fn scope(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Array(list) if !list.is_empty() => {
            Some(list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "))
        }
        _ => None,
    }
}

/// An error member that says something, or Slack's way.
fn says_no(body: &Value) -> bool {
    let told = |name: &str| match body.get(name) {
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Object(object)) => !object.is_empty(),
        Some(Value::Number(_)) => name == "error_code" || name == "errorCode",
        _ => false,
    };
    let denied = |name: &str| body.get(name) == Some(&Value::Bool(false));
    told("error")
        || told("error_code")
        || told("errorCode")
        || denied("ok")
        || denied("success")
        || body.get("errors").and_then(Value::as_array).is_some_and(|list| !list.is_empty())
        || (told("error_description") && body.get("access_token").is_none())
}

fn is_token(name: &str) -> bool {
    matches!(name, "access_token" | "refresh_token" | "token" | "expires_in" | "token_type" | "id_token")
}

/// Goes through a document and finds token fields that are given twice; which of them counts would be a guess.
struct OnceOnly<'a> {
    twice: &'a mut Option<String>,
}

impl<'de> DeserializeSeed<'de> for OnceOnly<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for OnceOnly<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E: de::Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(OnceOnly { twice: self.twice })?.is_some() {}
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            if is_token(&name) && !seen.insert(name.clone()) {
                *self.twice = Some(name);
            }
            map.next_value_seed(OnceOnly { twice: self.twice })?;
        }
        Ok(())
    }
}

//! Reads a token endpoint's answer: tokens, a refusal, or something that is neither (RF-27 to RF-31, RF-35, FM-06, FM-07).

use std::time::Duration;

use jiff::Timestamp;
use serde::de::DeserializeSeed as _;
use serde_json::{Map, Value};

use super::{
    Provider, Refusal, Surface, Tokens,
    expiry::{self, Lifetime},
    once_only::{OnceOnly, is_token},
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
            value: crate::credential::Value::Token(access_token),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{catalogue::Catalogue, credential::Failure};

    fn read(provider: &str, status: u16, body: &str) -> Result<Tokens, TokensError> {
        let provider = Catalogue::embedded().unwrap().provider(provider).unwrap();
        let sent_at = Timestamp::from_second(1_767_225_600).unwrap();
        provider.tokens(&Reply::new(status, [], body), sent_at, None)
    }

    fn unreadable(body: &str) -> String {
        match read("rfc6749", 200, body) {
            Err(TokensError::Unreadable { reason }) => reason,
            other => panic!("{body}: {other:?}"),
        }
    }

    #[test]
    fn rf30_rf31_an_absent_empty_or_null_refresh_token_means_keep_the_old_one() {
        for member in ["", r#","refresh_token":"""#, r#","refresh_token":null"#, r#","refresh_token":"  ""#] {
            let tokens = read("rfc6749", 200, &format!(r#"{{"access_token":"a"{member}}}"#)).unwrap();
            assert_eq!(tokens.refresh_token, None, "{member}");
        }
        let tokens = read("rfc6749", 200, r#"{"access_token":"a","refresh_token":"r"}"#).unwrap();
        assert_eq!(tokens.refresh_token, Some(Secret::new("r")));
    }

    #[test]
    fn rf19_an_error_member_is_a_refusal_whatever_the_status() {
        let table = [
            ("github", r#"{"error":"bad_refresh_token"}"#, Failure::CredentialRevoked),
            ("github", "error=bad_refresh_token&error_description=x", Failure::CredentialRevoked),
            ("slack", r#"{"ok":false,"error":"token_expired"}"#, Failure::CredentialRevoked),
            ("slack", r#"{"ok":false,"error":"invalid_refresh_token"}"#, Failure::CredentialRevoked),
            ("rfc6749", r#"{"error":"invalid_grant","access_token":"a"}"#, Failure::CredentialRevoked),
            ("rfc6749", r#"{"error":"temporarily_unavailable"}"#, Failure::UpstreamUnavailable),
        ];
        for (provider, body, expected) in table {
            match read(provider, 200, body) {
                Err(TokensError::Refused(verdict)) => assert_eq!(verdict.failure, expected, "{body}: {verdict:?}"),
                other => panic!("{body}: {other:?}"),
            }
        }
        let fine = r#"{"access_token":"a","error":null,"errors":[],"ok":true}"#;
        assert!(read("rfc6749", 200, fine).is_ok());
    }

    #[test]
    fn fm06_what_is_no_answer_is_said_to_be_none() {
        let table = [
            ("", "empty"),
            ("<!DOCTYPE html><p>Sign in", "page"),
            (r#"{"access_token":"secret-canary"#, "broke off"),
            (r#"{"access_token":"a","refresh_tok"#, "broke off"),
            (r#"{"access_token":"a"} trailing"#, "not JSON"),
            (r#"{"access_token":"a","access_token":"b"}"#, "twice"),
            (r#"{"access_token":"a","refresh_token":"b","refresh_token":"c"}"#, "twice"),
            (r#"{"access_token":"a","expires_in":1,"expires_in":2}"#, "twice"),
            (r#"{"access_token":12345678}"#, "not a text"),
            (r#"{"access_token":["secret-canary"]}"#, "not a text"),
            (r#"{"access_token":""}"#, "empty"),
            (r#"{"access_token":"a\nb"}"#, "control"),
            (r#"{"access_token":"a","refresh_token":{}}"#, "refresh token"),
            ("{}", "no access token"),
            ("[]", "no access token"),
            ("access_token=a&token_type=bearer", "neither JSON"),
            ("hello", "neither JSON"),
        ];
        for (body, words) in table {
            let reason = unreadable(body);
            assert!(reason.contains(words), "{body}: {reason}");
            assert!(!reason.contains("canary") && !reason.contains("12345678"), "{reason}");
        }
        let utf16: Vec<u8> = r#"{"access_token":"ä"}"#.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let provider = Catalogue::embedded().unwrap().provider("rfc6749").unwrap();
        let reply = Reply { status: 200, headers: vec![], body: utf16 };
        assert!(provider.tokens(&reply, Timestamp::UNIX_EPOCH, None).is_err());
        assert!(read("rfc6749", 200, "\u{feff}{\"access_token\":\"a\"}").is_ok());
        assert!(read("rfc6749", 200, r#"{"access_token":"a","note":1,"note":2}"#).is_ok());
    }

    #[test]
    fn fm07_forms_are_read_where_the_file_says_so() {
        let tokens =
            read("github", 200, "access_token=a%2Bb&expires_in=28800&refresh_token=r&token_type=bearer").unwrap();
        assert_eq!(tokens.value, crate::credential::Value::Token(Secret::new("a+b")));
        assert_eq!(tokens.lifetime, Some(Duration::from_secs(28_800)));
        assert!(read("github", 200, "access_token=a&access_token=b").is_err());
        assert!(read("rfc6749", 200, "access_token=a").is_err());
    }

    #[test]
    fn rf27_a_missing_lifetime_is_assumed_then_remembered_then_guessed() {
        let catalogue = Catalogue::embedded().unwrap();
        let sent_at = Timestamp::from_second(1_767_225_600).unwrap();
        // {"exp":1767229200}
        let jwt = "e30.eyJleHAiOjE3NjcyMjkyMDB9.c2ln";
        let hour = Duration::from_secs(3600);
        let table = [
            ("slack", "opaque", None, Some(hour * 12), ExpirySource::Assumed),
            ("rfc6749", "opaque", Some(hour * 2), Some(hour * 2), ExpirySource::Assumed),
            ("rfc6749", jwt, None, Some(hour), ExpirySource::Jwt),
            ("rfc6749", jwt, Some(hour * 3), Some(hour * 3), ExpirySource::Assumed),
            ("rfc6749", "opaque", None, None, ExpirySource::Unknown),
        ];
        for (provider, token, previous, life, source) in table {
            let reply = Reply::new(200, [], format!(r#"{{"access_token":"{token}"}}"#));
            let tokens = catalogue.provider(provider).unwrap().tokens(&reply, sent_at, previous).unwrap();
            assert_eq!((tokens.lifetime, tokens.lifetime_source, tokens.repaired), (life, source, false), "{provider}");
        }
    }

    #[test]
    fn rf28_rf29_a_repaired_or_ignored_lifetime_is_marked() {
        let table = [
            ("3600", Some(3600), false),
            ("\"3600\"", Some(3600), false),
            ("\"3600abc\"", None, true),
            ("[]", None, true),
            ("0", None, true),
            ("-5", None, true),
            ("1767225601", Some(60), true),
            ("1000000000000000000", Some(31_536_000), true),
        ];
        for (value, life, repaired) in table {
            let tokens = read("rfc6749", 200, &format!(r#"{{"access_token":"a","expires_in":{value}}}"#)).unwrap();
            assert_eq!((tokens.lifetime.map(|life| life.as_secs()), tokens.repaired), (life, repaired), "{value}");
        }
        let dated = read("github_app", 201, r#"{"token":"t","expires_at":"2026-01-01T01:00:00Z"}"#).unwrap();
        assert_eq!((dated.lifetime, dated.repaired), (Some(Duration::from_secs(3600)), false));
        let other =
            read("rfc6749", 200, r#"{"access_token":"a","expires_at":1767229200,"refresh_expires_in":1800}"#).unwrap();
        assert_eq!(other.lifetime, Some(Duration::from_secs(3600)));
        assert_eq!(other.refresh_lifetime, Some(Duration::from_secs(1800)));
    }

    #[test]
    fn rf35_only_bearers_are_sent_as_bearers() {
        for (kind, bearer) in [
            ("", true),
            (r#","token_type":"Bearer""#, true),
            (r#","token_type":"bearer""#, true),
            (r#","token_type":"bot""#, true),
            (r#","token_type":"DPoP""#, false),
            (r#","token_type":"mac""#, false),
        ] {
            let tokens = read("rfc6749", 200, &format!(r#"{{"access_token":"a"{kind}}}"#)).unwrap();
            assert_eq!(tokens.is_bearer(), bearer, "{kind}");
        }
    }
}

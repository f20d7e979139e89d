//! Whether a reply whose status says success claims an error at all, and what its flags say.

use serde_json::Value;

use super::{Form, Observed, words::normalise};
use crate::catalogue::Surface;

impl Observed<'_> {
    /// Whether a reply with a status of success says at all that something went wrong.
    pub fn claims_error(&self) -> bool {
        if self.statements.iter().any(|statement| statement.header) {
            return true;
        }
        if self.form == Form::Xml {
            let head = self.text[..self.text.floor_char_boundary(2048)].to_ascii_lowercase();
            return ["<error", ":error", ":fault", "<fault", "failure<", "<exception"]
                .iter()
                .any(|tag| head.contains(tag));
        }
        let Some(Value::Object(object)) = &self.json else { return false };
        let says = |value: &Value| match value {
            Value::Null | Value::Bool(false) => false,
            Value::String(text) => !text.is_empty(),
            Value::Array(list) => !list.is_empty(),
            _ => true,
        };
        // `{"code": 40105, "message": …}`: a number that is not success, and words for it.
        let wrapped = object.values().any(|value| {
            value.as_object().is_some_and(|inner| {
                inner
                    .iter()
                    .any(|(name, value)| matches!(name.as_str(), "Error" | "error" | "Fault") && value.is_object())
            })
        });
        let number = ["code", "errcode", "err_code", "errno", "ret", "retcode", "status_code"].iter().any(|name| {
            let value = object.get(*name);
            let code = value.and_then(|value| value.as_i64().or_else(|| value.as_str()?.parse().ok()));
            code.is_some_and(|code| code != 0 && code != 1 && !(200..300).contains(&code))
        });
        let words = ["message", "msg", "errmsg", "err_msg", "error_message", "error_msg"];
        let empty = |value: &Value| match value {
            Value::Null => true,
            Value::Object(inner) => inner.is_empty(),
            Value::Array(inner) => inner.is_empty(),
            Value::String(text) => text.is_empty(),
            _ => false,
        };
        if wrapped
            || number && words.iter().any(|name| object.contains_key(*name)) && object.get("data").is_none_or(empty)
        {
            return true;
        }
        object.iter().any(|(name, value)| {
            let name = name.to_ascii_lowercase();
            let denied =
                matches!(name.as_str(), "ok" | "success" | "succeeded" | "issuccess") && value == &Value::Bool(false);
            // A job that failed is a thing with a name of its own.
            let failed = matches!(name.as_str(), "status" | "result" | "stat" | "outcome")
                && !object.contains_key("id")
                && value.as_str().is_some_and(|word| {
                    ["error", "fail", "failed", "failure"].iter().any(|bad| word.eq_ignore_ascii_case(bad))
                });
            // Notes beside a good answer to our own question how the token is.
            let noted = self.refusal.surface == Surface::Probe
                && matches!(name.as_str(), "messages" | "warnings")
                && value.as_array().is_some_and(|list| list.iter().any(Value::is_object));
            // `{"code": "TokenRevoked"}`; beside it, the answer of a living one is `TokenValid`.
            let coded = matches!(name.as_str(), "code" | "status" | "result" | "state")
                && value.as_str().is_some_and(bad_credential);
            denied
                || failed
                || coded
                || noted
                || (says(value) && (name.starts_with("err") || name.starts_with("fault") || name == "exception"))
        })
    }

    /// Whether a flag of the body names the token as what is wrong (`"invalidToken": true`).
    pub fn flagged(&self) -> bool {
        let flag = |value: &Value| {
            value.as_object().is_some_and(|object| {
                object
                    .iter()
                    .any(|(name, value)| *value == Value::Bool(true) && name.to_ascii_lowercase().contains("token"))
            })
        };
        self.json.as_ref().is_some_and(|json| flag(json) || json.get("error").is_some_and(flag))
    }
}

/// Whether a code names something that is presented, and what is bad about it.
fn bad_credential(code: &str) -> bool {
    const PRESENTED: [&str; 7] = ["token", "key", "apikey", "session", "credential", "credentials", "jwt"];
    const BAD: [&str; 10] = [
        "expired",
        "revoked",
        "invalid",
        "malformed",
        "disabled",
        "deleted",
        "missing",
        "inactive",
        "unknown",
        "rejected",
    ];
    if code.len() > 64 || code.contains(char::is_whitespace) {
        return false;
    }
    let words = normalise(code, true);
    let any = |list: &[&str]| words.split(' ').any(|word| list.contains(&word));
    any(&PRESENTED) && any(&BAD)
}

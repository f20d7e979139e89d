//! Whether a reply whose status says success claims an error at all, and what its flags say.

use serde_json::{Map, Value};

use super::{
    Form, Observed,
    members::{key, leaves},
    words::normalise,
};
use crate::catalogue::Surface;

/// Members that hold a number which is not a status, in replies that are always a success by their status.
const NUMBERS: [&str; 12] = [
    "code",
    "errcode",
    "errorcode",
    "errno",
    "ret",
    "retcode",
    "returncode",
    "resultcode",
    "statuscode",
    "rescode",
    "subcode",
    "status",
];

/// Members that hold the words for it.
const WORDS: [&str; 14] = [
    "statusmsg",
    "message",
    "msg",
    "errmsg",
    "errormessage",
    "errormsg",
    "submsg",
    "info",
    "resultmsg",
    "retmsg",
    "returnmsg",
    "statusmessage",
    "descripcion",
    "desc",
];

impl Observed<'_> {
    /// Whether a reply with a status of success says at all that something went wrong.
    pub fn claims_error(&self) -> bool {
        if self.statements.iter().any(|statement| statement.header) {
            return true;
        }
        match (&self.json, self.form) {
            (_, Form::Xml) => {
                let head = self.text[..self.text.floor_char_boundary(2048)].to_ascii_lowercase();
                ["<error", ":error", ":fault", "<fault", "failure<", "<exception"].iter().any(|tag| head.contains(tag))
                    || leaves(&head).any(|(name, _)| ["errmsg", "errormsg", "errorm"].iter().any(|n| name.contains(n)))
            }
            // Services that know nothing but words begin with the one that counts.
            (_, Form::Text) => {
                const SHORT: usize = 300;
                let words = normalise(&self.text[..self.text.floor_char_boundary(SHORT)], false);
                self.text.len() <= SHORT
                    && ["err", "error", "fault", "failed", "unauthorized", "access denied", "invalid", "ko"]
                        .iter()
                        .any(|bad| words.strip_prefix(bad).is_some_and(|rest| rest.is_empty() || rest.starts_with(' ')))
            }
            (Some(Value::Object(object)), _) => self.object_claims(object),
            // `["error", 10100, "apikey: invalid"]`
            (Some(Value::Array(list)), _) => list.first().is_some_and(|first| first == "error"),
            _ => false,
        }
    }

    fn object_claims(&self, object: &Map<String, Value>) -> bool {
        // `{"meta": {"code": 40105, "message": …}}`, `{"Response": {"Error": {…}}}`
        let wrapped = object.iter().any(|(name, value)| {
            value.as_object().is_some_and(|inner| {
                let name = key(name);
                let envelope = ["response", "resp", "head", "header", "meta", "result", "messages"]
                    .iter()
                    .any(|of| name.ends_with(of));
                inner
                    .iter()
                    .any(|(name, value)| matches!(name.as_str(), "Error" | "error" | "Fault") && value.is_object())
                    || envelope && self.object_claims(inner)
            })
        });
        // `{"messages": [{"status": "9", "error-text": …}]}`: nothing but errors.
        let each = object.values().filter_map(Value::as_array).any(|list| {
            let bad = |item: &Value| {
                let errors = |(name, value): (&String, &Value)| key(name).starts_with("err") && value.is_string();
                item.as_object().is_some_and(|item| item.iter().any(errors))
            };
            !list.is_empty() && list.iter().all(bad)
        });
        // `{"data": {"tokenRefresh": {"token": null, "errors": […]}}}`
        let mutation = self.refusal.surface == Surface::Graphql
            && object.get("data").and_then(Value::as_object).is_some_and(|data| {
                data.values().any(|of| of.get("errors").and_then(Value::as_array).is_some_and(|list| !list.is_empty()))
            });
        // `{"code": "IllegalAccessToken", "message": …}`
        let named = object.iter().any(|(name, value)| {
            key(name) == "code"
                && value.as_str().is_some_and(|code| code.len() <= 64 && code.chars().any(char::is_alphabetic))
        });
        if wrapped
            || each
            || mutation
            || numbered(object)
            || (named && worded(object))
            || (self.refusal.surface == Surface::Probe && denies(object))
        {
            return true;
        }
        let says = |value: &Value| match value {
            Value::Null | Value::Bool(false) => false,
            Value::String(text) => !text.is_empty(),
            Value::Array(list) => !list.is_empty(),
            _ => true,
        };
        object.iter().any(|(name, value)| {
            let name = key(name);
            let denied = matches!(
                name.as_str(),
                "ok" | "success" | "succeeded" | "issuccess" | "successful" | "issuccessful" | "status"
            ) && value == &Value::Bool(false);
            // A job that failed is a thing with a name of its own.
            let failed =
                matches!(name.as_str(), "status" | "result" | "resultcode" | "ack" | "stat" | "outcome" | "state")
                    && !object.contains_key("id")
                    && value.as_str().is_some_and(|word| {
                        let bad = [
                            "error",
                            "err",
                            "fail",
                            "failed",
                            "failure",
                            "nok",
                            "ko",
                            "denied",
                            "unauthorized",
                            "limit",
                            "exceeded",
                        ];
                        let words = normalise(word, true);
                        words.split(' ').count() <= 5 && words.split(' ').any(|word| bad.contains(&word))
                    });
            // Notes beside a good answer to our own question how the token is.
            let noted = self.refusal.surface == Surface::Probe
                && matches!(name.as_str(), "messages" | "warnings")
                && value.as_array().is_some_and(|list| list.iter().any(Value::is_object));
            // `{"code": "TokenRevoked"}`; beside it, the answer of a living one is `TokenValid`.
            let coded = matches!(name.as_str(), "code" | "status" | "result" | "state" | "info" | "subcode")
                && value.as_str().is_some_and(bad_credential);
            denied
                || failed
                || coded
                || noted
                || (says(value) && (name.starts_with("err") || name.starts_with("fault") || name == "exception"))
        })
    }

    /// Whether a probe is told in a flag alone that nobody knows the credential.
    pub fn denied_by_flag(&self) -> bool {
        self.refusal.surface == Surface::Probe && self.json.as_ref().and_then(Value::as_object).is_some_and(denies)
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

/// `{"valid": false}`
fn denies(object: &Map<String, Value>) -> bool {
    object.iter().any(|(name, value)| {
        let flags = ["valid", "isvalid", "tokenvalid", "active", "authenticated", "isauthenticated", "authorized"];
        *value == Value::Bool(false) && flags.contains(&key(name).as_str())
    })
}

/// `{"code": 40105, "message": …}`: a number that is not success, and words for it that are not either.
fn numbered(object: &Map<String, Value>) -> bool {
    let number = |value: &Value| value.as_i64().or_else(|| value.as_str()?.parse().ok());
    // Where 1 is success, 0 is none; whoever counts from 0 says "ok" beside it.
    let bad = |name: &str, code: i64| match name {
        "status" if !object.contains_key("id") => code != 1 && !(200..300).contains(&code),
        "status" => code == 0 || (400..600).contains(&code),
        _ => code != 0 && code != 1 && !(200..300).contains(&code),
    };
    let found = object.iter().any(|(name, value)| {
        let name = key(name);
        NUMBERS.contains(&name.as_str()) && number(value).is_some_and(|code| bad(&name, code))
    });
    let empty = |value: &Value| match value {
        Value::Null => true,
        Value::Object(inner) => inner.is_empty(),
        Value::Array(inner) => inner.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    };
    found && worded(object) && object.get("data").is_none_or(empty)
}

/// Whether an object has words, and they are not those of success.
fn worded(object: &Map<String, Value>) -> bool {
    object.iter().any(|(name, value)| {
        WORDS.contains(&key(name).as_str())
            && value.as_str().is_some_and(|text| {
                let words = normalise(text, true);
                !words.split(' ').any(|word| ["ok", "success", "succeeded", "successful"].contains(&word))
            })
    })
}

/// Whether a code names something that is presented, and what is bad about it.
fn bad_credential(code: &str) -> bool {
    const PRESENTED: [&str; 8] = ["token", "key", "apikey", "session", "credential", "credentials", "jwt", "user"];
    const BAD: [&str; 17] = [
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
        "recycled",
        "blocked",
        "suspended",
        "locked",
        "banned",
        "limit",
        "unauthorized",
    ];
    if code.len() > 64 || code.contains(char::is_whitespace) {
        return false;
    }
    let words = normalise(code, true);
    words.split(' ').any(|word| PRESENTED.iter().any(|of| word.ends_with(of)))
        && words.split(' ').any(|word| BAD.contains(&word))
}

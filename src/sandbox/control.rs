//! The admin API over HTTP: JSON in, JSON out, on loopback alone.

use std::sync::Arc;

use http::{Method, header, request::Parts};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use url::form_urlencoded;

use super::{Admin, Shared, reply::Draft};

/// Answers a request to the admin API.
pub(super) fn answer(shared: &Arc<Shared>, parts: &Parts, body: &[u8]) -> Draft {
    // A page in somebody's browser may post to loopback; it cannot hide that it is one.
    if parts.headers.contains_key(header::ORIGIN) {
        return problem(403, "the admin API is not for web pages");
    }
    route(shared, parts, body).unwrap_or_else(|draft| draft)
}

#[expect(clippy::disallowed_methods, reason = "whoever rehearses gets the secrets made for it")]
fn route(shared: &Arc<Shared>, parts: &Parts, body: &[u8]) -> Result<Draft, Draft> {
    let admin = Admin::new(Arc::clone(shared));
    let path: Vec<&str> = parts.uri.path().trim_matches('/').split('/').collect();
    let query = |name: &str| {
        let query = parts.uri.query().unwrap_or("");
        form_urlencoded::parse(query.as_bytes()).find(|(known, _)| known == name).map(|(_, value)| value.into_owned())
    };
    let known =
        |known: bool| if known { Ok(ok(&json!({"done": true}))) } else { Err(problem(404, "nothing has this id")) };
    match (&parts.method, path.as_slice()) {
        (&Method::GET, [""] | ["admin"]) => Ok(ok(&overview(shared))),
        (&Method::POST, ["admin", "clients"]) => {
            admin.client(read(body)?);
            Ok(ok(&json!({"done": true})))
        }
        (&Method::POST, ["admin", "grants"]) => {
            let seed = admin.grant(read(body)?);
            let mut answer: Value = serde_json::from_str(seed.document().expose()).unwrap_or_default();
            answer["id"] = seed.id.into();
            Ok(ok(&answer))
        }
        (&Method::POST, ["admin", "keys"]) => {
            let (id, key) = admin.key(&read(body)?);
            Ok(ok(&json!({"id": id, "api_key": key.expose()})))
        }
        (&Method::DELETE, ["admin", "grants" | "keys", id]) => known(admin.revoke(id)),
        (&Method::POST, ["admin", "faults"]) => Ok(ok(&json!({"id": admin.fault(read(body)?)}))),
        (&Method::GET, ["admin", "faults"]) => Ok(ok(&json!(admin.faults()))),
        (&Method::DELETE, ["admin", "faults"]) => {
            admin.clear_all();
            Ok(ok(&json!({"done": true})))
        }
        (&Method::DELETE, ["admin", "faults", id]) => known(id.parse().is_ok_and(|id| admin.clear(id))),
        (&Method::GET, ["admin", "log"]) => {
            let after = query("after").and_then(|after| after.parse().ok()).unwrap_or(0);
            let grant = query("grant");
            let mut calls = admin.log();
            calls.retain(|call| call.seq > after && (grant.is_none() || call.grant == grant));
            Ok(ok(&json!(calls)))
        }
        (&Method::GET, ["admin", "counters"]) => Ok(ok(&json!(admin.counters()))),
        _ => Err(problem(404, "see GET /admin for what there is")),
    }
}

/// An empty body stands for all defaults.
fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Draft> {
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map_err(|error| problem(400, &error.to_string()))
}

fn ok(value: &Value) -> Draft {
    Draft::json(200, value)
}

fn problem(status: u16, detail: &str) -> Draft {
    Draft::json(status, &json!({"error": detail}))
}

fn overview(shared: &Shared) -> Value {
    json!({
        "token_endpoint": shared.token_endpoint(),
        "api": format!("{}/api/me", shared.url),
        "requests": [
            "POST /admin/grants {\"client\":\"sandbox\",\"profile\":\"grace(30)\",\"access_ttl\":60}",
            "DELETE /admin/grants/{id}",
            "POST /admin/keys {\"ttl\":3600}",
            "DELETE /admin/keys/{id}",
            "POST /admin/clients {\"id\":\"app\",\"secret\":\"…\",\"public_key\":\"-----BEGIN PUBLIC KEY-----…\"}",
            "POST /admin/faults {\"fault\":\"rate_limit\",\"retry_after\":{\"seconds\":5},\"calls\":3,\"at\":\"any\",\"grant\":\"grant-1\"}",
            "GET /admin/faults",
            "DELETE /admin/faults",
            "DELETE /admin/faults/{id}",
            "GET /admin/log?grant=grant-1&after=0",
            "GET /admin/counters",
        ],
        "faults": FAULTS.map(|example| serde_json::from_str::<Value>(example).unwrap_or_default()),
        "faults_also_take": {
            "at": "token (default), api, any",
            "grant": "for one grant or key alone",
            "calls": "for so many calls; until cleared where absent",
        },
    })
}

/// Every fault, each as it may be posted to `/admin/faults`.
const FAULTS: [&str; 18] = [
    r#"{"fault":"delay","ms":2000,"after_commit":true}"#,
    r#"{"fault":"status","status":503,"after_commit":false}"#,
    r#"{"fault":"restamp","status":500}"#,
    r#"{"fault":"rate_limit","retry_after":{"seconds":5}}"#,
    r#"{"fault":"html","status":502}"#,
    r#"{"fault":"truncated"}"#,
    r#"{"fault":"malformed"}"#,
    r#"{"fault":"duplicate_members"}"#,
    r#"{"fault":"empty"}"#,
    r#"{"fault":"error_in_success","error":"bad_refresh_token"}"#,
    r#"{"fault":"refuse","status":400,"error":"invalid_grant"}"#,
    r#"{"fault":"redirect","status":307,"location":"http://127.0.0.1:1/"}"#,
    r#"{"fault":"drop_after_commit","calls":1}"#,
    r#"{"fault":"reset_after_commit","calls":1}"#,
    r#"{"fault":"reset_before_commit","calls":1}"#,
    r#"{"fault":"slow_bytes","every_ms":100}"#,
    r#"{"fault":"member","name":"expires_in","value":"3600"}"#,
    r#"{"fault":"raw","status":418,"headers":{"content-type":"text/plain"},"body":"short and stout"}"#,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::Fault;

    #[test]
    fn every_fault_has_an_example_that_can_be_posted() {
        let shown: Vec<String> = FAULTS
            .iter()
            .map(|example| {
                serde_json::from_str::<Fault>(example).unwrap_or_else(|error| panic!("{example}: {error}"));
                serde_json::from_str::<Value>(example).unwrap()["fault"].as_str().unwrap().to_owned()
            })
            .collect();
        // serde names all that there are.
        let all = serde_json::from_str::<Fault>(r#"{"fault":"none"}"#).unwrap_err().to_string();
        let all: Vec<&str> = all.split('`').skip(3).step_by(2).collect();
        assert_eq!(shown, all);
    }
}

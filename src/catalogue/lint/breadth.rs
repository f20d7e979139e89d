//! Rules that reach too far: they would fire on good answers, or on what other services mean otherwise.

use jiff::Timestamp;

use super::{
    super::{Catalogue, Problem, Provider, Refusal, Rule, Surface, generic::Observed},
    CLOCK, at,
};
use crate::credential::Reply;

/// Words that stand in most replies, so that they tell nothing.
const COMMON: [&str; 20] = [
    "error",
    "errors",
    "message",
    "status",
    "code",
    "type",
    "request",
    "invalid",
    "token",
    "access",
    "failed",
    "fail",
    "false",
    "null",
    "data",
    "http",
    "json",
    "html",
    "the ",
    "credential",
];

/// Good answers as services give them to a probe or a call.
const SUCCESSES: [(u16, &str); 8] = [
    (200, r#"{"id":42,"login":"octo","name":"Octo","email":null,"status":"active","type":"User"}"#),
    (200, r#"{"data":{"viewer":{"id":"u1","name":"Ada"}},"errors":[],"message":"ok","code":0}"#),
    (200, r#"{"ok":true,"user":"u1","team":"t1","error":null,"message":"success"}"#),
    (200, r#"[{"id":1,"title":"Rotate the expired token","state":"open","error_count":0}]"#),
    (200, r#"{"access_token":"x","token_type":"Bearer","expires_in":3600,"scope":"read write"}"#),
    (200, "<?xml version=\"1.0\"?><Response><Status>OK</Status><RequestId>1</RequestId></Response>"),
    (201, r#"{"object":"list","data":[],"has_more":false,"request_id":"r1"}"#),
    (204, ""),
];

/// Rules of a provider that reach too far.
pub fn too_broad(provider: &Provider, catalogue: &Catalogue) -> Vec<Problem> {
    let mut problems = Vec::new();
    let vague = |rule: &&Rule| rule.when.header.is_empty() && rule.when.body.is_empty();
    for rule in provider.rules.failures.iter().filter(vague) {
        let tells_nothing = |text: &&String| {
            text.trim().chars().count() < 4 || COMMON.iter().any(|word| text.trim().eq_ignore_ascii_case(word.trim()))
        };
        if let Some(text) = rule.when.text.iter().find(tells_nothing) {
            let message = format!("too broad: {text:?} stands in most replies; test the member that says it");
            problems.push(at(&rule.place, message));
        } else if fires_on_success(rule) {
            problems.push(at(&rule.place, "too broad: it fires on good answers; add a status or a member".to_owned()));
        } else if rule.when.status.is_empty()
            && let Some(other) = fires_elsewhere(rule, provider, catalogue)
        {
            let message =
                format!("too broad: it fires on {other}, which means something else; add a status or a member");
            problems.push(at(&rule.place, message));
        }
    }
    problems
}

fn fires(rule: &Rule, surface: Surface, presented: &str, reply: &Reply) -> bool {
    let now = Timestamp::from_second(CLOCK).unwrap_or_default();
    rule.when.holds(&Observed::new(&Refusal { surface, presented, reply, now }))
}

fn fires_on_success(rule: &Rule) -> bool {
    SUCCESSES.iter().any(|(status, body)| {
        let reply = Reply::new(*status, [("content-type", "application/json")], *body);
        [(Surface::Probe, "api_key"), (Surface::Api, "oauth_access_token")]
            .iter()
            .any(|(surface, presented)| fires(rule, *surface, presented, &reply))
    })
}

/// An example of an unrelated provider that a rule takes for something else.
fn fires_elsewhere(rule: &Rule, provider: &Provider, catalogue: &Catalogue) -> Option<String> {
    let (own, _) = rule.place.rsplit_once(':')?;
    let others = catalogue.names().filter(|name| *name != provider.name).filter_map(|name| catalogue.provider(name));
    others.filter(|other| !other.rules.failures.iter().any(|theirs| theirs.place.starts_with(own))).find_map(|other| {
        let example = other.rules.examples.iter().find(|example| {
            example.failure != rule.failure && fires(rule, example.surface, &example.presented, &example.reply)
        })?;
        Some(format!("the example {}", example.place))
    })
}

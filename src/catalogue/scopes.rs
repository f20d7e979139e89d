//! What a credential may do, as its provider tells it, beside what it is needed for.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Provider;
use crate::credential::{Kind, Reply};

/// How the scopes of a credential depart from those that it needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScopeGap {
    /// Needed and not there: calls will be refused.
    pub missing: Vec<String>,
    /// There and not needed: whoever steals the credential has them too.
    pub wider: Vec<String>,
}

impl ScopeGap {
    /// Compares as they are spelt.
    pub fn between(needed: &[String], granted: &BTreeSet<String>) -> Self {
        Self {
            missing: needed.iter().filter(|scope| !granted.contains(*scope)).cloned().collect(),
            wider: granted.iter().filter(|scope| !needed.contains(scope)).cloned().collect(),
        }
    }
}

/// Scopes in one text: spaces or commas stand between them.
pub fn scopes(text: &str) -> BTreeSet<String> {
    text.split([' ', ',']).map(str::trim).filter(|scope| !scope.is_empty()).map(str::to_owned).collect()
}

impl Provider {
    /// The scopes that a good reply to a probe tells, where the file says that it does. A header that is there and empty
    /// tells that there are none.
    pub fn probe_scopes(&self, kind: Kind, reply: &Reply) -> Option<BTreeSet<String>> {
        let probe = self.probe(kind).filter(|_| reply.is_success())?;
        if let Some(told) = probe.scopes_header.as_ref().and_then(|name| reply.header(name)) {
            return Some(scopes(told));
        }
        let body: Value = serde_json::from_slice(&reply.body).ok()?;
        match body.pointer(probe.scopes.as_ref()?)? {
            Value::String(text) => Some(scopes(text)),
            Value::Array(list) => list.iter().map(|scope| scope.as_str().map(str::to_owned)).collect(),
            // Slack, GitLab and the like: an object whose members are the scopes.
            Value::Object(object) => Some(object.keys().cloned().collect()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::{Catalogue, Probe};

    fn told(reply: &Reply) -> Option<Vec<String>> {
        let catalogue = Catalogue::embedded().unwrap();
        let mut provider = (*catalogue.provider("rfc6749").unwrap()).clone();
        provider.probes = vec![Probe {
            scopes: Some("/token/scopes".into()),
            scopes_header: Some("x-oauth-scopes".into()),
            ..Probe::default()
        }];
        provider.probe_scopes(Kind::Pat, reply).map(|scopes| scopes.into_iter().collect())
    }

    #[test]
    fn scopes_are_told_in_a_header_or_in_the_body() {
        let none: [(&str, &str); 0] = [];
        let some = |list: &[&str]| Some(list.iter().map(|scope| (*scope).to_owned()).collect::<Vec<_>>());
        assert_eq!(told(&Reply::new(200, [("x-oauth-scopes", "repo, gist")], "")), some(&["gist", "repo"]));
        assert_eq!(told(&Reply::new(200, [("x-oauth-scopes", "")], "")), some(&[]));
        assert_eq!(
            told(&Reply::new(200, none, r#"{"token":{"scopes":["api","read_user"]}}"#)),
            some(&["api", "read_user"])
        );
        assert_eq!(told(&Reply::new(200, none, r#"{"token":{"scopes":"a b"}}"#)), some(&["a", "b"]));
        assert_eq!(told(&Reply::new(200, none, r#"{"token":{}}"#)), None);
        assert_eq!(told(&Reply::new(401, [("x-oauth-scopes", "repo")], "")), None, "a refusal tells nothing");
    }

    #[test]
    fn a_gap_has_two_sides() {
        let needed = ["read".to_owned(), "write".to_owned()];
        let gap = ScopeGap::between(&needed, &scopes("read admin"));
        assert_eq!((gap.missing, gap.wider), (vec!["write".to_owned()], vec!["admin".to_owned()]));
        assert_eq!(ScopeGap::between(&needed, &scopes("write,read")), ScopeGap::default());
    }
}

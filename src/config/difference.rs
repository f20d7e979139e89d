//! What changed between two settings.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::Config;
use crate::credential::CredentialId;

/// Names that came, changed and went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes<K> {
    /// Only in the new settings.
    pub added: Vec<K>,
    /// In both, and not the same.
    pub changed: Vec<K>,
    /// Only in the old settings.
    pub removed: Vec<K>,
}

impl<K> Changes<K> {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty() && self.removed.is_empty()
    }
}

/// What a reload brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// A credential counts as changed too when its policy or its home store did.
    pub credentials: Changes<CredentialId>,
    /// Home stores.
    pub stores: Changes<String>,
    /// Policies.
    pub policies: Changes<String>,
    /// Ways to on-call.
    pub channels: Changes<String>,
    /// Whether the provider files lie elsewhere.
    pub providers: bool,
    /// The new `[log] level`, where it changed.
    pub log_level: Option<String>,
    /// Settings that changed but hold only after a restart, by name (`ledger.path`).
    pub needs_restart: Vec<String>,
}

impl Difference {
    /// For the log: what took effect, and what waits for a restart.
    pub fn summary(&self) -> String {
        let mut parts = vec![];
        let mut count = |what: &str, added: usize, changed: usize, removed: usize| {
            if added + changed + removed > 0 {
                parts.push(format!("{what}: {added} added, {changed} changed, {removed} removed"));
            }
        };
        let (c, s, p, n) = (&self.credentials, &self.stores, &self.policies, &self.channels);
        count("credentials", c.added.len(), c.changed.len(), c.removed.len());
        count("stores", s.added.len(), s.changed.len(), s.removed.len());
        count("policies", p.added.len(), p.changed.len(), p.removed.len());
        count("channels", n.added.len(), n.changed.len(), n.removed.len());
        parts.extend(self.providers.then(|| "another folder of providers".to_owned()));
        parts.extend(self.log_level.as_ref().map(|level| format!("log level {level}")));
        if !self.needs_restart.is_empty() {
            parts.push(format!("after a restart only: {}", self.needs_restart.join(", ")));
        }
        if parts.is_empty() { "nothing that matters while running".into() } else { parts.join("; ") }
    }
}

/// Compares two settings.
pub fn difference(old: &Config, new: &Config) -> Difference {
    let stores = changes(&old.stores, &new.stores, |name| old.stores[name] != new.stores[name]);
    let policies = changes(&old.policies, &new.policies, |name| old.policies[name] != new.policies[name]);
    let channels = (&old.pager.channels, &new.pager.channels);
    let channels = changes(channels.0, channels.1, |name| channels.0[name] != channels.1[name]);
    let credentials = changes(&old.credentials, &new.credentials, |id| {
        let (before, after) = (&old.credentials[id], &new.credentials[id]);
        before != after
            || old.policies.get(&before.policy) != new.policies.get(&after.policy)
            || old.stores.get(&before.store) != new.stores.get(&after.store)
    });
    let mut needs_restart = vec![];
    fields("ledger", &old.ledger, &new.ledger, &mut needs_restart);
    fields("server", &old.server, &new.server, &mut needs_restart);
    if old.log.format != new.log.format {
        needs_restart.push("log.format".into());
    }
    let log_level = (old.log.level != new.log.level).then(|| new.log.level.clone());
    let providers = old.providers != new.providers;
    Difference { credentials, stores, policies, channels, providers, log_level, needs_restart }
}

fn changes<K: Ord + Clone, V>(old: &BTreeMap<K, V>, new: &BTreeMap<K, V>, differs: impl Fn(&K) -> bool) -> Changes<K> {
    Changes {
        added: new.keys().filter(|name| !old.contains_key(name)).cloned().collect(),
        changed: new.keys().filter(|name| old.contains_key(name) && differs(name)).cloned().collect(),
        removed: old.keys().filter(|name| !new.contains_key(name)).cloned().collect(),
    }
}

/// The members of a part that differ; a new member is compared without a line here.
fn fields<T: Serialize>(part: &str, old: &T, new: &T, out: &mut Vec<String>) {
    let json = |settings: &T| serde_json::to_value(settings).unwrap_or(Value::Null);
    if let (Value::Object(old), Value::Object(new)) = (json(old), json(new)) {
        out.extend(
            new.iter().filter(|(key, value)| old.get(*key) != Some(value)).map(|(key, _)| format!("{part}.{key}")),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn a_reload_says_what_it_brings() {
        let old = config(
            "[log]\nlevel = \"info\"\n[stores.s]\nkind = \"file\"\nfolder = \"/a\"\n[policies.p]\n\
             [credentials.a]\nprovider = \"x\"\nkind = \"pat\"\n[credentials.b]\nprovider = \"x\"\nkind = \"pat\"\nstore = \"s\"\n\
             [credentials.c]\nprovider = \"x\"\nkind = \"pat\"\npolicy = \"p\"\n",
        );
        let new = config(
            "[log]\nlevel = \"debug\"\n[ledger]\npath = \"/l\"\n[server]\nsocket_mode = \"0600\"\n[stores.s]\nkind = \"file\"\nfolder = \"/b\"\n[policies.p]\nttl_warn = \"5m\"\n\
             [credentials.b]\nprovider = \"x\"\nkind = \"pat\"\nstore = \"s\"\n\
             [credentials.c]\nprovider = \"x\"\nkind = \"pat\"\npolicy = \"p\"\n[credentials.d]\nprovider = \"x\"\nkind = \"pat\"\n",
        );
        let found = difference(&old, &new);
        let names = |ids: &[CredentialId]| ids.iter().map(|id| id.as_str().to_owned()).collect::<Vec<_>>();
        assert_eq!(names(&found.credentials.added), ["d"]);
        assert_eq!(names(&found.credentials.changed), ["b", "c"]);
        assert_eq!(names(&found.credentials.removed), ["a"]);
        assert_eq!(found.stores.changed, ["s"]);
        assert_eq!(found.log_level.as_deref(), Some("debug"));
        assert!(!found.providers && difference(&old, &config("providers = \"p\"")).providers);
        assert_eq!(found.needs_restart, ["ledger.path", "server.socket_mode"]);
        assert!(found.summary().contains("after a restart only: ledger.path, server.socket_mode"));
        assert_eq!(difference(&new, &new).summary(), "nothing that matters while running");
    }
}

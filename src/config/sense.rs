//! What only the whole file can show: names that point nowhere, values that contradict each other.

mod offers;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::SocketAddr,
    path::Path,
};

use jiff::SignedDuration;
use serde_json::Value;

use super::{
    Config,
    document::{Document, below},
    problem::{Problem, did_you_mean, list, shown},
    shape::{BY_REFERENCE, names_a_secret},
};
use crate::{
    credential::CredentialId,
    lifecycle,
    pager::{self, email::Tls},
    store,
};

/// The store that is always there.
const EMBEDDED: &str = "embedded";

/// What the document alone cannot know.
pub(super) struct Names<'a> {
    /// Providers of the catalogue.
    pub providers: &'a [String],
    /// References into home stores: where they stand, and the store's name.
    pub references: &'a [(String, String)],
}

/// The checks, over the parts that could be read.
pub(super) struct Sense<'a> {
    config: &'a Config,
    document: &'a Document,
    problems: Vec<Problem>,
}

impl<'a> Sense<'a> {
    /// All that makes no sense.
    pub fn of(config: &'a Config, document: &'a Document, names: Names<'_>) -> Vec<Problem> {
        let mut sense = Self { config, document, problems: vec![] };
        sense.names();
        sense.log();
        sense.server();
        sense.policies();
        sense.stores(names.references);
        sense.channels();
        sense.credentials(names.providers);
        sense.offers();
        sense.problems
    }

    fn report(&mut self, at: &str, message: impl Into<String>, help: impl Into<String>) {
        self.problems.push(self.document.problem(at, message, Some(help.into())));
    }

    /// The names in a table, those of unreadable parts too.
    fn keys(&self, at: &str) -> Vec<&'a str> {
        let table = self.document.root.pointer(at).and_then(Value::as_object);
        table.into_iter().flat_map(|table| table.keys().map(String::as_str)).collect()
    }

    /// Names stand in logs, metrics, pages and URLs.
    fn names(&mut self) {
        for at in ["/credentials", "/stores", "/policies", "/pager/channels"] {
            for name in self.keys(at) {
                if CredentialId::new(name).is_err() {
                    let help = "1 to 63 of a-z 0-9 . _ -, beginning with a letter or a digit";
                    self.report(&below(at, name), "cannot be a name", help);
                }
            }
        }
        if self.config.stores.contains_key(EMBEDDED) {
            self.report("/stores/embedded", "`embedded` is always there", "give this store another name");
        }
    }

    fn log(&mut self) {
        if !crate::telemetry::is_filter(&self.config.log.level) {
            let help = "`error`, `warn`, `info`, `debug`, or a filter such as \"info,credd::watcher=debug\"";
            self.report("/log/level", "not a level or filter", help);
        }
    }

    fn server(&mut self) {
        let server = &self.config.server;
        if !matches!(u32::from_str_radix(&server.socket_mode, 8), Ok(mode) if mode <= 0o777) {
            self.report("/server/socket_mode", "not a file mode", "three or four octal digits, for example \"0660\"");
        }
        if let Some(socket) = &server.socket {
            let bytes = socket.as_os_str().as_encoded_bytes();
            if bytes.is_empty() || bytes[0] == b'@' || bytes.contains(&0) {
                let help = "any process of the network namespace can open an abstract socket; give a path";
                self.report("/server/socket", "not a path", help);
            } else if bytes.len() > 107 {
                self.report("/server/socket", "too long", "the kernel takes at most 107 bytes");
            } else if socket.file_name().is_some_and(|name| name == "admin.sock") {
                self.report(
                    "/server/socket",
                    "collides with the operator's socket",
                    "`admin.sock` stands beside the readers' socket; give this one another name",
                );
            }
        }
        self.listeners();
    }

    /// Every address of `[server]`, whatever it is called: no two may be one.
    fn listeners(&mut self) {
        let Ok(Value::Object(server)) = serde_json::to_value(&self.config.server) else { return };
        let mut seen: Vec<(SocketAddr, &String)> = vec![];
        for (key, value) in &server {
            let Some(Ok(address)) = value.as_str().map(str::parse::<SocketAddr>) else { continue };
            let collides = |other: &SocketAddr| {
                let same = other.ip() == address.ip() || other.ip().is_unspecified() || address.ip().is_unspecified();
                same && other.port() == address.port() && address.port() != 0
            };
            if let Some((_, other)) = seen.iter().find(|(other, _)| collides(other)) {
                let message = format!("is the address of `server.{other}` too");
                self.report(&below("/server", key), message, "give each listener an address of its own");
            }
            seen.push((address, key));
        }
    }

    fn policies(&mut self) {
        for (name, policy) in &self.config.policies {
            let at = below("/policies", name);
            if !schedules(&policy.probe) {
                let help = "six fields, seconds first: \"0 */5 * * * *\" is every five minutes";
                self.report(&below(&at, "probe"), "not a cron expression, or one that is never due", help);
            }
            self.positive(&at, "refresh_lead", policy.refresh_lead);
            self.thresholds(&at, (policy.ttl_warn, policy.ttl_fail), (policy.ttl_warn, policy.ttl_fail));
        }
    }

    fn positive(&mut self, at: &str, key: &str, time: Option<SignedDuration>) {
        if time.is_some_and(|time| !time.is_positive()) {
            self.report(&below(at, key), "must be more than nothing", "for example \"60m\"");
        }
    }

    /// `own` is what stands here, `effective` what holds.
    fn thresholds(&mut self, at: &str, own: Thresholds, effective: Thresholds) {
        self.positive(at, "ttl_warn", own.0);
        self.positive(at, "ttl_fail", own.1);
        if let (Some(warn), Some(fail)) = effective
            && fail > warn
            && (own.0.is_some() || own.1.is_some())
        {
            let key = if own.1.is_some() { "ttl_fail" } else { "ttl_warn" };
            let message = format!("`ttl_fail` ({fail:#}) is above `ttl_warn` ({warn:#})");
            self.report(&below(at, key), message, "a credential is yellow before it is red: ttl_fail <= ttl_warn");
        }
    }

    fn stores(&mut self, references: &[(String, String)]) {
        for (name, store) in &self.config.stores {
            let at = below("/stores", name);
            if let store::Settings::Exec(exec) = store
                && !exec.command.first().is_some_and(|program| Path::new(program).is_absolute())
            {
                let help = "the absolute path of a program, then its arguments: [\"/usr/lib/credd/doppler\"]";
                self.report(&below(&at, "command"), "does not begin with an absolute path", help);
            }
        }
        let known = self.store_names();
        for (at, name) in references {
            if !known.contains(name.as_str()) {
                self.unknown(&below(at, "store"), "store", name, &known);
            }
        }
        self.cycles(references);
    }

    fn store_names(&self) -> BTreeSet<&'a str> {
        self.keys("/stores").into_iter().chain([EMBEDDED]).collect()
    }

    /// What is needed to open a store may not lie behind it (FM-77): after a long sleep nobody could log in again.
    fn cycles(&mut self, references: &[(String, String)]) {
        let mut needs: BTreeMap<&str, Vec<(&str, &str)>> = BTreeMap::new();
        for (at, target) in references {
            // The ledger holds the embedded store.
            let owner = match at.split('/').collect::<Vec<_>>()[..] {
                [_, "ledger", ..] => EMBEDDED,
                [_, "stores", name, ..] => name,
                _ => continue,
            };
            needs.entry(owner).or_default().push((target, at));
        }
        for (owner, edges) in &needs {
            for (target, at) in edges {
                let mut seen = BTreeSet::new();
                let mut open = vec![*target];
                while let Some(store) = open.pop() {
                    if seen.insert(store) {
                        open.extend(needs.get(store).into_iter().flatten().map(|(next, _)| *next));
                    }
                }
                if seen.contains(owner) {
                    let message = format!("`{owner}` is needed to open `{owner}`");
                    self.report(
                        at,
                        message,
                        "let this secret come from a file, the environment, or a store that needs no other",
                    );
                }
            }
        }
    }

    fn channels(&mut self) {
        for (name, channel) in &self.config.pager.channels {
            let at = below("/pager/channels", name);
            match channel {
                pager::Settings::Email(email) => {
                    let local = email.host == "localhost"
                        || email.host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback());
                    if email.tls == Tls::None && !local {
                        let help = "use `starttls` or `implicit`; `none` is for a mail server on this machine";
                        self.report(&below(&at, "tls"), "pages would travel in the clear", help);
                    }
                    if email.to.is_empty() {
                        self.report(&below(&at, "to"), "nobody is told", "at least one address");
                    }
                }
                pager::Settings::Webhook(hook) => match (&hook.url, &hook.url_from) {
                    (None, None) => self.report(&at, "`url` is missing", "or `url_from`, where the URL is a secret"),
                    (Some(_), Some(_)) => {
                        self.report(&below(&at, "url_from"), "`url` stands here too", "keep one of them");
                    }
                    _ if hook.secrets.is_empty() => {
                        let help =
                            "at least one signing secret: the receiver must be able to tell our pages from forged ones";
                        self.report(&below(&at, "secrets"), "pages would not be signed", help);
                    }
                    _ => {}
                },
            }
        }
    }

    fn credentials(&mut self, providers: &[String]) {
        let providers: BTreeSet<&str> = providers.iter().map(String::as_str).collect();
        let stores = self.store_names();
        let policies: BTreeSet<&str> = self.keys("/policies").into_iter().chain(["default"]).collect();
        let usual = lifecycle::Settings::default();
        let mut taken: HashMap<(&str, &str), &CredentialId> = HashMap::new();
        for (id, credential) in &self.config.credentials {
            let at = below("/credentials", id.as_str());
            if !providers.contains(credential.provider.as_str()) {
                self.unknown(&below(&at, "provider"), "provider", &credential.provider, &providers);
            }
            if !stores.contains(credential.store.as_str()) {
                self.unknown(&below(&at, "store"), "store", &credential.store, &stores);
            }
            if !policies.contains(credential.policy.as_str()) {
                self.unknown(&below(&at, "policy"), "policy", &credential.policy, &policies);
            }
            self.cuts(&at, id, credential);
            let policy = self.config.policies.get(&credential.policy).unwrap_or(&usual);
            let own = (credential.ttl_warn, credential.ttl_fail);
            self.thresholds(&at, own, (own.0.or(policy.ttl_warn), own.1.or(policy.ttl_fail)));
            let place = credential.at.as_deref().unwrap_or(id.as_str());
            if place.is_empty() {
                self.report(
                    &below(&at, "at"),
                    "is empty",
                    "where in the store; leave it out for the credential's own name",
                );
            } else if let Some(other) = taken.insert((&credential.store, place), id) {
                let line = self.document.line_of(&below("/credentials", other.as_str()));
                let message = format!("the same secret as `{other}` (line {line})");
                self.report(&at, message, "two credentials on one secret would spend each other's grant; keep one, and let both readers read it");
            }
            if credential.provider == "rfc6749"
                && credential.kind.is_refreshable()
                && credential.upstream.token_endpoint.is_none()
            {
                self.report(&at, "`upstream.token_endpoint` is missing", "`rfc6749` knows no address of its own");
            }
            for key in credential.upstream.with.keys().filter(|key| names_a_secret(key)) {
                self.report(
                    &below(&below(&below(&at, "upstream"), "with"), key),
                    "a secret may not stand here",
                    "put it into the credential's document in its home store; placeholders find it there",
                );
            }
            for (index, reader) in credential.readers.iter().flatten().enumerate() {
                if reader.uid.is_none() && reader.gid.is_none() {
                    let at = below(&below(&at, "readers"), &index.to_string());
                    self.report(
                        &at,
                        "a rule without any condition would let everybody read",
                        "say whom: { uid = 1000 } or { gid = 1000 }",
                    );
                }
            }
        }
    }

    fn unknown(&mut self, at: &str, what: &str, word: &str, known: &BTreeSet<&str>) {
        let near = did_you_mean(word, known.iter().copied()).map(|near| near + " ").unwrap_or_default();
        let secret = if crate::telemetry::looks_secret(word) { BY_REFERENCE } else { "" };
        let message = format!("{} is no {what} that credd knows", shown(word));
        self.report(at, message, format!("{near}known: {}{secret}", list(known.iter().copied())));
    }
}

/// `ttl_warn` and `ttl_fail`.
type Thresholds = (Option<SignedDuration>, Option<SignedDuration>);

/// Whether the scheduler that will run it understands an expression, and finds a time at which it is due.
fn schedules(expression: &str) -> bool {
    crate::watcher::check_cron(expression).is_ok()
}

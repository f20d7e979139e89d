//! The catalogue: what credd knows of upstreams. Pure: files in, answers out.

mod classify;
mod expiry;
mod file;
mod generic;
mod introspection;
mod lint;
mod once_only;
mod problem;
mod provider;
mod redact;
mod retry;
mod rule;
mod scopes;
mod session;
mod specimen;
mod tokens;
mod toml_reader;

pub use expiry::{issued_at, jwt as jwt_expiry};
pub use file::{PRESENTED, SURFACES};
pub use lint::lint;
pub use problem::Problem;
pub use provider::{
    Answer, Assertion, ClientAuthentication, Consent, Fact, NarrowBy, Narrowing, Pkce, Probe, Provider, RateLimit,
    Request, Reset, Response, Token, Topic,
};
pub use rule::{Example, Rule, Rules, Test, When};
pub use scopes::{ScopeGap, scopes};
pub use specimen::Specimen;
pub use tokens::TokensError;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, LazyLock},
    time::Duration,
};

use jiff::Timestamp;

use crate::credential::{ExpirySource, Kind, Reply, Secret, Value};

/// The JSON Schema of a provider's file, for editors.
pub const PROVIDER_SCHEMA: &str = include_str!("../../providers/schema.json");

/// `EMBEDDED`: every file of `providers/`, put here by the build script.
mod embedded {
    include!(concat!(env!("OUT_DIR"), "/embedded.rs"));
}

/// All providers that credd knows, by name. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Catalogue {
    sources: BTreeMap<String, Source>,
    providers: BTreeMap<String, Arc<Provider>>,
    aliases: BTreeMap<String, String>,
}

/// A file's name as problems and rules give it, and its text.
#[derive(Clone, Debug)]
struct Source {
    file: Arc<str>,
    text: Arc<str>,
}

impl Catalogue {
    /// What the binary brings. An error here is a broken build. Read once: a start looks at it several times.
    pub fn embedded() -> Result<Self, Vec<Problem>> {
        static BUILT_IN: LazyLock<Result<Catalogue, Vec<Problem>>> = LazyLock::new(|| {
            let sources = embedded::EMBEDDED
                .iter()
                .map(|(file, text)| (stem(file).to_owned(), Source { file: (*file).into(), text: (*text).into() }));
            Catalogue::build(sources.collect())
        });
        BUILT_IN.clone()
    }

    /// Adds and overrides by the `*.toml` of a folder. A broken file is reported and changes nothing: the one that was
    /// there stays. Examples are played, so that an override that contradicts its own proof is broken too.
    pub fn with_folder(self, folder: &Path) -> (Self, Vec<Problem>) {
        let (files, mut problems) = read_folder(folder);
        let mut sources = self.sources.clone();
        let mut added: Vec<String> = Vec::new();
        for (name, source) in files {
            sources.insert(name.clone(), source);
            added.push(name);
        }
        loop {
            let found = match Self::build(sources.clone()) {
                Ok(catalogue) => {
                    let checked = added.iter().filter_map(|name| catalogue.provider(name));
                    let wrong: Vec<Problem> = checked.flat_map(|provider| lint::examples(&provider)).collect();
                    if wrong.is_empty() {
                        return (catalogue, problems);
                    }
                    wrong
                }
                Err(found) => found,
            };
            // Each round takes at least one file back, so this ends.
            let broken: Vec<String> = added
                .iter()
                .filter(|name| {
                    let file = &sources[*name].file;
                    found.iter().any(|problem| *problem.file == **file)
                })
                .cloned()
                .collect();
            let broken = if broken.is_empty() { added.clone() } else { broken };
            if broken.is_empty() {
                problems.extend(found);
                return (self, problems);
            }
            problems.extend(found);
            for name in broken {
                match self.sources.get(&name) {
                    Some(old) => sources.insert(name.clone(), old.clone()),
                    None => sources.remove(&name),
                };
                added.retain(|other| *other != name);
            }
        }
    }

    /// A provider by the name that settings use, or by another that its file claims.
    pub fn provider(&self, name: &str) -> Option<Arc<Provider>> {
        self.providers.get(name).or_else(|| self.providers.get(self.aliases.get(name)?)).cloned()
    }

    /// All names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.providers.keys().map(String::as_str)
    }

    /// A file's text, for people who want to read or copy it.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.sources.get(name).map(|source| &*source.text)
    }

    fn build(sources: BTreeMap<String, Source>) -> Result<Self, Vec<Problem>> {
        let mut providers: BTreeMap<String, Arc<Provider>> = BTreeMap::new();
        let mut problems = Vec::new();
        for name in sources.keys() {
            match Self::resolve(name, &sources, &providers, 0) {
                Ok(provider) => _ = providers.insert(name.clone(), Arc::new(provider)),
                Err(found) => problems.extend(found),
            }
        }
        problems.dedup();
        let claims = sources
            .iter()
            .flat_map(|(name, source)| file::aliases(&source.text).into_iter().map(|alias| (alias, name.clone())));
        let aliases = claims.collect();
        if problems.is_empty() { Ok(Self { sources, providers, aliases }) } else { Err(problems) }
    }

    fn resolve(
        name: &str,
        sources: &BTreeMap<String, Source>,
        ready: &BTreeMap<String, Arc<Provider>>,
        depth: usize,
    ) -> Result<Provider, Vec<Problem>> {
        let Source { file, text } = &sources[name];
        let fail = |message: String| {
            let at = text.find("extends").unwrap_or(0);
            let (line, column) = problem::place(text, at);
            vec![Problem { file: file.to_string(), line, column, message }]
        };
        let base = match file::extends(text) {
            None => file::blank(name),
            Some(_) if depth > 4 => return Err(fail("\"extends\" goes in a circle, or too deep".into())),
            Some(base) => match (ready.get(&base), sources.contains_key(&base)) {
                (Some(provider), _) => (**provider).clone(),
                (None, true) => Self::resolve(&base, sources, ready, depth + 1)?,
                (None, false) => {
                    let near = problem::did_you_mean(&base, sources.keys().map(String::as_str));
                    return Err(fail(format!("\"extends\" names no provider{near}")));
                }
            },
        };
        file::read(name, file, text, &base)
    }
}

fn stem(file: &str) -> &str {
    let file = file.rsplit('/').next().unwrap_or(file);
    file.strip_suffix(".toml").unwrap_or(file)
}

/// The `*.toml` of a folder, or the one file that the path names, by provider name.
fn read_folder(folder: &Path) -> (Vec<(String, Source)>, Vec<Problem>) {
    let trouble = |path: &Path, error: std::io::Error| Problem {
        file: path.display().to_string(),
        line: 1,
        column: 1,
        message: format!("cannot be read: {error}"),
    };
    let mut paths = Vec::new();
    if folder.is_dir() {
        match std::fs::read_dir(folder) {
            Ok(entries) => paths.extend(entries.filter_map(|entry| Some(entry.ok()?.path()))),
            Err(error) => return (Vec::new(), vec![trouble(folder, error)]),
        }
        paths.retain(|path| path.extension().is_some_and(|end| end == "toml"));
        paths.sort();
    } else {
        paths.push(folder.to_owned());
    }
    let (mut files, mut problems) = (Vec::new(), Vec::new());
    for path in paths {
        let file = path.display().to_string();
        match std::fs::read_to_string(&path) {
            Ok(text) => files.push((stem(&file).to_owned(), Source { file: file.into(), text: text.into() })),
            Err(error) => problems.push(trouble(&path, error)),
        }
    }
    (files, problems)
}

/// Where a refusal was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surface {
    /// An ordinary API call (live traffic).
    Api,
    /// The token endpoint.
    TokenEndpoint,
    /// A GraphQL call.
    Graphql,
    /// Our own probe.
    Probe,
    /// A package registry's upload endpoint, which hides what one may not write behind "not found".
    Publish,
}

/// All that classification may look at.
#[derive(Clone, Copy, Debug)]
pub struct Refusal<'a> {
    /// Where it was met.
    pub surface: Surface,
    /// What was presented, as the corpus words it (`refresh_token`, `oauth_access_token`, `api_key`, `pat`, …).
    pub presented: &'a str,
    /// The reply.
    pub reply: &'a Reply,
    /// The clock.
    pub now: Timestamp,
}

/// What a token endpoint's good answer brings, normalised (RF-27 to RF-35).
#[derive(Clone, Debug)]
pub struct Tokens {
    /// The new access token, or session.
    pub value: Value,
    /// A new refresh token; absent, empty and null mean "keep the old one".
    pub refresh_token: Option<Secret>,
    /// As given.
    pub token_type: Option<String>,
    /// How long the access token lives, counted from the sending of the request.
    pub lifetime: Option<Duration>,
    /// How the lifetime is known.
    pub lifetime_source: ExpirySource,
    /// How long the refresh token lives, where the answer says.
    pub refresh_lifetime: Option<Duration>,
    /// Granted scopes, as given.
    pub scope: Option<String>,
    /// The lifetime was malformed and had to be repaired or ignored: refreshes are limited to one in 5 minutes.
    pub repaired: bool,
}

/// What is presented at a surface for a kind of credential, in the corpus's words.
pub fn presented(kind: Kind, surface: Surface) -> &'static str {
    match (kind, surface) {
        (Kind::RefreshToken, Surface::TokenEndpoint) => "refresh_token",
        (Kind::ClientCredentials, Surface::TokenEndpoint) => "client_credentials",
        (Kind::JwtBearer, Surface::TokenEndpoint) => "service_account_jwt",
        (Kind::ApiKey, _) => "api_key",
        (Kind::Pat, _) => "pat",
        (Kind::AwsAccessKey, _) | (Kind::AwsSession, Surface::TokenEndpoint) => "signing_key",
        (Kind::AwsSession, _) => "sts_session",
        (Kind::RefreshToken | Kind::ClientCredentials | Kind::JwtBearer, _) => "oauth_access_token",
    }
}

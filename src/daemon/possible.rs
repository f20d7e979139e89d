//! Settings that cannot come to anything, found without a network: a start and a reload refuse what a check finds.

use std::{cell::LazyCell, path::Path, sync::Arc};

use super::{StartError, cuts, resources};
use crate::{
    catalogue::{NarrowBy, Provider},
    config::{Config, Credential, Finding, Judge, Loaded, Problem, Problems, References, names_a_secret},
    credential::{CredentialId, Kind},
    upstream,
};

/// What this machine alone can tell of settings that are well formed.
#[derive(Debug, Default)]
pub struct Examined {
    /// What no request can ever be made of, with the place in the settings, the reason and what to do.
    pub problems: Vec<Problem>,
    /// The references, each followed as far as files and variables go. None were where there are problems.
    pub references: Vec<Finding>,
}

/// A placeholder of a provider's address that the settings do not fill: only the secret still can.
#[derive(Debug)]
pub struct Open {
    /// Whose.
    pub credential: CredentialId,
    /// `tenant`.
    pub placeholder: String,
    /// The same in words, with the line to add.
    pub problem: Problem,
}

impl Examined {
    /// Nothing, or all that forbids a start with these settings.
    pub fn verdict(self) -> Result<(), Problems> {
        let of_references = self.references.into_iter().filter_map(|finding| finding.problem);
        let problems: Vec<Problem> = self.problems.into_iter().chain(of_references).collect();
        if problems.is_empty() { Ok(()) } else { Err(Problems(problems)) }
    }
}

/// [`examine`] for whoever reads changed settings.
pub(super) fn judge(references: Arc<References>) -> Judge {
    Arc::new(move |loaded| match examine(loaded, &references) {
        Ok(examined) => examined.verdict(),
        // Told when the catalogue is opened.
        Err(_) => Ok(()),
    })
}

/// Looks at settings before anything is opened.
pub fn examine(loaded: &Loaded, references: &References) -> Result<Examined, StartError> {
    let config: &Config = &loaded.config;
    let (catalogue, broken) = resources::catalogue(config)?;
    // Nothing is held against the credentials of a broken file: what it would say is not known.
    let is_broken =
        |name: &str| broken.iter().any(|problem| Path::new(&problem.file).file_stem().is_some_and(|stem| stem == name));
    let places = LazyCell::new(|| loaded.places());
    let problems = broken.iter().map(resources::of_provider_file).collect();
    let mut examined = Examined { problems, ..Examined::default() };
    for (id, credential) in &config.credentials {
        let Some(provider) = catalogue.provider(&credential.provider) else { continue };
        if is_broken(&provider.name) {
            continue;
        }
        if let Some((message, help)) = no_way(&provider, credential) {
            examined.problems.push(places.problem(&format!("/credentials/{id}/kind"), message, Some(help)));
        }
        let readers = credential.readers.as_deref().unwrap_or_default();
        if let Err(message) = cuts::check_all(&provider, credential.kind, readers) {
            let help = format!("`credd providers show {}` shows what it can do", provider.name);
            examined.problems.push(places.problem(&format!("/credentials/{id}/readers"), message, Some(help)));
        }
    }
    if examined.problems.is_empty() {
        examined.references = references.check(loaded);
    }
    Ok(examined)
}

/// Why no request can be made, and what would help.
fn no_way(provider: &Provider, credential: &Credential) -> Option<(String, String)> {
    let (name, kind) = (&provider.name, credential.kind);
    let has_endpoint = credential.upstream.token_endpoint.is_some() || provider.token.endpoint.is_some();
    let signs = provider.narrow.as_ref().is_some_and(|narrowing| narrowing.by == NarrowBy::SessionPolicy)
        || credential.upstream.token_endpoint.is_some()
        || credential.upstream.with.contains_key("endpoint");
    match kind {
        Kind::RefreshToken | Kind::ClientCredentials if !has_endpoint => Some((
            format!("provider {name} has no token endpoint, so a {} can buy no token", kind.as_str()),
            "set upstream.token_endpoint, or choose the kind of what you have (api_key, pat)".to_owned(),
        )),
        Kind::JwtBearer if provider.token.assertion.is_none() => Some((
            format!("provider {name} does not say what an assertion for it is made of"),
            "choose another kind, or describe [token.assertion] in the provider's file".to_owned(),
        )),
        Kind::AwsSession if !signs => Some((
            format!("provider {name} makes no sessions of an access key"),
            "use provider = \"aws\", or another kind".to_owned(),
        )),
        _ => None,
    }
}

/// What good settings leave to the secrets: placeholders of the addresses that credentials need. Those that name a secret
/// may stand in the secret alone.
pub fn left_open(loaded: &Loaded) -> Result<Vec<Open>, StartError> {
    let (catalogue, _) = resources::catalogue(&loaded.config)?;
    let places = LazyCell::new(|| loaded.places());
    let mut open = Vec::new();
    for (id, credential) in &loaded.config.credentials {
        let Some(provider) = catalogue.provider(&credential.provider) else { continue };
        let names = upstream::unfilled(&provider, credential.kind, &credential.upstream);
        open.extend(names.into_iter().filter(|name| !names_a_secret(name)).map(|name| {
            let message = format!("{{{name}}} in the addresses of provider {} has no value here", provider.name);
            let help = format!(
                "add upstream.with.{name} = \"…\" to [credentials.{id}], unless its secret has a member {name:?}"
            );
            let problem = places.problem(&format!("/credentials/{id}"), message, Some(help));
            Open { credential: id.clone(), placeholder: name, problem }
        }));
    }
    Ok(open)
}

//! Settings of which, by its provider's file, no request can ever be made.

use super::{StartError, cuts, resources};
use crate::{
    catalogue::{NarrowBy, Provider},
    config::{Config, Credential, Loaded, Problem},
    credential::Kind,
};

/// Every credential that can never come to a value, with the place in the settings, the reason and what to do.
pub fn impossible(loaded: &Loaded) -> Result<Vec<Problem>, StartError> {
    let config: &Config = &loaded.config;
    let (catalogue, _) = resources::catalogue(config, None)?;
    let mut problems = Vec::new();
    for (id, credential) in &config.credentials {
        let Some(provider) = catalogue.provider(&credential.provider) else { continue };
        if let Some((message, help)) = no_way(&provider, credential) {
            problems.push(loaded.problem(&format!("/credentials/{id}/kind"), message, help));
        }
        let readers = credential.readers.as_deref().unwrap_or_default();
        if let Err(message) = cuts::check_all(&provider, credential.kind, readers) {
            let help = format!("`credd providers show {}` shows what it can do", provider.name);
            problems.push(loaded.problem(&format!("/credentials/{id}/readers"), message, help));
        }
    }
    Ok(problems)
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

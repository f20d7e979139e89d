//! Which placeholders of a provider's addresses a credential's calls need, and which of them its settings leave open.

use super::{Settings, fill, introspects};
use crate::{catalogue::Provider, credential::Kind};

/// The placeholders in the addresses that this credential's calls go to and that its settings do not fill, each once.
/// Claims, headers and bodies are left out: what stands there (`client_id`, `client_email`) comes with the secret.
pub fn unfilled(provider: &Provider, kind: Kind, settings: &Settings) -> Vec<String> {
    let mut open: Vec<String> = Vec::new();
    let filled = |name: &str| match name {
        "access_token" => true,
        "client_id" => settings.client_id.is_some(),
        // Calls to AWS have a region in any case.
        "region" if kind.signs() => true,
        _ => settings.with.get(name).is_some_and(|value| !value.is_empty()),
    };
    for address in addresses(provider, kind, settings) {
        for name in fill::names(address) {
            if !filled(name) && !open.iter().any(|known| known == name) {
                open.push(name.to_owned());
            }
        }
    }
    open
}

fn addresses<'a>(provider: &'a Provider, kind: Kind, settings: &'a Settings) -> Vec<&'a str> {
    // As AWS_ENDPOINT_URL: it stands for every address.
    if kind.signs() && settings.with.contains_key("endpoint") {
        return vec![];
    }
    let token =
        provider.token.endpoint.as_deref().filter(|_| kind.is_refreshable() && settings.token_endpoint.is_none());
    let proof = match provider.probe(kind) {
        _ if settings.probe_url.is_some() => None,
        Some(probe) => Some(probe.url.as_str()),
        None => provider.introspection_endpoint.as_deref().filter(|_| introspects(provider, kind, settings)),
    };
    token.into_iter().chain(proof).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::Catalogue;

    #[test]
    fn only_what_the_calls_of_the_kind_need_is_asked_for() {
        let catalogue = Catalogue::embedded().unwrap();
        let table: [(&str, Kind, &str, &[&str]); 12] = [
            ("microsoft_entra", Kind::RefreshToken, "{}", &["tenant"]),
            ("microsoft_entra", Kind::RefreshToken, r#"{"with":{"tenant":""}}"#, &["tenant"]),
            ("microsoft_entra", Kind::RefreshToken, r#"{"with":{"tenant":"contoso"}}"#, &[]),
            ("microsoft_entra", Kind::RefreshToken, r#"{"token_endpoint":"https://id.example.com/"}"#, &[]),
            ("databricks", Kind::Pat, "{}", &["host"]),
            ("keycloak", Kind::ClientCredentials, "{}", &["server", "realm"]),
            ("keycloak", Kind::ClientCredentials, r#"{"with":{"realm":"r"}}"#, &["server"]),
            ("github_app", Kind::JwtBearer, "{}", &["installation_id"]),
            ("google_service_account", Kind::JwtBearer, "{}", &[]),
            ("aws", Kind::AwsAccessKey, "{}", &[]),
            ("aws", Kind::AwsSession, r#"{"with":{"endpoint":"http://localhost:4566"}}"#, &[]),
            ("github", Kind::Pat, "{}", &[]),
        ];
        for (provider, kind, settings, wanted) in table {
            let settings: Settings = serde_json::from_str(settings).unwrap();
            let found = unfilled(&catalogue.provider(provider).unwrap(), kind, &settings);
            assert_eq!(found, wanted, "{provider} {}", kind.as_str());
        }
    }
}

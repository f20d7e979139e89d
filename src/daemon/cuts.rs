//! Cuts: readers who get a token of their own that may do less, as assignments beside the whole's.

use std::sync::Arc;

use crate::{
    catalogue::{NarrowBy, Provider},
    credential::{CredentialId, Kind, Narrow, Rotation},
    publish::Reader,
    watcher::Assignment,
};

/// Whether readers of such a credential can be narrowed as their rules say.
pub(super) fn check_all(provider: &Provider, kind: Kind, readers: &[Reader]) -> Result<(), String> {
    readers.iter().filter_map(|reader| reader.narrow.as_ref()).try_for_each(|narrow| check(provider, kind, narrow))
}

/// The whole, its readers sent where they belong, and after it the cuts. `Err` says which cut cannot be, and why.
pub(super) fn with_cuts(mut whole: Assignment) -> Result<Vec<Assignment>, String> {
    check_all(&whole.provider, whole.kind, &whole.readers)?;
    let mut readers = whole.readers.to_vec();
    let mut cuts: Vec<Assignment> = Vec::new();
    for reader in &mut readers {
        let Some(narrow) = reader.narrow.clone() else { continue };
        let id = whole.id.cut(&narrow).ok_or_else(|| {
            format!(
                "a credential whose readers are narrowed has a name of at most {} characters",
                CredentialId::LONGEST_WHOLE
            )
        })?;
        reader.cut = Some(id.clone());
        let rule = Reader { narrow: None, cut: None, ..reader.clone() };
        match cuts.iter_mut().find(|cut| cut.id == id) {
            Some(cut) => cut.readers = cut.readers.iter().cloned().chain([rule]).collect(),
            None => cuts.push(cut(&whole, id, narrow, rule)),
        }
    }
    whole.readers = readers.into();
    cuts.insert(0, whole);
    Ok(cuts)
}

fn cut(whole: &Assignment, id: CredentialId, narrow: Narrow, rule: Reader) -> Assignment {
    let mut cut = whole.clone();
    if whole.kind == Kind::AwsAccessKey {
        cut.kind = Kind::AwsSession;
    }
    cut.policy.kind = cut.kind;
    // Fewer scopes may be too few for the probe; a no of it would say nothing about the grant.
    cut.policy.has_probe &= whole.provider.narrow.as_ref().is_none_or(|narrowing| narrowing.by != NarrowBy::Scope);
    let mut upstream = (*whole.upstream).clone();
    upstream.narrow = Some(narrow);
    (cut.id, cut.upstream, cut.readers) = (id, Arc::new(upstream), Arc::from([rule]));
    (cut.offer, cut.scopes, cut.expires_at) = (None, Arc::from([]), None);
    cut.whole = Some(whole.id.clone());
    cut
}

/// Whether such a token can be made without spending anything.
fn check(provider: &Provider, kind: Kind, narrow: &Narrow) -> Result<(), String> {
    let name = &provider.name;
    let Some(narrowing) = &provider.narrow else {
        return Err(format!(
            "`narrow`: provider {name} does not say how its tokens are narrowed; add [narrow] to its file if it can"
        ));
    };
    match kind {
        Kind::ApiKey | Kind::Pat => {
            return Err(format!("`narrow`: nothing narrower can be made of a static key ({})", kind.as_str()));
        }
        Kind::RefreshToken if provider.rotation != Rotation::None => {
            return Err(format!(
                "`narrow`: {name} replaces the refresh token when it is used, so a second token would spend the grant of the \
                 first; use a kind that spends nothing (jwt_bearer, client_credentials), or a grant of its own"
            ));
        }
        _ => {}
    }
    if kind.signs() != (narrowing.by == NarrowBy::SessionPolicy) {
        return Err(format!("`narrow`: provider {name} does not narrow credentials of kind {}", kind.as_str()));
    }
    if narrow.0.is_empty() {
        return Err(format!("`narrow` is empty: say to what, one of {}", narrowing.members.join(", ")));
    }
    if let Some(unknown) = narrow.0.keys().find(|member| !narrowing.members.contains(member)) {
        return Err(format!(
            "`narrow`: {name} cannot narrow by {unknown:?}; it knows {}",
            narrowing.members.join(", ")
        ));
    }
    if narrowing.by == NarrowBy::Scope && narrow.texts("scopes").is_none_or(|scopes| scopes.is_empty()) {
        return Err("`narrow.scopes` must be a list of scopes".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::Catalogue;

    #[test]
    fn what_cannot_be_narrowed_says_why() {
        let catalogue = Catalogue::embedded().unwrap();
        let narrow = |text: &str| serde_json::from_str::<Narrow>(text).unwrap();
        let table = [
            ("github_app", Kind::JwtBearer, r#"{"repositories":["web"]}"#, None),
            ("github_app", Kind::JwtBearer, r#"{"repos":["web"]}"#, Some("it knows repositories")),
            ("github_app", Kind::JwtBearer, "{}", Some("is empty")),
            ("rfc6749", Kind::ClientCredentials, r#"{"scopes":["read"]}"#, None),
            ("rfc6749", Kind::ClientCredentials, r#"{"scopes":[]}"#, Some("a list of scopes")),
            ("rfc6749", Kind::RefreshToken, r#"{"scopes":["read"]}"#, Some("would spend the grant")),
            ("rfc6749", Kind::ApiKey, r#"{"scopes":["read"]}"#, Some("static key")),
            ("aws", Kind::AwsAccessKey, r#"{"policy":{"Version":"2012-10-17"}}"#, None),
            ("aws", Kind::AwsAccessKey, r#"{"scopes":["read"]}"#, Some("it knows policy")),
            ("aws", Kind::ClientCredentials, r#"{"policy":"{}"}"#, Some("does not narrow credentials of kind")),
        ];
        for (provider, kind, text, words) in table {
            let found = check(&catalogue.provider(provider).unwrap(), kind, &narrow(text));
            match words {
                None => assert_eq!(found, Ok(()), "{provider} {text}"),
                Some(words) => assert!(found.clone().unwrap_err().contains(words), "{provider} {text}: {found:?}"),
            }
        }
    }
}

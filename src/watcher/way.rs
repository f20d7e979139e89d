//! How a token endpoint is asked, where there is more than one way: which of two client secrets, with a scope or without.

use crate::{
    credential::{Failure, Material, Verdict},
    upstream,
};

/// One way. The plain one shows `client_secret` and asks for the scopes of the settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Way {
    /// Shows `client_secret_next` (RF-47).
    next_secret: bool,
    /// Asks for whatever was granted (RFC 6749 §6: an omitted scope is the one of the grant).
    without_scope: bool,
}

impl Way {
    /// Another way, where a refusal is about how it was asked and there is one.
    pub fn other(self, verdict: &Verdict, material: &Material, settings: &upstream::Settings) -> Option<Self> {
        if verdict.failure != Failure::ClientMisconfigured {
            return None;
        }
        match verdict.cause.as_deref() {
            Some("scope") => {
                let asked = !self.without_scope && !settings.scopes.is_empty();
                asked.then_some(Self { without_scope: true, ..self })
            }
            // Refused before anybody looked at the client.
            Some("redirect" | "request" | "no_material" | "writeback_denied") => None,
            _ => {
                let two = material.client_secret.is_some() && material.client_secret_next.is_some();
                two.then_some(Self { next_secret: !self.next_secret, ..self })
            }
        }
    }

    /// What is sent this way.
    pub fn apply(self, subject: &mut upstream::Subject) {
        if self.next_secret && subject.material.client_secret_next.is_some() {
            let material = std::sync::Arc::make_mut(&mut subject.material);
            std::mem::swap(&mut material.client_secret, &mut material.client_secret_next);
        }
        if self.without_scope {
            std::sync::Arc::make_mut(&mut subject.settings).scopes.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::Secret;

    #[test]
    fn rf47_there_is_one_other_way_for_each_reason() {
        let two = Material {
            client_secret: Some(Secret::new("old")),
            client_secret_next: Some(Secret::new("new")),
            ..Material::default()
        };
        let one = Material { client_secret_next: None, ..two.clone() };
        let scoped = upstream::Settings { scopes: vec!["read".into()], ..upstream::Settings::default() };
        let bare = upstream::Settings::default();
        let no = |cause| Verdict::of(Failure::ClientMisconfigured, cause);
        let plain = Way::default();
        let next = plain.other(&no(""), &two, &bare).unwrap();
        assert_eq!(next.other(&no(""), &two, &bare), Some(plain), "and back");
        assert_eq!(plain.other(&no(""), &one, &scoped), None);
        let wide = plain.other(&no("scope"), &one, &scoped).unwrap();
        assert_eq!(wide.other(&no("scope"), &one, &scoped), None, "once");
        assert_eq!(plain.other(&no("scope"), &two, &bare), None, "no scope was asked for");
        assert_eq!(plain.other(&no("redirect"), &two, &scoped), None);
        assert_eq!(plain.other(&Verdict::of(Failure::CredentialRevoked, ""), &two, &scoped), None);
    }
}

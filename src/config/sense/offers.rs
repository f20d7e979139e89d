//! Credentials that are offered by use, and cuts: their words, and whether a reader could mean two of them.

use std::collections::BTreeMap;

use super::{Sense, below};
use crate::{
    config::Credential,
    credential::{CredentialId, Kind},
    publish::{Offer, Reader},
};

impl Sense<'_> {
    pub(super) fn offers(&mut self) {
        let mut services: BTreeMap<String, Vec<(&CredentialId, &Credential, Offer)>> = BTreeMap::new();
        for (id, credential) in &self.config.credentials {
            let Some(offer) = credential.offer() else { continue };
            let at = below("/credentials", id.as_str());
            if credential.service.as_deref().is_some_and(|service| CredentialId::new(service).is_err()) {
                let help = "1 to 63 of a-z 0-9 . _ -, beginning with a letter or a digit";
                self.report(&below(&at, "service"), "cannot be a name", help);
            }
            let words = offer.uses.as_ref().map_or(&[][..], |uses| uses.list());
            let unusable = |word: &String| word.trim().is_empty() || word.contains([',', ' ', '\t', '\n']);
            if words.iter().any(unusable) || (offer.uses.is_some() && words.is_empty()) {
                let help = "words without spaces or commas: \"read\", \"repo:acme/web\"; a trailing * matches the rest; leave it out for everything";
                self.report(&below(&at, "use"), "not a use, or a list of them", help);
                continue;
            }
            services.entry(offer.service.clone()).or_default().push((id, credential, offer));
        }
        for offered in services.values() {
            for (index, (id, credential, offer)) in offered.iter().enumerate() {
                let rival = offered[..index].iter().find_map(|(rival, other, rivals)| {
                    let shared = share_a_reader(credential.readers.as_deref(), other.readers.as_deref());
                    offer.tie(rivals).filter(|_| shared).map(|word| (rival, word))
                });
                let Some((rival, word)) = rival else { continue };
                let line = self.document.line_of(&below("/credentials", rival.as_str()));
                let what = if word == "*" { "every use".to_owned() } else { format!("the use {word:?}") };
                let message = format!(
                    "for {what} of `{}` as good as `{rival}` (line {line}), for the same reader",
                    offer.service
                );
                let help = "nothing tells which of the two is meant: let their uses differ, or their readers";
                let at = below("/credentials", id.as_str());
                let at = if credential.uses.is_some() { below(&at, "use") } else { at };
                self.report(&at, message, help);
            }
        }
    }

    /// What can be said of cuts without their providers.
    pub(super) fn cuts(&mut self, at: &str, id: &CredentialId, credential: &Credential) {
        if id.whole().is_some() {
            self.report(
                at,
                "is the name of a cut",
                "names that end in .cut- and eight hex digits are made by credd itself",
            );
        }
        for (index, reader) in credential.readers.iter().flatten().enumerate() {
            let Some(narrow) = &reader.narrow else { continue };
            let at = below(&below(&below(at, "readers"), &index.to_string()), "narrow");
            if matches!(credential.kind, Kind::ApiKey | Kind::Pat) {
                let message = format!("nothing narrower can be made of a static key (`{}`)", credential.kind.as_str());
                self.report(
                    &at,
                    message,
                    "let the provider make a second key that may do less, and watch both by `use`",
                );
            } else if narrow.0.is_empty() {
                self.report(
                    &at,
                    "says nothing",
                    "to what: { repositories = [\"web\"] }, as `credd providers show` has it",
                );
            } else if id.cut(narrow).is_none() {
                let message = format!("the name `{id}` is too long for a cut");
                self.report(&at, message, format!("at most {} characters", CredentialId::LONGEST_WHOLE));
            }
        }
    }
}

/// Whether somebody might be a reader of both: no condition of a rule of one contradicts a rule of the other.
fn share_a_reader(one: Option<&[Reader]>, other: Option<&[Reader]>) -> bool {
    let own = [Reader { uid: Some(rustix::process::geteuid().as_raw()), ..Reader::default() }];
    let rules = |readers: Option<&[Reader]>| match readers {
        Some(rules) if !rules.is_empty() => rules.to_vec(),
        _ => own.to_vec(),
    };
    let differ = |a: Option<u32>, b: Option<u32>| a.zip(b).is_some_and(|(a, b)| a != b);
    let (one, other) = (rules(one), rules(other));
    one.iter().any(|a| other.iter().any(|b| !differ(a.uid, b.uid) && !differ(a.gid, b.gid)))
}

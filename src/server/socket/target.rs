//! What a read is about: a credential by its name, or the narrowest one of a service for a use.

use std::{borrow::Cow, sync::Arc};

use http::HeaderValue;
use jiff::Timestamp;
use url::form_urlencoded;

use super::{Desk, Occurrence, Response, answer};
use crate::{
    credential::CredentialId,
    publish::{Edition, Peer, Ready, Slot},
    web::{AuthFailure, Problem},
};

/// What is asked for.
#[derive(Debug)]
pub(super) enum Target<'a> {
    /// `/v1/tokens/{name}`.
    Name(&'a str),
    /// `/v1/services/{service}/token?use=read`: whatever may be used for all of these.
    Service(&'a str, Vec<Cow<'a, str>>),
}

impl<'a> Target<'a> {
    /// By a path below `/v1/` and its query.
    pub fn of(path: &'a str, query: &'a str) -> Option<Self> {
        let plain = |name: &&str| !name.contains('/');
        if let Some(name) = path.strip_prefix("tokens/") {
            return Some(name.strip_suffix('/').unwrap_or(name)).filter(plain).map(Self::Name);
        }
        let service = path.strip_prefix("services/")?.strip_suffix("/token").filter(plain)?;
        Some(Self::service(service, query))
    }

    /// A service, for the uses in the query: `use=read&use=write` or `use=read,write`.
    pub fn service(service: &'a str, query: &'a str) -> Self {
        let mut uses = Vec::new();
        for (_, value) in form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == "use") {
            match value {
                value if !value.contains(',') => uses.push(value),
                several => uses.extend(several.split(',').map(|one| Cow::from(one.trim().to_owned()))),
            }
        }
        uses.retain(|one| !one.is_empty());
        Self::Service(service, uses)
    }

    /// Whether the query holds nothing else: no wishes that take time.
    pub fn is_all(&self, query: Option<&str>) -> bool {
        let Some(query) = query else { return true };
        matches!(self, Self::Service(..)) && form_urlencoded::parse(query.as_bytes()).all(|(key, _)| key == "use")
    }
}

/// What was asked for, found.
pub(super) struct Found {
    pub slot: Arc<Slot>,
    /// It was asked for by its own name, so that its generation says everything.
    by_name: bool,
}

impl Found {
    /// The entity tag. Where another credential might stand behind the same address tomorrow, its name is part of it.
    pub fn tag(&self, ready: &Ready) -> HeaderValue {
        if self.by_name {
            return ready.etag.clone();
        }
        let tag = format!("\"{}.{}\"", self.slot.current().view.name, ready.generation);
        HeaderValue::from_str(&tag).expect("a name and digits in quotes")
    }
}

impl Desk {
    /// A credential that the peer may read.
    pub(super) fn find(&self, target: &Target<'_>, peer: Peer) -> Option<Found> {
        match target {
            Target::Name(name) => self.cut(Found { slot: self.parts.subscriber.get(name)?, by_name: true }, peer),
            Target::Service(service, uses) => {
                let may_read = |edition: &Edition| edition.rule(peer, self.own_uid).is_some();
                let slot = self.parts.subscriber.narrowest(service, uses, may_read)?;
                self.cut(Found { slot, by_name: false }, peer)
            }
        }
    }

    /// What this peer gets of it: itself, or a cut of it.
    fn cut(&self, found: Found, peer: Peer) -> Option<Found> {
        let slot = match &found.slot.current().rule(peer, self.own_uid)?.cut {
            None => None,
            // A moment before it is published it is not there; never the whole in its place.
            Some(cut) => Some(self.parts.subscriber.get(cut.as_str())?),
        };
        Some(slot.map_or(found, |slot| Found { slot, by_name: false }))
    }

    /// The one answer for what does not exist and what this peer may not know.
    pub(super) fn unknown(&self, target: &Target<'_>, peer: Peer, now: Timestamp) -> Response {
        let short = |text: &str| text.chars().take(80).collect::<String>();
        let (asked, words) = match target {
            Target::Name(name) => (*name, format!("no credential named {:?}", short(name))),
            Target::Service(service, uses) if uses.is_empty() => (
                *service,
                format!("no credential for every use of the service {:?}; say which, ?use=read", short(service)),
            ),
            Target::Service(service, uses) => {
                let uses = uses.iter().map(|one| format!("{:?}", short(one))).collect::<Vec<_>>().join(" and ");
                (*service, format!("no credential of the service {:?} for the use {uses}", short(service)))
            }
        };
        let name = matches!(target, Target::Name(_)).then(|| CredentialId::new(asked).ok()).flatten();
        (self.parts.witness)(Occurrence::Denied { peer, name });
        let detail =
            format!("uid {} may read {words}; check the spelling, or let the operator add it to `readers`", peer.uid);
        answer::problem(&Problem::failure(AuthFailure::unknown(&short(asked)), detail), now)
    }
}

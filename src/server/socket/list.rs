//! `GET /v1/credentials`: what the caller may read, and how it does. No secret, and nothing that is the operator's alone.

use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;

use super::{Desk, Response, answer};
use crate::{
    credential::{CredentialId, Generation, Kind},
    lifecycle::State,
    publish::{Peer, Uses},
    server::unavailable,
    web::AuthFailure,
};

#[derive(Serialize)]
struct Item {
    name: CredentialId,
    kind: Kind,
    provider: String,
    /// The service that it is offered for, where it is offered by use.
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<String>,
    /// What for; everything where absent.
    #[serde(skip_serializing_if = "Option::is_none", rename = "use")]
    uses: Option<Uses>,
    state: State,
    since: Timestamp,
    generation: Generation,
    expires_at: Option<Timestamp>,
    /// Whether a read brings a token now.
    available: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<AuthFailure>,
}

impl Desk {
    pub(super) fn list(&self, peer: Peer) -> Response {
        let now = self.parts.clock.now();
        let items: Vec<Item> = self
            .parts
            .subscriber
            .slots()
            .iter()
            .map(|slot| slot.current())
            .filter(|edition| edition.grants(peer, self.own_uid).is_some())
            .map(|edition| {
                let (view, state) = (&edition.view, edition.state(now));
                Item {
                    name: view.name.clone(),
                    kind: view.kind,
                    provider: view.provider.clone(),
                    service: edition.offer().map(|offer| offer.service.clone()),
                    uses: edition.offer().and_then(|offer| offer.uses.clone()),
                    state,
                    since: view.since,
                    generation: view.generation,
                    expires_at: view.expires_at,
                    available: edition.token(now).is_some(),
                    failure: unavailable::failure(view, state, now.wall),
                }
            })
            .collect();
        let body = serde_json::to_vec(&serde_json::json!({ "credentials": items })).expect("plain words serialise");
        answer::json(Bytes::from(body))
    }
}

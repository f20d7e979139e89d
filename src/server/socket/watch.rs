//! `GET /v1/watch`: server-sent events. What is, first; then each change, the newest only where the reader is slow.

use std::{collections::BTreeSet, convert::Infallible, sync::Arc};

use bytes::Bytes;
use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use hyper::body::Frame;
use prometheus::IntGauge;
use serde::Serialize;
use url::form_urlencoded;
use zeroize::Zeroizing;

use super::{Desk, INTERFACE, Response, Target, answer};
use crate::{
    credential::{CredentialId, Generation},
    lifecycle::State,
    publish::{Edition, Peer, Seen, Watch},
    server::unavailable,
    web::AuthFailure,
};

/// More credentials than this in one stream are a mistake.
const NAMES: usize = 256;

impl Desk {
    /// The stream. Nothing is made until the connection can take it, so a slow reader costs its socket's buffer only.
    pub(super) fn watch(self: Arc<Self>, query: &str, peer: Peer) -> Response {
        let names: BTreeSet<String> = form_urlencoded::parse(query.as_bytes())
            .filter(|(key, _)| key == "names")
            .flat_map(|(_, value)| value.split(',').map(|name| name.trim().to_owned()).collect::<Vec<_>>())
            .filter(|name| !name.is_empty())
            .collect();
        let services: Vec<_> = form_urlencoded::parse(query.as_bytes())
            .filter(|(key, _)| key == "service")
            .map(|(_, name)| name)
            .collect();
        let by_use = services.iter().map(|service| Target::service(service, query));
        let targets: Vec<Target<'_>> = names.iter().map(|name| Target::Name(name)).chain(by_use).collect();
        if targets.is_empty() || targets.len() > NAMES {
            return self.bad_request(&format!(
                "1 to {NAMES} names with commas between them, `names=a,b`, or a service and a use, `service=a&use=read`"
            ));
        }
        let mut followed = Vec::with_capacity(targets.len());
        for target in &targets {
            match self.find(target, peer) {
                Some(found) => followed.push(found.slot.watch()),
                None => return self.unknown(target, peer, self.parts.clock.now().wall),
            }
        }
        let live = Live::begin(self.parts.metrics.credd_subscribers.with_label_values(&[INTERFACE]));
        let changes = stream::select_all(followed.into_iter().map(|watch| self.clone().follow(watch, peer)));
        let started = (changes, self.clone(), live);
        let events = stream::unfold(started, |(mut changes, desk, live)| async move {
            tokio::select! {
                biased;
                () = desk.stop.cancelled() => None,
                event = changes.next() => event.map(|event| (event, (changes, desk, live))),
                () = desk.parts.clock.sleep(desk.limits.heartbeat) => {
                    Some((Bytes::from_static(b": heartbeat\n\n"), (changes, desk, live)))
                }
            }
        });
        answer::events(events.map(|bytes| Ok::<_, Infallible>(Frame::data(bytes))).boxed())
    }

    fn follow(self: Arc<Self>, watch: Watch, peer: Peer) -> BoxStream<'static, Bytes> {
        let start = (self, watch, Told::default());
        let blocks = stream::unfold(start, move |(desk, mut watch, mut told)| async move {
            while !told.over {
                let block = match watch.next().await? {
                    Seen::Edition(edition) => desk.tell(&mut told, &edition, &watch, peer),
                    Seen::Removed => told.remove(watch.slot().current().view.name.as_str()),
                };
                if !block.is_empty() {
                    // The wiping buffer goes along: a token's copy ends with the frame.
                    return Some((Bytes::from_owner(block), (desk, watch, told)));
                }
            }
            None
        });
        blocks.boxed()
    }

    /// What of an edition is news to this follower.
    fn tell(&self, told: &mut Told, edition: &Edition, watch: &Watch, peer: Peer) -> Zeroizing<Vec<u8>> {
        let Some(reader) = edition.grants(peer, self.own_uid) else {
            return told.remove(edition.view.name.as_str());
        };
        let now = self.parts.clock.now();
        let (name, generation) = (&edition.view.name, edition.view.generation);
        let token = edition.token(now);
        let mut block = Zeroizing::new(Vec::with_capacity(256 + token.map_or(0, |ready| ready.body.len())));
        let value = token.map(|ready| (ready.generation, ready.unsaved));
        if let Some(ready) = token.filter(|_| told.value != value) {
            event(&mut block, "token", ready.generation, &ready.body);
            watch.slot().usage.note(peer.uid, reader.name.as_deref(), ready.generation, now.wall);
            if told.begun {
                let lag = now.boot.saturating_sub(edition.published);
                self.parts
                    .metrics
                    .credd_token_delivery_lag_seconds
                    .with_label_values(&[INTERFACE])
                    .observe(lag.as_secs_f64());
            }
        }
        let view = &edition.view;
        let state = edition.state(now);
        let failure = unavailable::failure(view, state, now.wall);
        let withdrawn = !edition.has_token();
        let words = (state, failure.as_ref().map(|failure| failure.subtype), withdrawn, view.expires_at);
        if told.words != Some(words) {
            let body = Standing { name, state, since: view.since, generation, expires_at: view.expires_at, failure };
            let kind = if withdrawn { "withdrawn" } else { "state" };
            event(&mut block, kind, generation, &serde_json::to_vec(&body).expect("plain words always serialise"));
        }
        *told = Told { begun: true, value: value.or(told.value), words: Some(words), over: false };
        block
    }
}

/// What a follower was told last.
#[derive(Default)]
struct Told {
    begun: bool,
    value: Option<(Generation, bool)>,
    words: Option<(State, Option<&'static str>, bool, Option<jiff::Timestamp>)>,
    over: bool,
}

impl Told {
    /// The credential is gone, or its follower may no longer read it: the two look alike.
    fn remove(&mut self, name: &str) -> Zeroizing<Vec<u8>> {
        self.over = true;
        let mut block = Zeroizing::default();
        let body = serde_json::json!({ "name": name, "failure": AuthFailure::unknown(name) });
        text(&mut block, &["event: removed\ndata: ", &body.to_string(), "\n\n"]);
        block
    }
}

#[derive(Serialize)]
struct Standing<'a> {
    name: &'a CredentialId,
    state: State,
    since: jiff::Timestamp,
    generation: Generation,
    expires_at: Option<jiff::Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<AuthFailure>,
}

/// One event. Its data is JSON without line breaks.
fn event(block: &mut Zeroizing<Vec<u8>>, kind: &str, generation: Generation, data: &[u8]) {
    text(block, &["event: ", kind, "\nid: ", &generation.to_string(), "\ndata: "]);
    block.extend_from_slice(data);
    text(block, &["\n\n"]);
}

fn text(block: &mut Vec<u8>, parts: &[&str]) {
    parts.iter().for_each(|part| block.extend_from_slice(part.as_bytes()));
}

/// Counts a watch as long as it lives.
struct Live(IntGauge);

impl Live {
    fn begin(gauge: IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.0.dec();
    }
}

//! `GET /v1/tokens/{name}` and `GET /v1/services/{service}/token`.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use http::{HeaderMap, HeaderValue, Method, Request, header};
use hyper::body::{Body, Incoming};
use url::form_urlencoded;

use super::{Desk, INTERFACE, Response, Target, answer, target::Found};
use crate::{
    clock::Now,
    lifecycle::State,
    publish::{Edition, Peer, Reader, Ready, Slot, View},
    server::unavailable,
};

/// What a read may ask for besides the token.
#[derive(Clone, Copy, Debug, Default)]
struct Wishes {
    min_ttl: Duration,
    wait: Option<Duration>,
}

impl Desk {
    /// The plain read of a token that is there: a look-up, a look at the clock, ready bytes. `None`: take the long way.
    pub(super) fn quick(&self, request: &Request<Incoming>, peer: Peer) -> Option<Response> {
        let path = request.uri().path().strip_prefix("/v1/")?;
        if request.method() != Method::GET || !request.body().is_end_stream() {
            return None;
        }
        let target = Target::of(path, request.uri().query().unwrap_or(""))?;
        if !target.is_all(request.uri().query()) {
            return None;
        }
        let found = self.find(&target, peer)?;
        let edition = found.slot.current();
        let reader = edition.grants(peer, self.own_uid)?;
        let now = self.parts.clock.now();
        let ready = edition.token(now)?;
        Some(self.deliver(&found, ready, request.headers(), peer, reader, now))
    }

    /// Every other read.
    pub(super) async fn read(&self, target: &Target<'_>, request: &Request<Incoming>, peer: Peer) -> Response {
        let now = self.parts.clock.now();
        let Some(found) = self.find(target, peer) else { return self.unknown(target, peer, now.wall) };
        let slot = &found.slot;
        let wishes = match wishes(request.uri().query().unwrap_or("")) {
            Ok(wishes) => wishes,
            Err(words) => return self.bad_request(&words),
        };
        if let Some(wait) = wishes.wait {
            self.wait_for_news(&found, request.headers(), wait.min(self.limits.poll)).await;
        }
        let need = wishes.min_ttl.min(most(&slot.current().view));
        self.make_usable(slot, need, peer).await;
        // Whatever happened meanwhile: the answer is what is published now, to whom it is granted now.
        let (now, edition) = (self.parts.clock.now(), Arc::clone(&slot.current()));
        let Some(reader) = edition.grants(peer, self.own_uid).filter(|_| !slot.is_removed()) else {
            return self.unknown(target, peer, now.wall);
        };
        match edition.token(now) {
            Some(ready) => {
                let mut response = self.deliver(&found, ready, request.headers(), peer, reader, now);
                if !wishes.min_ttl.is_zero() {
                    answer::say_min_ttl(&mut response, wishes.min_ttl, ready.left(now), most(&edition.view));
                }
                response
            }
            None => self.refuse(&edition, now),
        }
    }

    /// Waits while the caller has the current generation, at most that long.
    async fn wait_for_news(&self, found: &Found, headers: &HeaderMap, time: Duration) {
        let mut watch = found.slot.watch();
        let news = async {
            while let Some(crate::publish::Seen::Edition(edition)) = watch.next().await {
                if !edition.token(self.parts.clock.now()).is_some_and(|ready| has(headers, &found.tag(ready))) {
                    return;
                }
            }
        };
        tokio::select! {
            () = news => {}
            () = self.parts.clock.sleep(time) => {}
            () = self.stop.cancelled() => {}
        }
    }

    /// Has the token renewed if it does not live long enough, and waits for that a little.
    async fn make_usable(&self, slot: &Arc<Slot>, need: Duration, peer: Peer) {
        let needy = |edition: &Edition| {
            let now = self.parts.clock.now();
            let state = edition.state(now);
            let hopeless = matches!(state, State::Revoked | State::Uninitialised);
            let over = edition.token(now).is_none();
            // A value that nobody can renew is asked for only when it is over: its shard may know a newer one.
            let short = edition.view.kind.is_refreshable() && edition.token_for(need, now).is_none();
            !hopeless && (over || short)
        };
        if !needy(&slot.current()) {
            return;
        }
        let renewed = self.wanted.renewed(&self.parts, slot, need, peer, &needy);
        tokio::select! {
            () = renewed => {}
            () = self.parts.clock.sleep(self.limits.flight) => {}
            () = self.stop.cancelled() => {}
        }
    }

    fn deliver(
        &self,
        found: &Found,
        ready: &Ready,
        headers: &HeaderMap,
        peer: Peer,
        reader: &Reader,
        now: Now,
    ) -> Response {
        let (slot, tag) = (&found.slot, found.tag(ready));
        slot.usage.note(peer.uid, reader.name.as_deref(), ready.generation, now.wall);
        if has(headers, &tag) {
            return answer::not_modified(tag);
        }
        let requests = &self.parts.metrics.credd_token_requests_total;
        slot.deliveries
            .get_or_init(|| requests.of(slot.current().view.name.as_str(), INTERFACE))
            .fetch_add(1, Ordering::Relaxed);
        answer::token(ready, tag)
    }

    /// Why there is no token.
    pub(super) fn refuse(&self, edition: &Edition, now: Now) -> Response {
        let problem = unavailable::problem(&edition.view, edition.state(now), now.wall);
        let reason = problem.auth_failure().map_or("not_ready", |failure| failure.subtype);
        self.parts
            .metrics
            .credd_token_request_failures_total
            .with_label_values(&[edition.view.name.as_str(), INTERFACE, reason])
            .inc();
        answer::problem(&problem, now.wall)
    }
}

/// Whether the caller says that it has what this entity tag stands for.
fn has(headers: &HeaderMap, own: &HeaderValue) -> bool {
    headers.get_all(header::IF_NONE_MATCH).iter().any(|list| {
        list.as_bytes().split(|byte| *byte == b',').any(|tag| {
            let tag = tag.trim_ascii();
            tag == b"*" || tag.strip_prefix(b"W/").unwrap_or(tag) == own.as_bytes()
        })
    })
}

/// The most time left that a reader can ask for: half of the token's own life. Who always wants more than a new token
/// has would make every read a refresh.
fn most(view: &View) -> Duration {
    let life = view.issued_at.zip(view.expires_at).map(|(from, to)| to.duration_since(from));
    life.and_then(|life| Duration::try_from(life).ok()).map_or(Duration::MAX, |life| life / 2)
}

fn wishes(query: &str) -> Result<Wishes, String> {
    let mut wishes = Wishes::default();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match name.as_ref() {
            "min_ttl" => wishes.min_ttl = crate::server::duration("min_ttl", &value)?,
            "wait" => wishes.wait = Some(crate::server::duration("wait", &value)?),
            _ => {}
        }
    }
    Ok(wishes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_are_seconds_or_durations() {
        let both = wishes("min_ttl=120&wait=1m30s&other=1").unwrap();
        assert_eq!((both.min_ttl, both.wait), (Duration::from_secs(120), Some(Duration::from_secs(90))));
        for bad in ["min_ttl=soon", "wait=-3", "wait=", "min_ttl=-1s"] {
            assert!(wishes(bad).is_err(), "{bad}");
        }
    }
}

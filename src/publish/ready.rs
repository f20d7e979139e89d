//! An edition: what is published of a credential at one moment, with the answer to a read as ready bytes.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::HeaderValue;
use jiff::Timestamp;
use serde::Serialize;
use zeroize::Zeroizing;

use super::{Offer, Peer, Published, Reader, Token, View, granted};
use crate::{
    clock::Now,
    credential::{AccessKey, Generation, Value},
    lifecycle::State,
};

/// What is published of a credential, until the next edition.
#[derive(Debug)]
pub struct Edition {
    /// What may be known.
    pub view: View,
    /// Boot time at which it was published.
    pub published: Duration,
    readers: Arc<[Reader]>,
    offer: Option<Arc<Offer>>,
    ready: Option<Ready>,
}

/// The answer to a read, rendered once.
pub struct Ready {
    /// The whole body of the response; its bytes are wiped when the last reader has them.
    pub body: Bytes,
    /// The generation as an entity tag.
    pub etag: HeaderValue,
    /// Which value it is.
    pub generation: Generation,
    /// Served before it was durable.
    pub unsaved: bool,
    /// When it ends by the date, and by boot time: a stepped clock revives no token.
    ends: Option<(Timestamp, Duration)>,
}

impl std::fmt::Debug for Ready {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ready(generation {}, {} bytes)", self.generation, self.body.len())
    }
}

impl Edition {
    pub(super) fn new(published: Published, before: Option<&Self>, now: Now) -> Self {
        let before = before.and_then(|edition| edition.ready.as_ref());
        let ready = published.token.as_ref().map(|token| Ready::new(&published.view, token, before, now));
        let Published { view, readers, offer, .. } = published;
        Self { view, published: now.boot, readers, offer, ready }
    }

    /// The token, while it has not ended.
    pub fn token(&self, now: Now) -> Option<&Ready> {
        self.ready.as_ref().filter(|ready| ready.left(now).is_none_or(|left| !left.is_zero()))
    }

    /// The token, if it lives at least that long; one whose end is unknown does.
    pub fn token_for(&self, need: Duration, now: Now) -> Option<&Ready> {
        self.token(now).filter(|ready| ready.left(now).is_none_or(|left| left >= need))
    }

    /// Whether a value is published, ended or not.
    pub fn has_token(&self) -> bool {
        self.ready.is_some()
    }

    /// The state, with a look at the clock: a shard that overslept makes no dead token `fresh`.
    pub fn state(&self, now: Now) -> State {
        match self.view.state {
            State::Uninitialised | State::Revoked => self.view.state,
            _ if self.ready.is_some() && self.token(now).is_none() => State::Expired,
            state => state,
        }
    }

    /// The rule that a peer falls under; it may send it to a cut of this.
    pub fn rule(&self, peer: Peer, own_uid: u32) -> Option<&Reader> {
        granted(&self.readers, peer, own_uid)
    }

    /// The rule that lets a peer read this very credential, and not only a cut of it.
    pub fn grants(&self, peer: Peer, own_uid: u32) -> Option<&Reader> {
        self.rule(peer, own_uid).filter(|rule| rule.cut.is_none())
    }

    /// Who may read it.
    pub fn readers(&self) -> &[Reader] {
        &self.readers
    }

    /// What it is offered for to those who do not know its name.
    pub fn offer(&self) -> Option<&Arc<Offer>> {
        self.offer.as_ref()
    }

    /// Whether somebody who follows the credential must hear of the step from `before` to this.
    pub(super) fn is_news(&self, before: &Self) -> bool {
        let words = |edition: &Self| {
            let token = edition.ready.as_ref().map(|ready| (ready.generation, ready.unsaved));
            let view = &edition.view;
            (token, view.generation, view.expires_at, view.state, view.problem.as_ref().map(|problem| problem.failure))
        };
        words(self) != words(before) || self.readers != before.readers
    }
}

#[derive(Serialize)]
struct Body<'a> {
    name: &'a str,
    generation: Generation,
    #[serde(flatten)]
    value: Carried<'a>,
    expires_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    unsaved: bool,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Carried<'a> {
    Token { access_token: &'a str, token_type: &'a str, scope: Option<&'a str> },
    AccessKey { access_key_id: &'a str, secret_access_key: &'a str, session_token: Option<&'a str> },
}

impl<'a> Carried<'a> {
    #[expect(clippy::disallowed_methods, reason = "the answer to a reader")]
    fn of(token: &'a Token) -> Self {
        match &token.value {
            Value::Token(secret) => Self::Token {
                access_token: secret.expose(),
                token_type: &token.token_type,
                scope: token.scope.as_deref(),
            },
            Value::AccessKey(AccessKey { id, secret, session_token }) => Self::AccessKey {
                access_key_id: id,
                secret_access_key: secret.expose(),
                session_token: session_token.as_ref().map(|token| token.expose()),
            },
        }
    }
}

/// Counts what is written.
struct Room(usize);

impl std::io::Write for Room {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Ready {
    fn new(view: &View, token: &Token, before: Option<&Self>, now: Now) -> Self {
        let ends = token.expires_at.map(|at| {
            let left = Duration::try_from(at.duration_since(now.wall)).unwrap_or_default();
            let boot = now.boot.saturating_add(left);
            // Published again, the same value keeps the earlier end: only a new value brings new time.
            match before.filter(|before| before.generation == token.generation).and_then(|before| before.ends) {
                Some((same, earlier)) if same == at => (at, earlier.min(boot)),
                _ => (at, boot),
            }
        });
        let body = Body {
            name: view.name.as_str(),
            generation: token.generation,
            value: Carried::of(token),
            expires_at: token.expires_at,
            unsaved: token.unsaved,
        };
        // Counted first: growing would leave copies behind, and room to spare would be kept for each credential.
        let mut room = Room(0);
        serde_json::to_writer(&mut room, &body).expect("plain texts and numbers always serialise");
        let mut bytes = Zeroizing::new(Vec::with_capacity(room.0));
        serde_json::to_writer(&mut *bytes, &body).expect("plain texts and numbers always serialise");
        let etag = HeaderValue::from_str(&format!("\"{}\"", token.generation)).expect("digits in quotes");
        Self { body: Bytes::from_owner(bytes), etag, generation: token.generation, unsaved: token.unsaved, ends }
    }

    /// Time left: the lesser of what the date and the boot clock say; `None` when no end is known.
    pub fn left(&self, now: Now) -> Option<Duration> {
        let (date, boot) = self.ends?;
        let by_date = Duration::try_from(date.duration_since(now.wall)).unwrap_or_default();
        Some(by_date.min(boot.saturating_sub(now.boot)))
    }
}

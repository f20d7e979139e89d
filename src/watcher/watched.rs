//! One watched credential: its life, its secrets, what its calls are made of, and who waits for it.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::way::Way;
use crate::{
    catalogue::Provider,
    clock::Now,
    credential::{CredentialId, Fingerprint, Generation, Kind, Material, Rotation, Verdict},
    lifecycle::{Lifecycle, Policy, State, Trigger},
    publish::{Answer, Criticality, Offer, Published, Reader, Token, View},
    store::{Location, SecretStore, StoreError},
    upstream,
};

/// What the settings say of one credential, resolved: everything a shard needs to watch it.
#[derive(Clone, Debug)]
pub struct Assignment {
    /// SHA-256 of the settings that it was made from: equal means that nothing changed.
    pub made_from: [u8; 32],
    /// Its name.
    pub id: CredentialId,
    /// How it comes to a value.
    pub kind: Kind,
    /// Who issued it.
    pub provider: Arc<Provider>,
    /// What its decisions depend on.
    pub policy: Policy,
    /// The cron expression of its probes: which beats are its own.
    pub probe: String,
    /// Its home store's name.
    pub store_name: String,
    /// Its home store.
    pub store: Arc<dyn SecretStore>,
    /// Where in it.
    pub at: Location,
    /// How much its failing matters.
    pub criticality: Criticality,
    /// Its key may be that of another credential as well.
    pub shared: bool,
    /// Who may read it.
    pub readers: Arc<[Reader]>,
    /// What it is offered for to those who ask for a service instead of a name.
    pub offer: Option<Arc<Offer>>,
    /// Scopes that it needs; none where the settings do not say.
    pub scopes: Arc<[String]>,
    /// Endpoint, client, scopes and placeholders of its calls.
    pub upstream: Arc<upstream::Settings>,
    /// When a static key ends, where nobody else says.
    pub expires_at: Option<Timestamp>,
    /// It is a cut of that one: the same grant in the same home, and a value of its own that may do less.
    pub whole: Option<CredentialId>,
}

impl Assignment {
    /// What pacing and breakers are shared by: the token endpoint's origin and the client.
    pub fn endpoint(&self) -> String {
        let endpoint = self.upstream.token_endpoint.as_ref().map(url::Url::to_string);
        let endpoint = endpoint.or_else(|| self.provider.token.endpoint.clone()).unwrap_or_default();
        format!("{endpoint} {}", self.upstream.client_id.as_deref().unwrap_or_default())
    }
}

/// What the shard keeps of a credential.
#[derive(Debug)]
pub(super) struct Watched {
    pub assignment: Arc<Assignment>,
    pub life: Lifecycle,
    /// The sum of the clock's steps that its dates have moved along with.
    pub stepped: SignedDuration,
    pub material: Option<Arc<Material>>,
    pub store_version: Option<String>,
    /// Of the root secret that last came from, or was written to, the home store.
    pub store_fingerprint: Option<Fingerprint>,
    pub flags: Flags,
    /// The newest generation that must be written back.
    pub write_back_wanted: Generation,
    /// The home store has answered since this began, or would not: a grant may be presented.
    pub looked: bool,
    /// It has been read since this began.
    pub was_read: bool,
    /// What the ledger had not finished of it, until that is taken up.
    pub unfinished: Option<Box<super::begin::Unfinished>>,
    /// Whether the home store may be written was asked for the flight that is about to begin.
    pub write_asked: bool,
    /// A refresh that was decided before the home store had answered.
    pub decided: Option<Trigger>,
    /// The home store is to be asked again once the flight that is out has ended.
    pub look_again: bool,
    /// Replies to earlier flights that brought no value and are kept, with the generation that each was to make.
    pub orphans: Vec<(Uuid, Generation)>,
    /// The flight that was lost first, for whoever is told of it: those after it asked what had become of it.
    pub lost: Option<LostFlight>,
    /// Where it stands in the queue of deadlines.
    pub deadline: Option<Timestamp>,
    /// Removed from the settings; it goes when its flight is home.
    pub leaving: bool,
    pub waiting: Vec<Waiting>,
    /// Told once, when it is known whether the credential can be proven at the start.
    pub first_look: Option<oneshot::Sender<()>>,
    /// The last refusal's verdict, for those who wait.
    pub last_verdict: Option<Verdict>,
    /// Why its home store can never be written, if so; as it said when it was last read.
    pub read_only: Option<String>,
    /// What the home store last said, where it was a no.
    pub store_error: Option<StoreError>,
    /// The client of the settings under which its grant was last renewed; nothing where the secret names its own.
    pub client: Option<String>,
    /// How its token endpoint is asked: the way that last worked.
    pub way: Way,
    /// The way that was left for this one, until it is known whether this one works.
    pub left: Option<Way>,
}

/// A flight of which nobody knows what became.
#[derive(Clone, Debug)]
pub(super) struct LostFlight {
    pub attempt: Uuid,
    /// When its request went out; of one that a process before this one sent, when its intent was written.
    pub sent_at: Timestamp,
    /// What became of the call, as far as anybody knows.
    pub how: String,
    /// Why its reply could not be read, if one came; it is kept then.
    pub unreadable: Option<String>,
}

/// Facts kept beside the lifecycle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Flags {
    pub store_stale: bool,
    pub writeback_pending: bool,
    pub unsaved: bool,
    pub clock_untrusted: bool,
}

/// What would satisfy somebody who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wants {
    /// A new value.
    Value,
    /// A new value, sooner after the last than credd itself would ask for one.
    ValueAgain,
    /// To know whether it works: a new value proves it, and so does a probe.
    Proof,
}

/// What an operator is told who asks for one refresh after another.
const TOO_OFTEN: &str = "refreshed, though the last refresh was so recent that credd itself would have waited: \
                         some providers take many in a row for abuse";

/// Who waits for a flight or a probe to end.
#[derive(Debug)]
pub(super) struct Waiting {
    pub answer: oneshot::Sender<Answer>,
    pub wants: Wants,
    /// A report of a refusal is answered with its own verdict.
    pub verdict: Option<Verdict>,
    /// Where it stood when the wait began.
    pub generation: Generation,
}

impl Watched {
    pub fn new(assignment: Arc<Assignment>, stepped: SignedDuration) -> Self {
        Self {
            assignment,
            life: Lifecycle::default(),
            stepped,
            material: None,
            store_version: None,
            store_fingerprint: None,
            flags: Flags::default(),
            write_back_wanted: Generation::default(),
            looked: false,
            was_read: false,
            unfinished: None,
            write_asked: false,
            decided: None,
            look_again: false,
            orphans: Vec::new(),
            lost: None,
            deadline: None,
            leaving: false,
            waiting: Vec::new(),
            first_look: None,
            last_verdict: None,
            read_only: None,
            store_error: None,
            client: None,
            way: Way::default(),
            left: None,
        }
    }

    pub fn state(&self, now: Now) -> State {
        self.life.state(now, &self.assignment.policy)
    }

    /// What a token request is made of.
    pub fn request(&self) -> Option<upstream::Subject> {
        let mut subject = self.subject()?;
        self.way.apply(&mut subject);
        Some(subject)
    }

    /// A refusal of how it was asked: the other way, to be tried once. The one that does not work either is forgotten.
    pub fn turn(&mut self, verdict: &Verdict) -> bool {
        if let Some(before) = self.left.take() {
            self.way = before;
            return false;
        }
        let other =
            self.material.as_ref().and_then(|material| self.way.other(verdict, material, &self.assignment.upstream));
        if let Some(other) = other {
            self.left = Some(std::mem::replace(&mut self.way, other));
        }
        other.is_some()
    }

    /// The client of the settings that presents its grant, where the secret names none of its own.
    pub fn presenting_client(&self) -> Option<&str> {
        let of_its_own = self.material.as_ref().is_none_or(|material| material.client_id.is_some());
        self.assignment.upstream.client_id.as_deref().filter(|_| self.assignment.kind.spends_grant() && !of_its_own)
    }

    /// Whether a refresh spends the grant for good, so that nobody else may present it.
    pub fn rotates(&self) -> bool {
        self.assignment.kind.spends_grant() && self.assignment.provider.rotation != Rotation::None
    }

    /// What a call is made of.
    pub fn subject(&self) -> Option<upstream::Subject> {
        Some(upstream::Subject {
            provider: self.assignment.provider.clone(),
            kind: self.assignment.kind,
            material: self.material.clone()?,
            settings: self.assignment.upstream.clone(),
        })
    }

    /// Everything that readers, health and metrics see.
    pub fn published(&self, now: Now) -> Published {
        Published {
            view: self.view(now),
            token: if self.life.is_servable(now) { self.token() } else { None },
            readers: self.assignment.readers.clone(),
            offer: self.assignment.offer.clone(),
        }
    }

    fn token(&self) -> Option<Token> {
        let material = self.material.as_ref()?;
        Some(Token {
            value: material.value(self.assignment.kind)?,
            token_type: material.token_type.clone().unwrap_or_else(|| "Bearer".into()),
            expires_at: self.life.validity()?.expires_at,
            scope: material.scope.clone(),
            generation: self.life.generation,
            unsaved: self.flags.unsaved,
        })
    }

    fn view(&self, now: Now) -> View {
        let (assignment, policy) = (&self.assignment, &self.assignment.policy);
        let validity = self.life.validity();
        let life = validity.and_then(|validity| validity.life);
        let state = self.state(now);
        let has_end = validity.is_some_and(|validity| validity.expires_at.is_some());
        let rate_limited = self.life.trouble().is_some_and(|trouble| {
            trouble.verdict.failure == crate::credential::Failure::RateLimitReached && trouble.retry_at > now.wall
        });
        let flags = [
            (rate_limited, "rate_limited"),
            (self.flags.store_stale, "store_stale"),
            (self.flags.writeback_pending, "writeback_pending"),
            (self.flags.unsaved, "unsaved"),
            (self.is_reduced(), "scope_reduced"),
            (self.flags.clock_untrusted, "clock_untrusted"),
        ];
        View {
            name: assignment.id.clone(),
            kind: assignment.kind,
            provider: assignment.provider.name.clone(),
            store: assignment.store_name.clone(),
            criticality: assignment.criticality,
            state,
            since: self.life.since().unwrap_or(now.wall),
            generation: self.life.generation,
            issued_at: validity.map(|validity| validity.issued_at),
            expires_at: validity.and_then(|validity| validity.expires_at),
            expiry_source: validity.map_or(crate::credential::ExpirySource::Unknown, |validity| validity.source),
            refresh_expires_at: validity.and_then(|validity| validity.refresh_expires_at),
            refresh_expiry_source: validity.and_then(|validity| validity.refresh_source),
            client_secret_expires_at: self.material.as_ref().and_then(|material| material.client_secret_expires_at),
            refresh_at: validity.and_then(|validity| validity.refresh_at).filter(|_| state != State::Revoked),
            probe_at: self.life.next_probe_at(now, policy),
            last_probe_at: self.life.probes().last_at,
            last_success_at: self.life.probes().proven_at,
            last_rotation_at: validity.map(|validity| validity.issued_at),
            ttl_warn_seconds: has_end.then(|| policy.warn_below(life).as_secs()),
            ttl_fail_seconds: has_end.then(|| policy.fail_below(life).as_secs()),
            problem: self.problem(state, now),
            store_error: self.store_error.as_ref().filter(|_| self.flags.store_stale).map(ToString::to_string),
            flags: flags.into_iter().filter_map(|(holds, name)| holds.then_some(name)).collect(),
        }
    }

    /// Answers everybody who waits.
    pub fn answer_all(&mut self) {
        let generation = self.life.generation;
        for waiting in self.waiting.drain(..) {
            let renewed = generation > waiting.generation;
            let (done, message) = match (&self.last_verdict, waiting.wants) {
                (_, Wants::ValueAgain) if renewed => (true, TOO_OFTEN.to_owned()),
                _ if renewed => (true, "refreshed".to_owned()),
                (Some(verdict), Wants::Value | Wants::ValueAgain) => {
                    (false, format!("not refreshed: {}", verdict.failure))
                }
                (Some(verdict), Wants::Proof) => (false, format!("not proven: {}", verdict.failure)),
                (None, Wants::Value | Wants::ValueAgain) => (false, "no refresh could be made now".to_owned()),
                (None, Wants::Proof) => (true, "it works".to_owned()),
            };
            let verdict = waiting.verdict.or_else(|| self.last_verdict.clone().filter(|_| !done));
            // A reader that hung up is nobody's loss.
            let _ = waiting.answer.send(Answer { done, generation, verdict, message });
        }
        if let Some(first) = self.first_look.take() {
            let _ = first.send(());
        }
    }
}

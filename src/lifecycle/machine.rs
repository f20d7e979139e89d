//! The machine: what is stored of a credential's life, what can happen to it, and what is then to be done.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    doubt::Doubt,
    effect::{Effect, Incidents, Trigger},
    event::Event,
    lost::Loss,
    plan::{Policy, signed},
    state::State,
};
use crate::{
    clock::Now,
    credential::{ExpirySource, Failure, Generation, Verdict},
};

/// One credential's life, as stored. It holds no secret: it may be logged, compared and put into test files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lifecycle {
    /// Of the current value; 0 before the first.
    pub generation: Generation,
    pub(super) standing: Standing,
    pub(super) flight: Flight,
    /// When the request of the flight went out.
    pub(super) sent_at: Option<Timestamp>,
    /// New material came while a flight was out: a refusal of the old grant says nothing of the new one.
    pub(super) superseded: bool,
    /// What was lost and is still unanswered.
    pub(super) lost: Option<Loss>,
    pub(super) held: bool,
    /// Why the grant is not presented, although nobody has refused it.
    #[serde(default)]
    pub(super) doubt: Option<Doubt>,
    /// The current value came from a reply that had been kept, and no refresh has proven it yet.
    #[serde(default)]
    pub(super) from_orphan: bool,
    /// Of the current value, once there is one that can be served.
    pub(super) validity: Option<Validity>,
    /// Failures since the last success.
    pub(super) trouble: Option<Trouble>,
    pub(super) probes: Probes,
    /// When the last three refreshes succeeded, newest first.
    pub(super) refreshed: [Option<Timestamp>; 3],
    /// The flight that is out was asked for by an operator, or by a refusal of the value.
    #[serde(default)]
    pub(super) asked: bool,
    /// No refresh before this, whoever wants it, but an operator: the provider asked for patience or ours ran out.
    pub(super) not_before: Option<Timestamp>,
    /// The last lifetime was malformed: at most one refresh in five minutes.
    pub(super) lifetime_repaired: bool,
    /// What the provider last said its tokens live, for answers that do not say.
    pub last_life: Option<Duration>,
    /// The word last shown, and since when.
    pub(super) shown: Option<(State, Timestamp)>,
    /// Incidents that are open because of this credential.
    pub(super) open: Incidents,
    /// Some value of it was once proven good. No new material takes that away.
    #[serde(default)]
    pub(super) ever_proven: bool,
}

/// Where the credential stands with its provider.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Standing {
    /// No material yet.
    Uninitialised,
    /// As far as anybody knows it is good.
    Usable,
    /// One authoritative rejection was seen; a second look decides.
    Suspect(Suspicion),
    /// Our client, secret, scope or endpoint is wrong.
    Misconfigured,
    /// Dead; only new material helps.
    Revoked {
        /// Since when.
        since: Timestamp,
    },
}

/// Why a credential is suspect, and when the second look comes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Suspicion {
    /// When the first rejection was seen.
    pub since: Timestamp,
    /// When to look again.
    pub confirm_at: Timestamp,
    /// The provider's code proves it: no second look, only the home store is asked for a newer value first.
    pub definitive: bool,
    /// Who said no.
    pub by: Witness,
}

/// Who said no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Witness {
    /// The token endpoint refused the grant.
    TokenEndpoint,
    /// The API refused the credential.
    Api,
}

/// One refresh (or first exchange), from intent to promotion. Durable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Flight {
    /// None in the air.
    Grounded,
    /// Decided; its intent is being made durable, and nothing was sent.
    Prepared {
        /// Its name, once the intent is durable.
        attempt: Option<Uuid>,
    },
    /// The request may have left.
    Sent {
        /// Its name.
        attempt: Uuid,
        /// When the call is certainly dead.
        deadline: Timestamp,
    },
    /// The reply is durable.
    Received {
        /// Its name.
        attempt: Uuid,
    },
    /// A request was sent and no reply is durable.
    Lost {
        /// Since when.
        since: Timestamp,
        /// When it is safe, or pointless not, to present the old grant again.
        retry_at: Timestamp,
        /// Presentations since.
        tries: u32,
    },
}

/// How long the current value lives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Validity {
    /// When it was issued: the sending of the request that brought it, or its loading.
    pub issued_at: Timestamp,
    /// The same by boot time, while this boot lasts.
    pub issued_boot: Option<Duration>,
    /// When it ends, if known.
    pub expires_at: Option<Timestamp>,
    /// How long it lives in all, if known.
    pub life: Option<Duration>,
    /// How that is known.
    pub source: ExpirySource,
    /// When the refresh token ends, if known.
    pub refresh_expires_at: Option<Timestamp>,
    /// How that is known.
    #[serde(default)]
    pub refresh_source: Option<ExpirySource>,
    /// When the next refresh is planned; the dice were thrown once, when the value came.
    pub refresh_at: Option<Timestamp>,
}

impl Validity {
    /// Time left by the stricter of both clocks; `None` when no end is known.
    pub fn left(&self, now: Now) -> Option<SignedDuration> {
        let by_wall = self.expires_at?.as_duration() - now.wall.as_duration();
        let (Some(life), Some(issued)) = (self.life, self.issued_boot) else { return Some(by_wall) };
        Some(by_wall.min(signed(life) - signed(now.boot.saturating_sub(issued))))
    }
}

/// What went wrong since the last success.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trouble {
    /// When the first of them came.
    pub since: Timestamp,
    /// How many refreshes in a row; 0 when only probes failed.
    pub refreshes: u32,
    /// The latest. Shared, because every step compares the life with what it was.
    pub verdict: Arc<Verdict>,
    /// When the next try is planned.
    pub retry_at: Timestamp,
}

/// What probes showed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Probes {
    /// The last finished one.
    pub last_at: Option<Timestamp>,
    /// The last proof, by probe or refresh, that the current value is good.
    pub proven_at: Option<Timestamp>,
    /// The next one, if planned.
    pub next_at: Option<Timestamp>,
    /// The last three, newest in the lowest bit; 1 is a failure without a verdict.
    pub failures: u8,
    /// No beat plans a probe before this: failing and limited ones are asked less often.
    pub quiet_until: Option<Timestamp>,
    /// How long the last quiet was.
    pub quiet: Option<Duration>,
    /// One is out now; not remembered over a restart.
    #[serde(skip)]
    pub out: bool,
    /// A refresh was made because the API refused the value; its successor is on trial until then.
    pub on_trial_until: Option<Timestamp>,
    /// The value that was refused: only a later one can be on trial.
    pub refused: Option<Generation>,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self {
            generation: Generation::default(),
            standing: Standing::Uninitialised,
            flight: Flight::Grounded,
            sent_at: None,
            superseded: false,
            lost: None,
            held: false,
            doubt: None,
            from_orphan: false,
            validity: None,
            trouble: None,
            probes: Probes::default(),
            refreshed: [None; 3],
            asked: false,
            not_before: None,
            lifetime_repaired: false,
            last_life: None,
            shown: None,
            open: Incidents::default(),
            ever_proven: false,
        }
    }
}

impl Lifecycle {
    /// Something happened: what is to be done? `dice` (0 to 1) is a fresh throw, used only where a jitter is stored.
    pub fn step(&mut self, event: Event, now: Now, dice: f64, policy: &Policy) -> Vec<Effect> {
        let before = self.clone();
        let mut effects = match event {
            Event::Loaded(loaded) => self.loaded(&loaded, now, dice, policy),
            Event::Unchanged => self.unchanged(now),
            Event::Ends(end, source) => self.ends(end, source, policy),
            Event::Tick => vec![],
            Event::ClockStepped(by) => self.clock_stepped(by, now, dice),
            Event::Beat(offset) => self.beat(offset, now, policy),
            Event::Prepared(attempt) => self.prepared(attempt),
            Event::Sent(deadline) => self.sent(deadline, now),
            Event::Aborted { verdict, retry_at } => self.aborted(verdict, retry_at, now, dice, policy),
            Event::Received => self.received(),
            Event::Promoted(promoted) => self.promoted(&promoted, now, dice, policy),
            Event::Turned => self.turned(now, dice, policy),
            Event::Failed { verdict, commit } => self.failed(verdict, commit, now, dice, policy),
            Event::Probed { generation, outcome } => self.probed(generation, outcome, now, policy),
            Event::Refused { generation, verdict } => self.refused(generation, verdict, now, policy),
            Event::Wanted(min_ttl) => self.wanted(min_ttl, now, policy),
            Event::RefreshNow => self.take_off(Trigger::Operator, now, policy),
            Event::ProbeNow => self.probe(Trigger::Operator, now, policy),
            Event::Hold => self.hold(),
            Event::Doubted(doubt) => self.doubted(doubt),
            Event::Release => self.release(now, policy),
            Event::Mended => self.mended(now, policy),
            Event::Found(found) => self.found(found, now, dice, policy),
        };
        // Time passes with every event, so whatever came due meanwhile is looked at once, here.
        effects.extend(self.due(now, policy));
        let state = self.state(now, policy);
        effects.extend(self.pages(state, now, policy));
        let changed_word = self.shown.is_none_or(|(word, _)| word != state);
        if changed_word {
            self.shown = Some((state, now.wall));
        }
        if *self != before {
            effects.push(Effect::Publish);
        }
        effects
    }

    /// An operator's hold: nothing goes upstream. A flight that is out finishes.
    fn hold(&mut self) -> Vec<Effect> {
        self.held = true;
        vec![]
    }

    /// The operator says that something has changed on the other side. That is tried, and nothing is taken for mended
    /// before a success says so: until then what was revoked is not served, and its incident stays open.
    fn release(&mut self, now: Now, policy: &Policy) -> Vec<Effect> {
        self.held = false;
        self.doubt = None;
        self.not_before = None;
        match &self.standing {
            Standing::Revoked { .. } | Standing::Misconfigured if policy.kind.is_refreshable() => {
                self.present(Trigger::Operator, now, policy)
            }
            Standing::Revoked { .. } if policy.has_probe && !self.probes.out => {
                self.probes.out = true;
                vec![Effect::Probe(Trigger::Operator)]
            }
            _ => vec![],
        }
    }

    /// What was wrong is known to be gone: it counts as good until somebody says otherwise.
    fn mended(&mut self, now: Now, policy: &Policy) -> Vec<Effect> {
        if !matches!(self.standing, Standing::Revoked { .. } | Standing::Misconfigured) {
            return vec![];
        }
        self.not_before = None;
        self.standing = Standing::Usable;
        if policy.kind.is_refreshable() {
            self.take_off(Trigger::StoreChange, now, policy)
        } else {
            self.probe(Trigger::StoreChange, now, policy)
        }
    }

    /// A life about which nothing is known but which value it stands at.
    pub fn at(generation: Generation) -> Self {
        Self { generation, ..Self::default() }
    }

    /// The standing, for the watcher and for tests.
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// The flight, for the watcher and for tests.
    pub fn flight(&self) -> &Flight {
        &self.flight
    }

    /// How long the current value lives.
    pub fn validity(&self) -> Option<&Validity> {
        self.validity.as_ref()
    }

    /// What went wrong since the last success.
    pub fn trouble(&self) -> Option<&Trouble> {
        self.trouble.as_ref()
    }

    /// What probes showed.
    pub fn probes(&self) -> &Probes {
        &self.probes
    }

    /// When the word shown last came.
    pub fn since(&self) -> Option<Timestamp> {
        self.shown.map(|(_, since)| since)
    }

    /// Whether one may be in the air.
    pub fn is_in_flight(&self) -> bool {
        matches!(self.flight, Flight::Prepared { .. } | Flight::Sent { .. } | Flight::Received { .. })
    }

    /// The provider has just shown that the current value is good.
    pub(super) fn proven(&mut self, now: Now) {
        self.probes.proven_at = Some(now.wall);
        self.ever_proven = true;
    }

    /// Whether any value of it was ever proven good.
    pub fn was_proven(&self) -> bool {
        // The latter alone in a ledger that an older credd wrote.
        self.ever_proven || self.probes.proven_at.is_some()
    }

    /// Boot times of another boot mean nothing: forget them.
    pub fn after_reboot(&mut self) {
        if let Some(validity) = &mut self.validity {
            validity.issued_boot = None;
        }
    }

    /// The failure that a reader is told of, if any.
    pub fn failure(&self) -> Option<Failure> {
        self.trouble.as_ref().map(|trouble| trouble.verdict.failure)
    }
}

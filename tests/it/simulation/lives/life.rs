//! One credential's life: its driver, its ledger, its provider, and all that can go wrong between them.

use std::{
    cmp::{Ordering, Reverse},
    collections::{BinaryHeap, VecDeque},
    time::Duration,
};

use credd::{
    clock::Now,
    credential::{ExpirySource, Failure, Generation, Rotation, Verdict},
    lifecycle::{
        Commit, Effect, Event, Found, Incident, Lifecycle, Loaded, Origin, Policy, Probed, Promoted, Standing,
        advisory_window,
    },
};
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::{
    Dice,
    provider::{Answer, Provider, Token},
};

/// When every life begins: no date is special to it.
const START: Now = Now { wall: Timestamp::constant(1_767_225_600, 0), boot: Duration::from_secs(1_000) };
const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;
/// How long after an outage a late read is still its fault.
const AFTERMATH: u64 = 120_000;

macro_rules! tally {
    ($($name:ident),* $(,)?) => {
        /// What happened.
        #[derive(Debug, Default)]
        pub struct Tally { $(pub $name: u64),* }
        impl Tally {
            pub fn add(&mut self, other: &Self) { $(self.$name += other.$name;)* }
        }
    };
}
tally!(
    steps,
    calls,
    commits,
    promotions,
    lost_commits,
    orphans,
    crashes,
    outages,
    deaths,
    strict_losses,
    pages,
    reads,
    expired_reads
);

/// What stands in the ledger: it survives a crash.
struct Ledger {
    life: Lifecycle,
    generation: i64,
    token: Token,
    intent: Intent,
}

#[derive(Clone, Copy)]
enum Intent {
    None,
    Prepared,
    Sent(u64),
    Received(Token, u64),
}

/// What is under way. The number is the process that waits for it: a crash forgets.
enum Soon {
    WriteIntent(u32),
    WriteSent(u32),
    Arrive(u32, Token, u64),
    Reply(u32, Reply),
    Promote(u32),
    Probed(u32, Generation, Token),
    Reloaded(u32),
    Beat,
    Restart,
    Revoke,
    HomeChange,
    Poll(u32),
    Heal,
}

/// Something under way, and its place in the order: by time, and within a moment as it was planned.
struct Planned {
    place: Reverse<(u64, u64)>,
    what: Soon,
}

impl Planned {
    fn when(&self) -> u64 {
        self.place.0.0
    }
}

impl Ord for Planned {
    fn cmp(&self, other: &Self) -> Ordering {
        self.place.cmp(&other.place)
    }
}

impl PartialOrd for Planned {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Planned {
    fn eq(&self, other: &Self) -> bool {
        self.place == other.place
    }
}

impl Eq for Planned {}

enum Reply {
    Token(Token, u64),
    No(Failure, Commit),
    Limited(u64),
}

pub struct Life {
    policy: Policy,
    seed: u64,
    dice: Dice,
    start: Now,
    now: u64,
    end: u64,
    beat: u64,
    soon: BinaryHeap<Planned>,
    number: u64,
    process: u32,
    /// `None` while the daemon is down.
    life: Option<Lifecycle>,
    ledger: Ledger,
    provider: Provider,
    home: Token,
    /// From and to, the earliest first; those that are long over are gone.
    outages: VecDeque<(u64, u64)>,
    /// What a late read is excused by: something that nobody could prevent, until then.
    excused_until: u64,
    limited: bool,
    open: Vec<Incident>,
    tally: Tally,
}

impl Life {
    pub fn new(policy: Policy, seed: u64, days: u64, beat: Duration) -> Self {
        let mut dice = Dice::new(seed);
        let mut provider = Provider::new(policy.kind, policy.rotation, &mut dice);
        let home = provider.consent();
        let end = days * DAY;
        let mut outages = VecDeque::new();
        let mut when = dice.between(DAY, 12 * DAY);
        while when < end - 2 * DAY {
            let long = if dice.chance(0.7) { dice.between(10_000, 600_000) } else { dice.between(HOUR, 4 * HOUR) };
            outages.push_back((when, when + long));
            when += dice.between(2 * DAY, 12 * DAY);
        }
        let ledger = Ledger { life: Lifecycle::default(), generation: 0, token: home, intent: Intent::None };
        let tally = Tally { outages: outages.len() as u64, ..Tally::default() };
        Self {
            policy,
            seed,
            dice,
            start: START,
            now: 0,
            end,
            beat: u64::try_from(beat.as_millis()).unwrap(),
            soon: BinaryHeap::new(),
            number: 0,
            process: 0,
            life: Some(Lifecycle::default()),
            ledger,
            provider,
            home,
            outages,
            excused_until: 0,
            limited: false,
            open: vec![],
            tally,
        }
    }

    pub fn run(mut self) -> Tally {
        self.load();
        let (first, revoked, changed) =
            (self.dice.between(0, self.beat), self.dice.between(DAY, 30 * DAY), self.dice.between(DAY, 15 * DAY));
        self.later(first, Soon::Beat);
        self.later(revoked, Soon::Revoke);
        self.later(changed, Soon::HomeChange);
        loop {
            let deadline = self
                .life
                .as_ref()
                .and_then(|life| life.next_deadline(self.time(), &self.policy))
                .map(|at| self.millis(at));
            let soon = self.soon.peek().map(Planned::when);
            let when = deadline.into_iter().chain(soon).min().unwrap_or(self.end).max(self.now);
            if when >= self.end {
                break;
            }
            let alike = self.now == when;
            self.now = when;
            match soon.filter(|soon| *soon <= when).and_then(|_| self.soon.pop()) {
                Some(planned) => self.happens(planned.what),
                None => {
                    let steps = self.tally.steps;
                    let acted = self.step(Event::Tick);
                    assert!(acted || !alike || steps == 0, "seed {}: the driver spins", self.seed);
                }
            }
        }
        // Captured, and promoted after the curtain.
        self.tally.orphans += u64::from(matches!(self.ledger.intent, Intent::Received(..)));
        self.tally
    }

    fn time(&self) -> Now {
        self.start.plus(self.now)
    }

    /// Rounded up: a driver wakes at its deadline or after it.
    fn millis(&self, moment: Timestamp) -> u64 {
        let since = moment.duration_since(self.start.wall);
        let millis = since.as_millis() + i128::from(since.subsec_nanos() % 1_000_000 > 0);
        u64::try_from(millis).unwrap_or(0)
    }

    fn later(&mut self, wait: u64, what: Soon) {
        self.number += 1;
        self.soon.push(Planned { place: Reverse((self.now + wait, self.number)), what });
    }

    /// One event; the new life and what it asks for are durable together. Whether something was asked for.
    fn step(&mut self, event: Event) -> bool {
        let (now, dice) = (self.time(), self.dice.unit());
        let Some(life) = &mut self.life else { return false };
        let effects = life.step(event, now, dice, &self.policy);
        self.tally.steps += 1;
        if !effects.is_empty() {
            self.ledger.life = life.clone();
        }
        let mut acted = false;
        for effect in effects {
            acted |= effect != Effect::Publish;
            self.carry_out(&effect);
        }
        acted
    }

    fn carry_out(&mut self, effect: &Effect) {
        let process = self.process;
        match effect {
            Effect::Prepare(_) => self.later(5, Soon::WriteIntent(process)),
            Effect::Probe(_) => {
                let (generation, token) = (Generation(self.ledger.generation), self.ledger.token);
                self.later(100, Soon::Probed(process, generation, token));
            }
            Effect::Reload => self.later(50, Soon::Reloaded(process)),
            Effect::Publish => {}
            Effect::Raise(incident) => {
                assert!(!self.open.contains(incident), "seed {}: {incident:?} raised twice", self.seed);
                self.open.push(*incident);
                if *incident == Incident::CredentialRevoked {
                    assert!(self.provider.dead, "P-6: seed {}: a page without a revocation", self.seed);
                    self.tally.pages += 1;
                    let healed = self.dice.between(HOUR, 6 * HOUR);
                    self.later(healed, Soon::Heal);
                }
            }
            Effect::Clear(incident) => {
                assert!(self.open.contains(incident), "seed {}: {incident:?} was not open", self.seed);
                self.open.retain(|open| open != incident);
            }
        }
    }

    fn happens(&mut self, what: Soon) {
        let process = self.process;
        match what {
            Soon::Beat => {
                self.read();
                self.later(self.beat, Soon::Beat);
                let offset = Duration::from_millis(self.dice.between(0, 60_000));
                self.step(Event::Beat(offset));
            }
            Soon::WriteIntent(mine) if mine == process && !self.crash(0.002) => {
                self.ledger.intent = Intent::Prepared;
                self.step(Event::Prepared(Uuid::from_u128(1)));
                self.later(5, Soon::WriteSent(process));
            }
            Soon::WriteSent(mine) if mine == process && !self.crash(0.002) => self.send(),
            Soon::Arrive(mine, token, sent) if mine == process => self.arrive(token, sent),
            Soon::Reply(mine, reply) if mine == process && !self.crash(0.002) => self.reply(reply),
            Soon::Promote(mine) if mine == process && !self.crash(0.002) => self.promote(),
            Soon::Probed(mine, generation, token) if mine == process => self.probed(generation, token),
            Soon::Reloaded(mine) | Soon::Poll(mine) if mine == process => {
                if self.home.family == self.ledger.token.family {
                    self.step(Event::Unchanged);
                } else {
                    self.load();
                }
            }
            Soon::Restart => self.restart(),
            Soon::Revoke if self.now + 2 * DAY < self.end && !self.provider.dead => self.die(),
            Soon::HomeChange => {
                if self.now + 2 * DAY < self.end && !self.provider.dead {
                    self.forget_lost();
                    self.home = self.provider.consent();
                    let poll = self.dice.between(0, 30_000);
                    self.later(poll, Soon::Poll(process));
                    self.excuse(20 * 60_000);
                }
                let next = self.dice.between(DAY, 15 * DAY);
                self.later(next, Soon::HomeChange);
            }
            Soon::Heal => {
                self.home = self.provider.consent();
                if self.life.is_some() {
                    self.load();
                }
                let next = self.dice.between(DAY, 30 * DAY);
                self.later(next, Soon::Revoke);
            }
            // Its process is gone, or it is too late for a tragedy.
            _ => {}
        }
    }

    fn load(&mut self) {
        self.ledger.token = self.home;
        self.ledger.generation += 1;
        let generation = Generation(self.ledger.generation);
        self.excuse(60_000);
        self.step(Event::Loaded(Loaded {
            generation,
            has_token: true,
            expires_at: Some(self.time().wall + Duration::from_millis(self.home.life_ms)),
            source: ExpirySource::Configured,
            refresh_expires_at: None,
            origin: Origin::HomeStore,
        }));
    }

    fn die(&mut self) {
        self.forget_lost();
        self.provider.dead = true;
        self.tally.deaths += 1;
    }

    /// A committed reply that nobody will ever see.
    fn forget_lost(&mut self) {
        self.provider.unseen = None;
    }

    fn outage(&self, ahead: u64) -> bool {
        self.outages.iter().take_while(|(from, _)| *from <= self.now + ahead).any(|(_, to)| self.now < *to)
    }

    fn excuse(&mut self, more: u64) {
        self.excused_until = self.excused_until.max(self.now + more);
    }

    /// While a rotation hangs in the air unseen, two adversities at most: more than a grace can bear is no fault of ours.
    fn may_hurt(&mut self, probability: f64) -> bool {
        let hurts =
            self.dice.chance(probability) && self.provider.unseen.is_none_or(|seen| seen < 2) && !self.outage(90_000);
        if let (true, Some(seen)) = (hurts, &mut self.provider.unseen) {
            *seen += 1;
        }
        hurts
    }

    fn crash(&mut self, probability: f64) -> bool {
        if !self.may_hurt(probability) {
            return false;
        }
        self.tally.crashes += 1;
        self.process += 1;
        self.life = None;
        self.provider.busy = 0;
        let down = self.dice.between(500, 6_000);
        self.later(down, Soon::Restart);
        self.excuse(down + 60_000);
        true
    }

    fn restart(&mut self) {
        self.life = Some(self.ledger.life.clone());
        let now = self.time().wall;
        let found = match self.ledger.intent {
            Intent::None => Found::Nothing,
            Intent::Prepared => Found::Prepared,
            Intent::Sent(when) => Found::Sent { prepared_at: self.start.plus(when).wall, dead_at: now },
            Intent::Received(..) => {
                self.later(5, Soon::Promote(self.process));
                Found::Received { attempt: Uuid::from_u128(1) }
            }
        };
        self.step(Event::Found(found));
        self.later(30, Soon::Poll(self.process));
    }

    fn send(&mut self) {
        self.ledger.intent = Intent::Sent(self.now);
        let (token, sent) = (self.ledger.token, self.now);
        self.step(Event::Sent(self.time().wall + Duration::from_secs(60)));
        if self.outage(0) && self.dice.chance(0.5) {
            self.later(10, Soon::Reply(self.process, Reply::No(Failure::UpstreamUnavailable, Commit::NotSent)));
        } else {
            let travel = self.dice.between(10, 1_500);
            self.later(travel, Soon::Arrive(self.process, token, sent));
        }
    }

    fn arrive(&mut self, token: Token, sent: u64) {
        self.tally.calls += 1;
        self.provider.busy += 1;
        assert_eq!(self.provider.busy, 1, "P-2: seed {}: two calls at once", self.seed);
        let back = self.dice.between(10, 1_500);
        let reply = self.answer(token, sent);
        self.later(back, Soon::Reply(self.process, reply));
        self.crash(0.002);
    }

    fn answer(&mut self, token: Token, sent: u64) -> Reply {
        let lost = Reply::No(Failure::UpstreamUnavailable, Commit::Ambiguous);
        if self.outage(0) {
            return Reply::No(Failure::UpstreamUnavailable, Commit::Doubtful);
        }
        if self.provider.unseen.is_none() && !self.limited && self.dice.chance(0.02) {
            self.limited = true;
            return Reply::Limited(self.dice.between(1, 300));
        }
        self.limited = false;
        if self.may_hurt(0.005) {
            return lost;
        }
        let malformed = self.dice.chance(0.002);
        match self.provider.exchange(token, self.now, malformed) {
            Answer::Dead => {
                if std::mem::take(&mut self.provider.reused) {
                    let (seed, strict) = (self.seed, self.policy.rotation == Rotation::Strict);
                    assert!(strict, "P-1: seed {seed}: a spent token of a forgiving profile was presented");
                    let window = self.provider.unseen.is_some();
                    assert!(window, "P-1: seed {seed}: a spent token was presented without a lost reply");
                    self.tally.strict_losses += 1;
                    self.die();
                }
                Reply::No(Failure::CredentialRevoked, Commit::NotCommitted)
            }
            Answer::Token(new) => {
                self.tally.commits += 1;
                self.tally.lost_commits += 1;
                self.provider.unseen = self.provider.unseen.or(Some(0));
                if self.may_hurt(0.01) { lost } else { Reply::Token(new, sent) }
            }
        }
    }

    fn reply(&mut self, reply: Reply) {
        self.provider.busy = 0;
        let (failure, commit, retry_after) = match reply {
            Reply::Token(token, sent) => {
                self.tally.lost_commits -= 1;
                self.forget_lost();
                self.ledger.intent = Intent::Received(token, sent);
                self.step(Event::Received);
                return self.later(5, Soon::Promote(self.process));
            }
            Reply::No(failure, commit) => (failure, commit, None),
            Reply::Limited(seconds) => {
                self.excuse(HOUR);
                (Failure::RateLimitReached, Commit::NotCommitted, Some(Duration::from_secs(seconds)))
            }
        };
        self.ledger.intent = Intent::None;
        if self.policy.rotation == Rotation::Strict {
            // What is lost is presented again only when little is left: a slow recovery may come late.
            self.excuse(10 * 60_000 + self.provider.life_ms);
        }
        self.step(Event::Failed { verdict: Verdict { retry_after, ..Verdict::of(failure, "") }, commit });
    }

    fn promote(&mut self) {
        let Intent::Received(token, sent) = std::mem::replace(&mut self.ledger.intent, Intent::None) else { return };
        if token.family != self.ledger.token.family {
            // The home store brought another grant meanwhile: the ledger's fence keeps this one aside.
            self.tally.orphans += 1;
            let verdict = Verdict::of(Failure::UpstreamUnavailable, "superseded");
            self.step(Event::Aborted { verdict, retry_at: Some(self.time().wall) });
            return;
        }
        self.tally.promotions += 1;
        self.ledger.token = token;
        self.ledger.generation += 1;
        let generation = Generation(self.ledger.generation);
        if token.malformed {
            self.excuse(10 * 60_000);
        }
        self.step(Event::Promoted(Promoted {
            generation,
            sent_at: self.start.plus(sent),
            life: Some(Duration::from_millis(token.life_ms)),
            source: ExpirySource::Response,
            refresh_expires_at: None,
            repaired: token.malformed,
        }));
    }

    fn probed(&mut self, generation: Generation, token: Token) {
        let no = |failure| Probed::No(Verdict::of(failure, ""));
        let outcome = if self.outage(0) && self.dice.chance(0.1) {
            // An API that cannot reach its own authority says no to everybody.
            no(Failure::CredentialRejected)
        } else if self.outage(0) || self.dice.chance(0.02) {
            no(Failure::UpstreamUnavailable)
        } else if self.dice.chance(0.01) {
            no(Failure::RateLimitReached)
        } else if self.provider.dead || token.family != self.provider.family {
            no(Failure::CredentialRejected)
        } else {
            Probed::Works(None)
        };
        self.step(Event::Probed { generation, outcome });
    }

    /// A reader: it gets an unexpired token while one exists, unless something happened that nobody could prevent.
    fn read(&mut self) {
        let (now, seed) = (self.time(), self.seed);
        // P-5: an outage that is shorter than what a token has left when its refresh is planned is nobody's excuse.
        let lead = u64::try_from(advisory_window(Duration::from_millis(self.provider.life_ms)).as_millis()).unwrap();
        while self.outages.front().is_some_and(|(_, to)| to + AFTERMATH <= self.now) {
            self.outages.pop_front();
        }
        let long = |(from, to): &(u64, u64)| to - from + 90_000 > lead && self.now < to + AFTERMATH;
        if self.outages.iter().take_while(|(from, _)| *from <= self.now).any(long) {
            self.excuse(1);
        }
        let Some(life) = &self.life else { return };
        self.tally.reads += 1;
        let unexpired = life.validity().and_then(|validity| validity.left(now)).is_some_and(|left| left.is_positive());
        let revoked = matches!(life.standing(), Standing::Revoked { .. });
        assert_eq!(life.is_servable(now), unexpired && !revoked, "P-5: seed {seed}: a token that lives was not served");
        assert!(!revoked || self.provider.dead, "P-6: seed {seed}: a living grant is held for dead");
        if !unexpired && !revoked && !self.provider.dead {
            self.tally.expired_reads += 1;
            assert!(
                self.now < self.excused_until,
                "P-5: seed {seed}: expired at {} without a reason: {life:?}",
                self.now
            );
        }
        self.step(Event::Wanted(Duration::from_secs(30)));
    }
}

trait Plus {
    fn plus(self, millis: u64) -> Now;
}

impl Plus for Now {
    fn plus(self, millis: u64) -> Now {
        let since = self.wall.as_duration() + SignedDuration::from_millis(i64::try_from(millis).unwrap());
        Now { wall: Timestamp::from_duration(since).unwrap(), boot: self.boot + Duration::from_millis(millis) }
    }
}

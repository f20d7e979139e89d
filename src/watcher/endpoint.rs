//! What the credentials of one token endpoint share: a bucket that paces them, a window of calls that are out, and a
//! breaker that spares a failing endpoint. Pure: the time is handed in.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};

use crate::{credential::CredentialId, lifecycle};

/// Failures without a verdict in a row after which the breaker opens.
const OPENS_AFTER: u32 = 5;
/// While it is open, one call goes through this often.
const HALF_OPEN: Duration = Duration::from_secs(30);
/// Calls a second at least; raised by what the credentials need.
const RATE: f64 = 5.0;
/// Calls that may go at once.
const BURST: f64 = 10.0;
/// Calls that may be out before an answer has come: an endpoint that hangs holds no more than these (P-9).
const FIRST_OUT: usize = 10;
/// And however well it answers.
const MOST_OUT: usize = 256;
/// Whose turn came while too many were out takes another, at least so much later.
const ANOTHER_TURN: Duration = Duration::from_secs(1);
/// Of a credential whose tokens' life is not known yet.
const USUAL_WINDOW: Duration = Duration::from_secs(300);

/// Whether a flight may begin now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Now.
    Go,
    /// Not before; that turn is kept for whoever was told so.
    Wait(Timestamp),
}

#[derive(Clone, Debug)]
struct Endpoint {
    /// Calls that may go now. Below zero, turns that are promised already.
    tokens: f64,
    filled_at: Timestamp,
    failures: u32,
    next_trial: Option<Timestamp>,
    /// What each credential needs, in calls a second.
    demand: HashMap<CredentialId, f64>,
    /// All of it.
    demanded: f64,
    promised: HashMap<CredentialId, Timestamp>,
    /// Whose calls are out.
    out: HashSet<CredentialId>,
    /// How many may be.
    window: usize,
}

/// All token endpoints of one replica's credentials, by origin and client.
#[derive(Clone, Debug, Default)]
pub struct Endpoints(HashMap<String, Endpoint>, SignedDuration);

impl Endpoints {
    /// Every moment moves with the steps of the clock, of which this is the sum.
    pub fn follow(&mut self, stepped: SignedDuration) {
        let by = stepped - std::mem::replace(&mut self.1, stepped);
        if by.is_zero() {
            return;
        }
        let moved = |at: &mut Timestamp| *at = at.checked_add(by).unwrap_or(*at);
        for endpoint in self.0.values_mut() {
            moved(&mut endpoint.filled_at);
            endpoint.next_trial.iter_mut().chain(endpoint.promised.values_mut()).for_each(moved);
        }
    }

    /// A credential uses this endpoint, and its tokens live so long: the bucket grows so that all can be refreshed
    /// within their windows. Called again when the life is known better.
    pub fn join(&mut self, key: &str, id: &CredentialId, life: Option<Duration>, now: Timestamp) {
        let window = life.map_or(USUAL_WINDOW, |life| lifecycle::advisory_window(life).max(Duration::from_secs(1)));
        let wanted = 1.5 / window.as_secs_f64();
        let endpoint = self.of(key, now);
        let before = endpoint.demand.insert(id.clone(), wanted).unwrap_or(0.0);
        endpoint.demanded += wanted - before;
    }

    /// It no longer does.
    pub fn leave(&mut self, key: &str, id: &CredentialId) {
        if let Some(endpoint) = self.0.get_mut(key) {
            endpoint.demanded -= endpoint.demand.remove(id).unwrap_or(0.0);
            endpoint.promised.remove(id);
            endpoint.out.remove(id);
            if endpoint.demand.is_empty() {
                self.0.remove(key);
            }
        }
    }

    /// May a flight begin? One that begins is out until it is answered, has failed, or has come to nothing.
    pub fn admit(&mut self, key: &str, id: &CredentialId, now: Timestamp) -> Admission {
        let endpoint = self.of(key, now);
        let admission = endpoint.turn(id, now);
        if admission == Admission::Go {
            endpoint.out.insert(id.clone());
        }
        admission
    }

    /// A call brought a complete answer that was no outage: the breaker closes.
    pub fn answered(&mut self, key: &str, id: &CredentialId, now: Timestamp) {
        let endpoint = self.of(key, now);
        endpoint.out.remove(id);
        if endpoint.failures >= OPENS_AFTER {
            // Turns that were promised before the outage are all over: whoever holds one would come at once (RF-26).
            endpoint.promised.clear();
            (endpoint.tokens, endpoint.filled_at) = (0.0, now);
        }
        endpoint.failures = 0;
        endpoint.next_trial = None;
        // Each answer makes room for one more; after a rest nobody knows any longer how much it can bear.
        endpoint.window =
            if endpoint.out.is_empty() { FIRST_OUT } else { endpoint.window.saturating_add(1).min(MOST_OUT) };
    }

    /// A call brought no verdict.
    pub fn failed(&mut self, key: &str, id: &CredentialId, now: Timestamp) {
        let endpoint = self.of(key, now);
        endpoint.out.remove(id);
        endpoint.window = FIRST_OUT;
        endpoint.failures = endpoint.failures.saturating_add(1);
        if endpoint.failures >= OPENS_AFTER {
            endpoint.next_trial = Some(now + HALF_OPEN);
        }
    }

    /// Nothing was sent, for a reason of ours: that says nothing of the endpoint.
    pub fn came_to_nothing(&mut self, key: &str, id: &CredentialId) {
        if let Some(endpoint) = self.0.get_mut(key) {
            endpoint.out.remove(id);
        }
    }

    fn of(&mut self, key: &str, now: Timestamp) -> &mut Endpoint {
        self.0.entry(key.to_owned()).or_insert(Endpoint {
            tokens: BURST,
            filled_at: now,
            failures: 0,
            next_trial: None,
            demand: HashMap::new(),
            demanded: 0.0,
            promised: HashMap::new(),
            out: HashSet::new(),
            window: FIRST_OUT,
        })
    }
}

impl Endpoint {
    fn turn(&mut self, id: &CredentialId, now: Timestamp) -> Admission {
        if self.failures >= OPENS_AFTER {
            return match self.next_trial {
                Some(at) if at > now => Admission::Wait(at),
                _ => {
                    self.next_trial = Some(now + HALF_OPEN);
                    Admission::Go
                }
            };
        }
        let mut turn = match self.promised.get(id) {
            Some(at) if *at > now => return Admission::Wait(*at),
            Some(_) => {
                self.promised.remove(id);
                now
            }
            None => self.next_turn(now),
        };
        if turn <= now && self.out.len() >= self.window && !self.out.contains(id) {
            turn = self.next_turn(now).max(now + ANOTHER_TURN);
        }
        if turn <= now {
            return Admission::Go;
        }
        self.promised.insert(id.clone(), turn);
        Admission::Wait(turn)
    }

    /// Takes one call out of the bucket; says when it may be made.
    fn next_turn(&mut self, now: Timestamp) -> Timestamp {
        let rate = RATE.max(self.demanded);
        let passed = now.duration_since(self.filled_at).as_secs_f64().max(0.0);
        self.tokens = (self.tokens + passed * rate).min(BURST.max(rate));
        self.filled_at = now;
        self.tokens -= 1.0;
        if self.tokens >= 0.0 {
            return now;
        }
        now + Duration::from_secs_f64((-self.tokens / rate).clamp(0.001, 3600.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> Timestamp {
        Timestamp::from_second(1_767_225_600).unwrap() + Duration::from_secs_f64(seconds)
    }

    fn id(n: usize) -> CredentialId {
        CredentialId::new(&format!("c{n}")).unwrap()
    }

    #[test]
    fn p9_a_failing_endpoint_is_called_once_in_thirty_seconds() {
        let mut endpoints = Endpoints::default();
        for n in 0..5 {
            assert_eq!(endpoints.admit("a", &id(n), at(0.0)), Admission::Go);
            endpoints.failed("a", &id(n), at(0.0));
        }
        assert_eq!(endpoints.admit("a", &id(5), at(1.0)), Admission::Wait(at(30.0)));
        assert_eq!(endpoints.admit("b", &id(5), at(1.0)), Admission::Go, "another endpoint is not to blame");
        assert_eq!(endpoints.admit("a", &id(5), at(30.0)), Admission::Go);
        assert_eq!(endpoints.admit("a", &id(6), at(31.0)), Admission::Wait(at(60.0)), "half open: one trial");
        endpoints.answered("a", &id(5), at(32.0));
        assert!(matches!(endpoints.admit("a", &id(6), at(32.0)), Admission::Wait(_)), "not all at once");
        assert_eq!(endpoints.admit("a", &id(6), at(33.0)), Admission::Go);
    }

    #[test]
    fn p9_an_endpoint_that_hangs_holds_few_calls_and_one_that_answers_gets_more() {
        let (mut endpoints, life) = (Endpoints::default(), Some(Duration::from_secs(60)));
        (0..10_000).for_each(|n| endpoints.join("a", &id(n), life, at(0.0)));
        let go = |endpoints: &mut Endpoints, of: std::ops::Range<usize>, second: f64| {
            of.filter(|n| endpoints.admit("a", &id(*n), at(second)) == Admission::Go).collect::<Vec<_>>()
        };
        let first = go(&mut endpoints, 0..1_000, 0.0);
        assert_eq!(first.len(), FIRST_OUT);
        assert_eq!(go(&mut endpoints, 1_000..2_000, 20.0), [0; 0], "nobody has answered");
        for n in &first {
            endpoints.answered("a", &id(*n), at(21.0));
        }
        let second = go(&mut endpoints, 2_000..3_000, 60.0);
        assert_eq!(second.len(), FIRST_OUT, "none was out any longer: nobody knows what it can bear now");
        endpoints.answered("a", &id(second[0]), at(61.0));
        let third = go(&mut endpoints, 3_000..4_000, 100.0);
        assert_eq!(third.len(), 2, "an answer while others are out makes room for one more than its own");
        endpoints.came_to_nothing("a", &id(third[0]));
        assert_eq!(go(&mut endpoints, 4_000..5_000, 140.0).len(), 1);
    }

    /// 10,000 that are due at once: each asks once, is told its turn, comes back then, and goes.
    fn spread(life: Option<Duration>) -> (f64, usize) {
        let mut endpoints = Endpoints::default();
        for n in 0..10_000 {
            endpoints.join("a", &id(n), life, at(0.0));
        }
        let mut turns = Vec::new();
        for n in 0..10_000 {
            let turn = match endpoints.admit("a", &id(n), at(0.0)) {
                Admission::Go => at(0.0),
                Admission::Wait(turn) => {
                    assert_eq!(endpoints.admit("a", &id(n), turn), Admission::Go, "the turn is kept");
                    turn
                }
            };
            endpoints.answered("a", &id(n), turn);
            turns.push(turn);
        }
        let second = |turn: &Timestamp| turn.duration_since(at(0.0)).as_secs_f64();
        let last = turns.iter().map(second).fold(0.0, f64::max);
        let busiest = (0..=last as usize).map(|s| turns.iter().filter(|t| second(t) as usize == s).count()).max();
        (last, busiest.unwrap())
    }

    #[test]
    fn rf25_many_that_are_due_together_are_spread_over_their_window() {
        let (last, busiest) = spread(None);
        assert!(last < 300.0 && busiest <= 3 * (10_000 / 200), "the last at {last} s, {busiest} in one second");
        let (last, _) = spread(Some(Duration::from_secs(60)));
        assert!(last < 30.0, "tokens of a minute have half of it: the last at {last} s");
    }

    #[test]
    fn rf36_a_step_of_the_clock_neither_opens_nor_starves_a_bucket() {
        for hours in [1, -1] {
            let (mut endpoints, by) = (Endpoints::default(), SignedDuration::from_hours(hours));
            let admitted = |endpoints: &mut Endpoints, now: Timestamp| {
                (0..100).filter(|n| endpoints.admit("a", &id(*n), now) == Admission::Go).count()
            };
            assert_eq!(admitted(&mut endpoints, at(0.0)), 10);
            (0..10).for_each(|n| endpoints.answered("a", &id(n), at(0.5)));
            endpoints.follow(by);
            assert_eq!(admitted(&mut endpoints, at(1.0) + by), 5, "those whose turn has come");
        }
    }

    #[test]
    fn whoever_leaves_takes_its_demand_along() {
        let mut endpoints = Endpoints::default();
        endpoints.join("a", &id(1), None, at(0.0));
        endpoints.join("a", &id(1), Some(Duration::from_secs(10)), at(0.0));
        endpoints.leave("a", &id(1));
        assert!(endpoints.0.is_empty());
    }
}

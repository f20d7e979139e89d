//! What the credentials of one token endpoint share: a bucket that paces them and a breaker that spares a failing
//! endpoint (FAULTS §8). Pure: the time is handed in.

use std::{collections::HashMap, time::Duration};

use jiff::Timestamp;

/// Failures without a verdict in a row after which the breaker opens.
const OPENS_AFTER: u32 = 5;
/// While it is open, one call goes through this often.
const HALF_OPEN: Duration = Duration::from_secs(30);
/// Calls a second when the bucket is full of patience; raised with the number of credentials.
const RATE: f64 = 5.0;
/// Calls that may go at once.
const BURST: f64 = 10.0;

/// Whether a flight may begin now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Now.
    Go,
    /// Not before.
    Wait(Timestamp),
}

#[derive(Clone, Debug)]
struct Endpoint {
    /// Calls that may go now; falls below zero for those that were told to come later, so that each gets its own turn.
    tokens: f64,
    filled_at: Timestamp,
    failures: u32,
    next_trial: Option<Timestamp>,
    credentials: usize,
}

/// All token endpoints of one shard's credentials, by origin and client.
#[derive(Clone, Debug, Default)]
pub struct Endpoints(HashMap<String, Endpoint>);

impl Endpoints {
    /// Another credential uses this endpoint: the bucket grows so that all can be refreshed within their window.
    pub fn join(&mut self, key: &str, now: Timestamp) {
        self.of(key, now).credentials += 1;
    }

    /// One less.
    pub fn leave(&mut self, key: &str) {
        if let Some(endpoint) = self.0.get_mut(key) {
            endpoint.credentials = endpoint.credentials.saturating_sub(1);
            if endpoint.credentials == 0 {
                self.0.remove(key);
            }
        }
    }

    /// May a flight begin? `Wait` has already reserved its turn in the queue.
    pub fn admit(&mut self, key: &str, now: Timestamp) -> Admission {
        let endpoint = self.of(key, now);
        if endpoint.failures >= OPENS_AFTER {
            return match endpoint.next_trial {
                Some(at) if at > now => Admission::Wait(at),
                _ => {
                    endpoint.next_trial = Some(now + HALF_OPEN);
                    Admission::Go
                }
            };
        }
        // 1.5 times what the credentials need within an advisory window of five minutes (FAULTS §8).
        let rate = RATE.max(1.5 * endpoint.credentials as f64 / 300.0);
        let passed = now.duration_since(endpoint.filled_at).as_secs_f64().max(0.0);
        endpoint.tokens = (endpoint.tokens + passed * rate).min(BURST.max(rate));
        endpoint.filled_at = now;
        if endpoint.tokens >= 1.0 {
            endpoint.tokens -= 1.0;
            return Admission::Go;
        }
        Admission::Wait(now + Duration::from_secs_f64(((1.0 - endpoint.tokens) / rate).clamp(0.001, 3600.0)))
    }

    /// A call brought a complete answer that was no outage: the breaker closes.
    pub fn answered(&mut self, key: &str, now: Timestamp) {
        let endpoint = self.of(key, now);
        endpoint.failures = 0;
        endpoint.next_trial = None;
    }

    /// A call brought no verdict.
    pub fn failed(&mut self, key: &str, now: Timestamp) {
        let endpoint = self.of(key, now);
        endpoint.failures = endpoint.failures.saturating_add(1);
        if endpoint.failures >= OPENS_AFTER {
            endpoint.next_trial = Some(now + HALF_OPEN);
        }
    }

    fn of(&mut self, key: &str, now: Timestamp) -> &mut Endpoint {
        self.0.entry(key.to_owned()).or_insert(Endpoint {
            tokens: BURST,
            filled_at: now,
            failures: 0,
            next_trial: None,
            credentials: 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> Timestamp {
        Timestamp::from_second(1_767_225_600).unwrap() + Duration::from_secs_f64(seconds)
    }

    #[test]
    fn p9_a_failing_endpoint_is_called_once_in_thirty_seconds() {
        let mut endpoints = Endpoints::default();
        for _ in 0..5 {
            assert_eq!(endpoints.admit("a", at(0.0)), Admission::Go);
            endpoints.failed("a", at(0.0));
        }
        assert_eq!(endpoints.admit("a", at(1.0)), Admission::Wait(at(30.0)));
        assert_eq!(endpoints.admit("b", at(1.0)), Admission::Go, "another endpoint is not to blame");
        assert_eq!(endpoints.admit("a", at(30.0)), Admission::Go);
        assert_eq!(endpoints.admit("a", at(31.0)), Admission::Wait(at(60.0)), "half open: one trial");
        endpoints.answered("a", at(32.0));
        assert_eq!(endpoints.admit("a", at(32.0)), Admission::Go);
    }

    #[test]
    fn rf25_many_that_are_due_together_are_spread() {
        let mut endpoints = Endpoints::default();
        for _ in 0..10_000 {
            endpoints.join("a", at(0.0));
        }
        let (mut gone, mut now) = (0, 0.0);
        let mut busiest = 0;
        while gone < 10_000 && now < 400.0 {
            let before = gone;
            while gone < 10_000 && endpoints.admit("a", at(now)) == Admission::Go {
                gone += 1;
            }
            busiest = busiest.max(gone - before);
            now += 1.0;
        }
        assert_eq!(gone, 10_000, "all of them inside the window");
        assert!(busiest <= 3 * (10_000 / 200), "{busiest} in one second");
    }
}

//! A wall clock that does not jump: boot time carries it, small corrections are followed, and a step is taken
//! over as one event, so that whatever was planned by date can move along.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, Ordering::SeqCst},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};

use super::{Clock, Now};

/// Less than this is slewing, or the jitter of two readings.
const STEP: SignedDuration = SignedDuration::from_secs(5);
/// A step of more than this is not believed at once.
const WILD: SignedDuration = SignedDuration::from_mins(10);
/// A wild step is believed after this time, whatever others say.
const PATIENCE: Duration = Duration::from_secs(600);
/// How well other people's dates must agree with the clock's.
const AGREES: SignedDuration = SignedDuration::from_secs(60);
/// So many of them, from different origins.
const WITNESSES: usize = 2;

/// What a look at both clocks showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noticed {
    /// The wall clock stepped by that much, and the step was taken over.
    Stepped(SignedDuration),
    /// It stepped by that much more than can be believed at once; until it is, boot time alone decides.
    Doubted(SignedDuration),
    /// It is believed again; that much of the step was taken over.
    Trusted(SignedDuration),
}

/// The decisions; pure. Both clocks and other people's dates are handed in.
#[derive(Clone, Debug)]
pub struct Steady {
    /// The date at which boot time was zero, as it is believed.
    zero: Timestamp,
    doubt: Option<Doubt>,
}

#[derive(Clone, Debug)]
struct Doubt {
    /// Boot time.
    since: Duration,
    /// The date of zero by each origin.
    witnesses: BTreeMap<String, Timestamp>,
}

fn zero(wall: Timestamp, boot: Duration) -> Timestamp {
    wall.checked_sub(boot).unwrap_or(Timestamp::MIN)
}

impl Steady {
    /// Begins by believing the clock.
    pub fn new(raw: Now) -> Self {
        Self { zero: zero(raw.wall, raw.boot), doubt: None }
    }

    /// Looks at both clocks; at least every 15 s.
    pub fn look(&mut self, raw: Now) -> Option<Noticed> {
        let theirs = zero(raw.wall, raw.boot);
        let by = theirs.duration_since(self.zero);
        match &self.doubt {
            None if by.abs() <= STEP => {
                self.zero = theirs;
                None
            }
            None if by.abs() <= WILD => {
                self.zero = theirs;
                Some(Noticed::Stepped(by))
            }
            None => {
                self.doubt = Some(Doubt { since: raw.boot, witnesses: BTreeMap::new() });
                Some(Noticed::Doubted(by))
            }
            Some(doubt) => {
                let agree = |zero: &&Timestamp| zero.duration_since(theirs).abs() <= AGREES;
                let confirmed = doubt.witnesses.values().filter(agree).count() >= WITNESSES;
                let waited = raw.boot.saturating_sub(doubt.since) >= PATIENCE;
                (by.abs() <= STEP || confirmed || waited).then(|| {
                    self.doubt = None;
                    self.zero = theirs;
                    Noticed::Trusted(by)
                })
            }
        }
    }

    /// The `Date` of a reply over HTTPS. It counts while the clock is in doubt.
    pub fn heard(&mut self, origin: &str, date: Timestamp, boot: Duration) {
        if let Some(doubt) = &mut self.doubt {
            doubt.witnesses.insert(origin.to_owned(), zero(date, boot));
        }
    }
}

/// A clock as [`Steady`] believes it. Reading it takes no lock.
pub struct SteadyClock {
    raw: Arc<dyn Clock>,
    steady: Mutex<Steady>,
    /// Microseconds since 1970.
    zero: AtomicI64,
    /// Microseconds.
    stepped: AtomicI64,
    doubted: AtomicBool,
}

impl SteadyClock {
    /// Over the machine's clock.
    pub fn new(raw: Arc<dyn Clock>) -> Self {
        let steady = Steady::new(raw.now());
        let zero = AtomicI64::new(steady.zero.as_microsecond());
        Self { raw, steady: Mutex::new(steady), zero, stepped: AtomicI64::new(0), doubted: AtomicBool::new(false) }
    }

    /// Looks at the machine's clocks, and takes over what is believed.
    pub fn look(&self) -> Option<Noticed> {
        let mut steady = self.steady.lock().expect("nothing panics while it is held");
        let noticed = steady.look(self.raw.now());
        if let Some(Noticed::Stepped(by) | Noticed::Trusted(by)) = noticed {
            // First the step, then the time: whoever sees the new time knows that it stepped.
            self.stepped.fetch_add(i64::try_from(by.as_micros()).unwrap_or(0), SeqCst);
        }
        self.zero.store(steady.zero.as_microsecond(), SeqCst);
        self.doubted.store(steady.doubt.is_some(), SeqCst);
        noticed
    }

    /// The `Date` of a reply over HTTPS, by its origin.
    pub fn heard(&self, origin: &str, date: Timestamp) {
        if self.is_doubted() {
            let boot = self.raw.now().boot;
            self.steady.lock().expect("nothing panics while it is held").heard(origin, date, boot);
        }
    }
}

impl fmt::Debug for SteadyClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SteadyClock").field("raw", &self.raw).finish_non_exhaustive()
    }
}

impl Clock for SteadyClock {
    fn now(&self) -> Now {
        let boot = self.raw.now().boot;
        let since = i64::try_from(boot.as_micros()).unwrap_or(i64::MAX);
        let wall = self.zero.load(SeqCst).saturating_add(since);
        Now { wall: Timestamp::from_microsecond(wall).unwrap_or(Timestamp::MAX), boot }
    }

    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        self.raw.sleep(time)
    }

    fn stepped(&self) -> SignedDuration {
        SignedDuration::from_micros(self.stepped.load(SeqCst))
    }

    fn is_doubted(&self) -> bool {
        self.doubted.load(SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(boot: u64, off: i64) -> Now {
        let wall = Timestamp::from_second(1_767_225_600 + i64::try_from(boot).unwrap() + off).unwrap();
        Now { wall, boot: Duration::from_secs(boot) }
    }

    const HOUR: SignedDuration = SignedDuration::from_hours(1);

    #[test]
    fn fm66_slewing_is_followed_and_a_step_is_one_event() {
        let mut steady = Steady::new(raw(0, 0));
        for second in 1..100 {
            // A leap smear, and a suspend in the middle of it: both clocks went on.
            let boot = if second < 50 { second * 15 } else { second * 15 + 7_200 };
            assert_eq!(steady.look(raw(boot, -i64::try_from(second / 25).unwrap())), None);
        }
        assert_eq!(steady.look(raw(10_000, 57)), Some(Noticed::Stepped(SignedDuration::from_secs(60))));
        assert_eq!(steady.look(raw(10_015, 57)), None);
    }

    #[test]
    fn fm66_a_wild_step_is_believed_after_ten_minutes() {
        for off in [3_600, -3_600, -1_767_225_600] {
            let mut steady = Steady::new(raw(0, 0));
            let by = SignedDuration::from_secs(off);
            assert_eq!(steady.look(raw(15, off)), Some(Noticed::Doubted(by)));
            assert_eq!((steady.look(raw(30, off)), steady.look(raw(600, off))), (None, None));
            assert_eq!(steady.look(raw(615, off)), Some(Noticed::Trusted(by)));
        }
    }

    #[test]
    fn fm66_two_origins_confirm_it_and_one_does_not() {
        let mut steady = Steady::new(raw(0, 0));
        steady.heard("https://early.example", raw(0, 3_600).wall, Duration::ZERO);
        steady.look(raw(15, 3_600));
        let hear = |steady: &mut Steady, origin: &str, off| {
            steady.heard(origin, raw(20, off).wall, Duration::from_secs(20));
            steady.look(raw(20, 3_600))
        };
        assert_eq!(hear(&mut steady, "https://a.example", 3_590), None);
        assert_eq!(hear(&mut steady, "https://a.example", 3_600), None, "the same one again");
        assert_eq!(hear(&mut steady, "https://b.example", 0), None, "it contradicts");
        assert_eq!(hear(&mut steady, "https://c.example", 3_630), Some(Noticed::Trusted(HOUR)));
    }

    #[test]
    fn fm66_stepped_back_is_as_if_nothing_had_been() {
        let mut steady = Steady::new(raw(0, 0));
        steady.look(raw(15, 3_600));
        assert_eq!(steady.look(raw(60, 1)), Some(Noticed::Trusted(SignedDuration::from_secs(1))));
    }
}

//! Watches the clock: a step is logged and counted, and one that cannot be believed is told to on-call.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::{
    clock::{Clock, Noticed, SteadyClock},
    incident::words::Details,
    ledger::{Fact, FactChange, Ledger},
    metrics::Metrics,
};

/// How often both clocks are compared.
const ROUND: Duration = Duration::from_secs(5);

const UNTRUSTED: &str = "clock_untrusted";

/// The watch.
pub(super) struct TimeWatch {
    pub clock: Arc<SteadyClock>,
    pub ledger: Ledger,
    pub metrics: Metrics,
    /// Wakes whoever plans by the clock.
    pub wake: Box<dyn Fn() + Send + Sync>,
}

impl TimeWatch {
    /// Until stopped.
    pub async fn run(self, stop: CancellationToken) {
        // Whether on-call believes the clock to be wrong; unknown after a start.
        let mut told = None;
        let mut by = jiff::SignedDuration::ZERO;
        loop {
            if let Some(noticed) = self.clock.look() {
                by = self.say(noticed);
                (self.wake)();
            }
            let doubted = self.clock.is_doubted();
            self.metrics.credd_clock_untrusted.set(i64::from(doubted));
            if told != Some(doubted) {
                match self.ledger.incidents().facts(vec![self.fact(doubted, by)]).await {
                    Ok(()) => told = Some(doubted),
                    Err(error) => {
                        tracing::error!(%error, "the ledger did not take the state of the clock; tried again")
                    }
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.clock.sleep(ROUND) => {}
            }
        }
    }

    fn say(&self, noticed: Noticed) -> jiff::SignedDuration {
        self.metrics.credd_clock_steps_total.inc();
        match noticed {
            Noticed::Stepped(by) => {
                tracing::warn!(event = "clock_step", "the wall clock stepped by {by:#}; what was planned moves along");
                by
            }
            Noticed::Doubted(by) => {
                tracing::error!(
                    event = UNTRUSTED,
                    "the wall clock stepped by {by:#}: time since boot alone decides until two HTTPS servers confirm it, or for 10 minutes; set the clock if it is wrong"
                );
                by
            }
            Noticed::Trusted(by) => {
                tracing::warn!(event = "clock_step", "the wall clock is believed again; it stepped by {by:#}");
                by
            }
        }
    }

    fn fact(&self, doubted: bool, by: jiff::SignedDuration) -> Fact {
        let change = if doubted {
            let details = Details {
                evidence: &format!("the wall clock stepped by {by:#} against the time since boot"),
                tried: "time since boot alone decides until two HTTPS servers confirm the new time, or for 10 minutes",
                affected: "credentials whose end is known as a date only",
                remedy: "",
            };
            FactChange::Raise {
                severity: "critical".into(),
                summary: "the machine's clock has jumped".into(),
                body: details.text(UNTRUSTED, "clock"),
            }
        } else {
            FactChange::Clear { why: "the clock is believed again".into() }
        };
        let at = self.clock.now().wall;
        Fact { kind: UNTRUSTED.into(), credential: "clock".into(), group: "clock".into(), change, at }
    }
}

//! The provider's bad days: a rate limit and an outage.

use std::collections::BTreeMap;

use super::Script;
use crate::{
    demo::cast::{CAST, Part, who},
    sandbox::{FaultKind, RetryAfter},
};

/// What the provider asks for when it limits, in seconds.
const ASKED: u64 = 3;
/// An outage fails so many calls; five in a row would open the breaker, which then spares the provider for 30 s, longer
/// than these tokens live.
const OUTAGE: u32 = 4;

/// Who was hit by the outage, and by which call last.
pub(super) type Hit = BTreeMap<&'static str, u64>;

impl Script {
    /// The provider asks for patience.
    pub(super) async fn rate_limit(&self) -> Result<String, String> {
        let name = who(Part::Limited);
        self.at(0.1).await;
        let fault = FaultKind::RateLimit { retry_after: RetryAfter::Seconds(ASKED) }.next(1);
        self.sandbox.admin().fault(fault.of(self.grant(name)));
        self.view.say(&format!("The next refresh of {name} will be answered with 429 and Retry-After: {ASKED}."));
        let limited =
            self.until("the rate limit", || self.calls(name).into_iter().find(|call| call.status == Some(429))).await?;
        let next = self
            .until("the refresh after the rate limit", || {
                self.calls(name).into_iter().find(|call| call.seq > limited.seq)
            })
            .await?;
        let waited = next.arrived.duration_since(limited.arrived).as_secs_f64();
        if waited < ASKED as f64 {
            return Err(format!("{name} was refreshed {waited:.1} s after a 429 that asked for {ASKED} s"));
        }
        self.until("a value after the rate limit", || {
            self.calls(name).iter().any(|call| call.seq > limited.seq && call.committed.is_some()).then_some(())
        })
        .await?;
        self.view.good(&format!("{name}: the limit was waited out ({waited:.1} s), and its readers never noticed"));
        Ok(format!("429 with Retry-After: {ASKED} was waited out ({waited:.1} s), then refreshed"))
    }

    /// The token endpoint is down until some refreshes have failed. Who was hit, and by which call last.
    pub(super) async fn outage(&self) -> Result<Hit, String> {
        self.at(0.25).await;
        self.view.say("The provider's token endpoint goes down: 503 for everybody.");
        let admin = self.sandbox.admin();
        let fault = admin.fault(FaultKind::Status { status: 503, after_commit: false }.next(OUTAGE));
        let hit = || {
            let failed =
                |name| self.calls(name).iter().rev().find(|call| call.status == Some(503)).map(|call| call.seq);
            CAST.iter().filter_map(|role| Some((role.name, failed(role.name)?))).collect::<Hit>()
        };
        let count =
            || CAST.iter().flat_map(|role| self.calls(role.name)).filter(|call| call.status == Some(503)).count();
        let down = self.until("three refreshes that fail in the outage", || (count() >= 3).then_some(())).await;
        admin.clear(fault);
        down?;
        self.view.say(&format!("The provider is back, after {} refreshes that failed.", count()));
        Ok(hit())
    }

    /// Everybody who was hit is renewed.
    pub(super) async fn recovery(&self, down: Result<Hit, String>) -> Result<String, String> {
        let down = down?;
        let names: Vec<&str> = down.keys().copied().collect();
        self.until("a refresh after the outage of each that it hit", || {
            let recovered = |(name, failed): (&&'static str, &u64)| {
                self.calls(name).iter().any(|call| call.seq > *failed && call.committed.is_some())
            };
            down.iter().all(recovered).then_some(())
        })
        .await?;
        self.view.good(&format!("The outage is over for {} as well: renewed.", names.join(", ")));
        Ok(format!("503 for everybody: {} lived on their old tokens, and were renewed after it", names.join(", ")))
    }
}

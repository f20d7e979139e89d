//! A request was sent and no reply is durable: the provider may have rotated (RR-3 to RR-5).

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    machine::{Flight, Lifecycle},
    plan::{Policy, mandatory_window},
    schedule::later,
};
use crate::{
    clock::Now,
    credential::{Rotation, Verdict},
};

/// The cause of trouble whose request was lost.
pub(super) const LOST: &str = "outcome_unknown";

/// A loss is remembered until the provider says something about the grant, or new material comes: a refused
/// connection, a limit or a 5xx in between leave the outcome as unknown as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// When the latest request went out whose reply is missing: a grace counts from it.
    pub since: Timestamp,
    /// Presentations that were lost since.
    pub tries: u32,
}

impl Loss {
    pub(super) fn first(sent: Timestamp) -> Self {
        Self { since: sent, tries: 0 }
    }

    /// One more presentation was lost. Either an earlier one had rotated, and nothing can be made worse, or this one did,
    /// and the grace began with it: then it must not be missed.
    pub(super) fn again(self, sent: Timestamp) -> Self {
        Self { since: sent, tries: self.tries.saturating_add(1) }
    }

    /// The old grant still works if any does (`rotation = grace`), with five seconds to present it.
    pub(super) fn in_grace(&self, at: Timestamp, policy: &Policy) -> bool {
        at < self.grace_ends(policy)
    }

    fn grace_ends(&self, policy: &Policy) -> Timestamp {
        later(self.since, policy.grace.saturating_sub(Duration::from_secs(5)))
    }
}

impl Lifecycle {
    pub(super) fn lost(&mut self, verdict: Verdict, now: Now, dice: f64, policy: &Policy) {
        let sent = self.sent_at.unwrap_or(now.wall);
        let loss = self.lost.map_or_else(|| Loss::first(sent), |loss| loss.again(sent));
        self.lost = Some(loss);
        self.note_refresh_trouble(Verdict { cause: Some(LOST.into()), ..verdict }, now, dice, policy);
        let retry_at = self.present_again_at(loss, now, dice, policy);
        self.flight = Flight::Lost { since: loss.since, retry_at, tries: loss.tries };
    }

    /// Whether a request was lost, and nothing has come since that tells what became of it.
    pub fn is_lost(&self) -> bool {
        self.lost.is_some()
    }

    /// A flight ended without a word about the grant. What was lost before it still is.
    pub(super) fn still_lost(&mut self, now: Now, dice: f64, policy: &Policy) {
        if let (Some(loss), Flight::Grounded) = (self.lost, &self.flight) {
            let patience =
                self.trouble.as_ref().filter(|trouble| trouble.refreshes > 0).map(|trouble| trouble.retry_at);
            let retry_at = Some(self.present_again_at(loss, now, dice, policy)).max(patience).unwrap_or(now.wall);
            self.flight = Flight::Lost { since: loss.since, retry_at, tries: loss.tries };
        }
    }

    /// When may the old grant be presented again?
    pub(super) fn present_again_at(&self, loss: Loss, now: Now, dice: f64, policy: &Policy) -> Timestamp {
        let left = self.validity.as_ref().and_then(|validity| validity.left(now));
        let life = self.validity.as_ref().and_then(|validity| validity.life);
        let back_off = || now.wall + policy.back_off(loss.tries.max(1), left, life, dice);
        let at_once_then_back_off = || if loss.tries == 0 { now.wall } else { back_off() };
        match policy.rotation {
            Rotation::None | Rotation::Sporadic | Rotation::UntilFirstUse => at_once_then_back_off(),
            // No pause outlasts the grace.
            Rotation::Grace if loss.in_grace(now.wall, policy) => {
                let last = loss.grace_ends(policy) - Duration::from_secs(1);
                at_once_then_back_off().min(last).max(now.wall)
            }
            Rotation::Unknown if loss.tries == 0 => now.wall,
            Rotation::Strict if !policy.reuse_kills_access_token && loss.tries == 0 => now.wall,
            // Do not gamble early: serve what lives, and present the old grant once little is left to protect.
            Rotation::Strict | Rotation::Grace | Rotation::Unknown => {
                self.mandatory_moment().filter(|moment| *moment > now.wall).unwrap_or_else(back_off)
            }
        }
    }

    /// A 5xx from a strict provider: it probably did not rotate, but nothing is presented before the mandatory window.
    pub(super) fn spare_the_grant(&mut self, now: Now, policy: &Policy) {
        let moment = self.mandatory_moment().filter(|moment| *moment > now.wall);
        if policy.rotation == Rotation::Strict
            && let (Some(moment), Some(trouble)) = (moment, &mut self.trouble)
        {
            trouble.retry_at = trouble.retry_at.max(moment);
        }
    }

    /// When little is left: refreshes are tried hard from here on.
    pub(super) fn mandatory_moment(&self) -> Option<Timestamp> {
        let validity = self.validity.as_ref()?;
        validity.expires_at?.checked_sub(mandatory_window(validity.life.unwrap_or(Duration::from_secs(3600)))).ok()
    }
}

//! What a flight found in the ledger means. There is no second machine for recovery, only a second place to start from.

use super::{
    effect::Effect,
    event::Found,
    lost::{LOST, Loss},
    machine::{Flight, Lifecycle, Trouble},
    plan::Policy,
};
use crate::{
    clock::Now,
    credential::{Failure, Verdict},
};

impl Lifecycle {
    pub(super) fn found(&mut self, found: Found, now: Now, dice: f64, policy: &Policy) -> Vec<Effect> {
        match found {
            // RR-1: nothing was sent.
            Found::Prepared => self.flight = Flight::Grounded,
            // RR-2: the watcher promotes the captured reply; until then one is in the air.
            Found::Received { attempt } => self.flight = Flight::Received { attempt },
            Found::Nothing if self.is_in_flight() => self.flight = Flight::Grounded,
            Found::Nothing => {}
            // RR-3: the old call must be dead first, then the rotation profile decides. A kind that spends no grant
            // loses nothing by asking again.
            Found::Sent { prepared_at, dead_at } => {
                if policy.kind.spends_grant() {
                    let loss = match (self.lost, &self.flight) {
                        (None, _) => Loss::first(prepared_at),
                        // The one that is known already.
                        (Some(loss), Flight::Lost { .. }) => loss,
                        (Some(loss), _) => loss.again(prepared_at),
                    };
                    self.sent_at = Some(prepared_at);
                    let retry_at = self.present_again_at(loss, now, dice, policy).max(dead_at);
                    self.note_lost(now);
                    self.lost = Some(loss);
                    self.flight = Flight::Lost { since: loss.since, retry_at, tries: loss.tries };
                } else {
                    self.flight = Flight::Grounded;
                    self.not_before = Some(dead_at);
                }
            }
        }
        self.still_lost(now, dice, policy);
        vec![]
    }

    fn note_lost(&mut self, now: Now) {
        let verdict = Verdict::of(Failure::UpstreamUnavailable, LOST).into();
        self.trouble = Some(Trouble { since: now.wall, refreshes: 1, verdict, retry_at: now.wall });
    }
}

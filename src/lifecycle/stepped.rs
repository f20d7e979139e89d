//! The wall clock stepped. Most of what stands here as a date is a span in disguise, and moves along; only
//! what somebody else told as a date stays.

use jiff::{SignedDuration, Timestamp};

use super::{
    effect::Effect,
    machine::{Flight, Lifecycle, Standing},
};
use crate::clock::Now;

/// What such a date makes due is spread over this time.
const SPREAD: SignedDuration = SignedDuration::from_secs(60);

impl Lifecycle {
    /// The wall clock was put forward by that much; `now` is after it.
    pub fn clock_stepped(&mut self, by: SignedDuration, now: Now, dice: f64) -> Vec<Effect> {
        let before = now.wall.checked_sub(by).unwrap_or(now.wall);
        let moved = |at: &mut Timestamp| *at = at.checked_add(by).unwrap_or(*at);
        if let Standing::Suspect(suspicion) = &mut self.standing {
            moved(&mut suspicion.since);
            moved(&mut suspicion.confirm_at);
        }
        match &mut self.flight {
            Flight::Sent { deadline, .. } => moved(deadline),
            Flight::Lost { since, retry_at, .. } => {
                moved(since);
                moved(retry_at);
            }
            Flight::Grounded | Flight::Prepared { .. } | Flight::Received { .. } => {}
        }
        if let Some(loss) = &mut self.lost {
            moved(&mut loss.since);
        }
        if let Some(trouble) = &mut self.trouble {
            moved(&mut trouble.since);
            moved(&mut trouble.retry_at);
        }
        let probes = &mut self.probes;
        let planned = [&mut probes.next_at, &mut probes.quiet_until, &mut probes.on_trial_until];
        let gates = [&mut self.sent_at, &mut self.not_before];
        planned.into_iter().chain(gates).chain(&mut self.refreshed).flatten().for_each(moved);
        if let Some(validity) = &mut self.validity {
            // How long it lives was told, and boot time knows since when.
            let told_as_span = validity.issued_boot.is_some() && validity.life.is_some();
            if told_as_span {
                moved(&mut validity.issued_at);
                validity.expires_at.iter_mut().for_each(moved);
            }
            if let Some(refresh_at) = &mut validity.refresh_at {
                let was_due = *refresh_at <= before;
                if told_as_span || validity.expires_at.is_none() || was_due {
                    moved(refresh_at);
                } else if *refresh_at <= now.wall {
                    let wait = SPREAD.mul_f64(dice.clamp(0.0, 1.0));
                    *refresh_at = now.wall.checked_add(wait).unwrap_or(now.wall);
                }
            }
        }
        vec![]
    }
}

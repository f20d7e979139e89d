//! What the daemon publishes of each credential, told in plain words as it happens.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use jiff::{SignedDuration, Timestamp};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    cast::CAST,
    stage::Stage,
    view::{Tone, View, left},
};
use crate::{
    credential::Failure,
    lifecycle::State,
    publish::{self, Seen, Subtype},
};

/// Follows every credential.
pub fn follow(stage: &Stage, view: &Arc<View>, tasks: &TaskTracker, stop: &CancellationToken) {
    for role in &CAST {
        let Some(mut watch) = stage.watched().watch(role.name) else { continue };
        let (view, tally) = (view.clone(), stage.tally.clone());
        tasks.spawn(stop.clone().run_until_cancelled_owned(async move {
            let mut before: Option<publish::View> = None;
            while let Some(Seen::Edition(edition)) = watch.next().await {
                let after = edition.view.clone();
                if before.as_ref().is_some_and(|before| is_late(before, &after, view.clock.now().wall)) {
                    tally.late.fetch_add(1, Relaxed);
                }
                if let Some(before) = &before
                    && let Some((tone, text)) = tell(before, &after, view.clock.now().wall)
                {
                    view.tell(tone, &text);
                }
                before = Some(after);
            }
        }));
    }
}

/// Whether a new value came after the old one had ended.
fn is_late(before: &publish::View, after: &publish::View, now: Timestamp) -> bool {
    after.generation > before.generation && before.left(now).is_some_and(|left| left <= SignedDuration::ZERO)
}

/// What is news in it, if anything is.
fn tell(before: &publish::View, after: &publish::View, now: Timestamp) -> Option<(Tone, String)> {
    let name = &after.name;
    let old_left = before.left(now).filter(|left| *left > SignedDuration::ZERO);
    if after.generation > before.generation {
        if matches!(before.state, State::Revoked) {
            return Some((Tone::Good, format!("{name}: new secret taken over, generation {}", after.generation)));
        }
        let spare = old_left.map(|time| format!("; the old token had {} left", left(time))).unwrap_or_default();
        return Some((Tone::Plain, format!("{name}: refreshed, generation {}{spare}", after.generation)));
    }
    let failure = |view: &publish::View| view.problem.as_ref().map(|problem| (problem.failure, problem.retry_at));
    if after.state == State::Revoked && before.state != State::Revoked {
        return Some((Tone::Bad, format!("{name}: revoked, confirmed by a second refusal; a person must act")));
    }
    let (failed, retry) = failure(after).filter(|now| Some(*now) != failure(before))?;
    let again = retry.map(|at| at.duration_since(now)).filter(|wait| *wait > SignedDuration::ZERO);
    let again = again.map(|wait| format!(", next try in {}", left(wait))).unwrap_or_default();
    let serves = old_left.map(|time| format!("; its token works for {} more", left(time))).unwrap_or_default();
    let text = match failed {
        Subtype::Failure(Failure::RateLimitReached) => format!("{name}: refresh rate-limited{again}{serves}"),
        Subtype::Failure(Failure::UpstreamUnavailable) => {
            format!("{name}: refresh failed, the provider is down{again}{serves}")
        }
        Subtype::Failure(Failure::CredentialRevoked) if after.state == State::Suspect => {
            format!("{name}: the provider refuses the grant; looking a second time before anybody is paged")
        }
        Subtype::Failure(Failure::CredentialExpired | Failure::CredentialRejected | Failure::CredentialRevoked) => {
            format!("{name}: the API refuses its token before its date; a refresh decides")
        }
        other => format!("{name}: {}{again}{serves}", other.as_str()),
    };
    Some((Tone::Warn, text))
}

//! `credd check --online`: one credential, loaded, exchanged where that spends nothing, and probed, outside of any shard.

use std::sync::Arc;

use jiff::SignedDuration;
use uuid::Uuid;

use super::{
    Assignment,
    interpret::{self, Refreshed},
    probe::Look,
    watched::Watched,
    way::Way,
};
use crate::{
    catalogue::{ScopeGap, scopes},
    clock::{Clock, Now},
    credential::{Failure, Generation, Material, Verdict},
    fetch::Exchange,
    lifecycle::{Probed, Trigger},
    store::StoreError,
    upstream::{Subject, Upstream, can_ask},
};

/// Loads and proves one credential: a severity and a sentence. No refresh token is presented, because that may spend it.
pub async fn prove(assignment: &Assignment, upstream: &dyn Upstream, clock: &dyn Clock) -> (&'static str, String) {
    let remedy = || Watched::new(Arc::new(assignment.clone()), SignedDuration::ZERO).remedy();
    let material = match assignment.at_home().await {
        Ok(loaded) => loaded.material,
        Err(error @ (StoreError::NotFound { .. } | StoreError::Malformed { .. })) => {
            return ("failure", format!("{error}: {}", remedy()));
        }
        Err(error) => return ("failure", error.to_string()),
    };
    let now = clock.now();
    let mut subject = Subject {
        provider: assignment.provider.clone(),
        kind: assignment.kind,
        material: Arc::new(material),
        settings: assignment.upstream.clone(),
    };
    if assignment.kind.is_refreshable()
        && let Err(error) = can_ask(&subject, now.wall)
    {
        return ("failure", format!("no token can be asked for: {error}"));
    }
    if assignment.kind.is_refreshable() && !assignment.kind.spends_grant() {
        match exchanged(subject.clone(), upstream, now).await {
            Ok(material) => subject.material = Arc::new(material),
            Err(verdict) => return (severity(&verdict), format!("no token: {}", told(&verdict))),
        }
    }
    let left = subject.material.expires_at.or(assignment.expires_at).map(|end| end.duration_since(now.wall));
    if left.is_some_and(|left| left <= SignedDuration::ZERO) {
        return if assignment.kind.is_refreshable() {
            (
                "warning",
                "its access token is over; credd refreshes it when it runs, which alone proves its grant".into(),
            )
        } else {
            ("failure", format!("it has expired, and nothing renews a static key; only a new one helps: {}", remedy()))
        };
    }
    if subject.material.value(assignment.kind).is_none() {
        return ("success", "loaded; it has no access token yet, and credd asks for one when it runs".to_owned());
    }
    let left = left.map(|left| format!(", {:#} left", SignedDuration::from_secs(left.as_secs()))).unwrap_or_default();
    if !assignment.policy.has_probe {
        return ("success", format!("loaded{left}; its provider has no probe"));
    }
    let result = upstream.probe(&subject, now.wall).await;
    let landed_at = clock.now();
    let look = Look { generation: Generation(0), trigger: Trigger::Operator, sent_at: now, landed_at, result };
    match interpret::probe(&assignment.provider, assignment.kind, &assignment.upstream, &look) {
        (Probed::Works(_), _) => {
            let by_probe = match &look.result {
                Ok(Exchange::Replied(reply)) => assignment.provider.probe_scopes(assignment.kind, reply),
                _ => None,
            };
            let granted = by_probe.or(subject.material.scope.as_deref().map(scopes));
            let (severity, words) = held_to(&assignment.scopes, granted);
            (severity, format!("works{left}{words}"))
        }
        (Probed::No(verdict), _) if !is_against_it(&verdict) => ("warning", format!("{}{left}", told(&verdict))),
        (Probed::No(verdict), _) if verdict.failure == Failure::CredentialRevoked => {
            ("failure", format!("{}: {}", told(&verdict), remedy()))
        }
        // Nothing renews a static key, so the first no is the last word; another value may be had for the others.
        (Probed::No(verdict), _) if !assignment.kind.is_refreshable() => {
            ("failure", format!("its API refuses it: {}; put a good one there: {}", told(&verdict), remedy()))
        }
        (Probed::No(verdict), _) => {
            let words = "credd asks for a new token when it runs";
            let severity = if assignment.kind.spends_grant() { "warning" } else { "failure" };
            (severity, format!("{}{left}; {words}", told(&verdict)))
        }
    }
}

/// What the token endpoint gives, asked as the daemon would: once, and once more where there is another way.
async fn exchanged(subject: Subject, upstream: &dyn Upstream, now: Now) -> Result<Material, Verdict> {
    let (mut way, mut first) = (Way::default(), None);
    loop {
        let mut asked = subject.clone();
        way.apply(&mut asked);
        let verdict = match upstream.refresh(&asked, now.wall).await {
            Err(error) => interpret::unmakable(&error),
            Ok(Exchange::NotSent(trouble) | Exchange::Ambiguous(trouble)) => interpret::troubled(&trouble),
            Ok(Exchange::Replied(reply)) => {
                match interpret::reply_to_refresh(&subject.provider, subject.kind, &reply, now.wall, None) {
                    Refreshed::Tokens(tokens) => {
                        return Ok(interpret::renewed(&subject.material, &tokens, now, Generation(0), Uuid::nil()));
                    }
                    Refreshed::Doubtful { verdict, .. } | Refreshed::No { verdict, .. } => verdict,
                }
            }
        };
        match way.other(&verdict, &subject.material, &subject.settings).filter(|_| first.is_none()) {
            Some(other) => (way, first) = (other, Some(verdict)),
            None => return Err(first.unwrap_or(verdict)),
        }
    }
}

/// Whether a verdict is about the credential: what is merely down or limited proves nothing.
fn is_against_it(verdict: &Verdict) -> bool {
    use Failure as F;
    matches!(verdict.failure, F::CredentialExpired | F::CredentialRejected | F::CredentialRevoked)
}

fn severity(verdict: &Verdict) -> &'static str {
    let is_no =
        is_against_it(verdict) || matches!(verdict.failure, Failure::ClientMisconfigured | Failure::InsufficientScope);
    if is_no { "failure" } else { "warning" }
}

fn told(verdict: &Verdict) -> String {
    format!("{}: {} (rule {})", verdict.failure, verdict.evidence, verdict.rule)
}

/// What its scopes are, beside those that it needs: a severity, and words to add.
fn held_to(needed: &[String], granted: Option<std::collections::BTreeSet<String>>) -> (&'static str, String) {
    let Some(granted) = granted.filter(|_| !needed.is_empty()) else {
        let untold = if needed.is_empty() { "" } else { "; its provider does not tell its scopes" };
        return ("success", untold.to_owned());
    };
    let ScopeGap { missing, wider } = ScopeGap::between(needed, &granted);
    let more = match wider.as_slice() {
        [] => String::new(),
        wider => format!("; wider than needed: {}; make a narrower one", wider.join(", ")),
    };
    match missing.as_slice() {
        [] if more.is_empty() => ("success", "; its scopes are those that it needs".to_owned()),
        [] => ("warning", more),
        missing => {
            let lacks = missing.join(", ");
            (
                "failure",
                format!("; but insufficient_scope: it lacks {lacks}, and calls that need it will be refused{more}"),
            )
        }
    }
}

//! A bad deployment never goes live: what ends a start, and what only starts red.

use std::{collections::BTreeSet, fmt};

use jiff::{SignedDuration, Timestamp};

use crate::{
    config::{Config, Problems, Startup},
    credential::CredentialId,
    lifecycle::State,
    publish::{Criticality, View},
};

/// Why a daemon does not start. Each text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The settings can come to nothing, as `credd check --offline` says.
    #[error("{0}")]
    Impossible(Problems),
    /// A part cannot be built from the settings.
    #[error("{0}")]
    Settings(String),
    /// The ledger cannot be opened, or a listener not bound.
    #[error("{0}")]
    Environment(String),
    /// Required credentials are bad, and were never seen good.
    #[error("{0}")]
    Credentials(Refused),
}

/// Required credentials that are bad and that the ledger has never seen good: a line each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refused(pub Vec<String>);

impl Refused {
    /// Whether the start may go on.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "credd does not start, because required credentials are bad and were never seen good:")?;
        for line in &self.0 {
            writeln!(f, "  {line}")?;
        }
        write!(f, "mend them, or start all the same with startup = \"warn\" (for all, or for one credential)")
    }
}

/// Which credentials end the start. A store or provider that is merely down never does (FM-78).
pub fn judge(config: &Config, views: &[View], known: &BTreeSet<CredentialId>, now: Timestamp) -> Refused {
    let lines = views.iter().filter_map(|view| {
        let credential = config.credentials.get(&view.name)?;
        let strict = credential.startup.unwrap_or(config.startup) == Startup::Fail;
        if !strict || view.criticality != Criticality::Required || known.contains(&view.name) {
            return None;
        }
        let left = view.expires_at.map(|end| end.duration_since(now));
        let cause = view.problem.as_ref().and_then(|problem| problem.cause.as_deref());
        let wrong = match view.state {
            State::Expired | State::Misconfigured if is_ours(view) => {
                "is refused because its client is misconfigured".to_owned()
            }
            // Expired, and no refresh has helped; one that got no verdict, or is still to come, may help.
            State::Expired if view.problem.as_ref().map_or(!view.kind.is_refreshable(), |p| !is_outage(p)) => {
                "has expired".to_owned()
            }
            State::Revoked => "is revoked".to_owned(),
            // Its API said no. Nobody reads it yet, so there is nothing to spare with a second look.
            State::Suspect if !view.kind.is_refreshable() => "is refused by its API".to_owned(),
            State::Uninitialised if cause == Some("no_secret") => "has no usable secret in its home store".to_owned(),
            _ if !view.kind.is_refreshable()
                && left.zip(view.ttl_fail_seconds).is_some_and(|(left, fail)| {
                    left < SignedDuration::from_secs(i64::try_from(fail).unwrap_or(i64::MAX))
                }) =>
            {
                "ends too soon, and nothing can renew it".to_owned()
            }
            _ => return None,
        };
        let left = left.map_or_else(
            || "no known end".to_owned(),
            |left| {
                let left = SignedDuration::from_secs(left.as_secs());
                if left > SignedDuration::ZERO {
                    format!("{left:#} left")
                } else {
                    format!("over for {:#}", left.abs())
                }
            },
        );
        let detail = view.problem.as_ref().map(|problem| format!(" ({})", problem.detail)).unwrap_or_default();
        let mend = view.problem.as_ref().and_then(|problem| problem.remedy.clone()).unwrap_or_else(|| {
            match view.store.as_str() {
                "embedded" => format!("credd credential put {} < new-secret.json", view.name),
                store => format!("put a new secret into store {store}"),
            }
        });
        Some(format!("{}: {wrong}{detail}; {left}; {mend}", view.name))
    });
    Refused(lines.collect())
}

fn is_ours(view: &View) -> bool {
    use crate::credential::Failure::ClientMisconfigured;
    view.problem.as_ref().is_some_and(|problem| problem.failure.failure() == Some(ClientMisconfigured))
}

fn is_outage(problem: &crate::publish::Problem) -> bool {
    use crate::credential::Failure as F;
    matches!(
        problem.failure.failure(),
        Some(F::UpstreamUnavailable | F::RateLimitReached | F::Unclassified | F::NotACredentialFailure)
    )
}

//! Where the runbook says what to do: the heading for what is wrong.

use crate::{credential::Failure as F, lifecycle::State, publish::View};

/// Where the runbook (`dashboards/README.md`) can be read.
const RUNBOOK: &str = "https://credd.dev/runbook";

pub(super) const STORE_DOWN: &str = "creddstoredown";
const REVOKED: &str = "creddcredentialrevoked";
const EXPIRED: &str = "creddcredentialexpired";
const MISCONFIGURED: &str = "creddcredentialmisconfigured";
const OUTCOME_UNKNOWN: &str = "creddoutcomeunknown";
const NOT_RENEWED: &str = "creddcredentialnotrenewed";
const STATIC_KEY: &str = "creddstatickeyexpiring";
const REFRESH_FAILING: &str = "creddrefreshfailing";
const RATE_LIMITED: &str = "creddratelimited";
const UNCLASSIFIED: &str = "creddunclassifiedfailures";
const SCOPE_REDUCED: &str = "scope_reduced";
const UNINITIALISED: &str = "uninitialised";
const HELD: &str = "held";

pub(super) fn link(heading: &str) -> String {
    format!("{RUNBOOK}#{heading}")
}

/// The heading for a credential that is not well.
pub(super) fn heading(view: &View, state: State) -> &'static str {
    let ends = if view.kind.is_refreshable() { NOT_RENEWED } else { STATIC_KEY };
    match state {
        State::Uninitialised => UNINITIALISED,
        State::Revoked => REVOKED,
        State::Expired if view.kind.is_refreshable() => EXPIRED,
        State::Expired => STATIC_KEY,
        State::Held => HELD,
        State::Misconfigured => MISCONFIGURED,
        State::OutcomeUnknown => OUTCOME_UNKNOWN,
        State::Fresh | State::RefreshDue | State::Refreshing | State::Degraded | State::Suspect => {
            match view.problem.as_ref().and_then(|problem| problem.failure.failure()) {
                None => ends,
                Some(F::RateLimitReached) => RATE_LIMITED,
                Some(F::Unclassified) => UNCLASSIFIED,
                Some(F::InsufficientScope) => SCOPE_REDUCED,
                Some(F::ClientMisconfigured) => MISCONFIGURED,
                Some(F::CredentialRevoked | F::CredentialRejected) => REVOKED,
                Some(F::CredentialExpired | F::UpstreamUnavailable | F::NotACredentialFailure) => REFRESH_FAILING,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_heading_stands_in_the_runbook() {
        let runbook = include_str!("../../../dashboards/README.md");
        let headings: Vec<String> =
            runbook.lines().filter_map(|line| line.strip_prefix("## ")).map(str::to_lowercase).collect();
        for heading in [
            STORE_DOWN,
            REVOKED,
            EXPIRED,
            MISCONFIGURED,
            OUTCOME_UNKNOWN,
            NOT_RENEWED,
            STATIC_KEY,
            REFRESH_FAILING,
            RATE_LIMITED,
            UNCLASSIFIED,
            SCOPE_REDUCED,
            UNINITIALISED,
            HELD,
        ] {
            assert!(headings.iter().any(|known| known == heading), "dashboards/README.md has no heading for {heading}");
        }
    }
}

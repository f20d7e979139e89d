//! What is wrong with a credential, for the person who must mend it: the reason, and the one thing to do.

use jiff::Timestamp;

use super::Watched;
use crate::{
    clock::Now,
    credential::{Failure, Verdict},
    lifecycle::{Standing, State},
    publish::{Problem, Subtype},
    store::StoreError,
};

impl Watched {
    /// What is wrong, if something is.
    pub fn problem(&self, state: State, now: Now) -> Option<Problem> {
        let Some(trouble) = self.life.trouble() else { return self.store_problem(state, now) };
        let verdict = &trouble.verdict;
        let failure = match (state, self.life.standing()) {
            // A person must act, whatever word the last reply deserved.
            (State::Revoked, _) => Failure::CredentialRevoked,
            (_, Standing::Misconfigured) => Failure::ClientMisconfigured,
            _ => verdict.failure,
        };
        let remedy = match failure {
            Failure::CredentialRevoked => Some(self.remedy()),
            Failure::ClientMisconfigured => Some(self.correction(verdict)),
            _ => None,
        };
        let evidence = if verdict.evidence.is_empty() { String::new() } else { format!(": {}", verdict.evidence) };
        let detail =
            format!("{}{evidence} (rule {})", verdict.cause.as_deref().unwrap_or(failure.as_str()), verdict.rule);
        let retry_at = self.retry_at(trouble.retry_at);
        let failure = Subtype::Failure(failure);
        Some(Problem { failure, cause: verdict.cause.clone(), detail, since: trouble.since, retry_at, remedy })
    }

    /// When it is tried again by itself, if it is.
    fn retry_at(&self, planned: Timestamp) -> Option<Timestamp> {
        match self.life.standing() {
            Standing::Revoked { .. } => None,
            Standing::Suspect(suspicion) => Some(suspicion.confirm_at),
            _ => Some(planned),
        }
    }

    /// There is nothing to serve, because the home store gave nothing.
    fn store_problem(&self, state: State, now: Now) -> Option<Problem> {
        let error = self.store_error.as_ref().filter(|_| state == State::Uninitialised)?;
        let (cause, remedy) = match error {
            StoreError::Unreachable { .. } | StoreError::Throttled { .. } => ("store_down", None),
            StoreError::NotFound { .. } => ("no_secret", Some(self.remedy())),
            // There is one, and a new one would not help either.
            StoreError::Denied { reason, .. } => {
                ("no_secret", Some(format!("let credd read it in {}: {reason}", self.home())))
            }
            StoreError::Malformed { .. } | StoreError::Conflict { .. } | StoreError::ReadOnly { .. } => {
                ("no_secret", Some(format!("correct it in {}: {error}", self.home())))
            }
        };
        Some(Problem {
            // No upstream has refused anything.
            failure: Subtype::NotReady,
            cause: Some(cause.to_owned()),
            detail: error.to_string(),
            since: self.life.since().unwrap_or(now.wall),
            retry_at: None,
            remedy,
        })
    }

    /// What mends a client, a setting or a store of ours that is wrong.
    pub fn correction(&self, verdict: &Verdict) -> String {
        match verdict.cause.as_deref() {
            Some("request") => {
                format!(
                    "in [credentials.{}] of the settings or in {}: {}",
                    self.assignment.id,
                    self.home(),
                    verdict.evidence
                )
            }
            Some("writeback_denied") => format!(
                "let credd write {}, because every refresh makes a new refresh token: {}",
                self.home(),
                verdict.evidence
            ),
            Some("client_binding") => format!(
                "set `client_id` of [credentials.{}.upstream] back, or authorise under the new client and put the new secret \
                 into {}",
                self.assignment.id,
                self.home()
            ),
            Some("no_material") => self.remedy(),
            _ => format!(
                "correct the client in the settings, in {} or at {}",
                self.home(),
                self.assignment.provider.name
            ),
        }
    }

    /// The one command that mends a dead grant or key.
    pub fn remedy(&self) -> String {
        let name = &self.assignment.id;
        if self.assignment.store.kind() == "embedded" {
            format!("credd credential put {name} < new-secret.json")
        } else {
            format!("put a new secret into {} and credd takes it over by itself", self.home())
        }
    }

    fn home(&self) -> String {
        format!("store {} (at {})", self.assignment.store_name, self.assignment.at.0)
    }
}

//! Why nothing goes out for a credential although somebody asked, and what helps: for people.

use super::watched::{Wants, Watched};
use crate::{clock::Now, lifecycle::Standing};

impl Watched {
    /// The reason and the next step. `by_operator`: what only spares the provider does not count.
    pub fn why_not(&self, wants: Wants, by_operator: bool, now: Now) -> String {
        let (name, policy) = (&self.assignment.id, &self.assignment.policy);
        if self.life.is_held() {
            return format!("held, so nothing goes upstream; `credd release {name}` ends that");
        }
        match self.life.standing() {
            Standing::Revoked { .. } => return format!("revoked, and only a new secret helps: {}", self.remedy()),
            Standing::Uninitialised => return format!("there is no secret yet: {}", self.remedy()),
            _ => {}
        }
        match wants {
            Wants::Value | Wants::ValueAgain if !policy.kind.is_refreshable() => {
                format!(
                    "{}: nothing renews a static key; a new one must be put: {}",
                    policy.kind.as_str(),
                    self.remedy()
                )
            }
            Wants::Value | Wants::ValueAgain if self.life.is_doubted() => {
                format!(
                    "whether its grant is still the newest is not known; if you are certain: `credd release {name}`"
                )
            }
            Wants::Value | Wants::ValueAgain => {
                match self.life.patience(policy).filter(|at| *at > now.wall && !by_operator) {
                    Some(at) => {
                        format!("not before {at}, to spare the provider; `credd refresh {name}` does not wait for that")
                    }
                    None => format!(
                        "no refresh can be made now; `credd status` and `credd audit --credential {name}` say what happens"
                    ),
                }
            }
            Wants::Proof if !policy.has_probe => format!(
                "provider {} has no probe for {}; set `upstream.probe_url`, or let a reader's call prove it",
                self.assignment.provider.name,
                policy.kind.as_str()
            ),
            Wants::Proof => match self.life.left(now) {
                Some(left) if left <= jiff::SignedDuration::ZERO => {
                    format!("it is over, which needs no probe; `credd refresh {name}` renews it")
                }
                _ => format!("it has no value to probe yet; `credd status` says what {name} waits for"),
            },
        }
    }
}

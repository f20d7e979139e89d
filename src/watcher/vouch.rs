//! A reply that is an error by its status and holds a token all the same (FM-05). It was captured like any other; before
//! the token is anybody's, the API is asked whether it works.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;

use super::{
    Message, Shard,
    flight::{Landing, panicked},
    interpret::{self, Refreshed},
    probe::Look,
};
use crate::{
    catalogue::Tokens,
    credential::{CredentialId, Verdict},
    lifecycle::{Commit, Probed},
    upstream::Subject,
};

impl Shard {
    /// What a doubtful token comes to, once that is known; until then the flight is not over, and reports again.
    pub(super) fn doubt(
        &mut self,
        id: &CredentialId,
        landing: Landing,
        tokens: Box<Tokens>,
        verdict: Verdict,
    ) -> Option<(Landing, Refreshed)> {
        match (landing.works, self.tried_with(id, &landing, &tokens)) {
            (Some(true), _) => Some((landing, Refreshed::Tokens(tokens))),
            (None, Some(subject)) => {
                self.ask_the_api(id, landing, subject);
                None
            }
            // Refused, or nobody there who could tell: kept, and never published.
            _ => Some((landing, Refreshed::No { verdict, commit: Commit::Doubtful })),
        }
    }

    fn tried_with(&self, id: &CredentialId, landing: &Landing, tokens: &Tokens) -> Option<Subject> {
        let watched = self.watched.get(id)?;
        if !watched.assignment.policy.has_probe || !tokens.is_bearer() {
            return None;
        }
        let mut subject = watched.subject()?;
        let new = interpret::renewed(&subject.material, tokens, landing.sent_at, landing.target, landing.attempt);
        subject.material = new.into();
        Some(subject)
    }

    fn ask_the_api(&mut self, id: &CredentialId, landing: Landing, subject: Subject) {
        if let Some(token) = &subject.material.access_token {
            (self.house.secrets)(token);
        }
        tracing::warn!(credential = %id, "the token endpoint answered with a server error that holds a token; it is tried before it is used");
        let (house, back, id) = (self.house.clone(), self.back.clone(), id.clone());
        let asked = async move {
            let sent_at = house.clock.now();
            let result = AssertUnwindSafe(house.upstream.probe(&subject, sent_at.wall)).catch_unwind().await;
            let result = result.unwrap_or_else(|_| Ok(panicked()));
            let landed_at = house.clock.now();
            let look = Look { generation: landing.target, trigger: landing.trigger, sent_at, landed_at, result };
            let (outcome, _) = interpret::probe(&subject.provider, subject.kind, &subject.settings, &look);
            let landing = Landing { works: Some(matches!(outcome, Probed::Works(_))), ..landing };
            let _ = back.send(Message::Flown { id, landing: Box::new(landing) });
        };
        // One of the flights: a stop waits until it is known.
        self.house.flights.spawn(self.air.track_future(asked));
    }
}

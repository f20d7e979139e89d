//! Whether a rotated refresh token could go home: asked before each flight that brings one (RF-08), because afterwards the
//! old one is spent.

use std::{panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt;

use super::{Message, Shard};
use crate::{credential::CredentialId, lifecycle::Trigger};

/// A home store that does not answer prevents no refresh: what it would have said before holds on.
const PATIENCE: Duration = Duration::from_secs(5);

impl Shard {
    /// Asks, in a task of its own. True where the flight must wait for the answer.
    pub(super) fn asks_whether_it_may_write(&mut self, id: &CredentialId, trigger: Trigger) -> bool {
        let Some(watched) = self.watched.get_mut(id).filter(|watched| watched.rotates()) else { return false };
        let store = watched.assignment.store.clone();
        if std::mem::take(&mut watched.write_asked) || store.kind() == "embedded" {
            return false;
        }
        watched.decided = Some(trigger);
        let (house, back, id, at) = (self.house.clone(), self.back.clone(), id.clone(), watched.assignment.at.clone());
        tokio::spawn(async move {
            let asked = AssertUnwindSafe(store.read_only(&at)).catch_unwind();
            let read_only = tokio::select! {
                answer = asked => answer.ok(),
                () = house.clock.sleep(PATIENCE) => None,
            };
            let _ = back.send(Message::MayWrite { id, read_only });
        });
        true
    }

    /// The home store has answered, or will not: the flight goes on.
    pub(super) async fn may_write(&mut self, id: &CredentialId, read_only: Option<Option<String>>) {
        let Some(watched) = self.watched.get_mut(id) else { return };
        if let Some(answer) = read_only
            // One that is away has nothing to say against it, and takes nothing back either.
            && (answer.is_some() || !watched.flags.store_stale)
        {
            watched.read_only = answer;
        }
        if let Some(trigger) = watched.decided.take() {
            watched.write_asked = true;
            Box::pin(self.prepare(id, trigger)).await;
        }
    }
}

//! The capture of a flight: the reply is durable before anybody reads it.

use std::time::Duration;

use uuid::Uuid;

use super::{House, promote::UNSAVED_AFTER};
use crate::credential::{CredentialId, Reply};

/// Never given up; after all, it exists only once.
pub(super) async fn capture(house: &House, id: &CredentialId, attempt: Uuid, reply: &Reply) {
    let (mut pause, began) = (Duration::from_millis(250), house.clock.now().boot);
    loop {
        let now = house.clock.now();
        match house.ledger.rotation().received(id, attempt, reply, now.wall).await {
            Ok(()) => return,
            Err(error) => tracing::error!(credential = %id, %error, "a reply could not be captured; trying again"),
        }
        // One attempt at a ledger that hangs may take longer than all of these pauses.
        let waited = house.clock.now().boot.saturating_sub(began);
        if pause.max(waited) >= UNSAVED_AFTER {
            // The shard holds the reply from here on, publishes it unsaved, and goes on trying; should the process die
            // before that helps, the spilled copy is carried into the ledger at the next start.
            if let Err(error) = house.ledger.rotation().spill(id, attempt, reply, now.wall).await {
                tracing::error!(credential = %id, %error, "a reply could not be kept beside the ledger either");
            }
            return;
        }
        house.clock.sleep(pause).await;
        pause *= 2;
    }
}

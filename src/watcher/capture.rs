//! The capture of a flight: the reply is durable before anybody reads it.

use std::time::Duration;

use uuid::Uuid;

use super::{House, promote::UNSAVED_AFTER};
use crate::credential::{CredentialId, Reply};

/// Never given up; after all, it exists only once. Whether the ledger has it.
pub(super) async fn capture(house: &House, id: &CredentialId, attempt: Uuid, reply: &Reply) -> bool {
    let (mut pause, began) = (Duration::from_millis(250), house.clock.now().boot);
    let left = || UNSAVED_AFTER.saturating_sub(house.clock.now().boot.saturating_sub(began));
    loop {
        let now = house.clock.now();
        let received = house.ledger.rotation();
        let received = received.received(id, attempt, reply, now.wall);
        tokio::select! {
            biased;
            outcome = received => match outcome {
                Ok(()) => return true,
                Err(error) => tracing::error!(credential = %id, %error, "a reply could not be captured; trying again"),
            },
            // It hangs. What it was asked, it will still do, and before anything that it is asked from now on.
            () = house.clock.sleep(left()) => {
                tracing::error!(credential = %id, "the ledger does not answer, and so has not taken a reply yet");
            }
        }
        if pause >= left() {
            // The shard holds the reply from here on, publishes it unsaved, and goes on trying; should the process die
            // before that helps, the spilled copy is carried into the ledger at the next start.
            if let Err(error) = house.ledger.rotation().spill(id, attempt, reply, now.wall).await {
                tracing::error!(credential = %id, %error, "a reply could not be kept beside the ledger either");
            }
            return false;
        }
        house.clock.sleep(pause).await;
        pause *= 2;
    }
}

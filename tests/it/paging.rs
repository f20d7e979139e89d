//! From a fact to a page that somebody reads: mail and webhooks against real servers, and the outbox between.

mod canary;
mod clock;
mod house;
mod mail;
mod oncall;
mod outbox;
mod webhook;
mod whole;
mod world;

/// Longer than anything here takes; it only bounds a test that hangs.
async fn bounded<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(std::time::Duration::from_secs(240), work).await.expect("the test hangs")
}

//! From a fact to a page that somebody reads: mail and webhooks against real servers, and the outbox between.

mod absent;
mod canary;
mod clock;
mod house;
mod mail;
mod oncall;
mod outbox;
mod webhook;
mod whole;
pub mod world;

/// All mails and payloads that arrived.
pub async fn received(server: &crate::components::Component, sink: &crate::components::Component) -> Vec<String> {
    let calls = world::sink_log(sink).await;
    let payloads = calls.iter().map(|call| format!("{} {}", call["body"], call["headers"]));
    world::mails(server).into_iter().chain(payloads).collect()
}

/// Longer than anything here takes; it only bounds a test that hangs.
async fn bounded<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(std::time::Duration::from_secs(240), work).await.expect("the test hangs")
}

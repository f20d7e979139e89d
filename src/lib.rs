//! credd owns the lifecycle of a host's credentials.
//!
//! Each credential belongs to one shard; the shard's task feeds what happened into a pure state machine and carries
//! out what the machine asks for; whoever needs the token reads the last published generation.
//!
//! Imports only look down; `tests/it/architecture.rs` holds the table.

// Layer 0: words.
pub mod clock;
pub mod credential;
pub mod failpoint;
pub mod metrics;
// Layer 1: judgement (pure) and tools.
pub mod catalogue;
pub mod fetch;
pub mod incident;
pub mod lifecycle;
pub mod seal;
pub mod spawn;
// Layer 2: hands.
pub mod ledger;
pub mod pager;
pub mod publish;
pub mod store;
pub mod upstream;
// Layer 3: will.
pub mod oncall;
pub mod watcher;
// Layer 4: frame.
pub mod web;
// Layer 6: faces.
pub mod server;
// Layer 7: house.
pub mod cli;
pub mod config;
pub mod daemon;
pub mod demo;
pub mod telemetry;
// Aside: it must not lean on what it is there to test.
pub mod sandbox;

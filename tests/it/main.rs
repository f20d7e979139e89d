//! One integration-test binary: every file beside this is a module of it.

// Tests compare secrets with what they put in. That they read no clock is seen to by `architecture`.
#![allow(clippy::disallowed_methods, reason = "a test looks inside secrets")]

mod admin;
mod architecture;
mod board;
mod canary;
mod catalogue;
mod components;
mod config;
mod crash;
mod daemon;
mod demo;
mod drift;
mod health;
mod journey;
mod journeys;
mod ledger;
mod lifecycle;
mod paging;
mod panics;
mod properties;
mod readme;
mod recovery;
#[cfg(feature = "aws")]
mod refresh;
mod refusals;
mod sandbox;
mod scrape;
mod simulation;
mod socket;
mod steps;
mod stores;
mod storm;
mod unit;
mod upstream;
mod world;

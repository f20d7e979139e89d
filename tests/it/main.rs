//! One integration-test binary: every file beside this is a module of it.

mod admin;
mod board;
mod catalogue;
mod components;
mod config;
mod health;
mod ledger;
mod lifecycle;
mod drift;
mod paging;
mod sandbox;
mod socket;
mod stores;
mod upstream;
mod unit;
mod architecture;
mod lifecycle;
mod properties;
mod simulation;

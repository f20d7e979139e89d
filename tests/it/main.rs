//! One integration-test binary: every file beside this is a module of it.

mod admin;
mod architecture;
mod board;
mod catalogue;
mod components;
mod config;
mod demo;
mod drift;
mod health;
mod ledger;
mod lifecycle;
mod paging;
mod properties;
mod sandbox;
mod simulation;
mod socket;
mod stores;
mod unit;
mod upstream;

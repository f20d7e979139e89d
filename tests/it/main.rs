//! One integration-test binary: every file beside this is a module of it.

mod catalogue;
mod components;
mod ledger;
mod lifecycle;
mod paging;
mod stores;
mod config;
mod board;
mod health;
mod socket;

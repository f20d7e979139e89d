//! One integration-test binary: every file beside this is a module of it.

mod admin;
mod board;
mod health;
mod socket;

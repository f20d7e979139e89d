//! One integration-test binary: every file beside this is a module of it.

mod config;
mod unit;

//! One integration-test binary: every file beside this is a module of it.

mod components;
mod sandbox;
mod upstream;

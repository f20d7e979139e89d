//! One integration-test binary: every file beside this is a module of it.
mod architecture;
mod lifecycle;
mod properties;
mod simulation;

//! One integration-test binary: every file beside this is a module of it.

mod components;
mod drift;
mod paging;

//! One integration-test binary: every file beside this is a module of it.
mod lifecycle;

mod components;
mod paging;

mod components;
mod stores;

mod catalogue;

mod components;
mod ledger;

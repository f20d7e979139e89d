//! The command line: a file for each verb.

mod dump;
pub mod explain;
pub mod providers;
pub mod check;
pub mod schema;
pub mod sandbox;

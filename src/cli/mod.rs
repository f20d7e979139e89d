//! The command line: a file for each verb.

pub mod sandbox;

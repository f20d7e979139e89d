//! Any other store, through a command that speaks JSON, in the manner of a git credential helper.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[stores.NAME] kind = "exec"`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Absolute path of the program, then its arguments; the operation (`get`, `versions`, `store`) is added as the last one.
    pub command: Vec<String>,
    /// Working directory.
    #[serde(default)]
    pub directory: Option<PathBuf>,
    /// Environment variables handed through by name; nothing else is inherited but PATH, HOME and LANG.
    #[serde(default)]
    pub environment: Vec<String>,
    /// Whether the command knows `store`.
    #[serde(default)]
    pub writable: bool,
    /// The command is ended after this many seconds.
    #[serde(default = "ten")]
    pub timeout_seconds: u64,
    /// Seconds between two looks for changes.
    #[serde(default = "sixty")]
    pub poll_seconds: u64,
}

fn ten() -> u64 {
    10
}

fn sixty() -> u64 {
    60
}

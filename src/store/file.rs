//! Watched files: one secret each, mode 0600 or tighter.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[stores.NAME] kind = "file"`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Folder; locations are paths below it and may not leave it.
    pub folder: PathBuf,
    /// Whether credd may write refreshed values back (write beside, then rename).
    #[serde(default)]
    pub writable: bool,
}

//! Logs: text or JSON through tracing, with redaction as the second net.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[log]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// For people or for machines.
    pub format: Format,
    /// `error`, `warn`, `info`, `debug`, or a filter such as `info,credd::watcher=debug`. `CREDD_LOG` overrides.
    pub level: String,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// One line for a person.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for Settings {
    fn default() -> Self {
        Self { format: Format::default(), level: "info".into() }
    }
}

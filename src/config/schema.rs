//! The JSON Schema of the settings, derived from the settings themselves; editors complete with it.

use serde_json::Value;

use super::Config;

/// The schema as data.
pub(super) fn json() -> Value {
    let mut schema = schemars::schema_for!(Config);
    schema.insert("title".into(), "Settings of credd (credd.toml)".into());
    schema.to_value()
}

/// What `credd schema` prints.
pub fn text() -> String {
    serde_json::to_string_pretty(&json()).expect("JSON renders")
}

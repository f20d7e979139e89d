//! The JSON Schema of the settings, derived from the settings themselves; editors complete with it.

use std::sync::LazyLock;

use serde_json::Value;

use super::Config;

/// The schema as data, derived once.
pub(super) static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    let mut schema = schemars::schema_for!(Config);
    schema.insert("title".into(), "Settings of credd (credd.toml)".into());
    schema.to_value()
});

/// What `credd schema` prints.
pub fn text() -> String {
    serde_json::to_string_pretty(&*SCHEMA).expect("JSON renders")
}

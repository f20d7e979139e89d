//! `credd schema`: the JSON Schema of the settings, for editors.

use std::io::{self, Write};

use crate::config;

/// Prints the JSON Schema of credd.toml.
///
/// Save it beside the settings and begin them with `#:schema ./credd.schema.json`: editors then complete and check.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {}

/// Prints it.
pub fn run(_: &Args, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{}", config::schema::text())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_is_json_and_knows_the_parts() {
        let mut out = vec![];
        run(&Args {}, &mut out).unwrap();
        let schema: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
        for part in ["log", "ledger", "server", "policies", "stores", "pager", "credentials"] {
            assert!(schema["properties"][part]["description"].is_string(), "{part}");
        }
        let warn = &schema["$defs"]["Credential"]["properties"]["ttl_warn"];
        assert_eq!((&warn["type"][0], &warn["examples"][0]), (&"string".into(), &"60m".into()));
    }
}

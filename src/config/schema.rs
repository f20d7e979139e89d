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

/// The schema of providers' files, written by hand beside them: their reader is no serde type.
#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use serde_json::Value;

    use crate::{
        catalogue::{PRESENTED, PROVIDER_SCHEMA, SURFACES, Topic},
        config::{document::Document, shape::Shape},
        credential::Failure,
    };

    /// What the schema says against a file.
    fn against(schema: &Value, file: &Path, text: &str) -> Vec<String> {
        let (document, problems) = Document::parse(file, text);
        let shape = Shape::of(schema, &document, true);
        problems.iter().chain(&shape.problems).map(ToString::to_string).collect()
    }

    fn names(value: &Value) -> Vec<&str> {
        value["enum"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect()
    }

    /// Every member that the schema knows, as `probe.url`; what only the file names is left out.
    fn members(schema: &Value, at: &str, all: &mut Vec<String>) {
        for (name, node) in schema["properties"].as_object().into_iter().flatten() {
            let path = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
            members(node, &path, all);
            members(&node["items"], &path, all);
            members(&node["anyOf"][0], &path, all);
            all.push(path);
        }
    }

    fn holds(table: &toml::Value, path: &str) -> bool {
        let parts = path.split('.').try_fold(table, |table, part| {
            let table = table.as_array().and_then(|all| all.first()).unwrap_or(table);
            table.get(part)
        });
        parts.is_some()
    }

    #[test]
    fn the_schema_of_providers_files_fits_every_file_and_knows_what_the_manual_knows() {
        let schema: Value = serde_json::from_str(PROVIDER_SCHEMA).unwrap();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("providers");
        for entry in fs::read_dir(&folder).unwrap() {
            let file = entry.unwrap().path();
            if file.extension().is_some_and(|end| end == "toml") {
                let wrong = against(&schema, &file, &fs::read_to_string(&file).unwrap());
                assert!(wrong.is_empty(), "{}", wrong.join("\n"));
            }
        }
        // The manual's example holds every field, and lint is content with it: so schema and reader know the same.
        let manual = fs::read_to_string(folder.join("README.md")).unwrap();
        let example = manual.split("```toml").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        assert!(against(&schema, Path::new("acme.toml"), example).is_empty());
        let table: toml::Value = toml::from_str(example).unwrap();
        let mut known = vec![];
        members(&schema, "", &mut known);
        // The facts of a topic are written out once, and the conditions of a rule.
        let once = |path: &String| match path.split('.').collect::<Vec<_>>()[..] {
            ["unattended", topic, _] => topic == "rotation",
            ["probe", "proves", _] => false,
            _ => true,
        };
        let unsaid: Vec<_> = known.iter().filter(|path| once(path) && !holds(&table, path)).collect();
        assert!(unsaid.is_empty(), "in the schema, and not in the manual: {unsaid:?}");
        let wrong = against(&schema, Path::new("acme.toml"), "titel = \"x\"\n[probe]\nmethod = \"PUT\"\n");
        assert_eq!(wrong.len(), 3, "{wrong:?}");
    }

    #[test]
    fn its_words_are_those_of_the_code() {
        let schema: Value = serde_json::from_str(PROVIDER_SCHEMA).unwrap();
        let rule = &schema["properties"]["failure"]["items"]["properties"];
        assert_eq!(names(&rule["subtype"]), Failure::ALL.map(Failure::as_str));
        let when = &rule["when"]["properties"];
        assert_eq!(names(&when["surface"]["anyOf"][0]), SURFACES.map(|(word, _)| word));
        let presented: Vec<_> = PRESENTED.into_iter().chain(["static", "refreshable"]).collect();
        assert_eq!(names(&when["presented"]["anyOf"][0]), presented);
        let topics = schema["properties"]["unattended"]["properties"].as_object().unwrap();
        assert!(topics.len() == Topic::ALL.len() && Topic::ALL.iter().all(|(name, _)| topics.contains_key(*name)));
    }
}

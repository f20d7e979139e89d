//! The sample settings are held against the program: every setting is there, and every default is the program's.
//! `#key = …` shows a default; `#+…` an example of what is not there by default; `# …` is prose.

use std::collections::BTreeSet;

use credd::config::{self, Config};

use super::check;

const SAMPLE: &str = include_str!("../../../deploy/credd.toml");

/// Uncomments the defaults, and the examples too if wanted. Defaults inside an example table are part of the example.
fn uncommented(examples: bool) -> String {
    let mut example = false;
    let lines = SAMPLE.lines().filter_map(|line| {
        if line.starts_with('[') || line.starts_with("#[") || line.starts_with("#+[") {
            example = line.starts_with("#+");
        }
        match (line.strip_prefix("#+"), line.strip_prefix('#')) {
            (Some(line), _) => examples.then_some(line),
            (None, Some(prose)) if prose.is_empty() || prose.starts_with([' ', ':']) => None,
            (None, Some(line)) => (examples || !example).then_some(line),
            (None, None) => Some(line),
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_sample_is_good_as_it_is_and_shows_the_defaults() {
    assert_eq!(check(SAMPLE).unwrap_or_else(|problems| panic!("{problems}")), Config::default());
    assert_eq!(check(&uncommented(false)).unwrap_or_else(|problems| panic!("{problems}")), Config::default());
    assert!(uncommented(false).contains("socket_mode = \"0666\""), "the defaults are uncommented");
}

/// Follows the schema beside the data; tells of each setting of the schema that a table of the sample could hold.
struct Coverage {
    schema: serde_json::Value,
    all: BTreeSet<String>,
    shown: BTreeSet<String>,
    wrong: Vec<String>,
}

impl Coverage {
    fn resolve(&self, node: &serde_json::Value) -> (serde_json::Value, String) {
        match node["$ref"].as_str() {
            Some(name) => {
                let name = name.trim_start_matches("#/$defs/").to_owned();
                (self.schema["$defs"][&name].clone(), name)
            }
            None => (node.clone(), String::new()),
        }
    }

    /// Every setting that the schema knows, wherever it is used.
    fn collect(&mut self, node: &serde_json::Value, at: &str) {
        let (node, name) = self.resolve(node);
        if name == "Reference" {
            return;
        }
        for choice in ["oneOf", "anyOf"].iter().flat_map(|key| node[key].as_array().cloned().unwrap_or_default()) {
            let tag =
                choice["properties"].as_object().and_then(|all| all.values().find_map(|one| one["const"].as_str()));
            self.collect(&choice, &tag.map_or(at.to_owned(), |tag| format!("{at}<{tag}>")));
        }
        for (key, property) in node["properties"].as_object().cloned().unwrap_or_default() {
            self.all.insert(format!("{at}.{key}"));
            self.collect(&property, &format!("{at}.{key}"));
        }
        for inner in ["items", "additionalProperties"].into_iter().filter(|inner| node[inner].is_object()) {
            self.collect(&node[inner], &format!("{at}.*"));
        }
    }

    /// What the data shows; defaults are held against `defaults`, the data without the lines that show examples.
    fn show(&mut self, node: &serde_json::Value, value: &serde_json::Value, at: &str) {
        let (node, name) = self.resolve(node);
        if name == "Reference" {
            return;
        }
        for choice in ["oneOf", "anyOf"].iter().flat_map(|key| node[key].as_array().cloned().unwrap_or_default()) {
            let (choice, _) = self.resolve(&choice);
            let tag =
                choice["properties"].as_object().and_then(|all| all.iter().find(|(_, one)| one["const"].is_string()));
            match tag {
                Some((key, tag)) if value[key] == tag["const"] => {
                    self.show(&choice, value, &format!("{at}<{}>", tag["const"].as_str().unwrap()));
                }
                Some(_) => {}
                None => self.show(&choice, value, at),
            }
        }
        for (key, value) in value.as_object().cloned().unwrap_or_default() {
            if let Some(property) = node["properties"].get(&key) {
                self.shown.insert(format!("{at}.{key}"));
                self.show(property, &value, &format!("{at}.{key}"));
            } else if node["additionalProperties"].is_object() {
                self.show(&node["additionalProperties"].clone(), &value, &format!("{at}.*"));
            }
        }
        for value in value.as_array().cloned().unwrap_or_default() {
            self.show(&node["items"].clone(), &value, &format!("{at}.*"));
        }
    }

    /// A line `#key = value` of an example table must show the default.
    fn defaults(&mut self) {
        let mut table = String::new();
        for line in SAMPLE.lines() {
            if let Some(header) = line.trim_start_matches(['#', '+']).strip_prefix('[') {
                table = header.trim_end_matches(']').to_owned();
            }
            let Some(line) = line.strip_prefix('#').filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase()))
            else {
                continue;
            };
            let (key, shown) = line.split_once(" = ").unwrap_or_else(|| panic!("{line}: no setting"));
            let shown: toml::Table = toml::from_str(&format!("v = {shown}")).unwrap();
            let pattern = format!(".{}", table);
            let defaults: Vec<_> = self.default_of(&pattern, key);
            if !defaults.contains(&serde_json::to_value(&shown["v"]).unwrap()) {
                self.wrong.push(format!("[{table}] {key}: the default is {defaults:?}"));
            }
        }
    }

    fn default_of(&self, table: &str, key: &str) -> Vec<serde_json::Value> {
        let root: toml::Table = toml::from_str(&uncommented(true)).unwrap();
        let (mut value, mut nodes) = (serde_json::to_value(root).unwrap(), vec![self.schema.clone()]);
        for step in table.split('.').filter(|step| !step.is_empty()).chain([key]) {
            let mut next = vec![];
            for node in nodes {
                let (node, _) = self.resolve(&node);
                let forms = ["oneOf", "anyOf"].iter().flat_map(|key| node[key].as_array().cloned().unwrap_or_default());
                for form in forms.chain([node.clone()]) {
                    let fits = form["properties"].as_object().is_none_or(|all| {
                        all.iter().all(|(key, one)| one["const"].is_null() || one["const"] == value[key])
                    });
                    if fits {
                        next.extend(form["properties"].get(step).or(form.get("additionalProperties")).cloned());
                    }
                }
            }
            value = value[step].clone();
            nodes = next;
        }
        nodes.iter().map(|node| node["default"].clone()).collect()
    }
}

#[test]
fn the_sample_shows_every_setting_and_no_false_default() {
    let schema: serde_json::Value = serde_json::from_str(&config::schema::text()).unwrap();
    let all = uncommented(true);
    check(&all).unwrap_or_else(|problems| panic!("{problems}"));
    let data: toml::Table = toml::from_str(&all).unwrap();
    let mut coverage = Coverage { schema: schema.clone(), all: BTreeSet::new(), shown: BTreeSet::new(), wrong: vec![] };
    coverage.collect(&schema, "");
    coverage.show(&schema, &serde_json::to_value(data).unwrap(), "");
    coverage.defaults();
    let missing: Vec<_> = coverage.all.difference(&coverage.shown).collect();
    assert!(coverage.all.len() > 60 && missing.is_empty(), "deploy/credd.toml lacks {missing:#?}");
    assert!(coverage.wrong.is_empty(), "{:#?}", coverage.wrong);
}

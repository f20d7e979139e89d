//! Build script: embeds every `*.toml` of this folder, so that a new provider is one new file.
use std::{env, fs, path::Path};

fn main() {
    let folder = Path::new(&env::var("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("providers");
    println!("cargo::rerun-if-changed=providers");
    println!("cargo::rerun-if-changed=src/ledger/schema");
    let mut names: Vec<String> = fs::read_dir(&folder)
        .expect("the folder providers/ stands beside Cargo.toml")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(".toml"))
        .collect();
    names.sort();
    let mut list = String::from("pub const EMBEDDED: &[(&str, &str)] = &[\n");
    for name in names {
        let path = folder.join(&name);
        list.push_str(&format!("    ({name:?}, include_str!({path:?})),\n"));
    }
    list.push_str("];\n");
    let target = Path::new(&env::var("OUT_DIR").expect("cargo sets it")).join("embedded.rs");
    fs::write(target, list).expect("OUT_DIR is writable");
}

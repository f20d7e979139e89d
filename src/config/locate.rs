//! Where the settings file is.

use std::{
    env,
    path::{Path, PathBuf},
};

use super::problem::{Problem, Problems};

/// The file to read: `given` (`--config`), then `CREDD_CONFIG`, then the first of the usual places that exists.
/// `None`: there is none, and the defaults hold. A file that was named but is missing is an error.
pub fn locate(given: Option<&Path>) -> Result<Option<PathBuf>, Problems> {
    locate_in(given, |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from))
}

fn locate_in(given: Option<&Path>, variable: impl Fn(&str) -> Option<PathBuf>) -> Result<Option<PathBuf>, Problems> {
    let named =
        given.map(|path| (path.to_owned(), "--config")).or_else(|| Some((variable("CREDD_CONFIG")?, "CREDD_CONFIG")));
    if let Some((path, by)) = named {
        if path.exists() {
            return Ok(Some(path));
        }
        let help = format!("{by} names it: correct the path, or leave it out to use the usual places");
        return Err(Problems(vec![Problem::of_file(&path, "there is no such file", help)]));
    }
    Ok(usual(variable).into_iter().find(|path| path.exists()))
}

/// The user's own file, then the machine's.
fn usual(variable: impl Fn(&str) -> Option<PathBuf>) -> Vec<PathBuf> {
    let home = variable("XDG_CONFIG_HOME").or_else(|| Some(variable("HOME")?.join(".config")));
    home.into_iter().chain([PathBuf::from("/etc")]).map(|folder| folder.join("credd/credd.toml")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_place_that_names_a_file_wins() {
        let folder = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let path = folder.path().join(name).join("credd/credd.toml");
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "").unwrap();
            path
        };
        let (given, variable, xdg, home) = (make("given"), make("env"), make("xdg"), make("home/.config"));
        let world = |with: &[&str]| {
            let with: Vec<String> = with.iter().map(|name| (*name).to_owned()).collect();
            let (variable, root) = (variable.clone(), folder.path().to_owned());
            move |name: &str| match name {
                _ if !with.iter().any(|set| set == name) => None,
                "CREDD_CONFIG" => Some(variable.clone()),
                "XDG_CONFIG_HOME" => Some(root.join("xdg")),
                _ => Some(root.join("home")),
            }
        };
        let all = ["CREDD_CONFIG", "XDG_CONFIG_HOME", "HOME"];
        assert_eq!(locate_in(Some(&given), world(&all)).unwrap(), Some(given));
        assert_eq!(locate_in(None, world(&all)).unwrap(), Some(variable.clone()));
        assert_eq!(locate_in(None, world(&all[1..])).unwrap(), Some(xdg));
        assert_eq!(locate_in(None, world(&all[2..])).unwrap(), Some(home));
        let error = locate_in(Some(Path::new("/nowhere/credd.toml")), world(&[])).unwrap_err().to_string();
        assert!(error.contains("/nowhere/credd.toml") && error.contains("--config"), "{error}");
    }
}

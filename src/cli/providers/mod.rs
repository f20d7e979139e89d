//! `credd providers`: what the catalogue holds, and whether a file for it is right.

mod show;

use std::{
    fs::OpenOptions,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use super::out::note;
use crate::{
    catalogue::{self, Catalogue, Problem},
    credential::CredentialId,
};

/// What a new file begins with.
const START: &str = include_str!("new.toml");

/// `credd providers`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// A folder of provider files over the built-in ones.
    #[arg(long, global = true)]
    pub providers: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// `list`, `show`, `lint`, `schema`, `new`.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Verb {
    /// One line for each provider.
    List,
    /// All that is known of one, and what is not.
    Show {
        /// Its name.
        name: String,
        /// Print its file instead: the start of one of your own.
        #[arg(long)]
        toml: bool,
    },
    /// Checks files: form, examples, rules that are never reached.
    Lint {
        /// A file, or a folder of them.
        path: PathBuf,
    },
    /// Prints the JSON Schema of a provider's file: editors complete and check with it.
    Schema,
    /// Writes a commented starting file for a provider that is not there yet.
    New {
        /// The provider's name, and the file's: `acme` makes `acme.toml`.
        name: String,
        /// Where to.
        #[arg(long = "in", default_value = ".", value_name = "FOLDER")]
        folder: PathBuf,
    },
}

/// The built-in catalogue under a folder's files. A broken built-in is a broken build: said, and an exit code.
pub fn catalogue(folder: Option<&Path>) -> Result<(Catalogue, Vec<Problem>), ExitCode> {
    match Catalogue::embedded() {
        Ok(catalogue) => Ok(match folder {
            Some(folder) => catalogue.with_folder(folder),
            None => (catalogue, Vec::new()),
        }),
        Err(problems) => {
            for problem in problems {
                note!("error: built-in {problem}");
            }
            Err(ExitCode::from(70))
        }
    }
}

/// Answers on `output`; problems of files go to standard error. Exit code 65: a file is wrong; 64: no such provider.
pub fn run(args: &Args, output: &mut impl Write) -> ExitCode {
    if let Verb::Lint { path } = &args.verb {
        let problems = catalogue::lint(path);
        for problem in &problems {
            note!("{problem}");
        }
        return if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(65) };
    }
    match &args.verb {
        Verb::New { name, folder } => return begin(name, folder, output),
        Verb::Schema => {
            return written(output.write_all(catalogue::PROVIDER_SCHEMA.as_bytes()));
        }
        _ => {}
    }
    let (catalogue, problems) = match catalogue(args.providers.as_deref()) {
        Ok(found) => found,
        Err(code) => return code,
    };
    for problem in &problems {
        note!("warning: {problem} (the file is ignored)");
    }
    let done = match &args.verb {
        Verb::Show { name, toml } => match (catalogue.provider(name), catalogue.text(name)) {
            (Some(_), Some(text)) if *toml => output.write_all(text.as_bytes()),
            (Some(provider), _) => show::show(&provider, output),
            (None, _) => {
                note!("error: no provider is called {name:?}; `credd providers list` names them");
                return ExitCode::from(64);
            }
        },
        Verb::List | Verb::Lint { .. } | Verb::New { .. } | Verb::Schema => show::list(&catalogue, output),
    };
    written(done.and_then(|()| output.flush()))
}

/// What became of the output itself is told where it is written.
fn written(done: io::Result<()>) -> ExitCode {
    match done {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitCode::from(74),
        _ => ExitCode::SUCCESS,
    }
}

/// Writes `NAME.toml`, with a word to each part; an existing file is left alone.
fn begin(name: &str, folder: &Path, output: &mut impl Write) -> ExitCode {
    if let Err(bad) = CredentialId::new(name) {
        note!("error: {bad}");
        return ExitCode::from(64);
    }
    let path = folder.join(format!("{name}.toml"));
    let made = OpenOptions::new().write(true).create_new(true).open(&path);
    match made.and_then(|mut file| file.write_all(START.replace("NAME", name).as_bytes())) {
        Ok(()) => {
            let path = path.display();
            // A built-in catalogue that is broken is told of elsewhere.
            let known = Catalogue::embedded().is_ok_and(|catalogue| catalogue.provider(name).is_some());
            let known = if known {
                format!(
                    "\n{name} is built in already (`credd providers show {name}`); this file will replace it as a whole."
                )
            } else {
                String::new()
            };
            let said = writeln!(output, "{path} is there. Fill it in, then: credd providers lint {path}{known}");
            written(said)
        }
        Err(error) => {
            note!("error: {} was not written: {error}", path.display());
            ExitCode::from(73)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn play(verb: Verb) -> (bool, String) {
        let mut output = Vec::new();
        let code = run(&Args { providers: None, verb }, &mut output);
        (code == ExitCode::SUCCESS, String::from_utf8(output).unwrap())
    }

    #[test]
    fn what_is_not_known_is_said_to_be_not_known() {
        let (good, text) = play(Verb::Show { name: "gohighlevel".into(), toml: false });
        assert!(good && text.contains("rotation                   not known"), "{text}");
        assert!(text.contains("usual lifetime             24 h"), "{text}");
        let (good, text) = play(Verb::List);
        assert!(good && text.lines().count() > 15 && text.contains("slack"), "{text}");
        let (good, text) = play(Verb::Show { name: "slack".into(), toml: true });
        assert!(good && text.contains("[[failure]]"));
        assert!(!play(Verb::Show { name: "nobody".into(), toml: false }).0);
    }

    #[test]
    fn a_new_file_is_a_good_one_and_never_replaces_another() {
        let folder = tempfile::tempdir().unwrap();
        let new = || Verb::New { name: "acme".into(), folder: folder.path().into() };
        let (good, text) = play(new());
        assert!(good && text.contains("credd providers lint"), "{text}");
        assert!(play(Verb::Lint { path: folder.path().join("acme.toml") }).0);
        assert!(!text.contains("built in"), "{text}");
        let (good, text) = play(Verb::New { name: "github".into(), folder: folder.path().into() });
        assert!(good && text.contains("github is built in already"), "{text}");
        assert!(!play(new()).0, "it is there already");
        assert!(!play(Verb::New { name: "../up".into(), folder: folder.path().into() }).0);
        // Every line that is commented out is good as well, once its dots are filled in.
        let all = START.replace("# [", "[").replace("# endpoint", "endpoint").replace("# url", "url");
        let all = all.replace("# profile", "profile").replace("# idle", "idle").replace("# when", "when");
        let all = all.replace("# subtype", "subtype").replace("# cause", "cause").replace('…', "x.example");
        std::fs::write(folder.path().join("acme.toml"), all).unwrap();
        assert!(play(Verb::Lint { path: folder.path().join("acme.toml") }).0);
    }
}

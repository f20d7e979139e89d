//! `credd providers`: what the catalogue holds, and whether a file for it is right.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use crate::{
    catalogue::{self, Catalogue, ClientAuthentication, Problem, Provider},
    credential::Rotation,
};

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

/// `list`, `show`, `lint`.
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
                eprintln!("error: built-in {problem}");
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
            eprintln!("{problem}");
        }
        return if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(65) };
    }
    let (catalogue, problems) = match catalogue(args.providers.as_deref()) {
        Ok(found) => found,
        Err(code) => return code,
    };
    for problem in &problems {
        eprintln!("warning: {problem} (the file is ignored)");
    }
    let done = match &args.verb {
        Verb::Show { name, toml } => match (catalogue.provider(name), catalogue.text(name)) {
            (Some(_), Some(text)) if *toml => output.write_all(text.as_bytes()),
            (Some(provider), _) => show(&provider, output),
            (None, _) => {
                eprintln!("error: no provider is called {name:?}; `credd providers list` names them");
                return ExitCode::from(64);
            }
        },
        Verb::List | Verb::Lint { .. } => list(&catalogue, output),
    };
    match done.and_then(|()| output.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("error: {error}");
            ExitCode::from(74)
        }
        _ => ExitCode::SUCCESS,
    }
}

fn list(catalogue: &Catalogue, output: &mut impl Write) -> io::Result<()> {
    writeln!(output, "{:<24} {:<34} {:<16} {:<6} {:>5}", "NAME", "TITLE", "ROTATION", "PROBE", "RULES")?;
    for provider in catalogue.names().filter_map(|name| catalogue.provider(name)) {
        writeln!(
            output,
            "{:<24} {:<34} {:<16} {:<6} {:>5}",
            provider.name,
            provider.title,
            rotation(provider.rotation),
            if provider.probe.is_some() { "yes" } else { "no" },
            provider.rules.failures.len()
        )?;
    }
    Ok(())
}

fn show(provider: &Provider, output: &mut impl Write) -> io::Result<()> {
    let unknown = || "not known".to_owned();
    let time = |time: Option<Duration>| time.map_or_else(unknown, words);
    let text = |text: &Option<String>| text.clone().unwrap_or_else(unknown);
    let authentication = match provider.token.client_authentication {
        ClientAuthentication::Basic => "client_secret_basic",
        ClientAuthentication::Post => "client_secret_post",
        ClientAuthentication::None => "none (a public client)",
    };
    let probe = provider.probe.as_ref();
    let told = probe.and_then(|probe| probe.expires_header.clone().or_else(|| probe.expires.clone()));
    let definitive = &provider.rules.definitive;
    writeln!(output, "{} – {}", provider.name, provider.title)?;
    for (name, value) in [
        ("documentation", text(&provider.docs)),
        ("token endpoint", text(&provider.token.endpoint)),
        ("client authentication", authentication.to_owned()),
        ("rotation", rotation(provider.rotation).to_owned()),
        ("grace", time(provider.grace)),
        ("dies unused after", time(provider.refresh_idle)),
        ("dies at the latest after", time(provider.refresh_absolute)),
        ("usual lifetime", time(provider.default_lifetime)),
        ("probe", probe.map_or_else(unknown, |probe| format!("{} {}", probe.method, probe.url))),
        ("expiry told by probe", told.unwrap_or_else(unknown)),
        ("revocation endpoint", text(&provider.revocation_endpoint)),
        ("introspection endpoint", text(&provider.introspection_endpoint)),
        ("definitive codes", if definitive.is_empty() { unknown() } else { definitive.join(", ") }),
        ("rules", provider.rules.failures.len().to_string()),
        ("examples", provider.rules.examples.len().to_string()),
    ] {
        writeln!(output, "  {name:<26} {value}")?;
    }
    Ok(())
}

fn rotation(rotation: Rotation) -> &'static str {
    match rotation {
        Rotation::None => "none",
        Rotation::Grace => "grace",
        Rotation::UntilFirstUse => "until_first_use",
        Rotation::Strict => "strict",
        Rotation::Sporadic => "sporadic",
        Rotation::Unknown => "not known",
    }
}

/// `8h`, `180d`, `90s`.
fn words(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        s if s >= 2 * 86_400 && s.is_multiple_of(86_400) => format!("{} d", s / 86_400),
        s if s >= 3600 && s.is_multiple_of(3600) => format!("{} h", s / 3600),
        s if s >= 120 && s.is_multiple_of(60) => format!("{} min", s / 60),
        s => format!("{s} s"),
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
}

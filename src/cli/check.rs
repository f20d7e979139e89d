//! `credd check`: what is wrong with the settings, without starting.

use std::{
    io::{self, Write},
    path::Path,
};

use serde_json::{Value, json};

use crate::{
    config::{self, Finding, Loaded, Problem, Problems, References},
    daemon::{self, Examined, Open},
    telemetry::Redactor,
};

/// Checks the settings, then reaches every home store and channel.
///
/// Everything that is wrong is told at once, with file, line, column and what is allowed. Exit code 78 means that the
/// settings are bad.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Stop after the settings, the files and the variables that they name; for ExecStartPre=.
    #[arg(long, conflicts_with = "online")]
    pub offline: bool,
    /// Prove every credential as well, by a probe and, where that spends no grant, a new token. A running daemon is asked.
    #[arg(long)]
    pub online: bool,
    /// One JSON document instead of text.
    #[arg(long)]
    pub json: bool,
}

/// What the offline half found.
#[derive(Debug)]
pub struct Report {
    /// The settings, or all that is wrong with them.
    pub settings: Result<Loaded, Problems>,
    /// The references of good settings, each followed as far as files and variables go.
    pub references: Vec<Finding>,
    /// Placeholders that only a secret can fill.
    pub open: Vec<Open>,
}

/// Checks the settings and what they point at on this machine. `providers` are the names that the catalogue knows.
pub fn offline(config: Option<&Path>, providers: &[String], redactor: Redactor) -> Report {
    let loaded = match config::load(config, providers) {
        Ok(loaded) => loaded,
        Err(problems) => return Report { settings: Err(problems), references: vec![], open: vec![] },
    };
    let references = References::new(loaded.path.as_deref(), redactor);
    // A catalogue that does not load is told when it is opened.
    let Examined { problems, references } = daemon::examine(&loaded, &references).unwrap_or_default();
    if !problems.is_empty() {
        return Report { settings: Err(Problems(problems)), references, open: vec![] };
    }
    let open = daemon::left_open(&loaded).unwrap_or_default();
    Report { settings: Ok(loaded), references, open }
}

impl Report {
    /// Whether credd could start with these settings, as far as this machine can tell.
    pub fn is_good(&self) -> bool {
        self.settings.is_ok() && self.references.iter().all(|finding| finding.problem.is_none())
    }

    /// 0, or 78.
    pub fn exit_code(&self) -> u8 {
        if self.is_good() { 0 } else { Problems::EXIT_CODE }
    }

    /// For a person.
    pub fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let loaded = match &self.settings {
            Ok(loaded) => loaded,
            Err(problems) => return writeln!(out, "{problems}"),
        };
        let config = &loaded.config;
        match &loaded.path {
            Some(path) => writeln!(out, "[ success ] {} (sha256 {}…)", path.display(), loaded.sha256_prefix)?,
            None => writeln!(out, "[ success ] no settings file: the defaults hold")?,
        }
        let (credentials, stores, channels) =
            (config.credentials.len(), config.stores.len() + 1, config.pager.channels.len());
        writeln!(out, "            {credentials} credentials, {stores} home stores, {channels} channels")?;
        if channels == 0 && credentials > 0 {
            writeln!(out, "[ warning ] no channel: nobody is told of a revocation; add [pager.channels.NAME]")?;
        }
        for Finding { path, reference, problem } in &self.references {
            match problem {
                Some(problem) => writeln!(out, "[ failure ] {}", problem.one_line())?,
                None => writeln!(out, "[ success ] {path}: {reference}")?,
            }
        }
        for Open { problem, .. } in &self.open {
            writeln!(out, "[ warning ] {}", problem.one_line())?;
        }
        Ok(())
    }

    /// For a machine.
    pub fn json(&self) -> Value {
        let problem = |severity: &str, one: &Problem| {
            json!({
                "severity": severity, "file": one.file, "line": one.line, "column": one.column,
                "path": one.path, "message": one.message, "help": one.help,
            })
        };
        let mut diagnostics: Vec<Value> = vec![];
        let of_settings = self.settings.as_ref().err().into_iter().flat_map(|problems| &problems.0);
        let of_references = self.references.iter().filter_map(|finding| finding.problem.as_ref());
        diagnostics.extend(of_settings.chain(of_references).map(|one| problem("failure", one)));
        diagnostics.extend(self.open.iter().map(|open| problem("warning", &open.problem)));
        let data = self.settings.as_ref().ok().map(|loaded| {
            json!({
                "path": loaded.path, "sha256_prefix": loaded.sha256_prefix,
                "credentials": loaded.config.credentials.len(), "stores": loaded.config.stores.len() + 1,
                "channels": loaded.config.pager.channels.len(),
            })
        });
        json!({ "schema": "credd.check/v1", "ok": self.is_good(), "data": data, "diagnostics": diagnostics })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(text: &str) -> (Report, String) {
        report_of(text, &["github"])
    }

    fn report_of(text: &str, providers: &[&str]) -> (Report, String) {
        let providers: Vec<String> = providers.iter().map(|name| (*name).to_owned()).collect();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("credd.toml");
        std::fs::write(&path, text).unwrap();
        let report = offline(Some(&path), &providers, Redactor::default());
        let mut out = vec![];
        report.print(&mut out).unwrap();
        (report, String::from_utf8(out).unwrap())
    }

    #[test]
    fn good_settings_exit_with_0_and_say_what_they_are() {
        let (report, shown) = report("[credentials.a]\nprovider = \"github\"\nkind = \"pat\"\n");
        assert_eq!(report.exit_code(), 0);
        assert!(shown.contains("[ success ]") && shown.contains("1 credentials, 1 home stores"), "{shown}");
        assert!(shown.contains("[ warning ] no channel"), "{shown}");
        assert_eq!(report.json()["ok"], true);
    }

    #[test]
    fn what_no_request_can_be_made_of_is_a_bad_setting() {
        for (text, place, words) in [
            ("provider = \"github\"\nkind = \"aws_session\"", ":3:1: credentials.a.kind", "makes no sessions"),
            ("provider = \"stripe\"\nkind = \"refresh_token\"", ":3:1: credentials.a.kind", "has no token endpoint"),
            ("provider = \"github\"\nkind = \"jwt_bearer\"", ":3:1: credentials.a.kind", "an assertion"),
            (
                "provider = \"github_app\"\nkind = \"jwt_bearer\"\nreaders = [{ uid = 1, narrow = { zork = [\"x\"] } }]",
                ":4:1: credentials.a.readers",
                "cannot narrow by \"zork\"",
            ),
        ] {
            let (bad, shown) = report_of(&format!("[credentials.a]\n{text}\n"), &["github", "stripe", "github_app"]);
            assert_eq!(bad.exit_code(), 78, "{shown}");
            assert!(shown.contains(place) && shown.contains(words), "{shown}");
        }
        let own = "[credentials.a]\nprovider = \"stripe\"\nkind = \"refresh_token\"\n\
                   [credentials.a.upstream]\ntoken_endpoint = \"https://id.example.com/token\"\n";
        assert_eq!(report_of(own, &["stripe"]).0.exit_code(), 0);
    }

    #[test]
    fn a_placeholder_that_the_settings_leave_open_is_told_with_the_line_to_add() {
        let text = "\n[credentials.mail]\nprovider = \"microsoft_entra\"\nkind = \"refresh_token\"\n";
        let (open, shown) = report_of(text, &["microsoft_entra"]);
        let line = shown.lines().find(|line| line.starts_with("[ warning ]") && line.contains("{tenant}"));
        let line = line.unwrap_or_else(|| panic!("{shown}"));
        assert!(line.contains(":2:14: credentials.mail: ") && line.contains("upstream.with.tenant = "), "{line}");
        assert_eq!(open.json()["diagnostics"][0]["line"], 2);
        assert_eq!(open.exit_code(), 0, "its secret may hold the tenant");
        let filled = format!("{text}upstream.with.tenant = \"contoso\"\n");
        assert!(!report_of(&filled, &["microsoft_entra"]).1.contains("{tenant}"));
    }

    #[test]
    fn bad_settings_and_bad_references_exit_with_78() {
        let (bad, shown) = report("[credentials.a]\nprovider = \"githup\"\nkind = \"pat\"\n[log]\nlevle = 1\n");
        assert_eq!(bad.exit_code(), 78);
        assert!(shown.contains(":2:1: credentials.a.provider") && shown.contains("did you mean `level`?"), "{shown}");
        assert_eq!(bad.json()["diagnostics"].as_array().unwrap().len(), 2);
        let (_, shown) = report("[server]\nhealth = \"127.0.0.1:99999\"\n");
        assert!(shown.contains("cannot be used here: its port is above 65535"), "{shown}");
        let (bad, shown) = report("[ledger]\nkey = { file = \"nowhere\" }\n");
        assert_eq!(bad.exit_code(), 78);
        assert!(shown.contains(":2:1: ledger.key: file") && shown.contains("cannot be read"), "{shown}");
    }
}

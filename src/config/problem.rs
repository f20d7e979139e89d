//! What is wrong with a settings file, in words for the person who wrote it. It never shows a value.

use std::{
    fmt,
    path::{Path, PathBuf},
};

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The settings file, or one that it leads to.
    pub file: PathBuf,
    /// From 1; 0 when the file as a whole is meant.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// Which setting: `stores.vault-main.address`. Empty for the file.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What is allowed, or what to do.
    pub help: Option<String>,
    /// The source line up to its `=`, and how many characters of it to underline.
    pub(super) excerpt: Option<(String, usize)>,
}

impl Problem {
    /// About the file as a whole.
    pub fn of_file(file: &Path, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line: 0,
            column: 0,
            path: String::new(),
            message: message.into(),
            help: Some(help.into()),
            excerpt: None,
        }
    }

    /// At a place of a file whose form somebody else knows.
    pub fn at(
        file: &Path,
        (line, column): (usize, usize),
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self { line, column, ..Self::of_file(file, message, help) }
    }

    /// For logs: place, setting, reason and help in one line.
    pub fn one_line(&self) -> String {
        let help = self.help.as_ref().map(|help| format!("; {help}")).unwrap_or_default();
        format!("{}{}{help}", self.place(), self.message)
    }

    fn place(&self) -> String {
        let mut place = format!("{}: ", self.file.display());
        if self.line > 0 {
            place = format!("{}:{}:{}: ", self.file.display(), self.line, self.column);
        }
        if !self.path.is_empty() {
            place = place + &self.path + ": ";
        }
        place
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.place(), self.message)?;
        let number = self.line.to_string();
        let margin = " ".repeat(number.len());
        if let Some((line, width)) = &self.excerpt {
            let indent: String =
                line.chars().take(self.column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
            write!(f, "\n{margin} |\n{number} | {line}\n{margin} | {indent}{}", "^".repeat((*width).max(1)))?;
        }
        if let Some(help) = &self.help {
            write!(f, "\n{margin} = {help}")?;
        }
        Ok(())
    }
}

/// More of them at once help nobody.
const MOST_SHOWN: usize = 100;

/// Everything that is wrong, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// What a command that meets them exits with (`EX_CONFIG` of sysexits.h).
    pub const EXIT_CODE: u8 = 78;
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in self.0.iter().take(MOST_SHOWN) {
            writeln!(f, "{problem}\n")?;
        }
        if self.0.len() > MOST_SHOWN {
            writeln!(f, "… and {} more\n", self.0.len() - MOST_SHOWN)?;
        }
        match self.0.len() {
            1 => f.write_str("1 problem; nothing was applied"),
            count => write!(f, "{count} problems; nothing was applied"),
        }
    }
}

impl std::error::Error for Problems {}

/// The name that was probably meant, if one is close enough.
pub(super) fn nearest<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = word.to_lowercase();
    let near = |name: &&str| strsim::damerau_levenshtein(&wanted, &name.to_lowercase());
    let best = names.into_iter().min_by_key(near)?;
    (near(&best) <= (wanted.chars().count() / 3).max(1)).then_some(best)
}

/// "did you mean `x`?"
pub fn did_you_mean<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(word, names).map(|name| format!("did you mean `{name}`?"))
}

/// The word itself where it can only be a word, and not a secret that slipped into the wrong line.
pub(super) fn shown(word: &str) -> String {
    let plain = |c: char| c.is_ascii_lowercase() || matches!(c, '-' | '_' | '.');
    if (1..=24).contains(&word.len()) && word.chars().all(plain) { format!("`{word}`") } else { "this".into() }
}

/// `a`, `b`, `c`
pub(super) fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.into_iter().map(|name| format!("`{name}`")).collect();
    if names.len() > 24 {
        format!("{} and {} more", names[..24].join(", "), names.len() - 24)
    } else {
        names.join(", ")
    }
}

//! The ledger without its daemon: for commands that only look, and for those that write when none runs.

use std::{process::ExitCode, sync::Arc};

use http::Method;

use super::{
    Context, EXIT_SETTINGS,
    client::{Client, ClientError, no_answer},
    out::note,
};
use crate::{
    clock::SystemClock,
    config::{self, Loaded, References},
    daemon::{self, StartError},
    ledger::{Ledger, holder},
    telemetry::Redactor,
};

/// Why a verb ends without its work done; told once, with its exit code.
#[derive(Debug)]
pub enum Trouble {
    /// The settings are wrong.
    Settings(config::Problems),
    /// The daemon does not answer.
    Client(ClientError),
    /// Anything else.
    Other(String),
}

impl Trouble {
    /// Tells the person.
    pub fn report(self) -> ExitCode {
        match self {
            Self::Settings(problems) => {
                note!("{problems}");
                ExitCode::from(EXIT_SETTINGS)
            }
            Self::Client(error) => no_answer(&error),
            Self::Other(_) => {
                note!("error: {self}");
                ExitCode::FAILURE
            }
        }
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Settings(problems) => problems.fmt(f),
            Self::Client(error) => error.fmt(f),
            Self::Other(words) => words.fmt(f),
        }
    }
}

impl From<String> for Trouble {
    fn from(words: String) -> Self {
        Self::Other(words)
    }
}

impl From<ClientError> for Trouble {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

impl From<StartError> for Trouble {
    fn from(error: StartError) -> Self {
        Self::Other(error.to_string())
    }
}

/// The settings of this context, and what follows their references.
pub fn settings(context: &Context) -> Result<(Loaded, References), Trouble> {
    let loaded = super::run::load(context).map_err(Trouble::Settings)?;
    let references = References::new(loaded.path.as_deref(), Redactor::default());
    Ok((loaded, references))
}

/// The settings of the daemon that answers at the socket, and of its ledger; where none answers, those of this context.
pub async fn settings_of_daemon(context: &Context) -> Result<(Loaded, References), Trouble> {
    let client = Client::operator(context);
    if !client.is_answering().await? {
        return settings(context);
    }
    let status = client.ask(Method::GET, "/v1/status", None).await?;
    if !status.is_success() {
        return Err(status.detail().into());
    }
    let daemon = &status.json()["daemon"];
    let theirs = daemon["settings"].as_str().map(Into::into);
    let bare = theirs.is_none();
    let (mut loaded, references) = settings(&Context { config: theirs, ..context.clone() })?;
    let ledger = &mut Arc::make_mut(&mut loaded.config).ledger;
    if bare {
        // It runs without a file, and ours says nothing of its ledger.
        *ledger = Default::default();
    }
    if ledger.postgres.is_none()
        && let Some(path) = daemon["ledger"].as_str()
    {
        // Its environment may have said where, which is not ours.
        ledger.path = Some(path.into());
    }
    Ok((loaded, references))
}

/// Opens a ledger to look at it, whoever holds it. `None`: there is none yet, and looking makes none.
pub async fn look(loaded: &Loaded, references: &References) -> Result<Option<Ledger>, Trouble> {
    let path = daemon::places(&loaded.config).ledger;
    if loaded.config.ledger.postgres.is_none() && matches!(path.try_exists(), Ok(false)) {
        return Ok(None);
    }
    Ok(Some(daemon::ledger_to_read(&loaded.config, references, Arc::new(SystemClock)).await?))
}

/// As [`look`], where a daemon would have been asked if one had answered: one that holds the ledger all the same listens
/// elsewhere.
pub async fn look_alone(loaded: &Loaded, references: &References) -> Result<Option<Ledger>, Trouble> {
    held_by_nobody(loaded)?;
    look(loaded, references).await
}

/// Opens the ledger to write into it, while no daemon does. One that is made now is told of.
pub async fn write(context: &Context) -> Result<Ledger, Trouble> {
    let (loaded, references) = settings(context)?;
    held_by_nobody(&loaded)?;
    let path = daemon::places(&loaded.config).ledger;
    let fresh = loaded.config.ledger.postgres.is_none() && !path.exists();
    let ledger = daemon::ledger(&loaded.config, &references, Arc::new(SystemClock)).await?;
    if fresh {
        let key = match &loaded.config.ledger.key {
            None => " and its key beside it (back the key up elsewhere: without it the ledger cannot be read)",
            Some(_) => "",
        };
        let uid = rustix::process::geteuid().as_raw();
        note!(
            "made a new ledger {}{key}, both of uid {uid}: the daemon must run as that user, or be given them (chown)",
            path.display()
        );
    }
    Ok(ledger)
}

fn held_by_nobody(loaded: &Loaded) -> Result<(), Trouble> {
    let path = daemon::places(&loaded.config).ledger;
    match holder(&path) {
        Some(pid) if loaded.config.ledger.postgres.is_none() => Err(Trouble::Other(format!(
            "a credd (pid {pid}) holds the ledger {}, and its admin socket is elsewhere: name it with --socket",
            path.display()
        ))),
        _ => Ok(()),
    }
}

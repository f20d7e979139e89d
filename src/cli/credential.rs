//! `credd credential put|import|list|show|rm`: the secrets of the embedded store. Values come from standard input or a
//! file, never from an argument, because arguments are seen by every process of the machine.

use std::{
    io::{IsTerminal, Read},
    path::PathBuf,
    process::ExitCode,
};

use http::Method;
use serde_json::Value;

use super::{
    Context,
    asker::asker,
    client::{Answer, Client},
    offline::{self, Trouble},
    out::{note, say},
};
use crate::{
    clock::SystemClock,
    config,
    credential::{CredentialId, Material, Secret},
    daemon::{self, Residents},
    ledger::Ledger,
};

/// `credd credential`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do with a secret.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Verb {
    /// Store a secret: a JSON object (`{"refresh_token": …}`) or a bare key, from standard input or a file.
    Put {
        /// Its credential.
        #[arg(value_parser = CredentialId::new)]
        name: CredentialId,
        /// Read it from here instead of standard input.
        #[arg(long)]
        file: Option<PathBuf>,
    },
    /// Store many: one JSON object whose members are credentials, from standard input or a file. All of them, or none.
    Import {
        /// Read them from here instead of standard input.
        file: Option<PathBuf>,
    },
    /// List what is stored: names and versions.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show which fields a stored secret has, never their values; while a daemon runs, how that one sees it.
    Show {
        /// Its credential.
        #[arg(value_parser = CredentialId::new)]
        name: CredentialId,
    },
    /// Remove a secret.
    Rm {
        /// Its credential.
        #[arg(value_parser = CredentialId::new)]
        name: CredentialId,
    },
}

/// Works through the running daemon, or on the ledger itself when none runs.
pub async fn run(context: Context, args: Args) -> ExitCode {
    let done = match args.verb {
        Verb::Put { name, file } => match read(file) {
            Ok(document) => store(&context, vec![(name, document)]).await,
            Err(error) => Err(error.into()),
        },
        Verb::Import { file } => match read(file).and_then(|document| many(&document)) {
            Ok(secrets) => store(&context, secrets).await,
            Err(error) => Err(error.into()),
        },
        Verb::List { json } => list(&context, json).await,
        Verb::Show { name } => show(&context, &name).await,
        Verb::Rm { name } => remove(&context, &name).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => trouble.report(),
    }
}

fn read(file: Option<PathBuf>) -> Result<Secret, String> {
    let mut bytes = zeroize::Zeroizing::new(Vec::new());
    let read = match &file {
        Some(path) => std::fs::File::open(path)
            .and_then(|file| file.take(1024 * 1024).read_to_end(&mut bytes))
            .map_err(|error| format!("{}: {error}", path.display())),
        None => {
            if std::io::stdin().is_terminal() {
                note!("reading the secret from the terminal; end with Ctrl-D (better: pipe it in, or --file)");
            }
            std::io::stdin()
                .lock()
                .take(1024 * 1024)
                .read_to_end(&mut bytes)
                .map_err(|error| format!("standard input: {error}"))
        }
    };
    read?;
    let text = std::str::from_utf8(&bytes).map_err(|_| "the secret is not UTF-8 text".to_owned())?;
    Ok(Secret::new(text))
}

/// A member is a bare key, or a document.
#[expect(clippy::disallowed_methods, reason = "a document of several secrets is taken apart")]
fn many(document: &Secret) -> Result<Vec<(CredentialId, Secret)>, String> {
    let object: serde_json::Map<String, Value> = serde_json::from_str(document.expose()).map_err(|error| {
        format!("an import is one JSON object, names to secrets (line {}, column {})", error.line(), error.column())
    })?;
    object
        .into_iter()
        .map(|(name, value)| {
            let id = CredentialId::new(&name).map_err(|error| error.to_string())?;
            let text = match value {
                Value::String(text) => Secret::new(text),
                Value::Object(_) => Secret::new(value.to_string()),
                _ => return Err(format!("{name}: a secret is a text or a JSON object; nothing was stored")),
            };
            Ok((id, text))
        })
        .collect()
}

async fn store(context: &Context, secrets: Vec<(CredentialId, Secret)>) -> Result<(), Trouble> {
    // All of them before the first is stored. Settings that cannot be read leave that to a daemon that runs.
    let residents = match super::run::load(context) {
        Ok(loaded) => Residents::of_settings(&loaded.config).map_err(|error| error.to_string())?,
        Err(_) => Residents::default(),
    };
    for (name, document) in &secrets {
        residents.admit(name, document)?;
    }
    let client = Client::operator(context);
    if client.is_answering().await? {
        for (name, document) in &secrets {
            say!("{}", told(&client, Method::PUT, &format!("/v1/embedded/{name}"), Some(document)).await?.detail());
        }
        unread(context, &secrets).await;
        return Ok(());
    }
    let ledger = offline::write(context).await?;
    unread(context, &secrets).await;
    let mut stored = Ok(());
    for (name, document) in secrets {
        match daemon::put(&ledger, &SystemClock, &residents, &name, document, &asker()).await {
            Ok(message) => say!("{message}"),
            Err(error) => stored = Err(error.into()),
        }
    }
    ledger.close().await;
    stored
}

/// Says which of these no credential reads: a slip of the pen, or settings that are still to come.
async fn unread(context: &Context, secrets: &[(CredentialId, Secret)]) {
    // What cannot be known is not worth a word here.
    let Ok((loaded, _)) = offline::settings_of_daemon(context).await else { return };
    let credentials = loaded.config.credentials.iter().filter(|(_, credential)| credential.store == "embedded");
    let places: Vec<&str> = credentials
        .map(|(id, credential)| credential.at.as_deref().map_or(id.as_str(), |at| at.split('#').next().unwrap_or(at)))
        .collect();
    for (name, _) in secrets.iter().filter(|(name, _)| !places.contains(&name.as_str())) {
        let hint = config::did_you_mean(name.as_str(), places.iter().copied()).map(|hint| format!("; {hint}"));
        note!(
            "warning: no credential of the settings reads {name}{}",
            hint.unwrap_or_else(|| format!("; [credentials.{name}] is to be added"))
        );
    }
}

async fn list(context: &Context, json: bool) -> Result<(), Trouble> {
    let client = Client::operator(context);
    let entries: Vec<Value> = if client.is_answering().await? {
        let answer = told(&client, Method::GET, "/v1/embedded", None).await?;
        answer.json()["entries"].as_array().cloned().unwrap_or_default()
    } else if let Some(ledger) = look(context).await? {
        let list = ledger.embedded().list().await.map_err(|error| error.to_string());
        ledger.close().await;
        list?.into_iter().map(|(name, version)| serde_json::json!({ "name": name, "version": version })).collect()
    } else {
        Vec::new()
    };
    if json {
        say!("{}", Value::from(entries));
        return Ok(());
    }
    if entries.is_empty() {
        say!("the embedded store is empty; `credd credential put NAME` stores a secret");
    }
    for entry in entries {
        say!("{}  version {}", entry["name"].as_str().unwrap_or_default(), entry["version"]);
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "read to show everything but its secrets")]
async fn show(context: &Context, name: &CredentialId) -> Result<(), Trouble> {
    let client = Client::operator(context);
    if client.is_answering().await? {
        let answer = told(&client, Method::GET, &format!("/v1/credentials/{name}"), None).await?;
        say!("{}", serde_json::to_string_pretty(&answer.json()).unwrap_or_default());
        return Ok(());
    }
    let ledger = look(context).await?.ok_or_else(|| unknown(name))?;
    let found = ledger.embedded().get(name.as_str()).await.map_err(|error| error.to_string());
    ledger.close().await;
    let (document, version) = found?.ok_or_else(|| unknown(name))?;
    let material = Material::parse(document.expose().as_bytes()).map_err(|error| error.to_string())?;
    say!("{name}, version {version}");
    for (member, value) in members(&material) {
        say!("  {member:<26}{value}");
    }
    Ok(())
}

/// What a secret consists of, in the order of a home store's document; of what may not be seen, that it is there.
fn members(material: &Material) -> impl Iterator<Item = (&'static str, String)> {
    let hidden = |is_there: bool| is_there.then(|| "(secret)".to_owned());
    let date = |at: Option<jiff::Timestamp>| at.map(|at| at.to_string());
    let others = format!("{:?}", material.other);
    let all = [
        ("access_token", hidden(material.access_token.is_some())),
        ("token_type", material.token_type.clone()),
        ("expires_at", date(material.expires_at)),
        ("scope", material.scope.clone()),
        ("refresh_token", hidden(material.refresh_token.is_some())),
        ("refresh_expires_at", date(material.refresh_expires_at)),
        ("client_id", material.client_id.clone()),
        ("client_secret", hidden(material.client_secret.is_some())),
        ("client_secret_next", hidden(material.client_secret_next.is_some())),
        ("client_secret_expires_at", date(material.client_secret_expires_at)),
        ("private_key", hidden(material.private_key.is_some())),
        ("access_key", material.access_key.as_ref().map(|key| key.id.to_string())),
        ("session", material.session.as_ref().map(|key| key.id.to_string())),
        ("grant_id", material.grant_id.clone()),
        ("generation", material.generation.map(|generation| generation.to_string())),
        ("other members", (!matches!(others.as_str(), "[]" | "{}")).then_some(others)),
    ];
    all.into_iter().filter_map(|(member, value)| Some((member, value?)))
}

async fn remove(context: &Context, name: &CredentialId) -> Result<(), Trouble> {
    let client = Client::operator(context);
    if client.is_answering().await? {
        say!("{}", told(&client, Method::DELETE, &format!("/v1/embedded/{name}"), None).await?.detail());
        return Ok(());
    }
    // Where there is no ledger, none is made to remove something from it.
    look(context).await?.ok_or_else(|| unknown(name))?.close().await;
    let ledger = offline::write(context).await?;
    let removed = daemon::remove(&ledger, &SystemClock, name, &asker()).await;
    ledger.close().await;
    say!("{}", removed?);
    Ok(())
}

fn unknown(name: &CredentialId) -> String {
    format!("the embedded store has no secret named {name}; `credd credential list` shows what it has")
}

async fn look(context: &Context) -> Result<Option<Ledger>, Trouble> {
    let (loaded, references) = offline::settings(context)?;
    offline::look_alone(&loaded, &references).await
}

/// The daemon's answer, if it is no refusal.
async fn told(client: &Client, method: Method, path: &str, body: Option<&Secret>) -> Result<Answer, Trouble> {
    let answer = client.ask(method, path, body).await?;
    if answer.is_success() { Ok(answer) } else { Err(answer.detail().into()) }
}

//! Any other store, through a command that speaks JSON, in the manner of a git credential helper.
//!
//! The command is started for each question, with the operation as its last argument and one JSON object on standard
//! input; it answers with one JSON object on standard output:
//!
//! | operation | input | output |
//! |---|---|---|
//! | `get` | `{"version":1,"operation":"get","at":"NAME"}` | `{"secret":{…} or "text","version":"V"}`; without `version`, a digest of the secret counts |
//! | `versions` | `{"version":1,"operation":"versions","at":["NAME",…]}` | `{"versions":{"NAME":"V"}}`; `null` means that it is gone; names left out are asked by `get`; an empty list asks whether the command works |
//! | `store` | `{"version":1,"operation":"store","at":"NAME","secret":{…},"expected":"V","attempt":"UUID"}` | `{"version":"V2"}`, or `{"error":"conflict"}` when the store no longer holds `expected` |
//!
//! A refusal is `{"error":"CODE"}` with any exit code, where CODE is `not_found`, `denied`, `conflict`, `read_only`,
//! `throttled` (with `"retry_after":SECONDS`, if known) or `unreachable`; or an exit code alone: 66 not found, 77 denied,
//! 64 operation unknown, any other means unreachable. The last line of standard error goes into messages.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{Loaded, Location, SecretStore, StoreError, StoreHealth, Version, document, each, unusable};
use crate::{
    clock::Clock,
    credential::{Material, MaterialError, Secret},
    spawn::{self, Run},
};

/// `[stores.NAME] kind = "exec"`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Absolute path of the program, then its arguments; the operation (`get`, `versions`, `store`) is added as the last one.
    pub command: Vec<String>,
    /// Working directory.
    #[serde(default)]
    pub directory: Option<PathBuf>,
    /// Environment variables handed through by name; nothing else is inherited but PATH, HOME and LANG.
    #[serde(default)]
    pub environment: Vec<String>,
    /// Whether the command knows `store`.
    #[serde(default)]
    pub writable: bool,
    /// The command is ended after this many seconds.
    #[serde(default = "ten")]
    pub timeout_seconds: u64,
    /// Seconds between two looks for changes.
    #[serde(default = "sixty")]
    pub poll_seconds: u64,
}

fn ten() -> u64 {
    10
}

fn sixty() -> u64 {
    60
}

/// A home store behind a command.
#[derive(Debug)]
pub struct Exec {
    settings: Settings,
    clock: Arc<dyn Clock>,
    /// Whether the command has said that it does not know `versions`.
    no_versions: AtomicBool,
}

/// A secret as the command gave it.
struct Answer {
    document: Zeroizing<Vec<u8>>,
    version: Version,
}

impl Exec {
    /// Checks the command's form; it is started at the first question.
    pub fn new(name: &str, settings: &Settings, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        match settings.command.first() {
            Some(program) if program.starts_with('/') => {}
            _ => return Err(unusable(name, "`command` must begin with the absolute path of a program")),
        }
        Ok(Self { settings: settings.clone(), clock, no_versions: AtomicBool::new(false) })
    }

    async fn ask(&self, operation: &str, at: &str, mut request: Value) -> Result<Map<String, Value>, StoreError> {
        request["version"] = 1.into();
        request["operation"] = operation.into();
        let mut arguments: Vec<_> = self.settings.command[1..].iter().map(Into::into).collect();
        arguments.push(operation.into());
        let inherited =
            ["PATH", "HOME", "LANG"].into_iter().chain(self.settings.environment.iter().map(String::as_str));
        let run = Run {
            program: PathBuf::from(&self.settings.command[0]),
            arguments,
            directory: self.settings.directory.clone(),
            environment: inherited.filter_map(|name| Some((name.into(), std::env::var_os(name)?))).collect(),
            input: Secret::new(request.to_string()),
            timeout: Duration::from_secs(self.settings.timeout_seconds),
        };
        let done = spawn::run(run, self.clock.as_ref())
            .await
            .map_err(|error| StoreError::Unreachable { path: at.into(), reason: error.to_string() })?;
        let answer = serde_json::from_slice::<Map<String, Value>>(&done.output);
        let code = answer.as_ref().ok().and_then(|answer| answer.get("error")?.as_str());
        if done.code == Some(0) && code.is_none() {
            return answer.map_err(|error| StoreError::Malformed {
                path: at.into(),
                reason: MaterialError::BadJson { line: error.line(), column: error.column() },
            });
        }
        let path = at.to_owned();
        let reason = match (done.code, done.words) {
            (Some(code), words) if words.is_empty() => format!("the command ended with {code}"),
            (Some(code), words) => format!("the command ended with {code}: {words}"),
            (None, _) => "a signal ended the command".into(),
        };
        let wait = answer.as_ref().ok().and_then(|answer| answer.get("retry_after")?.as_u64());
        Err(match (code, done.code) {
            (Some("not_found"), _) | (None, Some(66)) => StoreError::NotFound { path },
            (Some("denied"), _) | (None, Some(77)) => StoreError::Denied { path, reason },
            (Some("conflict"), _) => StoreError::Conflict { path },
            (Some("read_only"), _) | (None, Some(64)) => StoreError::ReadOnly { path, reason },
            (Some("throttled"), _) => StoreError::Throttled { path, retry_after: wait.map(Duration::from_secs) },
            _ => StoreError::Unreachable { path, reason },
        })
    }

    async fn get(&self, at: &Location) -> Result<Answer, StoreError> {
        let (path, _) = at.split();
        let mut answer = self.ask("get", path, json!({ "at": path })).await?;
        let malformed = |wanted| StoreError::Malformed {
            path: at.0.clone(),
            reason: MaterialError::Field { field: "secret", wanted },
        };
        let document = Zeroizing::new(match answer.remove("secret") {
            Some(Value::String(text)) => text.into_bytes(),
            Some(object @ Value::Object(_)) => object.to_string().into_bytes(),
            Some(_) => return Err(malformed("a text or an object")),
            None => return Err(malformed("in the command's answer")),
        });
        let version = match answer.remove("version") {
            Some(Value::String(version)) => Version(version),
            Some(Value::Number(version)) => Version(version.to_string()),
            _ => document::version_of(&document, path),
        };
        Ok(Answer { document, version })
    }

    /// What the command says to `versions`; nothing, if it does not know that operation.
    async fn told_versions(&self, at: &[Location]) -> Result<Map<String, Value>, StoreError> {
        if self.no_versions.load(Ordering::Relaxed) || at.is_empty() {
            return Ok(Map::new());
        }
        let names: Vec<_> = at.iter().map(|at| at.split().0).collect();
        match self.ask("versions", names[0], json!({ "at": names })).await {
            Ok(mut answer) => match answer.remove("versions") {
                Some(Value::Object(versions)) => Ok(versions),
                _ => Ok(Map::new()),
            },
            Err(StoreError::ReadOnly { .. }) => {
                self.no_versions.store(true, Ordering::Relaxed);
                Ok(Map::new())
            }
            Err(error) => Err(error),
        }
    }
}

impl SecretStore for Exec {
    fn kind(&self) -> &'static str {
        "exec"
    }

    fn load<'a>(&'a self, at: &'a Location) -> BoxFuture<'a, Result<Loaded, StoreError>> {
        Box::pin(async move {
            let answer = self.get(at).await?;
            Ok(Loaded { material: document::read(&answer.document, at)?, version: answer.version })
        })
    }

    fn versions<'a>(&'a self, at: &'a [Location]) -> BoxFuture<'a, Vec<Result<Version, StoreError>>> {
        Box::pin(async move {
            let told = self.told_versions(at).await.map(|told| {
                let version = |name: String, told| match told {
                    Value::String(version) => (name, Ok(Version(version))),
                    Value::Number(version) => (name, Ok(Version(version.to_string()))),
                    _ => (name.clone(), Err(StoreError::NotFound { path: name })),
                };
                told.into_iter().map(|(name, told)| version(name, told)).collect()
            });
            each::versions(at, told, |at| async { self.get(at).await.map(|answer| answer.version) }).await
        })
    }

    #[expect(clippy::disallowed_methods, reason = "a secret goes back to its home store")]
    fn write<'a>(
        &'a self,
        at: &'a Location,
        material: &'a Material,
        expected: &'a Version,
        attempt: Uuid,
    ) -> BoxFuture<'a, Result<Version, StoreError>> {
        Box::pin(async move {
            if let Some(reason) = self.read_only(at).await {
                return Err(StoreError::ReadOnly { path: at.0.clone(), reason });
            }
            let (path, _) = at.split();
            let material = document::stamped(material, attempt);
            let present = self.get(at).await?;
            if present.version == *expected {
                let text = document::write(&present.document, at, &material)?;
                let secret: Value = serde_json::from_str(text.expose()).expect("a rendered object parses");
                let digest = document::version_of(secret.to_string().as_bytes(), path);
                let request = json!({ "at": path, "secret": secret, "expected": expected, "attempt": attempt });
                match self.ask("store", path, request).await {
                    Ok(mut answer) => {
                        return Ok(match answer.remove("version") {
                            Some(Value::String(version)) => Version(version),
                            Some(Value::Number(version)) => Version(version.to_string()),
                            _ => digest,
                        });
                    }
                    Err(StoreError::Conflict { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            each::written_before(self.load(at).await?, &material, at)
        })
    }

    fn read_only<'a>(&'a self, _: &'a Location) -> BoxFuture<'a, Option<String>> {
        let reason = "set `writable = true` for this store, if its command knows `store`";
        Box::pin(async move { (!self.settings.writable).then(|| reason.to_owned()) })
    }

    fn check(&self) -> BoxFuture<'_, Result<StoreHealth, StoreError>> {
        Box::pin(async move {
            match self.ask("versions", &self.settings.command[0], json!({ "at": [] })).await {
                // It ran; that it does not know `versions` is no fault.
                Ok(_) | Err(StoreError::ReadOnly { .. }) => Ok(StoreHealth {
                    description: format!("command {}", self.settings.command[0]),
                    auth_expires_at: None,
                }),
                Err(error) => Err(error),
            }
        })
    }

    fn run(&self, _: mpsc::Sender<Location>, stop: CancellationToken) -> BoxFuture<'_, ()> {
        Box::pin(stop.cancelled_owned())
    }

    fn poll_interval(&self) -> Option<Duration> {
        Some(Duration::from_secs(self.settings.poll_seconds.max(1)))
    }
}

//! The KV engine: reading with versions, writing by compare-and-swap.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt, future::BoxFuture, stream};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;
use vaultrs::{
    api::{
        self,
        kv2::{
            requests::{ReadSecretRequest, SetSecretRequest, SetSecretRequestOptions},
            responses::SecretVersionMetadata,
        },
    },
    client::VaultClient,
    error::ClientError,
    kv1, kv2,
};

use super::{
    login::Login,
    wire::{Question, Wire, fits, refusal, status},
};
use crate::{
    clock::Clock,
    credential::Material,
    store::{Loaded, Location, StoreError, Version, document, each},
};

/// Metadata requests under way at once.
const AT_ONCE: usize = 8;
/// Between two reads of a node that is behind (FM-22).
const BEHIND: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Engine {
    V1,
    V2,
}

/// One version of a secret. The number alone starts again at 1 when a secret is deleted for good and made anew,
/// so its date of making belongs to its name.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Edition {
    number: u64,
    made: String,
}

impl Edition {
    fn version(&self) -> Version {
        Version(format!("{}@{}", self.number, self.made))
    }

    fn number(version: &Version) -> Option<u64> {
        version.0.split_once('@')?.0.parse().ok()
    }

    /// Lower and made earlier: from a node that has not seen what we have seen.
    fn is_behind(&self, known: &Self) -> bool {
        let made = |edition: &Self| edition.made.parse::<Timestamp>().ok();
        self.number < known.number && made(self) <= made(known)
    }
}

#[derive(Debug)]
pub(super) struct Kv {
    mount: String,
    wire: Arc<Wire>,
    pub(super) login: Login,
    clock: Arc<dyn Clock>,
    engine: tokio::sync::Mutex<Option<Engine>>,
    /// The newest edition of each path that was ever seen or written.
    known: Mutex<HashMap<String, Edition>>,
}

/// A document with its version.
struct Document {
    value: Value,
    version: Version,
}

impl Document {
    fn material(&self, at: &Location) -> Result<Material, StoreError> {
        document::read(self.text().as_bytes(), at)
    }

    fn text(&self) -> zeroize::Zeroizing<String> {
        zeroize::Zeroizing::new(self.value.to_string())
    }
}

impl Kv {
    pub(super) fn new(mount: String, wire: Arc<Wire>, login: Login, clock: Arc<dyn Clock>) -> Self {
        let (engine, known) = Default::default();
        Self { mount, wire, login, clock, engine, known }
    }

    /// Asks Vault, with one new login if our token turns out to be gone. `right` is what our policy must allow for it.
    async fn ask<'q, T>(
        &self,
        place: &str,
        right: &str,
        question: impl Fn(VaultClient) -> BoxFuture<'q, Result<T, ClientError>> + Send + Sync,
    ) -> Result<T, StoreError> {
        let token = self.login.token().await?;
        let mut answer = question(self.wire.client(Some(&token))).await;
        if answer.as_ref().is_err_and(|error| status(error) == Some(403)) && self.login.is_dead(&token).await {
            let token = self.login.token().await?;
            answer = question(self.wire.client(Some(&token))).await;
        }
        answer.map_err(|error| match status(&error) {
            Some(403) => {
                let reason = format!("Vault says permission denied; our policy must allow {right} on {place}");
                StoreError::Denied { path: place.into(), reason }
            }
            _ => refusal(place, &error),
        })
    }

    /// Where a secret's values lie, as policies name it.
    fn data(&self, path: &str) -> String {
        format!("{}/data/{path}", self.mount)
    }

    async fn engine(&self) -> Result<Engine, StoreError> {
        let mut engine = self.engine.lock().await;
        if let Some(known) = *engine {
            return Ok(known);
        }
        let found = self.look_at_engine().await?;
        *engine = Some(found);
        Ok(found)
    }

    async fn look_at_engine(&self) -> Result<Engine, StoreError> {
        #[derive(Deserialize)]
        struct Mount {
            #[serde(rename = "type")]
            kind: String,
            options: Option<HashMap<String, String>>,
        }
        let place = format!("{}/", self.mount);
        let mount = self.ask(&place, "something", |vault| {
            let question = Question::<Mount>::get(format!("sys/internal/ui/mounts/{}", self.mount));
            Box::pin(async move { api::exec_with_result(&vault, question).await })
        });
        let mount = mount.await.map_err(|error| match error {
            StoreError::Denied { path, .. } if path == place => {
                let reason = "nothing is mounted there, or our policy allows nothing below it; is `mount` right?";
                StoreError::Denied { path, reason: reason.into() }
            }
            other => other,
        })?;
        match (mount.kind.as_str(), mount.options.as_ref().and_then(|it| it.get("version")).map(String::as_str)) {
            ("kv", Some("2")) => Ok(Engine::V2),
            ("kv" | "generic", _) => Ok(Engine::V1),
            (kind, _) => {
                Err(StoreError::Denied { path: place, reason: format!("a {kind} engine is mounted there, not kv") })
            }
        }
    }

    async fn document(&self, at: &Location) -> Result<Document, StoreError> {
        let (path, _) = at.split();
        fits(path).map_err(|reason| StoreError::Denied { path: at.0.clone(), reason })?;
        match self.engine().await? {
            Engine::V1 => {
                let place = format!("{}/{path}", self.mount);
                let found = self.ask(&place, "`read`", |vault| {
                    Box::pin(async move { kv1::get_raw(&vault, &self.mount, path).await })
                });
                let found = found.await?;
                let version = document::version_of(found.data.to_string().as_bytes(), path);
                Ok(Document { value: found.data, version })
            }
            Engine::V2 => {
                let place = self.data(path);
                for _ in 0..3 {
                    let found = self.ask(&place, "`read`", |vault| {
                        let request = ReadSecretRequest::builder().mount(&self.mount).path(path).build();
                        Box::pin(async move {
                            api::exec_with_result(&vault, request.expect("mount and path are set")).await
                        })
                    });
                    let found = found.await?;
                    let edition = Edition { number: found.metadata.version, made: found.metadata.created_time };
                    if self.learn(path, &edition).is_ok() {
                        return Ok(Document { value: found.data, version: edition.version() });
                    }
                    self.clock.sleep(BEHIND).await;
                }
                Err(StoreError::Unreachable {
                    path: at.0.clone(),
                    reason: "a standby of Vault answers with an older version than we have seen".into(),
                })
            }
        }
    }

    /// Remembers an edition, or answers the newer one that is known already.
    fn learn(&self, path: &str, edition: &Edition) -> Result<(), Edition> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match known.get(path) {
            Some(newer) if edition.is_behind(newer) => Err(newer.clone()),
            _ => {
                known.insert(path.to_owned(), edition.clone());
                Ok(())
            }
        }
    }

    pub(super) async fn load(&self, at: &Location) -> Result<Loaded, StoreError> {
        let document = self.document(at).await?;
        Ok(Loaded { material: document.material(at)?, version: document.version })
    }

    /// One metadata request for each path; KV v1 has none, there the values are read.
    pub(super) async fn versions(&self, at: &[Location]) -> Vec<Result<Version, StoreError>> {
        let paths: BTreeSet<_> = at.iter().map(|at| at.split().0).collect();
        let asks: Vec<_> = paths.into_iter().map(|path| async move { (path, self.version(path).await) }).collect();
        let found: HashMap<_, _> = stream::iter(asks).buffer_unordered(AT_ONCE).collect().await;
        at.iter().map(|at| found[at.split().0].clone()).collect()
    }

    async fn version(&self, path: &str) -> Result<Version, StoreError> {
        fits(path).map_err(|reason| StoreError::Denied { path: path.into(), reason })?;
        if self.engine().await? == Engine::V1 {
            return Ok(self.document(&Location(path.into())).await?.version);
        }
        let place = format!("{}/metadata/{path}", self.mount);
        let found = self.ask(&place, "`read`", |vault| {
            Box::pin(async move { kv2::read_metadata(&vault, &self.mount, path).await })
        });
        let found = found.await?;
        let gone = || StoreError::NotFound { path: place.clone() };
        let current = found.versions.get(&found.current_version.to_string()).ok_or_else(gone)?;
        let deleted = match current.deletion_time.parse::<Timestamp>() {
            Ok(at) => at <= self.clock.now().wall,
            Err(_) => !current.deletion_time.is_empty(),
        };
        if deleted || current.destroyed {
            return Err(gone());
        }
        let edition = Edition { number: found.current_version, made: current.created_time.clone() };
        match self.learn(path, &edition) {
            Ok(()) => Ok(edition.version()),
            Err(newer) => Ok(newer.version()),
        }
    }

    #[expect(clippy::disallowed_methods, reason = "a secret goes back to its home store")]
    pub(super) async fn write(
        &self,
        at: &Location,
        material: &Material,
        expected: &Version,
        attempt: Uuid,
    ) -> Result<Version, StoreError> {
        if self.engine().await? == Engine::V1 {
            return Err(StoreError::ReadOnly { path: at.0.clone(), reason: V1.into() });
        }
        let conflict = || StoreError::Conflict { path: at.0.clone() };
        let material = document::stamped(material, attempt);
        let (path, key) = at.split();
        fits(path).map_err(|reason| StoreError::Denied { path: at.0.clone(), reason })?;
        let number = Edition::number(expected).and_then(|number| u32::try_from(number).ok()).ok_or_else(conflict)?;
        // One key of many: the others are written again as they are. A whole secret needs no look before.
        let present = match key {
            Some(_) => Some(self.document(at).await?).filter(|present| present.version == *expected),
            None => Some(Document { value: Value::Null, version: expected.clone() }),
        };
        if let Some(present) = present {
            let text = document::write(present.text().as_bytes(), at, &material)?;
            let data: Value = serde_json::from_str(text.expose()).expect("a rendered object parses");
            let place = self.data(path);
            let written = self.ask(&place, "`update`", |vault| {
                let request = SetSecretRequest::builder()
                    .mount(&self.mount)
                    .path(path)
                    .data(data.clone())
                    .options(SetSecretRequestOptions { cas: number })
                    .build();
                Box::pin(
                    async move { api::exec_with_result(&vault, request.expect("mount, path and data are set")).await },
                )
            });
            match written.await {
                Ok(SecretVersionMetadata { version, created_time, .. }) => {
                    let edition = Edition { number: version, made: created_time };
                    let _ = self.learn(path, &edition);
                    return Ok(edition.version());
                }
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        each::written_before(self.load(at).await?, &material, at)
    }

    pub(super) async fn read_only(&self, at: &Location) -> Option<String> {
        #[derive(Deserialize)]
        struct Allowed {
            capabilities: Vec<String>,
        }
        let engine = self.engine().await.ok()?;
        if engine == Engine::V1 {
            return Some(V1.into());
        }
        let path = self.data(at.split().0);
        let body = json!({ "paths": [&path] });
        let allowed = self.ask("sys/capabilities-self", "`update`", |vault| {
            let question = Question::<Allowed>::post("sys/capabilities-self".into(), &body);
            Box::pin(async move { api::exec_with_result(&vault, question).await })
        });
        let allowed = allowed.await.ok()?;
        let may = allowed.capabilities.iter().any(|word| matches!(word.as_str(), "update" | "root"));
        (!may).then(|| format!("our Vault policy does not allow `update` on {path}"))
    }

    /// For `check`: reaches Vault, logs in and looks at the mount anew.
    pub(super) async fn describe(&self) -> Result<String, StoreError> {
        #[derive(Deserialize)]
        struct Health {
            version: String,
        }
        let health = Question::<Health>::get("sys/health".into());
        let version = match api::exec_with_no_result(&self.wire.root_client(), health).await {
            Ok(health) => health.version,
            // A standby says 429, 472 or 473 and serves all the same.
            Err(error) if matches!(status(&error), Some(429 | 472 | 473)) => "(standby)".into(),
            Err(error) => {
                let error = match status(&error) {
                    Some(503) => {
                        StoreError::Unreachable { path: "Vault".into(), reason: "Vault is sealed; unseal it".into() }
                    }
                    Some(501) => {
                        StoreError::Unreachable { path: "Vault".into(), reason: "Vault is not initialised".into() }
                    }
                    _ => refusal("Vault", &error),
                };
                return Err(error);
            }
        };
        let engine = self.look_at_engine().await?;
        *self.engine.lock().await = Some(engine);
        let engine = if engine == Engine::V1 { "KV v1 (read-only)" } else { "KV v2" };
        Ok(format!("Vault {version} at {}, {engine} at {}/", self.wire.address(), self.mount))
    }
}

const V1: &str = "KV v1 cannot compare before it writes; `vault kv enable-versioning` makes it v2";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fm22_a_node_that_is_behind_is_told_from_a_secret_made_anew() {
        let edition = |number, made: &str| Edition { number, made: made.into() };
        let known = edition(5, "2026-01-01T00:00:05Z");
        assert!(edition(4, "2026-01-01T00:00:04.123Z").is_behind(&known));
        assert!(!edition(6, "2026-01-01T00:00:06Z").is_behind(&known));
        assert!(!edition(1, "2026-01-02T00:00:00Z").is_behind(&known));
        assert_eq!(Edition::number(&known.version()), Some(5));
    }
}

//! What only the house can do for its operator.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use super::Residents;
use crate::{
    clock::{Clock, Now},
    config::{Outcome, Reload},
    credential::{CredentialId, Secret},
    ledger::{Entry, Filter, Ledger, Put},
    server::admin::{AuditQuery, House},
    watcher::{Fleet, StoreReport},
};

/// The house, as the operator's socket sees it.
pub(super) struct Operator {
    pub ledger: Ledger,
    pub fleet: Arc<tokio::sync::Mutex<Option<Fleet>>>,
    pub reload: Reload,
    pub stores: Box<dyn Fn() -> Vec<StoreReport> + Send + Sync>,
    pub clock: Arc<dyn Clock>,
    pub started: Now,
    pub settings: Option<PathBuf>,
    pub health: SocketAddr,
    pub socket: PathBuf,
}

impl House for Operator {
    fn about(&self) -> BoxFuture<'_, Value> {
        Box::pin(async move {
            let now = self.clock.now();
            let incidents = self.ledger.incidents().open().await.unwrap_or_default();
            let incidents: Vec<Value> = incidents
                .iter()
                .map(|incident| {
                    json!({ "kind": incident.kind, "credential": incident.credential, "since": incident.opened_at,
                            "severity": incident.severity, "summary": incident.summary })
                })
                .collect();
            json!({
                "version": env!("CARGO_PKG_VERSION"),
                "pid": std::process::id(),
                "started_at": self.started.wall,
                "uptime_seconds": now.boot.saturating_sub(self.started.boot).as_secs(),
                "settings": self.settings.as_ref().and_then(|path| std::path::absolute(path).ok()),
                "ledger": self.ledger.place(),
                "health": self.health.to_string(),
                "socket": self.socket,
                "stores": (self.stores)(),
                "incidents": incidents,
            })
        })
    }

    fn audit(&self, wanted: AuditQuery) -> BoxFuture<'_, Result<Vec<Value>, String>> {
        Box::pin(async move {
            let filter = Filter { credential: wanted.credential.map(|id| id.to_string()), ..Filter::default() };
            let limit = wanted.limit.unwrap_or(100).min(10_000) as usize;
            let entries = self.ledger.audit().tail(&filter, limit).await.map_err(|error| error.to_string())?;
            entries.iter().map(|entry| serde_json::to_value(entry).map_err(|error| error.to_string())).collect()
        })
    }

    fn unclassified(&self) -> BoxFuture<'_, Result<Vec<Value>, String>> {
        Box::pin(async move {
            let kept = self.ledger.unclassified().list().await.map_err(|error| error.to_string())?;
            kept.iter().map(|kept| serde_json::to_value(kept).map_err(|error| error.to_string())).collect()
        })
    }

    fn dismiss(&self, ids: Option<Vec<String>>, actor: String) -> BoxFuture<'_, Result<String, String>> {
        Box::pin(async move {
            let at = self.clock.now().wall;
            match self.ledger.unclassified().remove(ids, at, actor).await.map_err(|error| error.to_string())? {
                Ok(1) => Ok("1 reply dismissed".into()),
                Ok(count) => Ok(format!("{count} replies dismissed")),
                Err(unknown) => Err(format!(
                    "no unclassified reply is called {unknown:?}, so none was dismissed; `credd unclassified list` names them"
                )),
            }
        })
    }

    fn reload(&self) -> BoxFuture<'_, Result<String, String>> {
        Box::pin(async move {
            match self.reload.reload().await {
                Some(Outcome::Applied(changes)) => Ok(format!("the new settings are in force ({changes})")),
                Some(Outcome::Unchanged) => Ok("the settings file says what is in force already".into()),
                Some(Outcome::Kept(problems)) => Err(problems.to_string()),
                None => Err("credd is stopping".into()),
            }
        })
    }

    fn embedded(&self) -> BoxFuture<'_, Result<Vec<Value>, String>> {
        Box::pin(async move {
            let list = self.ledger.embedded().list().await.map_err(|error| error.to_string())?;
            Ok(list.into_iter().map(|(name, version)| json!({ "name": name, "version": version })).collect())
        })
    }

    fn put(&self, name: CredentialId, document: Secret, actor: String) -> BoxFuture<'_, Result<String, String>> {
        Box::pin(async move {
            let residents = self.fleet.lock().await.as_ref().map(Residents::of_fleet).unwrap_or_default();
            put(&self.ledger, &*self.clock, &residents, &name, document, &actor).await
        })
    }

    fn remove(&self, name: CredentialId, actor: String) -> BoxFuture<'_, Result<String, String>> {
        Box::pin(async move { remove(&self.ledger, &*self.clock, &name, &actor).await })
    }
}

/// Puts a document into the embedded store, whoever wrote there before, if those who live there can use it. Called by
/// the daemon, and by the command line when no daemon runs.
pub async fn put(
    ledger: &Ledger,
    clock: &dyn Clock,
    residents: &Residents,
    name: &CredentialId,
    document: Secret,
    actor: &str,
) -> Result<String, String> {
    residents.admit(name, &document)?;
    let words = |error: crate::ledger::LedgerError| error.to_string();
    loop {
        let version = ledger.embedded().get(name.as_str()).await.map_err(words)?.map(|(_, version)| version);
        let said = said(clock, name, "secret_put", actor);
        let put = ledger.embedded().put_for(name.as_str(), document.clone(), version, said).await.map_err(words)?;
        if let Put::Written(version) = put {
            return Ok(format!("{name}: stored as version {version}"));
        }
    }
}

/// Takes a document out of the embedded store.
pub async fn remove(ledger: &Ledger, clock: &dyn Clock, name: &CredentialId, actor: &str) -> Result<String, String> {
    let words = |error: crate::ledger::LedgerError| error.to_string();
    loop {
        let Some((_, version)) = ledger.embedded().get(name.as_str()).await.map_err(words)? else {
            return Err(format!(
                "the embedded store has no secret named {name}; `credd credential list` shows what it has"
            ));
        };
        let said = said(clock, name, "secret_removed", actor);
        if let Put::Written(_) = ledger.embedded().remove_for(name.as_str(), version, said).await.map_err(words)? {
            return Ok(format!("{name}: removed"));
        }
    }
}

/// What the audit log says of it. `actor` is who asked (`uid 1000`).
fn said(clock: &dyn Clock, name: &CredentialId, event: &str, actor: &str) -> Entry {
    Entry {
        at: clock.now().wall,
        credential: name.to_string(),
        event: event.to_owned(),
        trigger: "operator".to_owned(),
        actor: Some(actor.to_owned()),
        outcome: "ok".to_owned(),
        ..Entry::default()
    }
}

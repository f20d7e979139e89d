//! Home stores: one contract, run over all of them against the real thing, and what each adds to it.

#[cfg(feature = "aws")]
mod aws;
mod exec;
mod file;
mod memory;
mod vault;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use credd::{
    clock::{Clock, Now, SystemClock},
    credential::{Material, Reference, Resolve, Secret},
    store::{Location, SecretStore, StoreError, Version},
};
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use uuid::Uuid;

/// Somebody who changes secrets in a store without asking credd.
trait Operator {
    /// Makes or replaces a secret.
    async fn put(&self, name: &str, document: &Value);
    /// Removes it.
    async fn remove(&self, name: &str);
}

/// The machine's clock, moved ahead at will; waiting is short because nobody has time.
#[derive(Debug, Default)]
struct Ahead(AtomicU64);

impl Ahead {
    fn by(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock for Ahead {
    fn now(&self) -> Now {
        let (now, ahead) = (SystemClock.now(), Duration::from_secs(self.0.load(Ordering::SeqCst)));
        Now { wall: now.wall + ahead, boot: now.boot + ahead }
    }

    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        SystemClock.sleep(time.min(Duration::from_millis(100)))
    }
}

/// Resolves `{ env = "…" }` to the text itself.
#[derive(Debug)]
struct Literal;

impl Resolve for Literal {
    fn resolve<'a>(&'a self, reference: &'a Reference) -> BoxFuture<'a, Result<Secret, String>> {
        Box::pin(async move {
            match reference {
                Reference::Env(it) => Ok(Secret::new(&it.env)),
                other => Err(format!("{other} is not for tests")),
            }
        })
    }
}

fn at(name: &str) -> Location {
    Location(name.into())
}

async fn version_of(store: &dyn SecretStore, name: &str) -> Result<Version, StoreError> {
    let mut found = store.versions(&[at(name)]).await;
    assert_eq!(found.len(), 1);
    found.remove(0)
}

fn renewed(material: &Material, refresh_token: &str) -> Material {
    Material { refresh_token: Some(Secret::new(refresh_token)), ..material.clone() }
}

/// What every home store owes, whatever it is.
async fn contract(store: &dyn SecretStore, operator: &impl Operator) {
    reads_and_sees_changes(store, operator).await;
    writes_by_compare_and_swap(store, operator).await;
    keeps_to_one_key(store, operator).await;
    one_of_many_writers_wins(store, operator).await;
    says_no_plainly(store, operator).await;
    store.check().await.expect("it is up");
}

async fn reads_and_sees_changes(store: &dyn SecretStore, operator: &impl Operator) {
    operator.put("app", &json!({"refresh_token": "r1", "access_token": "a1", "team": "ops"})).await;
    let first = store.load(&at("app")).await.unwrap();
    assert_eq!(first.material.refresh_token, Some(Secret::new("r1")));
    assert_eq!(first.material.other.text("team").as_deref(), Some("ops"));
    assert_eq!(store.load(&at("app")).await.unwrap().version, first.version, "nothing changed");
    assert_eq!(version_of(store, "app").await, Ok(first.version.clone()), "both ways name it alike");

    operator.put("app", &json!({"refresh_token": "r2", "access_token": "a2", "team": "ops"})).await;
    let told = version_of(store, "app").await.unwrap();
    assert_ne!(told, first.version, "a change is seen without reading");
    let second = store.load(&at("app")).await.unwrap();
    assert_eq!((second.version, second.material.refresh_token), (told, Some(Secret::new("r2"))));
}

async fn writes_by_compare_and_swap(store: &dyn SecretStore, operator: &impl Operator) {
    assert_eq!(store.read_only(&at("app")).await, None);
    let before = store.load(&at("app")).await.unwrap();
    let (attempt, ours) = (Uuid::now_v7(), renewed(&before.material, "r3"));
    let written = store.write(&at("app"), &ours, &before.version, attempt).await.unwrap();
    assert_ne!(written, before.version);
    let after = store.load(&at("app")).await.unwrap();
    assert_eq!(after.material.refresh_token, Some(Secret::new("r3")));
    assert_eq!(after.material.attempt_id, Some(attempt.to_string()));
    assert_eq!(after.material.other.text("team").as_deref(), Some("ops"), "what we do not know survives");
    assert_eq!((&after.version, version_of(store, "app").await), (&written, Ok(written.clone())));

    let again = store.write(&at("app"), &ours, &before.version, attempt).await;
    assert_eq!(again, Ok(written.clone()), "the same attempt once more is harmless");
    assert_eq!(version_of(store, "app").await, Ok(written.clone()), "and makes no version");

    let conflict = StoreError::Conflict { path: "app".into() };
    let late = store.write(&at("app"), &renewed(&ours, "late"), &before.version, Uuid::now_v7()).await;
    assert_eq!(late.unwrap_err(), conflict);
    operator.put("app", &json!({"refresh_token": "theirs"})).await;
    let blind = store.write(&at("app"), &renewed(&ours, "blind"), &written, Uuid::now_v7()).await;
    assert_eq!(blind.unwrap_err(), conflict);
    let kept = store.load(&at("app")).await.unwrap();
    assert_eq!(kept.material.refresh_token, Some(Secret::new("theirs")), "a conflict writes nothing");
}

async fn keeps_to_one_key(store: &dyn SecretStore, operator: &impl Operator) {
    operator.put("many", &json!({"slack": {"refresh_token": "s1", "team": "chat"}, "key": "plain", "n": "7"})).await;
    let before = store.load(&at("many#slack")).await.unwrap();
    assert_eq!(before.material.other.text("team").as_deref(), Some("chat"));
    let ours = renewed(&before.material, "s2");
    let (attempt, place) = (Uuid::now_v7(), at("many#slack"));
    let written = store.write(&place, &ours, &before.version, attempt).await.unwrap();
    assert_eq!(store.write(&place, &ours, &before.version, attempt).await, Ok(written.clone()));
    let after = store.load(&place).await.unwrap();
    assert_eq!((after.version, after.material.refresh_token), (written, Some(Secret::new("s2"))));
    assert_eq!(after.material.other.text("team").as_deref(), Some("chat"));
    let other = store.load(&at("many#key")).await.unwrap().material;
    assert_eq!(other.access_token, Some(Secret::new("plain")), "the other keys stay");
    let late = store.write(&place, &renewed(&ours, "late"), &before.version, Uuid::now_v7()).await;
    assert_eq!(late.unwrap_err(), StoreError::Conflict { path: "many#slack".into() });
    assert!(matches!(store.load(&at("many#none")).await, Err(StoreError::NotFound { .. })));
}

async fn one_of_many_writers_wins(store: &dyn SecretStore, operator: &impl Operator) {
    operator.put("race", &json!({"refresh_token": "r0"})).await;
    let before = store.load(&at("race")).await.unwrap();
    let tries = (1..=8).map(|number| {
        let (before, place) = (&before, at("race"));
        async move {
            let ours = renewed(&before.material, &format!("r{number}"));
            let written = store.write(&place, &ours, &before.version, Uuid::now_v7()).await;
            written.map(|version| (version, ours.refresh_token))
        }
    });
    let ended = futures_util::future::join_all(tries).await;
    let won: Vec<_> = ended.iter().flatten().collect();
    assert_eq!(won.len(), 1, "{ended:?}");
    let after = store.load(&at("race")).await.unwrap();
    assert_eq!((&after.version, &after.material.refresh_token), (&won[0].0, &won[0].1), "and its value stands");
}

async fn says_no_plainly(store: &dyn SecretStore, operator: &impl Operator) {
    assert!(matches!(store.load(&at("missing")).await, Err(StoreError::NotFound { .. })));
    let both = store.versions(&[at("many"), at("missing"), at("app")]).await;
    assert!(matches!(both[..], [Ok(_), Err(StoreError::NotFound { .. }), Ok(_)]), "{both:?}");

    operator.put("broken", &json!({"access_token": 12345678})).await;
    let error = store.load(&at("broken")).await.unwrap_err();
    assert!(matches!(error, StoreError::Malformed { .. }), "{error}");
    assert!(!format!("{error} {error:?}").contains("12345678"));

    operator.remove("app").await;
    assert!(matches!(store.load(&at("app")).await, Err(StoreError::NotFound { .. })));
    assert!(matches!(version_of(store, "app").await, Err(StoreError::NotFound { .. })));
}

fn clock() -> Arc<Ahead> {
    Arc::new(Ahead::default())
}

/// Everything that the libraries below us log in this thread, at their loudest.
#[derive(Clone, Default)]
struct Loud(Arc<Mutex<Vec<u8>>>);

impl Loud {
    fn listen(&self) -> tracing::subscriber::DefaultGuard {
        let sink = self.clone();
        let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE);
        tracing::subscriber::set_default(subscriber.with_writer(move || sink.clone()).finish())
    }

    /// The first line with that word, in what was logged and in what else could be.
    fn found(&self, word: &str, more: &str) -> Option<String> {
        let log = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        assert!(log.len() > 10_000, "it did not listen: {log}");
        log.lines().chain(more.lines()).find(|line| line.contains(word)).map(Into::into)
    }
}

impl std::io::Write for Loud {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

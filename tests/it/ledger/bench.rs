//! Where the suite runs: a ledger of its own for each test.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use credd::{
    clock::SystemClock,
    credential::{CredentialId, Fingerprint, Generation, Material, Reply, Secret},
    ledger::{Attempt, Entry, FlightStep, Ledger, LedgerError, NewValue, Place, Stage, Transition},
    seal::Sealer,
};
use jiff::Timestamp;
use sqlx::Connection;
use uuid::Uuid;

use crate::components::Component;

/// A place for a ledger, and its key.
pub struct Bench {
    pub folder: tempfile::TempDir,
    place: Place,
    /// How tampering reaches the database, past any pooler.
    back_door: Option<String>,
}

pub const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const ANOTHER: &str = "//////////////////////////////////////////8=";

impl Bench {
    pub fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::Sqlite(folder.path().join("ledger.db"));
        Self { folder, place, back_door: None }
    }

    pub async fn postgres(pooled: bool) -> Self {
        static SERVER: OnceLock<Component> = OnceLock::new();
        static POOLER: OnceLock<Component> = OnceLock::new();
        static DATABASES: AtomicU32 = AtomicU32::new(0);
        let server = tokio::task::spawn_blocking(|| SERVER.get_or_init(|| Component::start("postgres.sh", &[])));
        let server = server.await.unwrap();
        let name = format!("ledger_{}", DATABASES.fetch_add(1, Ordering::Relaxed));
        let mut conn = sqlx::PgConnection::connect(server.text("url")).await.unwrap();
        let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
        sqlx::raw_sql(create).execute(&mut conn).await.unwrap();
        let direct = format!("postgres://postgres:postgres@127.0.0.1:{}/{name}", server.number("port"));
        let url = if pooled {
            let backend = server.number("port").to_string();
            let pooler = tokio::task::spawn_blocking(move || {
                POOLER.get_or_init(|| Component::start("pgbouncer.sh", &[("BACKEND", &backend)]))
            });
            format!("postgres://postgres:postgres@127.0.0.1:{}/{name}", pooler.await.unwrap().number("port"))
        } else {
            direct.clone()
        };
        let folder = tempfile::tempdir().unwrap();
        let place = Place::Postgres { url: Secret::new(url), beside: folder.path().join("state") };
        Self { folder, place, back_door: Some(direct) }
    }

    /// On a server of the test's own.
    pub fn on(server: &Component) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = server.text("url").to_owned();
        let place = Place::Postgres { url: Secret::new(&*url), beside: folder.path().join("state") };
        Self { folder, place, back_door: Some(url) }
    }

    pub fn file(&self) -> PathBuf {
        self.folder.path().join("ledger.db")
    }

    pub async fn try_open(&self) -> Result<Ledger, LedgerError> {
        open(self.place.clone(), KEY).await
    }

    pub async fn open(&self) -> Ledger {
        self.try_open().await.unwrap()
    }

    pub async fn change_key(&self) -> Result<u64, LedgerError> {
        let sealer = |key| Sealer::from_base64(&Secret::new(key)).unwrap();
        Ledger::change_key(self.place.clone(), sealer(KEY), sealer(ANOTHER), Arc::new(SystemClock)).await
    }

    /// As `credd audit verify` does, whoever holds it.
    pub async fn open_to_read(&self) -> Ledger {
        let sealer = Sealer::from_base64(&Secret::new(KEY)).unwrap();
        Ledger::open_to_read(self.place.clone(), sealer, Arc::new(SystemClock)).await.unwrap()
    }

    pub async fn open_with_another_key(&self) -> Result<Ledger, LedgerError> {
        open(self.place.clone(), ANOTHER).await
    }

    /// What a power loss now would leave: for SQLite the files as they are, for PostgreSQL what is committed.
    pub fn after_power_loss(&self) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = match &self.place {
            Place::Sqlite(path) => {
                for suffix in ["", "-wal"] {
                    let name = format!("ledger.db{suffix}");
                    std::fs::copy(path.with_file_name(&name), folder.path().join(&name)).unwrap();
                }
                Place::Sqlite(folder.path().join("ledger.db"))
            }
            Place::Postgres { url, .. } => Place::Postgres { url: url.clone(), beside: folder.path().join("state") },
        };
        Self { folder, place, back_door: self.back_door.clone() }
    }

    /// Does something to the database behind the ledger's back.
    pub async fn tamper(&self, sql: &str) -> Result<u64, sqlx::Error> {
        let sql = sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned()));
        match &self.back_door {
            None => {
                let mut conn = sqlx::SqliteConnection::connect(self.file().to_str().unwrap()).await?;
                let touched = sql.execute(&mut conn).await?.rows_affected();
                conn.close().await?;
                Ok(touched)
            }
            Some(url) => Ok(sql.execute(&mut sqlx::PgConnection::connect(url).await?).await?.rows_affected()),
        }
    }

    /// Asks the database for one number.
    pub async fn number(&self, sql: &'static str) -> i64 {
        match &self.back_door {
            None => {
                let mut conn = sqlx::SqliteConnection::connect(self.file().to_str().unwrap()).await.unwrap();
                sqlx::query_scalar(sql).fetch_one(&mut conn).await.unwrap()
            }
            Some(url) => {
                let mut conn = sqlx::PgConnection::connect(url).await.unwrap();
                sqlx::query_scalar(sql).fetch_one(&mut conn).await.unwrap()
            }
        }
    }
}

async fn open(place: Place, key: &str) -> Result<Ledger, LedgerError> {
    Ledger::open(place, Sealer::from_base64(&Secret::new(key)).unwrap(), Arc::new(SystemClock)).await
}

pub async fn open_at(path: &Path) -> Result<Ledger, LedgerError> {
    open(Place::Sqlite(path.into()), KEY).await
}

pub fn id(name: &str) -> CredentialId {
    CredentialId::new(name).unwrap()
}

pub fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

pub fn material(text: &str) -> Material {
    Material {
        refresh_token: Some(Secret::new(format!("rt-{text}"))),
        access_token: Some(Secret::new(format!("at-{text}"))),
        expires_at: Some(at(3600)),
        ..Material::default()
    }
}

/// A step that says nothing yet.
pub fn step(name: &str) -> Transition {
    Transition {
        id: id(name),
        shard: 7,
        lifecycle: "{}".into(),
        flight: None,
        value: None,
        write_back: false,
        incidents: vec![],
        audit: vec![],
    }
}

pub fn entry(name: &str, event: &str) -> Entry {
    Entry { at: at(0), credential: name.into(), event: event.into(), outcome: "ok".into(), ..Entry::default() }
}

pub fn value(replaces: i64, text: &str) -> NewValue {
    NewValue {
        generation: Generation(replaces + 1),
        replaces: Generation(replaces),
        material: material(text),
        store_version: None,
        from_store: false,
        keep_previous_until: None,
    }
}

/// Loads a credential from its home store: generation 1.
pub fn loaded(name: &str) -> Transition {
    let value = NewValue { store_version: Some("v1".into()), from_store: true, ..value(0, "1") };
    Transition { value: Some(value), audit: vec![entry(name, "loaded")], ..step(name) }
}

pub fn attempt(number: u128, target: i64) -> Attempt {
    Attempt {
        id: Uuid::from_u128(number),
        target: Generation(target),
        presents: Fingerprint::from_ledger("0123456789ab".into()),
        prepared_at: at(1),
        boot_id: "boot".into(),
        stage: Stage::Prepared,
    }
}

pub fn prepared(name: &str, number: u128, target: i64) -> Transition {
    let flight = Some(FlightStep::Prepare(attempt(number, target)));
    Transition { flight, audit: vec![entry(name, "refresh_prepared")], ..step(name) }
}

pub fn sent(name: &str, number: u128) -> Transition {
    Transition { flight: Some(FlightStep::Sent { attempt: Uuid::from_u128(number), deadline: at(60) }), ..step(name) }
}

pub fn promoted(name: &str, number: u128, replaces: i64) -> Transition {
    Transition {
        flight: Some(FlightStep::Close { attempt: Uuid::from_u128(number), outcome: "promoted" }),
        value: Some(value(replaces, &(replaces + 1).to_string())),
        write_back: true,
        audit: vec![entry(name, "refreshed")],
        lifecycle: format!("{{\"at\":{}}}", replaces + 1),
        ..step(name)
    }
}

pub fn reply() -> Reply {
    let body = b"{\"access_token\":\n\"planted-canary\"}\xff\0";
    Reply::new(200, [("Content-Type", "application/json"), ("x-odd", "a\"b\n")], body.as_slice())
}

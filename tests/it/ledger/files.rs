//! What only a ledger in a file can suffer, and what only PostgreSQL can.

use std::{
    fs,
    os::unix::fs::{FileExt, PermissionsExt},
    path::Path,
};

use credd::ledger::{LedgerError, Stage};
use uuid::Uuid;

use super::bench::*;

fn unusable(error: LedgerError) -> String {
    let LedgerError::Unusable(text) = error else { panic!("{error}") };
    text
}

#[tokio::test]
async fn fm39_a_second_credd_is_told_who_holds_the_ledger() {
    let bench = Bench::sqlite();
    let first = bench.open().await;
    let text = unusable(bench.try_open().await.unwrap_err());
    assert!(text.contains(&format!("pid {}", std::process::id())), "{text}");
    first.rotation().commit(loaded("a")).await.unwrap();
    first.close().await;
    bench.open().await;
}

#[tokio::test]
async fn fm37_loose_permissions_are_refused() {
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let bench = Bench::sqlite();
    bench.open().await.close().await;
    assert_eq!(bench.file().metadata().unwrap().permissions().mode() & 0o777, 0o600);
    mode(&bench.file(), 0o640);
    let text = unusable(bench.try_open().await.unwrap_err());
    assert!(text.contains("chmod 0600"), "{text}");
    mode(&bench.file(), 0o600);
    mode(bench.folder.path(), 0o777);
    let text = unusable(bench.try_open().await.unwrap_err());
    assert!(text.contains("chmod 0700"), "{text}");
    mode(bench.folder.path(), 0o700);
    let elsewhere = bench.folder.path().join("link.db");
    std::os::unix::fs::symlink(bench.file(), &elsewhere).unwrap();
    let text = unusable(open_at(&elsewhere).await.unwrap_err());
    assert!(text.contains("symbolic link"), "{text}");
    bench.open().await;
}

#[tokio::test]
async fn fm35_a_damaged_file_is_refused_and_left_as_it_is() {
    let bench = Bench::sqlite();
    let ledger = bench.open().await;
    for number in 0..50 {
        ledger.rotation().commit(loaded(&format!("c{number}"))).await.unwrap();
    }
    ledger.close().await;
    let whole = fs::read(bench.file()).unwrap();
    let pages = whole.len() / 4096;
    assert!(pages > 10);
    let mut refused = 0;
    for page in 0..pages {
        let bent = tempfile::tempdir().unwrap();
        let path = bent.path().join("ledger.db");
        fs::copy(bench.file(), &path).unwrap();
        let noise: Vec<u8> = (0..4096_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(&noise, page as u64 * 4096).unwrap();
        let before = fs::read(&path).unwrap();
        match open_at(&path).await {
            Err(error) => {
                let text = unusable(error);
                assert!(text.contains("restore it from a backup"), "page {page}: {text}");
                assert_eq!(fs::read(&path).unwrap(), before, "page {page}: the file is untouched");
                refused += 1;
            }
            Ok(_) => panic!("page {page} of {pages} is noise, and nobody noticed"),
        }
    }
    assert_eq!(refused, pages);
}

#[tokio::test]
async fn fm35_an_empty_or_foreign_file_is_never_taken_for_a_beginning() {
    let bench = Bench::sqlite();
    bench.open().await.close().await;
    fs::write(bench.file(), b"").unwrap();
    assert!(unusable(bench.try_open().await.unwrap_err()).contains("it is empty"));
    fs::remove_file(bench.file()).unwrap();
    // FM-38: a log without its database.
    fs::write(bench.folder.path().join("ledger.db-wal"), b"x").unwrap();
    assert!(unusable(bench.try_open().await.unwrap_err()).contains("is missing"));
    fs::remove_file(bench.folder.path().join("ledger.db-wal")).unwrap();
    use sqlx::Connection;
    let url = format!("sqlite://{}?mode=rwc", bench.file().display());
    let mut foreign = sqlx::SqliteConnection::connect(&url).await.unwrap();
    sqlx::raw_sql("CREATE TABLE x (y)").execute(&mut foreign).await.unwrap();
    foreign.close().await.unwrap();
    fs::set_permissions(bench.file(), fs::Permissions::from_mode(0o600)).unwrap();
    assert!(unusable(bench.try_open().await.unwrap_err()).contains("no ledger of credd"));
}

#[tokio::test]
async fn fm38_a_log_of_another_ledger_or_time_is_refused() {
    let (ours, theirs) = (Bench::sqlite(), Bench::sqlite());
    let log = |bench: &Bench| bench.folder.path().join("ledger.db-wal");
    let ledger = theirs.open().await;
    // A crash right after opening, and one a little later: both logs are the file's own.
    theirs.after_power_loss().open().await.close().await;
    ledger.rotation().commit(loaded("a")).await.unwrap();
    theirs.after_power_loss().open().await.close().await;
    let foreign = fs::read(log(&theirs)).unwrap();
    ledger.close().await;
    let backup = fs::read(theirs.file()).unwrap();

    let ledger = ours.open().await;
    ledger.rotation().commit(loaded("b")).await.unwrap();
    ledger.close().await;
    let refused = async |bench: &Bench, log_now: &[u8]| {
        fs::write(log(bench), log_now).unwrap();
        let before = fs::read(bench.file()).unwrap();
        let text = unusable(bench.try_open().await.unwrap_err());
        assert!(text.contains("another ledger, or of another time"), "{text}");
        assert_eq!((fs::read(bench.file()).unwrap(), fs::read(log(bench)).unwrap()), (before, log_now.to_vec()));
    };
    refused(&ours, &foreign).await;
    // Without the foreign log everything is there.
    fs::remove_file(log(&ours)).unwrap();
    assert_eq!(ours.open().await.rotation().load_all().await.unwrap().len(), 1);

    // A backup put back while the log of later days still lies beside it.
    let ledger = theirs.open().await;
    ledger.rotation().commit(loaded("c")).await.unwrap();
    let later = fs::read(log(&theirs)).unwrap();
    ledger.close().await;
    fs::write(theirs.file(), &backup).unwrap();
    refused(&theirs, &later).await;
}

#[tokio::test]
async fn fm51_tables_of_a_newer_credd_are_refused() {
    let bench = Bench::sqlite();
    bench.open().await.close().await;
    bench.tamper("INSERT INTO schema_version (version) VALUES (99)").await.unwrap();
    assert!(unusable(bench.try_open().await.unwrap_err()).contains("newer credd"));
}

#[tokio::test]
async fn fm32_a_spilled_reply_is_taken_in_at_the_next_start() {
    let bench = Bench::sqlite();
    let ledger = bench.open().await;
    ledger.rotation().commit(loaded("a")).await.unwrap();
    ledger.rotation().commit(prepared("a", 1, 2)).await.unwrap();
    ledger.rotation().spill(&id("a"), Uuid::from_u128(1), &reply(), at(5)).await.unwrap();
    let folder = bench.folder.path().join("ledger.db.spill");
    let file = fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!fs::read(&file).unwrap().windows(6).any(|part| part == b"canary"));
    ledger.close().await;
    let ledger = bench.open().await;
    let open = ledger.rotation().load(&id("a")).await.unwrap().unwrap().open_attempt.unwrap();
    let Stage::Received { reply: kept, at: when } = open.stage else { panic!("{:?}", open.stage) };
    assert_eq!((kept, when), (reply(), at(5)));
    assert!(!file.exists());
}

#[tokio::test]
async fn t26_the_files_hold_no_secret() {
    let bench = Bench::sqlite();
    let ledger = bench.open().await;
    ledger.rotation().commit(loaded("a")).await.unwrap();
    ledger.rotation().commit(prepared("a", 1, 2)).await.unwrap();
    ledger.rotation().received(&id("a"), Uuid::from_u128(1), &reply(), at(5)).await.unwrap();
    ledger.embedded().put("x", credd::credential::Secret::new("planted-canary"), None).await.unwrap();
    for entry in fs::read_dir(bench.folder.path()).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        for secret in [b"planted-canary".as_slice(), b"rt-1", b"at-1"] {
            assert!(!bytes.windows(secret.len()).any(|part| part == secret), "{}", path.display());
        }
    }
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn fm44_a_terminated_backend_is_replaced() {
    let bench = Bench::postgres(false).await;
    let ledger = bench.open().await;
    ledger.rotation().commit(loaded("a")).await.unwrap();
    ledger.rotation().load_all().await.unwrap();
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE application_name = 'credd' AND datname = current_database()";
    bench.tamper(end).await.unwrap();
    ledger.rotation().commit(prepared("a", 1, 2)).await.unwrap();
    bench.tamper(end).await.unwrap();
    assert!(ledger.rotation().load(&id("a")).await.unwrap().unwrap().open_attempt.is_some());
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn fm52_replicas_that_start_together_make_the_tables_once() {
    let bench = Bench::postgres(false).await;
    let opened = futures_util::future::join_all((0..3).map(|_| bench.try_open())).await;
    for ledger in opened {
        ledger.unwrap().rotation().preflight().await.unwrap();
    }
    assert_eq!(bench.number("SELECT COUNT(*) - MAX(version) FROM schema_version").await, 0, "each step once");
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn fm43_a_database_that_was_away_is_used_again() {
    use crate::components::Component;
    let state = tempfile::tempdir().unwrap();
    let start = |port: Option<String>| {
        let mut env = vec![("RUN_DIR", state.path().to_str().unwrap()), ("DURABLE", "1")];
        env.extend(port.as_deref().map(|port| ("PORT", port)));
        Component::start("postgres.sh", &env)
    };
    let server = start(None);
    let port = server.number("port").to_string();
    let bench = Bench::on(&server);
    let ledger = bench.open().await;
    let rotation = ledger.rotation();
    rotation.commit(loaded("a")).await.unwrap();
    drop(server);
    let LedgerError::Unwritable(text) = rotation.preflight().await.unwrap_err() else { panic!() };
    assert!(text.contains(&format!("127.0.0.1:{port}")) && !text.contains("postgres:postgres"), "{text}");
    assert!(matches!(rotation.commit(prepared("a", 1, 2)).await.unwrap_err(), LedgerError::Unwritable(_)));
    assert!(matches!(rotation.load_all().await.unwrap_err(), LedgerError::Unreadable(_)));
    // A reply that comes just then is kept beside the ledger.
    rotation.spill(&id("a"), Uuid::from_u128(9), &reply(), at(5)).await.unwrap();

    let _server = start(Some(port));
    rotation.commit(prepared("a", 1, 2)).await.unwrap();
    assert!(rotation.load(&id("a")).await.unwrap().unwrap().open_attempt.is_some());
    ledger.close().await;
    assert_eq!(bench.open().await.rotation().orphans().await.unwrap()[0].attempt, Uuid::from_u128(9));
}

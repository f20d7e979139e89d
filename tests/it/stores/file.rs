//! The file store on a real folder.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    sync::Arc,
    time::Duration,
};

use credd::{
    clock::SystemClock,
    store::{
        SecretStore, StoreError,
        file::{Files, Settings},
    },
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Operator, at, contract, version_of};

fn put(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn open(folder: &Path, writable: bool) -> Files {
    Files::new(&Settings { folder: folder.into(), writable }, Arc::new(SystemClock))
}

impl Operator for TempDir {
    async fn put(&self, name: &str, document: &Value) {
        let beside = self.path().join(".beside");
        put(&beside, &document.to_string(), 0o600);
        fs::rename(beside, self.path().join(name)).unwrap();
    }

    async fn remove(&self, name: &str) {
        fs::remove_file(self.path().join(name)).unwrap();
    }
}

#[tokio::test]
async fn the_file_store_keeps_the_contract_and_leaves_nothing_beside() {
    let folder = tempfile::tempdir().unwrap();
    contract(&open(folder.path(), true), &folder).await;
    let mut left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["broken", "many", "race"]);
    assert_eq!(fs::metadata(folder.path().join("many")).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn fm40_a_file_that_others_may_read_is_refused_and_the_rest_is_not() {
    let folder = tempfile::tempdir().unwrap();
    put(&folder.path().join("loose"), "key", 0o644);
    put(&folder.path().join("tight"), "key\n", 0o400);
    let store = open(folder.path(), false);
    let error = store.load(&at("loose")).await.unwrap_err();
    assert!(matches!(error, StoreError::Denied { .. }) && error.to_string().contains("chmod 600"), "{error}");
    store.load(&at("tight")).await.unwrap();
    assert!(store.read_only(&at("tight")).await.is_some());
}

#[tokio::test]
async fn fm41_nothing_but_a_plain_file_inside_the_folder_is_read_or_replaced() {
    let (folder, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    put(&outside.path().join("secret"), "theirs", 0o600);
    let inside = |name: &str| folder.path().join(name);
    symlink(outside.path().join("secret"), inside("absolute")).unwrap();
    symlink(outside.path(), inside("leads-out")).unwrap();
    fs::create_dir(inside("folder")).unwrap();
    let fifo = std::process::Command::new("mkfifo").args(["-m", "600"]).arg(inside("fifo")).status().unwrap();
    assert!(fifo.success());
    let store = open(folder.path(), true);
    let up = format!("../{}/secret", outside.path().file_name().unwrap().display());
    for place in ["absolute", "leads-out/secret", &up, "/etc/passwd", "folder", "fifo", "folder/../../x"] {
        let error = store.load(&at(place)).await.unwrap_err();
        assert!(matches!(error, StoreError::Denied { .. }), "{place}: {error}");
        assert!(version_of(&store, place).await.is_err());
    }
    // A link inside the folder is read, but not replaced: whoever made it would lose it.
    put(&inside("real"), r#"{"refresh_token":"r"}"#, 0o600);
    symlink("real", inside("link")).unwrap();
    let loaded = store.load(&at("link")).await.unwrap();
    let refused = store.write(&at("link"), &loaded.material, &loaded.version, Uuid::now_v7()).await.unwrap_err();
    assert!(matches!(refused, StoreError::ReadOnly { .. }), "{refused}");
    assert!(fs::symlink_metadata(inside("link")).unwrap().is_symlink());
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_an_answer_and_no_panic() {
    let store = open(Path::new("/nowhere/at-all"), false);
    assert!(matches!(store.load(&at("x")).await, Err(StoreError::NotFound { .. })));
    assert!(store.check().await.is_err());
}

#[tokio::test]
async fn writers_of_one_folder_take_turns_and_another_process_is_respected() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), true);
    let write = async |name: &str| {
        let held = store.load(&at(name)).await.unwrap();
        store.write(&at(name), &held.material, &held.version, Uuid::now_v7()).await
    };
    for name in ["a", "b", "c", "d"] {
        put(&folder.path().join(name), r#"{"refresh_token":"r"}"#, 0o600);
    }
    let ended = tokio::join!(write("a"), write("b"), write("c"), write("d"));
    assert!(ended.0.is_ok() && ended.1.is_ok() && ended.2.is_ok() && ended.3.is_ok(), "{ended:?}");
    let held = fs::File::open(folder.path()).unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();
    assert!(matches!(write("a").await, Err(StoreError::Unreachable { .. })));
    drop(held);
    write("a").await.unwrap();
}

/// What a Kubernetes volume looks like: the file is a link into `..data`, and `..data` is swapped as a whole.
fn swap(folder: &Path, edition: &str, text: &str) {
    fs::create_dir(folder.join(edition)).unwrap();
    put(&folder.join(edition).join("token"), text, 0o400);
    symlink(edition, folder.join("..data_tmp")).unwrap();
    fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
}

#[tokio::test]
async fn changes_are_told_at_once_also_when_a_link_is_swapped() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    swap(path, "..2026_1", "first");
    symlink("..data/token", path.join("token")).unwrap();
    put(&path.join("plain"), "one", 0o600);
    put(&path.join("quiet"), "same", 0o600);
    // The net below the events (30 s) is slower than this test's patience (20 s): what is told comes from an event.
    let store = Arc::new(open(path, true));
    for name in ["token", "plain", "quiet"] {
        store.load(&at(name)).await.unwrap();
    }
    let (sender, mut told) = mpsc::channel(8);
    let stop = CancellationToken::new();
    let running = tokio::spawn({
        let (store, stop) = (store.clone(), stop.clone());
        async move { store.run(sender, stop).await }
    });
    let mut next = async || timeout(Duration::from_secs(20), told.recv()).await.expect("told in time").unwrap();

    swap(path, "..2026_2", "second");
    assert_eq!(next().await, at("token"));
    assert_eq!(store.load(&at("token")).await.unwrap().material.access_token.unwrap().expose(), "second");
    folder.put("plain", &json!({"key": "two"})).await;
    assert_eq!(next().await, at("plain"));
    folder.remove("plain").await;
    assert_eq!(next().await, at("plain"), "that it is gone is told as well");
    // Our own write is no news; the next change is.
    let quiet = store.load(&at("quiet")).await.unwrap();
    store.write(&at("quiet"), &quiet.material, &quiet.version, Uuid::now_v7()).await.unwrap();
    swap(path, "..2026_3", "third");
    assert_eq!(next().await, at("token"));
    stop.cancel();
    timeout(Duration::from_secs(20), running).await.unwrap().unwrap();
}

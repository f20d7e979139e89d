//! The embedded store over documents in memory.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use credd::{
    credential::Secret,
    store::{
        Location, SecretStore,
        embedded::{Documents, Embedded},
    },
};
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;

use super::{Operator, at, contract};

#[derive(Debug)]
struct Memory {
    documents: Mutex<BTreeMap<String, (Secret, i64)>>,
    changed: broadcast::Sender<String>,
}

impl Memory {
    fn new() -> Arc<Self> {
        Arc::new(Self { documents: Mutex::default(), changed: broadcast::channel(2).0 })
    }
}

impl Documents for Memory {
    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<(Secret, i64)>, String>> {
        Box::pin(async move { Ok(self.documents.lock().unwrap().get(name).cloned()) })
    }

    fn put<'a>(
        &'a self,
        name: &'a str,
        document: &'a Secret,
        expected: i64,
    ) -> BoxFuture<'a, Result<Option<i64>, String>> {
        Box::pin(async move {
            let mut documents = self.documents.lock().unwrap();
            Ok(match documents.get_mut(name) {
                Some(held) if held.1 == expected => {
                    *held = (document.clone(), expected + 1);
                    Some(held.1)
                }
                _ => None,
            })
        })
    }

    fn versions(&self) -> BoxFuture<'_, Result<BTreeMap<String, i64>, String>> {
        let documents = self.documents.lock().unwrap();
        let versions = documents.iter().map(|(name, (_, version))| (name.clone(), *version)).collect();
        Box::pin(async { Ok(versions) })
    }

    fn changed(&self) -> broadcast::Receiver<String> {
        self.changed.subscribe()
    }
}

impl Operator for Arc<Memory> {
    async fn put(&self, name: &str, document: &Value) {
        let mut documents = self.documents.lock().unwrap();
        let version = documents.get(name).map_or(1, |held| held.1 + 1);
        documents.insert(name.into(), (Secret::new(document.to_string()), version));
        let _ = self.changed.send(name.into());
    }

    async fn remove(&self, name: &str) {
        self.documents.lock().unwrap().remove(name);
    }
}

#[tokio::test]
async fn the_embedded_store_keeps_the_contract() {
    let memory = Memory::new();
    contract(&Embedded::new(memory.clone()), &memory).await;
}

#[tokio::test]
async fn the_embedded_store_tells_of_changes_by_the_locations_that_were_asked_for() {
    let memory = Memory::new();
    memory.put("app", &json!({"slack": "s", "github": "g"})).await;
    let store = Arc::new(Embedded::new(memory.clone()));
    for place in ["app#slack", "app#github"] {
        store.load(&at(place)).await.unwrap();
    }
    let (sender, mut told) = mpsc::channel(8);
    let stop = CancellationToken::new();
    let running = store.run(sender, stop.clone());
    memory.put("app", &json!({"slack": "s2", "github": "g"})).await;
    let watch = async {
        let both = [told.recv().await, told.recv().await];
        // More changes than the channel holds: then every document is told of.
        for name in ["a", "b", "c", "d"] {
            memory.put(name, &json!({"key": "k"})).await;
        }
        let mut all: Vec<Location> = Vec::new();
        while !all.contains(&at("d")) {
            all.push(told.recv().await.unwrap());
        }
        stop.cancel();
        (both, all)
    };
    let ((), (both, all)) = tokio::join!(running, watch);
    assert_eq!(both, [Some(at("app#github")), Some(at("app#slack"))]);
    assert!(all.contains(&at("a")), "{all:?}");
}

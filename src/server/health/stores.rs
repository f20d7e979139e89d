//! Home stores in the health document: whether they answer, and how fast.

use std::{collections::BTreeMap, fmt, sync::Arc};

use jiff::Timestamp;
use serde::Serialize;

use super::{
    help,
    judge::{Document, Status},
};

/// What health knows of a home store. No address and no path: those are for the operator.
#[derive(Clone, Debug)]
pub struct StoreState {
    /// Its name in the settings.
    pub name: String,
    /// Whether it answered last time; `None` before the first time.
    pub up: Option<bool>,
    /// How long it last took to answer, or to fail to.
    pub response_ms: Option<u64>,
}

/// Where health asks for them.
#[derive(Clone)]
pub struct Stores(Arc<dyn Fn() -> Vec<StoreState> + Send + Sync>);

impl Stores {
    /// Asks this.
    pub fn new(ask: impl Fn() -> Vec<StoreState> + Send + Sync + 'static) -> Self {
        Self(Arc::new(ask))
    }

    pub(super) fn list(&self) -> Vec<StoreState> {
        (self.0)()
    }
}

impl fmt::Debug for Stores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stores")
    }
}

/// One home store in the document.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StoreCheck {
    /// Which.
    pub component_id: String,
    /// What it is.
    pub component_type: &'static str,
    /// How long it last took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_value: Option<u64>,
    /// Of the value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_unit: Option<&'static str>,
    /// Its own status, whatever it means for the whole.
    pub status: Status,
    /// When this was judged.
    pub time: Timestamp,
    /// What is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// What to do.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub links: BTreeMap<&'static str, String>,
}

impl Document {
    /// Adds home stores. One that does not answer is a warning for the whole, and no more: readers keep their tokens.
    pub fn add_stores(&mut self, stores: &[StoreState], now: Timestamp) {
        let mut silent = Vec::new();
        for store in stores {
            // One that was not asked yet has nothing to say.
            let Some(up) = store.up else { continue };
            let output = (!up).then(|| format!("store {} does not answer", store.name));
            let links = if up { BTreeMap::new() } else { BTreeMap::from([("help", help::link(help::STORE_DOWN))]) };
            silent.extend(output.clone());
            let check = StoreCheck {
                component_id: store.name.clone(),
                component_type: "datastore",
                observed_value: store.response_ms,
                observed_unit: store.response_ms.map(|_| "ms"),
                status: if up { Status::Pass } else { Status::Fail },
                time: now,
                output,
                links,
            };
            self.checks.stores.insert(format!("{}:responseTime", store.name), [check]);
        }
        if silent.is_empty() {
            return;
        }
        self.status = self.status.max(Status::Warn);
        self.notes.push(match silent.len() {
            1 => "1 home store does not answer".to_owned(),
            several => format!("{several} home stores do not answer"),
        });
        let said = self.output.take().into_iter().chain(silent);
        self.output = Some(said.collect::<Vec<_>>().join("; "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::health::{Terms, judge};

    #[test]
    fn a_store_that_does_not_answer_warns_and_never_fails_the_whole() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let store = |name: &str, up, response_ms| StoreState { name: name.into(), up, response_ms };
        let stores = [
            store("vault-main", Some(true), Some(12)),
            store("aws", Some(false), Some(5000)),
            store("new", None, None),
        ];
        let mut document = judge(&[], now, &Terms::default());
        document.add_stores(&stores[..1], now);
        assert_eq!((document.status, document.output.clone()), (Status::Pass, None));
        document.add_stores(&stores, now);
        assert_eq!((document.status, document.output.as_deref()), (Status::Warn, Some("store aws does not answer")));
        let told = serde_json::to_value(&document).unwrap();
        let check = &told["checks"]["vault-main:responseTime"][0];
        assert_eq!((&check["componentType"], &check["status"]), (&"datastore".into(), &"pass".into()));
        assert_eq!((&check["observedValue"], &check["observedUnit"]), (&12.into(), &"ms".into()));
        let down = &told["checks"]["aws:responseTime"][0];
        assert_eq!((&down["status"], &down["links"]["help"]), (&"fail".into(), &help::link("creddstoredown").into()));
        assert!(told["checks"].get("new:responseTime").is_none(), "{told}");
    }
}

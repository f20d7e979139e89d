//! The settings: one struct for each part, put together here and nowhere else.

mod check;
mod difference;
mod document;
mod load;
mod locate;
mod problem;
mod reference;
mod reload;
pub mod schema;
mod sense;
mod shape;

pub use check::check;
pub use difference::{Changes, Difference, difference};
pub use load::{Loaded, Places, load};
pub use locate::locate;
pub use problem::{Problem, Problems, did_you_mean};
pub use reference::{Finding, Lookup, References};
pub use reload::{Judge, Outcome, Reload, Reloader};
pub use shape::names_a_secret;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    credential::{CredentialId, Kind},
    ledger, lifecycle, pager,
    publish::{Criticality, Offer, Reader, Uses},
    server, store, telemetry, upstream,
};

/// A whole `credd.toml`. An empty file is a good one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What a bad credential does to a start; each credential may differ.
    pub startup: Startup,
    /// Folder of provider files that override or extend the built-in catalogue.
    pub providers: Option<PathBuf>,
    /// Logs.
    pub log: telemetry::Settings,
    /// The durable database.
    pub ledger: ledger::Settings,
    /// Where credd listens.
    pub server: server::Settings,
    /// How credentials are watched, by name; `default` is used where a credential names none.
    pub policies: BTreeMap<String, lifecycle::Settings>,
    /// Home stores by name; `embedded` is always there.
    pub stores: BTreeMap<String, store::Settings>,
    /// On-call.
    pub pager: Pager,
    /// The credentials by name.
    pub credentials: BTreeMap<CredentialId, Credential>,
}

/// `[pager]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Pager {
    /// Ways to on-call by name.
    pub channels: BTreeMap<String, pager::Settings>,
}

/// What a credential that is bad at the first start does: one that the ledger has never seen good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Startup {
    /// Ends the start with exit code 77 if the credential is required.
    #[default]
    Fail,
    /// Starts red and paged.
    Warn,
}

/// `[credentials.NAME]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Credential {
    /// A provider of the catalogue (`credd providers list`), or `rfc6749` with endpoints of your own.
    pub provider: String,
    /// How it comes to a value.
    pub kind: Kind,
    /// Name of its home store.
    #[serde(default = "embedded")]
    pub store: String,
    /// Where in the store; default: the credential's name. After `#`, the key inside a secret that holds several.
    #[serde(default)]
    pub at: Option<String>,
    /// Which of `[policies]`.
    #[serde(default = "default_policy")]
    pub policy: String,
    /// Overrides the policy's.
    #[serde(default)]
    #[schemars(with = "Option<String>", example = "60m")]
    pub ttl_warn: Option<jiff::SignedDuration>,
    /// Overrides the policy's.
    #[serde(default)]
    #[schemars(with = "Option<String>", example = "60m")]
    pub ttl_fail: Option<jiff::SignedDuration>,
    /// When a static key ends, where neither the provider nor the secret says.
    #[serde(default)]
    #[schemars(with = "Option<String>", example = "2027-01-31T00:00:00Z")]
    pub expires_at: Option<jiff::Timestamp>,
    /// How much its failing matters to `/health`.
    #[serde(default)]
    pub criticality: Criticality,
    /// Overrides the file's `startup`.
    #[serde(default)]
    pub startup: Option<Startup>,
    /// Whether its key may be that of another credential as well. Refresh tokens never may: they would be spent twice.
    #[serde(default)]
    pub shared: bool,
    /// Who may read it over the socket; default: the daemon's own user.
    #[serde(default)]
    pub readers: Option<Vec<Reader>>,
    /// Scopes that it needs, as its provider spells them: `credd check --online` tells of keys that have more, or less.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// The service that it is for; default: its provider's name.
    #[serde(default)]
    pub service: Option<String>,
    /// What of the service it is for: a reader that asks for the service gets the narrowest that will do.
    #[serde(default, rename = "use")]
    #[schemars(example = &"read")]
    pub uses: Option<Uses>,
    /// Endpoint, client, scopes and placeholders of its calls.
    #[serde(default)]
    pub upstream: Arc<upstream::Settings>,
}

impl Credential {
    /// What it is offered for; nothing unless the settings name a service or a use, so that nobody comes by a powerful
    /// credential without being meant to.
    pub fn offer(&self) -> Option<Offer> {
        let offered = self.service.is_some() || self.uses.is_some();
        let service = self.service.as_ref().unwrap_or(&self.provider);
        offered.then(|| Offer { service: service.clone(), uses: self.uses.clone() })
    }
}

fn embedded() -> String {
    "embedded".into()
}

fn default_policy() -> String {
    "default".into()
}

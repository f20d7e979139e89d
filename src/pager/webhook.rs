//! Pages as signed webhooks (Standard Webhooks 1.0).

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::credential::Reference;

/// `[pager.channels.NAME] kind = "webhook"`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where to; a URL that is itself a secret comes by `url_from`.
    #[serde(default)]
    pub url: Option<url::Url>,
    /// The URL, by reference.
    #[serde(default)]
    pub url_from: Option<Reference>,
    /// `whsec_…` signing secrets; the first is current, a second one during rotation. Each signs.
    pub secrets: Vec<Reference>,
    /// PEM file of a private CA.
    #[serde(default)]
    pub ca: Option<PathBuf>,
}

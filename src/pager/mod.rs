//! The pager: sends what on-call must know, and says whether to try again. It decides nothing.

pub mod email;
pub mod webhook;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use crate::incident::{Action, Message, Severity};
use crate::{
    clock::Clock,
    credential::Resolve,
    fetch::{Call, Exchange},
};

/// Makes one HTTP request. Whoever hands it over has given it the channel's private CA; it follows no redirects.
pub type Post = Arc<dyn Fn(Call) -> BoxFuture<'static, Exchange> + Send + Sync>;

/// How sending ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The other side has it.
    Accepted,
    /// Not now; `after`, if the other side says when.
    Later {
        /// Reason code of the metrics: `dns`, `connect`, `tls`, `timeout`, `rate_limited`, `unavailable`, `rejected`.
        reason: &'static str,
        /// For a person.
        detail: String,
        /// When.
        after: Option<std::time::Duration>,
    },
    /// Never: trying again cannot help (a 4xx, a refused recipient). The next channel should take it.
    Never {
        /// Reason code.
        reason: &'static str,
        /// For a person.
        detail: String,
    },
}

/// One way to on-call.
pub trait Channel: Send + Sync {
    /// Its name in the settings.
    fn name(&self) -> &str;
    /// Sends once. `attempt_at` is the time of this attempt; `id` stays the same over all attempts of one message.
    fn send<'a>(&'a self, id: uuid::Uuid, message: &'a Message, attempt_at: Timestamp) -> BoxFuture<'a, Delivery>;
    /// Reaches the other side without paging anybody (SMTP: EHLO, STARTTLS, AUTH, QUIT; webhook: connect), and says what was found.
    fn check(&self) -> BoxFuture<'_, Result<String, String>>;
}

/// A way to on-call in the settings: `[pager.channels.NAME]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Settings {
    /// SMTP.
    Email(email::Settings),
    /// A signed POST (Standard Webhooks).
    Webhook(webhook::Settings),
}

/// Opens a channel of the settings: checks what can be checked without the network, and touches nothing.
/// The error names the field. `post` is used by channels that speak HTTP.
pub fn open(
    name: &str,
    settings: &Settings,
    resolve: Arc<dyn Resolve>,
    post: Post,
    clock: Arc<dyn Clock>,
) -> Result<Arc<dyn Channel>, String> {
    Ok(match settings {
        Settings::Email(settings) => Arc::new(email::Email::open(name, settings, resolve, clock)?),
        Settings::Webhook(settings) => Arc::new(webhook::Webhook::open(name, settings, resolve, post)?),
    })
}

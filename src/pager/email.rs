//! Pages by e-mail, threaded by incident.

mod letter;
mod session;

use std::{path::PathBuf, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use lettre::message::Mailbox;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Channel, Delivery, Message};
use crate::{
    clock::Clock,
    credential::{Reference, Resolve},
};
use session::{Failed, Session};

/// For a whole conversation.
const LIMIT: Duration = Duration::from_secs(30);

/// `[pager.channels.NAME] kind = "email"`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// SMTP server.
    pub host: String,
    /// Its port; default 587 for `starttls`, 465 for `implicit`, 25 for `none`.
    #[serde(default)]
    pub port: Option<u16>,
    /// How the connection is protected.
    #[serde(default)]
    pub tls: Tls,
    /// PEM file of a private CA; then only that one is trusted.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// User, where the server wants one.
    #[serde(default)]
    pub username: Option<String>,
    /// Its password.
    #[serde(default)]
    pub password: Option<Reference>,
    /// `credd <credd@example.com>`
    pub from: String,
    /// Whom to tell.
    pub to: Vec<String>,
}

/// How the SMTP connection is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Tls {
    /// STARTTLS, required.
    #[default]
    Starttls,
    /// TLS from the first byte.
    Implicit,
    /// None: loopback servers only.
    None,
}
impl Tls {
    fn usual_port(self) -> u16 {
        match self {
            Self::Starttls => 587,
            Self::Implicit => 465,
            Self::None => 25,
        }
    }
}

/// A channel that sends mail.
pub(super) struct Email {
    name: String,
    settings: Settings,
    from: Mailbox,
    to: Vec<Mailbox>,
    resolve: Arc<dyn Resolve>,
    clock: Arc<dyn Clock>,
}

impl Email {
    /// Checks what can be checked without the network.
    pub(super) fn open(
        name: &str,
        settings: &Settings,
        resolve: Arc<dyn Resolve>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, String> {
        let place = |field: &str| format!("pager.channels.{name}.{field}");
        if settings.to.is_empty() {
            return Err(format!("{}: nobody is named; name whom to tell", place("to")));
        }
        if settings.host.is_empty() || settings.host.contains(|c: char| c.is_control() || c.is_whitespace()) {
            return Err(format!("{}: not a host name", place("host")));
        }
        match (&settings.username, &settings.password) {
            (Some(_), None) => return Err(format!("{}: a username needs a password", place("password"))),
            (None, Some(_)) => return Err(format!("{}: a password needs a username", place("username"))),
            _ => {}
        }
        let from = mailbox(&settings.from).map_err(|why| format!("{}: {why}", place("from")))?;
        let to = settings.to.iter().map(|text| mailbox(text).map_err(|why| format!("{}: {why}", place("to"))));
        let to = to.collect::<Result<_, _>>()?;
        Ok(Self { name: name.into(), settings: settings.clone(), from, to, resolve, clock })
    }

    async fn deliver(&self, id: Uuid, message: &Message, attempt_at: Timestamp) -> Delivery {
        let mail = match letter::letter(&self.from, &self.to, id, message, attempt_at) {
            Ok(mail) => mail.formatted(),
            Err(detail) => return Delivery::Never { reason: "rejected", detail },
        };
        let to: Vec<_> = self.to.iter().map(|mailbox| mailbox.email.clone()).collect();
        let sent = async {
            let mut session = Session::open(&self.settings, &*self.resolve).await?;
            session.send(&self.from.email, &to, &mail).await?;
            Ok(session)
        };
        match self.in_time(sent).await {
            Ok(session) => {
                // The server has the mail: a goodbye that fails must not send it again.
                let goodbye = async {
                    session.close().await;
                    Ok(())
                };
                let _ = self.in_time(goodbye).await;
                Delivery::Accepted
            }
            Err(failed) => failed.into(),
        }
    }

    async fn in_time<T>(&self, work: impl Future<Output = Result<T, Failed>>) -> Result<T, Failed> {
        tokio::select! {
            biased;
            ended = work => ended,
            () = self.clock.sleep(LIMIT) => {
                let detail = format!("{} did not finish within {} s", self.settings.host, LIMIT.as_secs());
                Err(Failed::later("timeout", detail))
            }
        }
    }
}

impl Channel for Email {
    fn name(&self) -> &str {
        &self.name
    }

    fn send<'a>(&'a self, id: Uuid, message: &'a Message, attempt_at: Timestamp) -> BoxFuture<'a, Delivery> {
        Box::pin(self.deliver(id, message, attempt_at))
    }

    fn check(&self) -> BoxFuture<'_, Result<String, String>> {
        Box::pin(async {
            let found = async {
                let session = Session::open(&self.settings, &*self.resolve).await?;
                let found = session.found();
                session.close().await;
                Ok(found)
            };
            self.in_time(found).await.map_err(Failed::into_detail)
        })
    }
}

/// An address that cannot be anything else: no control characters, ASCII (a domain in its `xn--` form).
fn mailbox(text: &str) -> Result<Mailbox, String> {
    if text.contains(char::is_control) {
        return Err("an address holds no control characters".into());
    }
    let mailbox: Mailbox = text.parse().map_err(|_| format!("{text:?} is not an address (name <user@example.com>)"))?;
    if mailbox.email.to_string().is_ascii() {
        Ok(mailbox)
    } else {
        Err(format!("{text:?}: write the address in ASCII (xn--… for the domain)"))
    }
}

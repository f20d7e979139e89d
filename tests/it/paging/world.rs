//! What the tests of paging share: settings, secrets, an HTTP client, a scripted channel.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
};

use credd::{
    clock::SystemClock,
    credential::{EnvReference, Reference, Reply, Resolve, Secret},
    fetch::{Exchange, Trouble},
    pager::{Channel, Delivery, Message, Post, Settings},
};
use futures_util::future::{BoxFuture, pending, ready};
use jiff::Timestamp;
use tokio::sync::watch;
use uuid::Uuid;

use crate::components::Component;

/// Secrets by name, changeable.
#[derive(Clone, Debug, Default)]
pub struct Vault(Arc<Mutex<BTreeMap<String, Secret>>>);

impl Vault {
    pub fn of(secrets: &[(&str, &str)]) -> Self {
        let vault = Self::default();
        secrets.iter().for_each(|(name, value)| vault.put(name, value));
        vault
    }

    pub fn put(&self, name: &str, value: &str) {
        self.0.lock().unwrap().insert(name.into(), Secret::new(value));
    }
}

impl Resolve for Vault {
    fn resolve<'a>(&'a self, reference: &'a Reference) -> BoxFuture<'a, Result<Secret, String>> {
        let Reference::Env(EnvReference { env }) = reference else { panic!("tests name secrets by env") };
        let found = self.0.lock().unwrap().get(env).cloned();
        Box::pin(ready(found.ok_or_else(|| format!("{reference} is not set"))))
    }
}

/// An HTTP client under the rules of the house, trusting that CA.
pub fn post(ca: Option<&str>) -> Post {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .pool_max_idle_per_host(0)
        .no_proxy();
    if let Some(path) = ca {
        let pem = std::fs::read(path).unwrap();
        client = client.tls_certs_only([reqwest::Certificate::from_pem(&pem).unwrap()]);
    }
    let client = client.build().unwrap();
    Arc::new(move |call| {
        let mut request = client.request(call.method, call.url).timeout(call.timeout);
        for (name, value) in call.headers {
            request = request.header(name, value.expose());
        }
        if let Some(body) = call.body {
            request = request.body(body.expose().to_owned());
        }
        Box::pin(async move {
            match request.send().await {
                Ok(reply) => {
                    let headers: Vec<_> = reply
                        .headers()
                        .iter()
                        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
                        .collect();
                    let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
                    Exchange::Replied(Reply::new(reply.status().as_u16(), headers, Vec::new()))
                }
                Err(error) if error.is_connect() => {
                    Exchange::NotSent(Trouble { reason: "connect", detail: "no connection".into() })
                }
                Err(_) => Exchange::Ambiguous(Trouble { reason: "reset", detail: "the connection was lost".into() }),
            }
        })
    })
}

pub fn open(settings: &str, vault: &Vault, post: Post) -> Result<Arc<dyn Channel>, String> {
    let settings: Settings = toml::from_str(settings).unwrap();
    let name = if matches!(settings, Settings::Email(_)) { "mail" } else { "web" };
    credd::pager::open(name, &settings, Arc::new(vault.clone()), post, Arc::new(SystemClock))
}

/// Settings of a mail channel to that server; `more` are further lines.
pub fn mail_settings(server: &Component, more: &str) -> String {
    format!(
        "kind = \"email\"\nhost = \"localhost\"\nport = {}\nfrom = \"credd <credd@example.com>\"\nto = [\"on-call@example.com\"]\n{more}",
        server.ready["port"]
    )
}

/// The same with STARTTLS, private CA and password.
pub fn protected_mail(server: &Component) -> String {
    mail_settings(
        server,
        &format!("ca = {:?}\nusername = \"user\"\npassword = {{ env = \"SMTP\" }}\n", server.text("ca")),
    )
}

/// All mails that arrived, oldest first.
pub fn mails(server: &Component) -> Vec<String> {
    let folder = std::path::Path::new(server.text("maildir")).join("new");
    let Ok(files) = std::fs::read_dir(folder) else { return vec![] };
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.sort_by_key(|path| std::fs::metadata(path).unwrap().modified().unwrap());
    files.iter().map(|path| std::fs::read_to_string(path).unwrap().replace("\r\n", "\n")).collect()
}

pub fn header<'a>(mail: &'a str, name: &str) -> Option<&'a str> {
    let head = mail.split("\n\n").next()?;
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

pub fn webhook_settings(sink: &Component, path: &str) -> String {
    format!("kind = \"webhook\"\nurl = \"{}{path}\"\nsecrets = [{{ env = \"HOOK\" }}]\n", sink.text("url"))
}

pub async fn sink_log(sink: &Component) -> Vec<serde_json::Value> {
    let log = reqwest::get(format!("{}/_log", sink.text("url"))).await.unwrap();
    let log: Vec<serde_json::Value> = serde_json::from_slice(&log.bytes().await.unwrap()).unwrap();
    log.into_iter().filter(|call| call["method"] == "POST").collect()
}

/// The sink answers the next calls like that.
pub async fn sink_reply(sink: &Component, reply: serde_json::Value) {
    let request = reqwest::Client::new().put(format!("{}/_reply", sink.text("url")));
    request.body(reply.to_string()).send().await.unwrap();
}

/// A channel that answers as told, and accepts what it was told nothing about.
pub struct Scripted {
    name: String,
    answers: Mutex<VecDeque<Delivery>>,
    hang: bool,
    /// What it accepted.
    pub accepted: watch::Sender<Vec<(Uuid, Message)>>,
    /// How often it was asked.
    pub attempts: watch::Sender<usize>,
}

impl Scripted {
    pub fn new(name: &str, answers: impl IntoIterator<Item = Delivery>) -> Arc<Self> {
        Arc::new(Self {
            name: name.into(),
            answers: Mutex::new(answers.into_iter().collect()),
            hang: false,
            accepted: watch::Sender::default(),
            attempts: watch::Sender::default(),
        })
    }

    /// Never answers at all.
    pub fn hanging(name: &str) -> Arc<Self> {
        let mut channel = Arc::into_inner(Self::new(name, [])).unwrap();
        channel.hang = true;
        Arc::new(channel)
    }

    pub async fn until_accepted(&self, count: usize) -> Vec<(Uuid, Message)> {
        self.accepted.subscribe().wait_for(|all| all.len() >= count).await.unwrap().clone()
    }
}

impl Channel for Scripted {
    fn name(&self) -> &str {
        &self.name
    }

    fn send<'a>(&'a self, id: Uuid, message: &'a Message, _: Timestamp) -> BoxFuture<'a, Delivery> {
        self.attempts.send_modify(|count| *count += 1);
        if self.hang {
            return Box::pin(pending());
        }
        let answer = self.answers.lock().unwrap().pop_front().unwrap_or(Delivery::Accepted);
        if answer == Delivery::Accepted {
            self.accepted.send_modify(|all| all.push((id, message.clone())));
        }
        Box::pin(ready(answer))
    }

    fn check(&self) -> BoxFuture<'_, Result<String, String>> {
        Box::pin(ready(Ok("scripted".into())))
    }
}

pub fn later() -> Delivery {
    Delivery::Later { reason: "unavailable", detail: "busy".into(), after: None }
}

pub fn never() -> Delivery {
    Delivery::Never { reason: "rejected", detail: "unknown".into() }
}

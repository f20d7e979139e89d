//! Pages as signed webhooks (Standard Webhooks 1.0).

mod signature;

use std::{path::PathBuf, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use http::{HeaderName, Method};
use jiff::{Timestamp, fmt::rfc2822};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use url::{Host, Url};
use uuid::Uuid;

use super::{Action, Channel, Delivery, Message, Post};
use crate::{
    credential::{Reference, Reply, Resolve, Secret},
    fetch::{Call, Exchange},
    incident::words::{one_line, plain},
};
pub use signature::{Refused, verify};

/// For the whole request.
const LIMIT: Duration = Duration::from_secs(15);
/// More names than this are counted, not listed: the payload stays below the 20 KB of the specification.
const NAMES: usize = 50;
/// Nobody may ask for more patience than this while somebody waits to be paged.
const PATIENCE: Duration = Duration::from_secs(3_600);

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

/// A channel that posts signed JSON.
pub(super) struct Webhook {
    name: String,
    settings: Settings,
    resolve: Arc<dyn Resolve>,
    post: Post,
}

impl Webhook {
    /// Checks what can be checked without the network.
    pub(super) fn open(name: &str, settings: &Settings, resolve: Arc<dyn Resolve>, post: Post) -> Result<Self, String> {
        let place = |field: &str| format!("pager.channels.{name}.{field}");
        match (&settings.url, &settings.url_from) {
            (None, None) => {
                return Err(format!("{}: missing; name `url`, or `url_from` if it is secret", place("url")));
            }
            (Some(_), Some(_)) => return Err(format!("{}: `url` is given as well; keep one", place("url_from"))),
            (Some(url), None) => safe(url).map_err(|why| format!("{}: {why}", place("url")))?,
            (None, Some(_)) => {}
        }
        match settings.secrets.len() {
            1 | 2 => {}
            0 => return Err(format!("{}: a webhook is signed; name a secret (whsec_…)", place("secrets"))),
            _ => return Err(format!("{}: at most two, the current and the next", place("secrets"))),
        }
        Ok(Self { name: name.into(), settings: settings.clone(), resolve, post })
    }

    /// The URL, read anew where it is secret.
    #[expect(clippy::disallowed_methods, reason = "a URL that is a secret is where pages go")]
    async fn url(&self) -> Result<Url, String> {
        let Some(reference) = &self.settings.url_from else {
            return self.settings.url.clone().ok_or_else(|| "no URL is set".into());
        };
        let secret = self.resolve.resolve(reference).await?;
        let url = Url::parse(secret.expose().trim()).map_err(|_| format!("{reference} holds no URL"))?;
        safe(&url).map_err(|why| format!("{reference}: {why}"))?;
        Ok(url)
    }

    async fn secrets(&self) -> Result<Vec<Secret>, String> {
        let mut secrets = Vec::with_capacity(self.settings.secrets.len());
        for reference in &self.settings.secrets {
            secrets.push(self.resolve.resolve(reference).await?);
        }
        Ok(secrets)
    }

    async fn call(&self, id: Uuid, message: &Message, attempt_at: Timestamp) -> Result<Call, String> {
        let (url, body) = (self.url().await?, payload(message));
        let (id, timestamp) = (format!("msg_{}", id.simple()), attempt_at.as_second().to_string());
        let signature = signature::sign(&self.secrets().await?, &id, &timestamp, body.as_bytes())?;
        let header = |name, value: String| (HeaderName::from_static(name), Secret::new(value));
        let headers = vec![
            header("content-type", "application/json".into()),
            header("user-agent", concat!("credd/", env!("CARGO_PKG_VERSION")).into()),
            header("webhook-id", id),
            header("webhook-timestamp", timestamp),
            header("webhook-signature", signature),
        ];
        Ok(Call { method: Method::POST, url, headers, body: Some(Secret::new(body)), timeout: LIMIT })
    }

    async fn deliver(&self, id: Uuid, message: &Message, attempt_at: Timestamp) -> Delivery {
        let call = match self.call(id, message, attempt_at).await {
            Ok(call) => call,
            // URL and secrets are read anew each time: somebody may be mending them.
            Err(detail) => return Delivery::Later { reason: "rejected", detail, after: None },
        };
        let host = place(&call.url);
        match (self.post)(call).await {
            Exchange::Replied(reply) => judge(&host, &reply, attempt_at),
            Exchange::NotSent(trouble) | Exchange::Ambiguous(trouble) => {
                Delivery::Later { reason: trouble.reason, detail: format!("{host}: {}", trouble.detail), after: None }
            }
        }
    }

    async fn look(&self) -> Result<String, String> {
        let url = self.url().await?;
        signature::sign(&self.secrets().await?, "msg_check", "0", b"")?;
        let host = place(&url);
        // Nothing is posted, so nobody is paged; any answer proves name, way and certificate.
        match (self.post)(Call { method: Method::HEAD, url, headers: vec![], body: None, timeout: LIMIT }).await {
            Exchange::Replied(reply) => Ok(format!("{host} answers (HTTP {} to HEAD)", reply.status)),
            Exchange::NotSent(trouble) | Exchange::Ambiguous(trouble) => Err(format!("{host}: {}", trouble.detail)),
        }
    }
}

impl Channel for Webhook {
    fn name(&self) -> &str {
        &self.name
    }

    fn send<'a>(&'a self, id: Uuid, message: &'a Message, attempt_at: Timestamp) -> BoxFuture<'a, Delivery> {
        Box::pin(self.deliver(id, message, attempt_at))
    }

    fn check(&self) -> BoxFuture<'_, Result<String, String>> {
        Box::pin(self.look())
    }
}

/// What a status means (Standard Webhooks 1.0; a redirect is a failure).
fn judge(host: &str, reply: &Reply, now: Timestamp) -> Delivery {
    let status = reply.status;
    let later = |reason| Delivery::Later {
        reason,
        detail: format!("{host} answered {status}"),
        after: retry_after(reply, now),
    };
    let never = |next| Delivery::Never { reason: "rejected", detail: format!("{host} answered {status}{next}") };
    match status {
        200..300 => Delivery::Accepted,
        300..400 => never(": redirects are not followed; set the final URL"),
        410 => never(": it wants no more messages; remove the channel or set a new URL"),
        429 => later("rate_limited"),
        408 | 425 => later("unavailable"),
        400..500 => never("; check URL and signing secret"),
        _ => later("unavailable"),
    }
}

/// `Retry-After` in either form (RFC 9110 §10.2.3).
fn retry_after(reply: &Reply, now: Timestamp) -> Option<Duration> {
    let text = reply.header("retry-after")?.trim();
    let after = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => rfc2822::parse(text).ok()?.timestamp().duration_since(now).try_into().unwrap_or(Duration::ZERO),
    };
    Some(after.min(PATIENCE))
}

/// The body: thin, and the same in all attempts of a message.
fn payload(message: &Message) -> String {
    let kind = match message.action {
        _ if message.test => "test.ping",
        Action::Trigger => "page.opened",
        Action::Resolve => "page.resolved",
    };
    let names: Vec<&str> = message.credentials.iter().take(NAMES).map(String::as_str).collect();
    json!({
        "type": kind,
        "timestamp": message.at,
        "data": {
            "dedup_key": message.dedup_key,
            "sequence": message.sequence,
            "action": message.action,
            "severity": message.severity,
            "kind": message.kind,
            "credentials": names,
            "credentials_total": message.credentials.len(),
            "summary": one_line(&message.summary, 300),
            "details": plain(&message.body, 1_500),
            "since": message.since,
        },
    })
    .to_string()
}

/// Plain HTTP is for loopback; elsewhere anybody could read and forge.
fn safe(url: &Url) -> Result<(), String> {
    let loopback = match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    match url.scheme() {
        "https" => Ok(()),
        "http" if loopback => Ok(()),
        "http" => Err("http is for loopback only; use https".into()),
        _ => Err("not an https URL".into()),
    }
}

/// The part of a URL that may be shown: its path and query may be secret.
fn place(url: &Url) -> String {
    url.host_str().map_or_else(|| "the webhook".into(), |host| format!("webhook at {host}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_whether_to_try_again() {
        let now = "2026-11-20T10:00:00Z".parse().unwrap();
        let judge =
            |status, after: Option<&str>| judge("h", &Reply::new(status, after.map(|a| ("Retry-After", a)), ""), now);
        assert_eq!(judge(204, None), Delivery::Accepted);
        for never in [301, 307, 400, 401, 404, 410, 422] {
            assert!(matches!(judge(never, None), Delivery::Never { reason: "rejected", .. }), "{never}");
        }
        for (status, header, reason, after) in [
            (429, Some("7"), "rate_limited", Some(7)),
            (429, Some("Fri, 20 Nov 2026 10:01:00 GMT"), "rate_limited", Some(60)),
            (429, Some("Fri, 20 Nov 2026 09:00:00 GMT"), "rate_limited", Some(0)),
            (429, Some("99999999999"), "rate_limited", Some(3_600)),
            (429, Some("soon"), "rate_limited", None),
            (500, None, "unavailable", None),
            (502, None, "unavailable", None),
            (504, Some("1"), "unavailable", Some(1)),
        ] {
            let Delivery::Later { reason: found, after: wait, .. } = judge(status, header) else { panic!("{status}") };
            assert_eq!((found, wait), (reason, after.map(Duration::from_secs)), "{status} {header:?}");
        }
    }

    #[test]
    fn a_payload_stays_below_20_kb() {
        let mut message = Message::test(Uuid::nil(), Timestamp::UNIX_EPOCH);
        message.credentials = (0..10_000).map(|n| format!("{n:0>63}")).collect();
        message.body = "\u{1f511}\"".repeat(10_000);
        message.summary = "\u{1f511}\"".repeat(10_000);
        let body = payload(&message);
        assert!(body.len() <= 20_000, "{}", body.len());
        let value: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(value["data"]["credentials_total"], 10_000);
        assert_eq!(value["type"], "test.ping");
    }

    #[test]
    fn plain_http_is_for_loopback() {
        for (url, good) in [
            ("https://example.com/x", true),
            ("http://127.0.0.1:8/x", true),
            ("http://localhost/", true),
            ("http://[::1]/", true),
            ("http://example.com/", false),
            ("ftp://example.com/", false),
        ] {
            assert_eq!(safe(&Url::parse(url).unwrap()).is_ok(), good, "{url}");
        }
    }
}

//! The only HTTP client of the house: limits, TLS, redaction, and the answer to "may the upstream have acted?".
//!
//! One call is one request on a connection of its own: no retry, no redirect, no idle connection used again, no proxy
//! that the environment slipped in, HTTP/1.1 only, and no compression asked for or undone (so no reply can swell).

mod guard;
mod trouble;
mod watched;

use std::{fmt, time::Duration};

use reqwest::{
    Certificate, Client, Proxy,
    header::{ACCEPT_ENCODING, CONTENT_LENGTH, HeaderMap, HeaderValue},
};

use crate::credential::{Reply, Secret};
use trouble::Target;
use watched::Watched;

/// A reply may be this long and no longer, in bytes.
pub const BODY_LIMIT: usize = 1024 * 1024;

/// For name, connection, proxy and TLS together.
const CONNECT: Duration = Duration::from_secs(5);

/// One request, complete. Its parts may be secret, so it prints as method and host alone.
pub struct Call {
    /// `GET`, `POST`.
    pub method: http::Method,
    /// Where to.
    pub url: url::Url,
    /// Names and values; values may be secret.
    pub headers: Vec<(http::HeaderName, Secret)>,
    /// Body, if any.
    pub body: Option<Secret>,
    /// For all of it: connect, send, read.
    pub timeout: Duration,
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Call({} {})", self.method, self.url.host_str().unwrap_or("?"))
    }
}

/// How a call ended, as seen from the wire. The commit question is answered here and nowhere else.
#[derive(Debug)]
pub enum Exchange {
    /// Nothing reached the upstream: it cannot have acted. A plain retry is safe.
    NotSent(Trouble),
    /// Some of the request left us and no complete reply came back: the upstream may have acted. A call without a body
    /// that ran out of time counts here too, because nothing tells whether it left.
    Ambiguous(Trouble),
    /// A complete reply.
    Replied(Reply),
}

/// What went wrong on the way, without URL and without secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// A reason code of the metrics: `dns`, `connect`, `tls`, `proxy`, `timeout`, `reset`, `truncated`, `too_large`,
    /// `malformed`, `forbidden` (the address guard said no).
    pub reason: &'static str,
    /// For a person: "connection refused by api.example.com:443".
    pub detail: String,
}

/// What the client may trust and where it may go.
#[derive(Clone, Default)]
pub struct FetchSettings {
    /// PEM bundles of private authorities, trusted beside the system's own.
    pub private_ca: Vec<Vec<u8>>,
    /// Hosts that may be called over plain HTTP. Loopback always may; everything else needs HTTPS.
    pub plain_http: Vec<String>,
    /// The proxy for HTTPS, by CONNECT. The environment's proxy variables are never read.
    pub proxy: Option<url::Url>,
}

impl fmt::Debug for FetchSettings {
    /// Without the proxy's address: it may hold a login.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FetchSettings")
            .field("private_ca", &self.private_ca.len())
            .field("plain_http", &self.plain_http)
            .field("proxy", &self.proxy.is_some())
            .finish()
    }
}

/// Settings from which no client can be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// Not PEM, or PEM without a certificate.
    #[error(
        "private CA bundle {0} holds no certificate that can be read: give a PEM file with BEGIN CERTIFICATE lines"
    )]
    Bundle(usize),
    /// Not an address of a proxy.
    #[error("the proxy's address cannot be used: give http://host:port or https://host:port")]
    Proxy,
    /// TLS has nothing to trust.
    #[error(
        "TLS cannot start ({0}): install the system's CA certificates (ca-certificates) or name a private CA bundle"
    )]
    Tls(String),
}

/// The client. Cheap to share, holds no connection.
pub struct Fetch {
    client: Client,
    plain_http: Vec<String>,
    proxied: bool,
    dates: Option<Dates>,
}

/// Told of the `Date` of each reply over HTTPS, by its origin.
pub type Dates = std::sync::Arc<dyn Fn(&str, jiff::Timestamp) + Send + Sync>;

impl fmt::Debug for Fetch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fetch")
    }
}

impl Fetch {
    /// A client by these settings.
    pub fn new(settings: FetchSettings) -> Result<Self, FetchError> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let mut builder = Client::builder()
            .user_agent(concat!("credd/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .http1_only()
            .pool_max_idle_per_host(0)
            .connect_timeout(CONNECT)
            .dns_resolver(guard::Resolver)
            .no_proxy();
        for (index, bundle) in settings.private_ca.iter().enumerate() {
            let bad = || FetchError::Bundle(index + 1);
            let certificates = Certificate::from_pem_bundle(bundle).map_err(|_| bad())?;
            if certificates.is_empty() {
                return Err(bad());
            }
            builder = builder.tls_certs_merge(certificates);
        }
        let proxied = settings.proxy.is_some();
        if let Some(proxy) = settings.proxy {
            builder = builder.proxy(Proxy::https(proxy).map_err(|_| FetchError::Proxy)?);
        }
        let client = builder.build().map_err(|error| FetchError::Tls(trouble::root(&error)))?;
        Ok(Self { client, plain_http: settings.plain_http, proxied, dates: None })
    }

    /// Tells of dates: a clock in doubt needs witnesses.
    pub fn telling_dates(self, dates: Dates) -> Self {
        Self { dates: Some(dates), ..self }
    }

    fn tell_date(&self, origin: Option<&str>, reply: &Reply) {
        let date = reply.header("date").and_then(|date| jiff::fmt::rfc2822::parse(date).ok());
        if let (Some(dates), Some(origin), Some(date)) = (&self.dates, origin, date) {
            dates(origin, date.timestamp());
        }
    }

    /// Sends one request, once, and says what became of it.
    pub async fn exchange(&self, call: Call) -> Exchange {
        let target = Target::of(&call.url, self.proxied);
        if let Err(why) = guard::check(&call.url, &self.plain_http) {
            return Exchange::NotSent(why);
        }
        let headers = match headers(&call) {
            Ok(headers) => headers,
            Err(name) => {
                let detail = format!("header {name} holds a character that HTTP cannot carry; nothing was sent");
                return Exchange::NotSent(Trouble { reason: "malformed", detail });
            }
        };
        let origin = (call.url.scheme() == "https").then(|| call.url.origin().ascii_serialization());
        let mut request = self.client.request(call.method, call.url).headers(headers);
        let mut handed = None;
        if let Some(body) = call.body.filter(|body| !body.is_empty()) {
            let (body, mark) = Watched::new(body);
            request = request.body(reqwest::Body::wrap(body));
            handed = Some(mark);
        }
        let outcome = tokio::time::timeout(call.timeout, attempt(request, &target)).await;
        // Without a body there is no mark; whatever was under way may then have left.
        let may_have_left = handed.is_none_or(|mark| !mark.withdraw());
        match outcome {
            Ok(Ok(reply)) => {
                self.tell_date(origin.as_deref(), &reply);
                Exchange::Replied(reply)
            }
            Ok(Err(ended)) if ended.connected && may_have_left => Exchange::Ambiguous(ended.trouble),
            Ok(Err(ended)) => Exchange::NotSent(ended.trouble),
            Err(_) if may_have_left => {
                let detail = format!("no complete reply from {target} within {:?}", call.timeout);
                Exchange::Ambiguous(Trouble { reason: "timeout", detail })
            }
            Err(_) => {
                let detail = format!("no connection to {target} within {:?}; nothing was sent", call.timeout);
                Exchange::NotSent(Trouble { reason: "timeout", detail })
            }
        }
    }
}

/// How an attempt failed, and whether a connection stood.
struct Ended {
    connected: bool,
    trouble: Trouble,
}

async fn attempt(request: reqwest::RequestBuilder, target: &Target) -> Result<Reply, Ended> {
    let mut response = request.send().await.map_err(|error| {
        let connected = !error.is_connect() && !error.is_builder();
        let trouble = if connected { trouble::sending(&error, target) } else { trouble::connecting(&error, target) };
        Ended { connected, trouble }
    })?;
    let too_large = || Ended {
        connected: true,
        trouble: Trouble { reason: "too_large", detail: format!("{target} replied with more than {BODY_LIMIT} bytes") },
    };
    let announced = response.content_length().unwrap_or(0);
    if announced > BODY_LIMIT as u64 {
        return Err(too_large());
    }
    let status = response.status().as_u16();
    let headers = response
        .headers()
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    // Filled in place, so that no outgrown copy of a token is left behind in freed memory for ordinary replies.
    let mut reply = Reply { status, headers, body: Vec::with_capacity((announced as usize).max(16 * 1024)) };
    loop {
        match response.chunk().await {
            Ok(None) => return Ok(reply),
            Ok(Some(chunk)) if reply.body.len() + chunk.len() > BODY_LIMIT => return Err(too_large()),
            Ok(Some(chunk)) => reply.body.extend_from_slice(&chunk),
            Err(error) => return Err(Ended { connected: true, trouble: trouble::reading(&error, target) }),
        }
    }
}

/// The headers of a call, marked sensitive; the name of the first that cannot be sent.
#[expect(clippy::disallowed_methods, reason = "the headers that are sent")]
fn headers(call: &Call) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::with_capacity(call.headers.len() + 1);
    for (name, value) in &call.headers {
        let mut value = HeaderValue::from_str(value.expose()).map_err(|_| name.to_string())?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    // RFC 9110 §8.6: a POST without a body says so, and some servers answer 411 where it does not.
    let empty = call.body.as_ref().is_none_or(Secret::is_empty);
    if empty && !matches!(call.method, http::Method::GET | http::Method::HEAD) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    Ok(headers)
}

#[cfg(test)]
mod tests;

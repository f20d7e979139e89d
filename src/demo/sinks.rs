//! Receivers of pages: a small SMTP server and a webhook that checks the signature of each message.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{clock::Clock, credential::Secret, pager::webhook};

/// A mail or a message is not longer than this, in bytes.
const LARGEST: usize = 256 * 1024;

/// What a page says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    /// An incident is open.
    Opened,
    /// It is over.
    Resolved,
    /// Something else.
    Other,
}

/// How it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// E-mail.
    Mail,
    /// A webhook with a good signature.
    Hook,
    /// A webhook whose signature is not good.
    Forged,
}

/// A page that arrived.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// How.
    pub by: By,
    /// What it says.
    pub says: Says,
    /// When, by boot time.
    pub at: Duration,
}

/// All pages that arrived.
#[derive(Debug, Default)]
pub struct Inbox(Mutex<Vec<Page>>);

impl Inbox {
    fn pages(&self) -> MutexGuard<'_, Vec<Page>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, page: Page) {
        self.pages().push(page);
    }

    /// How many of them.
    pub fn count(&self, by: By, says: Says) -> usize {
        self.pages().iter().filter(|page| page.by == by && page.says == says).count()
    }

    /// The first of them.
    pub fn first(&self, by: By, says: Says) -> Option<Page> {
        self.pages().iter().find(|page| page.by == by && page.says == says).copied()
    }

    /// How many in all.
    pub fn len(&self) -> usize {
        self.pages().len()
    }
}

/// Both receivers; they close when dropped.
pub struct Sinks {
    /// Where mail is taken.
    pub smtp: SocketAddr,
    /// Where webhooks are taken.
    pub webhook: SocketAddr,
    _stop: DropGuard,
}

/// What both write to.
struct Shared {
    inbox: Arc<Inbox>,
    secret: Secret,
    clock: Arc<dyn Clock>,
}

impl Sinks {
    /// Listens on free ports of loopback.
    pub async fn start(inbox: Arc<Inbox>, secret: Secret, clock: Arc<dyn Clock>) -> Result<Self, String> {
        let stop = CancellationToken::new();
        let shared = Arc::new(Shared { inbox, secret, clock });
        let mut addresses = [SocketAddr::from(([127, 0, 0, 1], 0)); 2];
        for (index, address) in addresses.iter_mut().enumerate() {
            let cannot = |error| format!("cannot listen on loopback for pages: {error}");
            let listener = TcpListener::bind(*address).await.map_err(cannot)?;
            *address = listener.local_addr().map_err(cannot)?;
            let (shared, stop) = (shared.clone(), stop.clone());
            tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
                loop {
                    let Ok((stream, _)) = listener.accept().await else {
                        // Out of descriptors: those that end make room.
                        shared.clock.sleep(Duration::from_millis(50)).await;
                        continue;
                    };
                    let shared = shared.clone();
                    let talk = async move {
                        if index == 0 { drop(mail(stream, shared).await) } else { post(stream, shared).await }
                    };
                    tokio::spawn(stop.clone().run_until_cancelled_owned(talk));
                }
            }));
        }
        Ok(Self { smtp: addresses[0], webhook: addresses[1], _stop: stop.drop_guard() })
    }
}

/// One conversation (RFC 5321), as far as a sender of plain mail needs it.
async fn mail(stream: TcpStream, shared: Arc<Shared>) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read.take(LARGEST as u64));
    write.write_all(b"220 demo.invalid ready\r\n").await?;
    let mut line = String::new();
    loop {
        line.clear();
        if lines.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let verb = line.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
        let answer: &[u8] = match verb.as_str() {
            "DATA" => {
                write.write_all(b"354 go on, and end with a dot\r\n").await?;
                let says = letter(&mut lines).await?;
                shared.inbox.put(Page { by: By::Mail, says, at: shared.clock.now().boot });
                b"250 taken\r\n"
            }
            "QUIT" => {
                write.write_all(b"221 bye\r\n").await?;
                return Ok(());
            }
            "EHLO" | "HELO" | "MAIL" | "RCPT" | "NOOP" | "RSET" => b"250 ok\r\n",
            _ => b"502 not here\r\n",
        };
        write.write_all(answer).await?;
    }
}

/// Reads a mail to its lonely dot. The first line of its text is the status.
async fn letter(lines: &mut (impl AsyncBufReadExt + Unpin)) -> std::io::Result<Says> {
    let (mut line, mut in_text, mut says) = (String::new(), false, None);
    loop {
        line.clear();
        if lines.read_line(&mut line).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        match line.trim_end() {
            "." => return Ok(says.unwrap_or(Says::Other)),
            "" => in_text = true,
            text if in_text && says.is_none() => {
                says = Some(match text {
                    _ if text.starts_with("OPEN, ") => Says::Opened,
                    _ if text.starts_with("RESOLVED ") => Says::Resolved,
                    _ => Says::Other,
                });
            }
            _ => {}
        }
    }
}

async fn post(stream: TcpStream, shared: Arc<Shared>) {
    let service = service_fn(move |request| {
        let shared = shared.clone();
        async move {
            let status = take(request, &shared).await;
            let mut response = Response::new(Full::<Bytes>::default());
            *response.status_mut() = status;
            Ok::<_, Infallible>(response)
        }
    });
    // However it ends: what counts is what was taken.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn take(request: Request<Incoming>, shared: &Shared) -> StatusCode {
    let (parts, body) = request.into_parts();
    let Ok(body) = Limited::new(body, LARGEST).collect().await else { return StatusCode::PAYLOAD_TOO_LARGE };
    let body = body.to_bytes();
    let now = shared.clock.now();
    let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let verified = webhook::verify(
        std::slice::from_ref(&shared.secret),
        header("webhook-id"),
        header("webhook-timestamp"),
        header("webhook-signature"),
        &body,
        now.wall,
    );
    if verified.is_err() {
        shared.inbox.put(Page { by: By::Forged, says: Says::Other, at: now.boot });
        return StatusCode::UNAUTHORIZED;
    }
    let message: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let says = match message["type"].as_str() {
        Some("page.opened") => Says::Opened,
        Some("page.resolved") => Says::Resolved,
        _ => Says::Other,
    };
    shared.inbox.put(Page { by: By::Hook, says, at: now.boot });
    StatusCode::NO_CONTENT
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::SystemClock,
        fetch::{Call, Exchange, Fetch, FetchSettings},
    };

    async fn said(mail: &str) -> Option<Says> {
        letter(&mut mail.as_bytes()).await.ok()
    }

    #[tokio::test]
    async fn a_mail_says_in_its_first_line_what_it_is() {
        let head = "Subject: [credd] OPEN, it says\r\n\r\n";
        let opened = format!("{head}OPEN, critical, since now\r\n\r\nRESOLVED \r\n.\r\n");
        assert_eq!(said(&opened).await, Some(Says::Opened));
        assert_eq!(said(&format!("{head}RESOLVED after 3 s\r\n.\r\n")).await, Some(Says::Resolved));
        assert_eq!(said(&format!("{head}STILL OPEN, critical\r\n.\r\n")).await, Some(Says::Other));
        assert_eq!(said(&format!("{head}OPEN, but cut off")).await, None);
    }

    #[tokio::test]
    async fn a_webhook_without_a_good_signature_is_no_page() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let inbox = Arc::new(Inbox::default());
        let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let sinks = Sinks::start(inbox.clone(), secret, Arc::new(SystemClock)).await.unwrap();
        let header = |name, value: &str| (http::HeaderName::from_static(name), Secret::new(value));
        let call = Call {
            method: http::Method::POST,
            url: format!("http://{}/pages", sinks.webhook).parse().unwrap(),
            headers: vec![
                header("webhook-id", "msg_1"),
                header("webhook-timestamp", &SystemClock.now().wall.as_second().to_string()),
                header("webhook-signature", "v1,AAAA"),
            ],
            body: Some(Secret::new(r#"{"type":"page.opened"}"#)),
            timeout: Duration::from_secs(10),
        };
        let fetch = Fetch::new(FetchSettings::default()).unwrap();
        let Exchange::Replied(reply) = fetch.exchange(call).await else { panic!("no reply") };
        assert_eq!(reply.status, 401);
        assert_eq!((inbox.count(By::Hook, Says::Opened), inbox.count(By::Forged, Says::Other)), (0, 1));
    }
}

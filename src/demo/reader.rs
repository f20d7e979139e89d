//! A reader as any program is one: HTTP/1.1 over the Unix socket, on a connection that is kept.

use std::path::PathBuf;

use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, client::conn::http1::SendRequest};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use serde::Deserialize;
use tokio::net::UnixStream;

use crate::credential::Secret;

/// Longer is no answer of the socket, in bytes.
const LARGEST: usize = 256 * 1024;

/// A token as the socket gives it.
#[derive(Deserialize)]
pub struct Token {
    /// The value itself.
    pub access_token: Secret,
    /// Which value it is.
    pub generation: i64,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
}

/// What is said to a refusal that was handed in.
#[derive(Deserialize)]
pub struct Judged {
    /// The newer token, if there is one.
    pub token: Option<Token>,
}

/// An answer, read whole.
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The generation as an entity tag.
    pub etag: Option<header::HeaderValue>,
    /// Its body, which may hold a token.
    pub body: Bytes,
}

impl Answer {
    /// The body as what it should be. The error holds nothing of it.
    pub fn read<'a, T: Deserialize<'a>>(&'a self) -> Result<T, String> {
        serde_json::from_slice(&self.body)
            .map_err(|error| format!("status {} with a body that is none (line {})", self.status, error.line()))
    }

    /// Why there is no token, in the socket's word.
    pub fn reason(&self) -> String {
        let problem: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let word = problem["failure"]["subtype"].as_str().or(problem["subtype"].as_str());
        format!("status {}, {}", self.status, word.unwrap_or("no reason given"))
    }
}

/// A connection, opened at the first request and again when it was closed.
pub struct Reader {
    socket: PathBuf,
    open: Option<SendRequest<Full<Bytes>>>,
}

impl Reader {
    /// Of that socket.
    pub fn new(socket: PathBuf) -> Self {
        Self { socket, open: None }
    }

    /// Sends a request and gives the answer as it begins.
    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, String> {
        if let Some(open) = &mut self.open
            && open.ready().await.is_err()
        {
            self.open = None;
        }
        let open = match &mut self.open {
            Some(open) => open,
            None => {
                let stream = UnixStream::connect(&self.socket).await.map_err(|error| format!("connect: {error}"))?;
                let shaken = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
                let (open, connection) = shaken.map_err(|error| format!("connect: {error}"))?;
                tokio::spawn(connection);
                self.open.insert(open)
            }
        };
        match open.send_request(request).await {
            Ok(response) => Ok(response),
            Err(error) => {
                self.open = None;
                Err(format!("the connection broke: {error}"))
            }
        }
    }

    /// Sends a request and reads the answer.
    pub async fn ask(&mut self, request: Request<Full<Bytes>>) -> Result<Answer, String> {
        let (parts, body) = self.send(request).await?.into_parts();
        let body = Limited::new(body, LARGEST).collect().await.map_err(|error| {
            self.open = None;
            format!("the answer broke off: {error}")
        })?;
        let etag = parts.headers.get(header::ETAG).cloned();
        Ok(Answer { status: parts.status.as_u16(), etag, body: body.to_bytes() })
    }

    /// The token of a credential.
    pub async fn token(&mut self, name: &str) -> Result<Token, String> {
        let answer = self.ask(request(Method::GET, &format!("/v1/tokens/{name}"), Bytes::new())).await?;
        if answer.status == 200 { answer.read() } else { Err(answer.reason()) }
    }
}

/// A request to the socket.
pub fn request(method: Method, path: &str, body: Bytes) -> Request<Full<Bytes>> {
    let request = Request::builder().method(method).uri(path).header(header::HOST, "credd");
    let request = request.header(header::CONTENT_TYPE, "application/json").body(Full::new(body));
    request.expect("our own paths are well-formed")
}

//! Talks to a running daemon over its Unix sockets.

use std::{io, path::PathBuf, process::ExitCode};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

use super::{Context, EXIT_NO_DAEMON, out::note};
use crate::{credential::Secret, daemon};

/// A daemon's answer.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Its body, which may hold a token.
    pub body: Secret,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("no credd answers at {0}: start it with `credd run` (or name its socket with --socket)")]
    NoDaemon(PathBuf),
    /// Somebody may listen, but not to us.
    #[error("{0}: permission denied; ask as root or as the daemon's user")]
    Denied(PathBuf),
    /// Whoever listens there may be anybody.
    #[error("{0}")]
    Untrusted(String),
    /// The connection broke.
    #[error("the daemon at {0} did not answer: {1}")]
    Broken(PathBuf, String),
}

/// One of the daemon's two sockets.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
    trusted: Result<(), String>,
}

impl Client {
    /// The readers' socket.
    pub fn reader(context: &Context) -> Self {
        if let Some(socket) = &context.socket {
            return Self { socket: socket.clone(), trusted: Ok(()) };
        }
        // As the settings say, if they can be read.
        let config = super::run::load(context).map(|loaded| loaded.config).unwrap_or_default();
        let places = daemon::places(&config);
        Self { trusted: places.trusted(), socket: places.socket }
    }

    /// The operator's socket.
    pub fn operator(context: &Context) -> Self {
        let Self { socket, trusted } = Self::reader(context);
        Self { socket: socket.with_file_name("admin.sock"), trusted }
    }

    /// Whether somebody listens. An error where that cannot be known: what works without a daemon must not begin then.
    pub async fn is_answering(&self) -> Result<bool, ClientError> {
        match self.connect().await {
            Ok(_) => Ok(true),
            Err(ClientError::NoDaemon(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn connect(&self) -> Result<UnixStream, ClientError> {
        self.trusted.clone().map_err(ClientError::Untrusted)?;
        UnixStream::connect(&self.socket).await.map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => ClientError::Denied(self.socket.clone()),
            _ => ClientError::NoDaemon(self.socket.clone()),
        })
    }

    /// One request, one answer.
    #[expect(clippy::disallowed_methods, reason = "a document on its way to the daemon")]
    pub async fn ask(&self, method: Method, path: &str, body: Option<&Secret>) -> Result<Answer, ClientError> {
        let stream = self.connect().await?;
        let broken = |error: hyper::Error| ClientError::Broken(self.socket.clone(), error.to_string());
        let (mut send, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        tokio::spawn(connection);
        let body = body.map_or_else(Bytes::new, |body| Bytes::copy_from_slice(body.expose().as_bytes()));
        let request = Request::builder().method(method).uri(path).header("host", "credd").body(Full::new(body));
        let request = request.map_err(|error| ClientError::Broken(self.socket.clone(), error.to_string()))?;
        let response: Response<hyper::body::Incoming> = send.send_request(request).await.map_err(broken)?;
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.map_err(broken)?.to_bytes();
        Ok(Answer { status, body: Secret::new(String::from_utf8_lossy(&bytes)) })
    }
}

impl Answer {
    /// The body as JSON.
    #[expect(clippy::disallowed_methods, reason = "the daemon's answer is read")]
    pub fn json(&self) -> Value {
        serde_json::from_str(self.body.expose()).unwrap_or(Value::Null)
    }

    /// What a refusal says to a person.
    pub fn detail(&self) -> String {
        let json = self.json();
        let text = json["detail"].as_str().or(json["message"].as_str()).or(json["title"].as_str());
        text.map_or_else(|| format!("the daemon answered with status {}", self.status), str::to_owned)
    }

    /// What a failure's `action`, a word for machines, asks of a person.
    pub fn next_step(&self) -> Option<&'static str> {
        Some(match self.json()["failure"]["action"].as_str()? {
            "wait" => "nothing; credd tries again by itself",
            "backoff" => "wait, and ask less often",
            "reauthorize" => "authorise anew, or put a new secret",
            "fix_config" => "correct the settings, or the client at the provider",
            "switch_tool" => "use another credential or tool; this one does not help without a person",
            _ => "tell whoever looks after credd here",
        })
    }

    /// Whether the status is 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// Says why there was no answer, with the exit code for it.
pub fn no_answer(error: &ClientError) -> ExitCode {
    note!("error: {error}");
    match error {
        ClientError::NoDaemon(_) => ExitCode::from(EXIT_NO_DAEMON),
        _ => ExitCode::FAILURE,
    }
}

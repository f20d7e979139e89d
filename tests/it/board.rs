//! A board driven by hand: the test publishes, plays the shards, and moves the clock.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use credd::{
    clock::{Clock, Now},
    credential::{CredentialId, ExpirySource, Generation, Kind, Secret, Value},
    lifecycle::State,
    metrics::Metrics,
    publish::{self, Ask, Asks, Criticality, Published, Publisher, Reader, Subscriber, Token, View},
    server::{
        scrape,
        socket::{self, Limits, Occurrence},
    },
};
use futures_util::{FutureExt, future::BoxFuture};
use jiff::{SignedDuration, Timestamp};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::UnixStream,
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// Marks every token of these tests, so that a leak is seen.
pub const CANARY: &str = "canary-7d1f";

/// Nothing in these tests takes that long; whatever does has failed.
pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("this should have ended long ago")
}

/// Time that moves only when the test says so.
pub struct HandClock(watch::Sender<Now>);

impl HandClock {
    pub fn new() -> Arc<Self> {
        let wall = Timestamp::from_second(1_800_000_000).unwrap();
        Arc::new(Self(watch::Sender::new(Now { wall, boot: Duration::from_secs(1000) })))
    }

    pub fn advance(&self, time: Duration) {
        self.0.send_modify(|now| {
            now.wall += SignedDuration::try_from(time).unwrap();
            now.boot += time;
        });
    }

    /// The date is set to another, as an administrator might.
    pub fn step(&self, seconds: i64) {
        self.0.send_modify(|now| now.wall += SignedDuration::from_secs(seconds));
    }

    /// Lets time pass until that ends.
    pub async fn until<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = std::pin::pin!(future);
        soon(async {
            loop {
                tokio::select! {
                    done = future.as_mut() => return done,
                    () = tokio::time::sleep(Duration::from_millis(2)) => self.advance(Duration::from_millis(500)),
                }
            }
        })
        .await
    }
}

impl fmt::Debug for HandClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HandClock")
    }
}

impl Clock for HandClock {
    fn now(&self) -> Now {
        *self.0.borrow()
    }

    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        let mut now = self.0.subscribe();
        let end = now.borrow().boot + time;
        async move {
            let _ = now.wait_for(|now| now.boot >= end).await;
        }
        .boxed()
    }
}

/// A daemon's faces without a daemon.
pub struct Board {
    pub clock: Arc<HandClock>,
    pub publisher: Publisher,
    pub subscriber: Subscriber,
    pub asks: Asks,
    pub asked: mpsc::Receiver<Ask>,
    pub metrics: Metrics,
    pub path: PathBuf,
    pub seen: Arc<Mutex<Vec<Occurrence>>>,
    pub stop: CancellationToken,
    server: Option<JoinHandle<()>>,
    _folder: tempfile::TempDir,
}

impl Board {
    pub async fn new() -> Self {
        Self::with(Limits::default()).await
    }

    pub async fn with(limits: Limits) -> Self {
        let mut board = Self::without_socket();
        let door = socket::bind(&board.path, 0o666, board.clock.clone(), |_| {}).await.unwrap();
        let seen = board.seen.clone();
        let parts = socket::Parts {
            subscriber: board.subscriber.clone(),
            asks: board.asks.clone(),
            metrics: board.metrics.clone(),
            clock: board.clock.clone(),
            witness: Arc::new(move |occurrence| seen.lock().unwrap().push(occurrence)),
        };
        board.server = Some(tokio::spawn(socket::serve(door, parts, limits, board.stop.clone())));
        board
    }

    pub fn without_socket() -> Self {
        let clock = HandClock::new();
        let (publisher, subscriber) = publish::channel(clock.clone());
        let metrics = Metrics::new();
        let kept = metrics.clone();
        publisher.on_removal(move |name| scrape::forget(&kept, name));
        let (door, asked) = mpsc::channel(64);
        let folder = tempfile::tempdir().unwrap();
        Self {
            publisher,
            subscriber,
            asks: Asks::new(vec![door], |_, _| 0),
            asked,
            metrics,
            path: folder.path().join("credd.sock"),
            seen: Arc::default(),
            stop: CancellationToken::new(),
            server: None,
            clock,
            _folder: folder,
        }
    }

    pub async fn connect(&self) -> Client {
        Client::connect(&self.path).await
    }

    pub async fn ask(&mut self) -> Ask {
        soon(self.asked.recv()).await.expect("somebody asks")
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now().wall
    }

    /// Publishes `name` at a generation, ending that many seconds from now.
    pub fn put(&self, name: &str, generation: i64, left: i64) {
        self.publisher.set(published(self, name, generation, Some(left), State::Fresh));
    }

    /// Stops the socket and waits for its end.
    pub async fn end(&mut self) {
        self.stop.cancel();
        let server = self.server.take().expect("it runs");
        self.clock.until(server).await.unwrap();
    }
}

pub fn id(name: &str) -> CredentialId {
    CredentialId::new(name).unwrap()
}

pub fn view(board: &Board, name: &str, generation: i64, left: Option<i64>, state: State) -> View {
    let now = board.now();
    let after = |seconds: i64| now + SignedDuration::from_secs(seconds);
    View {
        name: id(name),
        kind: Kind::RefreshToken,
        provider: "example".into(),
        store: "embedded".into(),
        criticality: Criticality::Required,
        state,
        since: now,
        generation: Generation(generation),
        issued_at: Some(after(-60)),
        expires_at: left.map(after),
        expiry_source: ExpirySource::Response,
        refresh_expires_at: Some(after(86_400)),
        refresh_expiry_source: None,
        client_secret_expires_at: None,
        refresh_at: left.map(|left| after(left / 2)),
        probe_at: Some(after(300)),
        last_probe_at: Some(after(-10)),
        last_success_at: Some(after(-10)),
        last_rotation_at: Some(after(-60)),
        ttl_warn_seconds: Some(60),
        ttl_fail_seconds: Some(10),
        problem: None,
        store_error: None,
        flags: vec![],
    }
}

pub fn published(board: &Board, name: &str, generation: i64, left: Option<i64>, state: State) -> Published {
    let view = view(board, name, generation, left, state);
    let token = Token {
        value: Value::Token(Secret::new(format!("{CANARY}-{name}-{generation}"))),
        token_type: "Bearer".into(),
        expires_at: view.expires_at,
        scope: Some("read write".into()),
        generation: view.generation,
        unsaved: false,
    };
    Published { view, token: Some(token), readers: Arc::from([own()]), offer: None }
}

/// A rule that lets this very process read.
pub fn own() -> Reader {
    Reader { uid: Some(rustix::process::geteuid().as_raw()), name: Some("tests".into()), ..Reader::default() }
}

/// A socket of either family.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// A plain HTTP client: one connection, bytes as they are.
pub struct Client {
    io: BufReader<Box<dyn Io>>,
    ready_blocks: Vec<String>,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Got {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Got {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

impl Client {
    pub fn over(stream: impl Io + 'static) -> Self {
        Self { io: BufReader::with_capacity(2048, Box::new(stream)), ready_blocks: Vec::new() }
    }

    pub async fn connect(path: &Path) -> Self {
        loop {
            match UnixStream::connect(path).await {
                Ok(stream) => return Self::over(stream),
                // The backlog is full: this is what a crowd meets.
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => tokio::task::yield_now().await,
                Err(error) => panic!("{}: {error}", path.display()),
            }
        }
    }

    pub async fn send(&mut self, text: &str) {
        self.io.get_mut().write_all(text.as_bytes()).await.unwrap();
    }

    /// Sends what it can; the other side may hang up meanwhile.
    pub async fn babble(&mut self, bytes: &[u8]) -> bool {
        self.io.get_mut().write_all(bytes).await.is_ok()
    }

    pub async fn get(&mut self, path: &str) -> Got {
        self.get_with(path, "").await
    }

    pub async fn get_with(&mut self, path: &str, headers: &str) -> Got {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n")).await;
        self.answer().await
    }

    pub async fn post(&mut self, path: &str, body: &str) -> Got {
        let length = body.len();
        self.send(&format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        ))
        .await;
        self.answer().await
    }

    pub async fn answer(&mut self) -> Got {
        let mut got = soon(self.head()).await.expect("an answer");
        let length = got.header("content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        soon(self.io.read_exact(&mut body)).await.unwrap();
        got.body = String::from_utf8(body).unwrap();
        got
    }

    /// Status line and headers; `None` at the end of the connection.
    pub async fn head(&mut self) -> Option<Got> {
        let status = self.line().await?.split(' ').nth(1)?.parse().ok()?;
        let mut headers = Vec::new();
        while let Some((name, value)) = self.line().await?.split_once(':') {
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        Some(Got { status, headers, body: String::new() })
    }

    async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.io.read_line(&mut line).await {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(line.trim_end().to_owned()),
        }
    }

    /// The next block of a stream of events: (event, id, data). Comments are passed over; `None` at its end.
    pub async fn event(&mut self) -> Option<(String, String, serde_json::Value)> {
        while self.ready_blocks.is_empty() {
            let chunk = soon(self.chunk()).await?;
            self.ready_blocks
                .extend(chunk.split_terminator("\n\n").map(str::to_owned).filter(|block| !block.starts_with(':')));
        }
        let block = self.ready_blocks.remove(0);
        let field = |name: &str| {
            block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap_or("").to_owned()
        };
        Some((field("event"), field("id"), serde_json::from_str(&field("data")).unwrap()))
    }

    pub async fn chunk(&mut self) -> Option<String> {
        let length = usize::from_str_radix(&self.line().await?, 16).ok()?;
        let mut chunk = vec![0; length + 2];
        self.io.read_exact(&mut chunk).await.ok()?;
        (length > 0).then(|| String::from_utf8_lossy(&chunk[..length]).into_owned())
    }

    /// Waits until the other side has hung up.
    pub async fn ended(&mut self) {
        let mut rest = Vec::new();
        // A reset is an end, too.
        let _ = self.io.read_to_end(&mut rest).await;
    }
}

//! Servers, each in a process of its own with a runtime like the daemon's: ours, and the least that could be.

use std::{convert::Infallible, path::Path, sync::Arc};

use bytes::Bytes;
use credd::{
    clock::SystemClock,
    ledger::Ledger,
    metrics::Metrics,
    publish::{self, Asks, Publisher},
    server::socket,
};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::{
    io::AsyncWriteExt,
    net::{UnixListener, UnixStream},
    sync::watch,
};
use tokio_util::sync::CancellationToken;

use super::{
    commit,
    process::{listen, nanoseconds, say},
    publishing::{TOKEN, published},
};

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads can be started")
}

/// The daemon's own socket over a board with that many credentials. Each line from the parent makes a new generation of
/// the first: durable in a ledger, then published; the answer says when it was durable.
pub fn credd(path: &str, ledger: &str, credentials: usize) {
    let runtime = runtime();
    let _inside = runtime.enter();
    let clock = Arc::new(SystemClock);
    let (publisher, subscriber) = publish::channel(clock.clone());
    let metrics = Metrics::new();
    (0..credentials).for_each(|number| publisher.set(published(number, 1)));
    let (door, _asked) = tokio::sync::mpsc::channel(64);
    let parts = socket::Parts {
        subscriber,
        asks: Asks::new(vec![door], |_, _| 0),
        metrics,
        clock: clock.clone(),
        witness: Arc::new(|_| {}),
    };
    runtime.block_on(async {
        let ledger = commit::open(Path::new(ledger)).await;
        commit::load(&ledger, 0).await;
        let door = socket::bind(Path::new(path), 0o600, clock, |_| {}).await.expect("the socket is free");
        tokio::spawn(socket::serve(door, parts, socket::Limits::per_uid(20_000), CancellationToken::new()));
        say("ready");
        let told = tokio::task::spawn_blocking(move || rotate(&tokio::runtime::Handle::current(), &ledger, &publisher));
        told.await.expect("it does not panic");
    });
    std::process::exit(0);
}

fn rotate(runtime: &tokio::runtime::Handle, ledger: &Ledger, publisher: &Publisher) {
    let mut generation = 1;
    while listen().is_some() {
        runtime.block_on(commit::prepare(ledger, 0, generation));
        runtime.block_on(commit::promote(ledger, 0, generation));
        generation += 1;
        let next = published(0, generation);
        let durable = nanoseconds();
        publisher.set(next);
        say(durable);
    }
}

/// hyper and nothing else: every request gets the same bytes, as many as our answer to a read has.
pub fn bare(path: &str, body: &str) {
    let body = Bytes::from(body.to_owned());
    runtime().block_on(async {
        let listener = UnixListener::bind(path).expect("the socket is free");
        say("ready");
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(bare_connection(stream, body.clone()));
        }
    });
}

async fn bare_connection(stream: UnixStream, body: Bytes) {
    let service = service_fn(move |_request: http::Request<hyper::body::Incoming>| {
        let mut response = http::Response::new(Full::new(body.clone()));
        let json = http::HeaderValue::from_static("application/json");
        response.headers_mut().insert(http::header::CONTENT_TYPE, json);
        std::future::ready(Ok::<_, Infallible>(response))
    });
    // A client that is done hangs up.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// No HTTP and no ledger: a change is as many bytes as ours, written to every connection.
pub fn bare_watch(path: &str) {
    runtime().block_on(async {
        let listener = UnixListener::bind(path).expect("the socket is free");
        let (news, _) = watch::channel(Bytes::new());
        let connections = news.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(bare_watcher(stream, connections.subscribe()));
            }
        });
        say("ready");
        let block = Bytes::from("x".repeat(TOKEN + 200));
        let told = tokio::task::spawn_blocking(move || {
            while listen().is_some() {
                let at = nanoseconds();
                news.send_replace(block.clone());
                say(at);
            }
        });
        told.await.expect("it does not panic");
        std::process::exit(0);
    });
}

async fn bare_watcher(mut stream: UnixStream, mut news: watch::Receiver<Bytes>) {
    // What it is told at the beginning: that it is followed.
    let mut block = Bytes::from_static(b"hello");
    while stream.write_all(&block).await.is_ok() && news.changed().await.is_ok() {
        block = news.borrow_and_update().clone();
    }
}

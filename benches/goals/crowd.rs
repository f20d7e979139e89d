//! Crowds: many connections of one process that all want the same.

use std::path::{Path, PathBuf};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    sync::watch,
    task::JoinSet,
};

use super::{
    load::{self, request},
    process::{listen, nanoseconds, say},
};

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Connects; a full backlog is waited out.
async fn connect(socket: PathBuf) -> UnixStream {
    loop {
        match UnixStream::connect(&socket).await {
            Ok(stream) => return stream,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => tokio::task::yield_now().await,
            Err(error) => panic!("{}: {error}", socket.display()),
        }
    }
}

/// So many connections; at the parent's word each sends one read. Says how many were answered with a token, and when
/// the first and the last answer came.
pub fn readers(socket: &str, path: &str, count: usize) {
    let (socket, request) = (PathBuf::from(socket), request(path));
    runtime().block_on(async move {
        let (start, started) = watch::channel(false);
        let mut connections = Vec::with_capacity(count);
        for _ in 0..count {
            connections.push(connect(socket.clone()).await);
        }
        say("connected");
        listen();
        let mut crowd = JoinSet::new();
        for stream in connections {
            crowd.spawn(one_reader(stream, request.clone(), started.clone()));
        }
        start.send_replace(true);
        let answers = crowd.join_all().await;
        say(answers.iter().filter(|(good, _)| *good).count());
        say(answers.iter().map(|(_, at)| *at).min().unwrap_or(0));
        say(answers.iter().map(|(_, at)| *at).max().unwrap_or(0));
        // Connections stay open until the parent has looked at the server's memory.
        listen();
    });
}

async fn one_reader(mut stream: UnixStream, request: Vec<u8>, mut started: watch::Receiver<bool>) -> (bool, u64) {
    started.wait_for(|started| *started).await.expect("the crowd is told");
    if stream.write_all(&request).await.is_err() {
        return (false, nanoseconds());
    }
    let mut answer = Vec::with_capacity(2048);
    while load::length(&answer).is_none_or(|whole| answer.len() < whole) {
        if stream.read_buf(&mut answer).await.unwrap_or(0) == 0 {
            return (false, nanoseconds());
        }
    }
    (load::is_good(&answer), nanoseconds())
}

/// So many followers. Says when all are followed; then, at each word of the parent, when the first and the last of them
/// was told of the next change.
pub fn watchers(socket: &str, path: &str, count: usize) {
    let request = if path.is_empty() { vec![] } else { request(path) };
    let socket = Path::new(socket).to_owned();
    runtime().block_on(async move {
        let (tell, mut told) = tokio::sync::mpsc::channel(count);
        for _ in 0..count {
            let mut stream = connect(socket.clone()).await;
            stream.write_all(&request).await.expect("the server reads");
            tokio::spawn(one_watcher(stream, !request.is_empty(), tell.clone()));
        }
        for _ in 0..count {
            told.recv().await;
        }
        say("followed");
        // The next word comes after the change: the changes are told as they come.
        loop {
            let (mut first, mut last) = (u64::MAX, 0);
            for _ in 0..count {
                let at = told.recv().await.expect("the watchers live");
                (first, last) = (first.min(at), last.max(at));
            }
            say(first);
            say(last);
        }
    });
}

/// Tells of each change when its last byte was read.
async fn one_watcher(mut stream: UnixStream, events: bool, tell: tokio::sync::mpsc::Sender<u64>) {
    let mut block = Vec::with_capacity(4096);
    loop {
        if stream.read_buf(&mut block).await.unwrap_or(0) == 0 {
            return;
        }
        // A token's event and the bytes of the bare server are far longer than a heartbeat or a head.
        let whole = if events { ends_an_event(&block) } else { block == b"hello" || block.len() > 1024 };
        if whole {
            block.clear();
            if tell.send(nanoseconds()).await.is_err() {
                return;
            }
        }
    }
}

/// Whether these bytes are a whole chunk with a token.
fn ends_an_event(block: &[u8]) -> bool {
    block.ends_with(b"\n\n\r\n") && block.windows(12).any(|window| window == b"event: token")
}

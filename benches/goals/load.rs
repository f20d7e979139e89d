//! The load: requests rendered beforehand, answers read just far enough to know where they end.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use super::process::nanoseconds;

/// What a load saw.
pub struct Load {
    /// Answers a second.
    pub per_second: f64,
    /// From sending a request to its answer's last byte, in nanoseconds.
    pub latencies: Vec<u64>,
}

/// A plain `GET`.
pub fn request(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").into_bytes()
}

/// Reads of all names in turn, in steps, so that neighbours in memory are not neighbours in time.
pub fn reads(names: usize) -> Vec<Vec<u8>> {
    (0..names).map(|turn| request(&format!("/v1/tokens/{}", super::publishing::name(turn * 7919 % names)))).collect()
}

/// The length of the answer that begins these bytes, once its head is there.
pub fn length(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let name = b"content-length: ";
    let at = bytes[..head].windows(name.len()).position(|window| window == name)? + name.len();
    let digits = bytes[at..head].iter().take_while(|byte| byte.is_ascii_digit());
    Some(head + digits.fold(0, |number, digit| number * 10 + usize::from(digit - b'0')))
}

/// Whether an answer is a 200.
pub fn is_good(answer: &[u8]) -> bool {
    answer.starts_with(b"HTTP/1.1 200 ")
}

/// One connection, one thread: the next request goes when the last was answered.
pub struct Connection {
    stream: UnixStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects.
    pub fn open(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).expect("the server listens");
        Self { stream, buffer: vec![0; 64 * 1024] }
    }

    /// Sends, and reads the whole answer.
    pub fn exchange(&mut self, request: &[u8]) -> &[u8] {
        self.stream.write_all(request).expect("the server reads");
        let (mut filled, mut whole) = (0, None);
        while whole.is_none_or(|whole| filled < whole) {
            let read = self.stream.read(&mut self.buffer[filled..]).expect("the server answers");
            assert!(read > 0, "the server hung up");
            filled += read;
            whole = whole.or_else(|| length(&self.buffer[..filled]));
        }
        &self.buffer[..filled]
    }
}

/// One connection for that long.
pub fn alone(socket: &Path, requests: &[Vec<u8>], time: Duration) -> Load {
    let mut connection = Connection::open(socket);
    let mut latencies = Vec::with_capacity(1 << 20);
    let begun = nanoseconds();
    let end = begun + u64::try_from(time.as_nanos()).expect("not that long");
    let mut now = begun;
    for request in requests.iter().cycle() {
        assert!(is_good(connection.exchange(request)), "a read was refused");
        let answered = nanoseconds();
        latencies.push(answered - now);
        now = answered;
        if now >= end {
            break;
        }
    }
    Load { per_second: latencies.len() as f64 * 1e9 / (now - begun) as f64, latencies }
}

/// Many connections for that long, all on one thread.
pub fn together(socket: &Path, requests: &[Vec<u8>], connections: usize, time: Duration) -> Load {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let local = tokio::task::LocalSet::new();
    let requests = std::rc::Rc::new(requests.to_vec());
    local.block_on(&runtime, async {
        let begun = nanoseconds();
        let end = begun + u64::try_from(time.as_nanos()).expect("not that long");
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..connections {
            let requests = requests.clone();
            let stream = tokio::net::UnixStream::connect(socket).await.expect("the server listens");
            tasks.spawn_local(one_of_many(stream, requests, number * 613, end));
        }
        let latencies = tasks.join_all().await.concat();
        Load { per_second: latencies.len() as f64 * 1e9 / (nanoseconds() - begun) as f64, latencies }
    })
}

async fn one_of_many(
    mut stream: tokio::net::UnixStream,
    requests: std::rc::Rc<Vec<Vec<u8>>>,
    first: usize,
    end: u64,
) -> Vec<u64> {
    let (mut latencies, mut buffer) = (Vec::with_capacity(1 << 16), vec![0; 64 * 1024]);
    let mut turn = first;
    loop {
        let sent = nanoseconds();
        if sent >= end {
            return latencies;
        }
        exchange(&mut stream, &requests[turn % requests.len()], &mut buffer).await;
        latencies.push(nanoseconds() - sent);
        turn += 1;
    }
}

/// Sends, and reads the whole answer; it must be a good one.
pub async fn exchange(stream: &mut tokio::net::UnixStream, request: &[u8], buffer: &mut [u8]) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    stream.write_all(request).await.expect("the server reads");
    let (mut filled, mut whole) = (0, None);
    while whole.is_none_or(|whole| filled < whole) {
        let read = stream.read(&mut buffer[filled..]).await.expect("the server answers");
        assert!(read > 0, "the server hung up");
        filled += read;
        whole = whole.or_else(|| length(&buffer[..filled]));
    }
    assert!(is_good(&buffer[..filled]), "a read was refused: {}", String::from_utf8_lossy(&buffer[..filled]));
}

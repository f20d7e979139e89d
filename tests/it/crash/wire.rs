//! Deaths while the request and its reply are on the wire: a gate between credd and the provider lets so much through and
//! no more, and then the process is killed.
// Proves: CP-06, CP-07, CP-08, CP-09, CP-10

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{PROFILES, Scene};
use crate::journey::until;

/// How far a call comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Point {
    /// CP-06.
    Connected,
    /// CP-07.
    HalfARequest,
    /// CP-08.
    Request,
    /// CP-09.
    Head,
    /// CP-10.
    HalfABody,
}

struct Gate {
    provider: SocketAddr,
    point: Point,
    open: AtomicBool,
    stuck: AtomicBool,
}

impl Gate {
    async fn start(provider: SocketAddr, point: Point) -> (Arc<Self>, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let gate = Arc::new(Self { provider, point, open: AtomicBool::new(false), stuck: AtomicBool::new(false) });
        let shared = gate.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let gate = shared.clone();
                tokio::spawn(async move { gate.pass(client).await });
            }
        });
        (gate, address)
    }

    async fn pass(&self, mut client: TcpStream) {
        if self.open.load(Ordering::SeqCst) {
            let mut provider = TcpStream::connect(self.provider).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut client, &mut provider).await;
            return;
        }
        if self.point != Point::Connected {
            let mut provider = TcpStream::connect(self.provider).await.unwrap();
            let request = message(&mut client).await;
            let through = if self.point == Point::HalfARequest { request.len() / 2 } else { request.len() };
            provider.write_all(&request[..through]).await.unwrap();
            if self.point != Point::HalfARequest {
                let reply = message(&mut provider).await;
                let head = reply.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
                let back = match self.point {
                    Point::Head => head,
                    Point::HalfABody => head + (reply.len() - head) / 2,
                    _ => 0,
                };
                client.write_all(&reply[..back]).await.unwrap();
            }
        }
        self.stuck.store(true, Ordering::SeqCst);
        // Until the process is dead.
        let _ = client.read_to_end(&mut Vec::new()).await;
    }
}

/// One whole request or reply: its head, and as much body as that announces.
async fn message(stream: &mut TcpStream) -> Vec<u8> {
    let (mut bytes, mut whole) = (Vec::new(), None);
    while whole.is_none_or(|whole| bytes.len() < whole) {
        let mut part = [0; 4096];
        let count = stream.read(&mut part).await.unwrap();
        assert_ne!(count, 0, "it ended early: {}", String::from_utf8_lossy(&bytes));
        bytes.extend_from_slice(&part[..count]);
        if let Some(head) = bytes.windows(4).position(|end| end == b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
            let length = text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
            whole = Some(head + 4 + length.unwrap_or(0));
        }
    }
    bytes
}

/// CP-06 to CP-10.
#[tokio::test(flavor = "multi_thread")]
async fn fm68_p1_p2_p3_a_death_while_a_call_is_on_the_wire_loses_no_grant() {
    for point in [Point::Connected, Point::HalfARequest, Point::Request, Point::Head, Point::HalfABody] {
        for (profile, rotation) in PROFILES {
            let scene = Scene::new(profile, rotation, 1).await;
            let provider = scene.sandbox.url.trim_start_matches("http://").parse().unwrap();
            let (gate, address) = Gate::start(provider, point).await;
            let settings = scene.house.path("credd.toml");
            let text = std::fs::read_to_string(&settings).unwrap();
            let through = format!("http://{address}/token");
            std::fs::write(&settings, text.replace(&scene.sandbox.token_endpoint(), &through)).unwrap();

            let mut process = scene.house.spawn(&[]);
            until("the call is under way", || async { gate.stuck.load(Ordering::SeqCst) }).await;
            assert_eq!(process.died_of(), None, "{point:?}: {}", scene.house.log());
            process.kill();
            gate.open.store(true, Ordering::SeqCst);
            let commits = scene.sandbox.admin().counters().total.refresh_tokens_minted;
            let acted = !matches!(point, Point::Connected | Point::HalfARequest);
            assert_eq!(commits, u64::from(acted), "{point:?}: what the provider did");
            let tally = scene.settle(&format!("{point:?} {rotation}")).await;
            assert_eq!((tally.lost, tally.kept), (1, u64::from(acted)), "{point:?} {rotation}: {tally:?}");
        }
    }
}

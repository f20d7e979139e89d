//! Two credentials of one service, each for its use: what befalls the one is nothing to the other's readers.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
};

use credd::{
    clock::{Clock, SystemClock},
    sandbox::NewKey,
};
use serde_json::Value;

use crate::{
    board::Client,
    world::{World, generation, grant, until},
};

/// Between two calls of one reader.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(5);

/// Readers that ask for a use and call the API with what they get, without end.
struct Load {
    calls: Arc<AtomicU64>,
    failed: Arc<Mutex<Vec<String>>>,
    refused: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    fn start(
        world: &World,
        stop: &Arc<AtomicBool>,
        usage: &'static str,
        credential: &'static str,
        readers: usize,
    ) -> Self {
        let mut load =
            Self { calls: Arc::default(), failed: Arc::default(), refused: Arc::default(), tasks: Vec::new() };
        for _ in 0..readers {
            let (socket, api, stop) = (world.socket(), world.sandbox.probe_url(), stop.clone());
            let (calls, failed, refused) = (load.calls.clone(), load.failed.clone(), load.refused.clone());
            load.tasks.push(tokio::spawn(async move {
                let mut client = Client::connect(&socket).await;
                let api = url::Url::parse(&api).unwrap();
                let address = (api.host_str().unwrap().to_owned(), api.port().unwrap());
                let mut upstream = Client::over(tokio::net::TcpStream::connect(address).await.unwrap());
                while !stop.load(SeqCst) {
                    let got = client.get(&format!("/v1/services/web/token?use={usage}")).await;
                    let body = got.json();
                    if got.status != 200 {
                        assert_eq!(body["failure"]["credential"], credential, "{body}");
                        refused.fetch_add(1, SeqCst);
                        SystemClock.sleep(PAUSE).await;
                        continue;
                    }
                    assert_eq!(body["name"], credential, "a reader slipped into another credential: {body}");
                    let bearer = format!("authorization: Bearer {}\r\n", body["access_token"].as_str().unwrap());
                    let said = upstream.get_with(api.path(), &bearer).await;
                    if said.status == 200 {
                        calls.fetch_add(1, SeqCst);
                    } else {
                        failed.lock().unwrap().push(format!("{} {}", said.status, said.body));
                    }
                    SystemClock.sleep(PAUSE).await;
                }
            }));
        }
        load
    }

    async fn grows_by(&self, calls: u64) {
        let before = self.calls.load(SeqCst);
        until("more calls are made", async || (self.calls.load(SeqCst) >= before + calls).then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_reading_key_costs_no_write() {
    let mut world = World::new().await;
    world.tables("[policies.default]\nprobe = \"*/1 * * * * *\"");
    let uid = rustix::process::geteuid().as_raw();
    let offered = |usage: &str| {
        format!("service = \"web\"\nuse = \"{usage}\"\nreaders = [{{ uid = {uid}, name = \"{usage}-server\" }}]")
    };
    let (first, secret) = world.admin().key(&NewKey::default());
    world.keep("web-read", &secret).await;
    world.credential("web-read", "api_key", &offered("read"));
    world.granted("web-write", grant(3600.0), &offered("write")).await;
    world.start().await;
    let stop = Arc::<AtomicBool>::default();
    let reads = Load::start(&world, &stop, "read", "web-read", 8);
    let writes = Load::start(&world, &stop, "write", "web-write", 8);
    reads.grows_by(50).await;
    writes.grows_by(50).await;

    // Rotated: the old one goes when nobody has it any longer.
    let (second, secret) = world.admin().key(&NewKey::default());
    world.keep("web-read", &secret).await;
    world.reaches("web-read", 2).await;
    reads.grows_by(50).await;
    assert!(world.admin().revoke(&first));
    writes.grows_by(50).await;
    reads.grows_by(50).await;
    assert_eq!(reads.failed.lock().unwrap().len(), 0, "a rotation fails no read either");
    assert_eq!(reads.refused.load(SeqCst), 0);

    assert!(world.admin().revoke(&second));
    world.becomes("web-read", "revoked").await;
    until("its readers are refused", async || (reads.refused.load(SeqCst) > 0).then_some(())).await;
    writes.grows_by(100).await;
    let of = async |consumer: &str| world.health(&format!("/health/consumers/{consumer}")).await;
    let (sick, well) = (of("read-server").await, of("write-server").await);
    assert_eq!((sick.status, sick.json()["status"].as_str()), (503, Some("fail")), "{}", sick.body);
    assert_eq!((well.status, well.json()["status"].as_str()), (200, Some("pass")), "{}", well.body);
    stop.store(true, SeqCst);
    for task in reads.tasks.into_iter().chain(writes.tasks) {
        task.await.unwrap();
    }
    let failed: Vec<String> = writes.failed.lock().unwrap().clone();
    assert!(failed.is_empty() && writes.refused.load(SeqCst) == 0, "failed writes: {failed:?}");
    assert_eq!(generation(&world.read("web-write").await), 1, "nobody touched it");
    let open: Vec<Value> = world.incidents().await.iter().map(|open| open.credential.as_str().into()).collect();
    assert_eq!(open, ["web-read"]);
    eprintln!(
        "{} reads, {} writes, 0 writes failed; {} reads refused once it was revoked",
        reads.calls.load(SeqCst),
        writes.calls.load(SeqCst),
        reads.refused.load(SeqCst)
    );
    world.stop().await;
}

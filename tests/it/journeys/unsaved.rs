//! RF-06: the provider has rotated, and the ledger does not take it. The token is held, readers have it, on-call is told,
//! and it is saved as soon as that can be.

use std::io::Write;

use credd::sandbox::{Fault, FaultKind, NewGrant, Place, Seed};

use super::untold::{hold_the_ledger, let_go};
use crate::{
    components::Component,
    journey::ask,
    ledger::disk::{component, inner},
    paging::world::sink_log,
    world::{World, call_api, generation, grant, token, until, write},
};

const ODD: &str = "extends = \"rfc6749\"\n[rotation]\nprofile = \"strict\"\n";
const HOOK: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn strict() -> NewGrant {
    NewGrant { profile: "strict_kill_family".parse().unwrap(), ..grant(3600.0) }
}

/// A refresh of `bot` that the provider has acted upon, and whose reply comes in a moment.
async fn on_its_way(world: &World, seed: &Seed) {
    let kind = FaultKind::Delay { ms: 2_000, after_commit: true };
    world.admin().fault(Fault { kind, at: Place::Token, grant: Some(seed.id.clone()), calls: Some(1) });
    let mut operator = world.operator().await;
    operator.send("POST /v1/credentials/bot/refresh HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n").await;
    until("the provider has acted", async || (world.admin().counters_of(&seed.id).commits == 1).then_some(())).await;
}

/// Readers have the new token, which works, and are told that it is not saved.
async fn is_unsaved(world: &World) -> String {
    let got = until("the new token is served", async || {
        let got = world.read("bot").await;
        (got.status == 200 && generation(&got) == 2).then_some(got)
    })
    .await;
    assert_eq!(got.json()["unsaved"], true, "{}", got.body);
    assert_eq!(call_api(&world.sandbox.probe_url(), &token(&got)).await.0, 200);
    token(&got)
}

/// Runs [`on_a_full_disk`] in a process of its own, on a small file system of its own.
#[test]
fn rf06_fm31_fm42_a_disk_that_fills_up_after_the_provider_has_acted_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut under = component("diskfull.sh");
    under.arg("24m").arg(folder.path());
    inner(under, "journeys::unsaved::on_a_full_disk", "CREDD_TEST_SMALL_DISK", folder.path());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "fills the file system that it is given; the test above gives it one"]
async fn on_a_full_disk() {
    let disk = std::path::PathBuf::from(std::env::var_os("CREDD_TEST_SMALL_DISK").expect("a small disk"));
    let sink = Component::start("webhook-sink.py", &[]);
    let mut world = World::within(&disk).await;
    world.provider("odd", ODD);
    let bot = world.granted("bot", strict(), "provider = \"odd\"").await;
    let other = world.granted("other", strict(), "provider = \"odd\"").await;
    write(&world.path("hook"), HOOK);
    let (url, secret) = (sink.text("url"), world.path("hook"));
    world.tables(&format!(
        "[pager.channels.hook]\nkind = \"webhook\"\nurl = \"{url}/hook\"\nsecrets = [{{ file = {secret:?} }}]"
    ));
    world.start().await;
    on_its_way(&world, &bot).await;
    // The reserve would save it. Somebody has taken that too.
    std::fs::remove_file(world.path("state/ledger.db.ballast")).unwrap();
    let mut filler = std::fs::File::create(disk.join("filler")).unwrap();
    while filler.write_all(&[7; 4096]).is_ok() {}

    let unsaved = is_unsaved(&world).await;
    until("on-call is told", async || {
        sink_log(&sink).await.iter().any(|call| call["body"].to_string().contains("ledger_unwritable")).then_some(())
    })
    .await;
    // Nothing new is begun that could not be kept, and what lives is served.
    assert_eq!(world.act("other", "refresh").await.status, 409);
    assert_eq!(world.admin().counters_of(&other.id).refresh_calls, 0);
    assert_eq!(token(&world.read("other").await), other.access_token.expose());

    drop(filler);
    std::fs::remove_file(disk.join("filler")).unwrap();
    until("it is saved", async || {
        let got = world.read("bot").await;
        got.json()["unsaved"].is_null().then_some(())
    })
    .await;
    assert_eq!(token(&world.read("bot").await), unsaved);
    let refreshed = until("the log has it", async || world.logged("bot", "refreshed").await.first().cloned()).await;
    assert_eq!(refreshed.generation.0, 2);
    world.stop().await;
    world.start().await;
    assert_eq!(token(&world.read("bot").await), unsaved, "a restart knows it");
    let got = world.act("bot", "refresh").await;
    assert_eq!(got.status, 200, "{}", got.body);
    let counted = world.admin().counters_of(&bot.id);
    assert_eq!((counted.refresh_calls, counted.reuse_seen), (2, 0), "{counted:?}");
    world.stop().await;
}

/// The database goes away in that moment, and the process dies before it is back: what was kept beside it is taken in.
#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn rf06_a_database_that_goes_away_after_the_provider_has_acted_loses_nothing() {
    let data = tempfile::tempdir().unwrap();
    let start = |port: Option<&str>| {
        let mut environment = vec![("RUN_DIR", data.path().to_str().unwrap()), ("DURABLE", "1")];
        environment.extend(port.map(|port| ("PORT", port)));
        Component::start("postgres.sh", &environment)
    };
    let postgres = start(None);
    let port = postgres.number("port").to_string();
    let mut world = World::new().await;
    write(&world.path("postgres-url"), postgres.text("url"));
    world.tables(&format!("postgres = {{ file = {:?} }}", world.path("postgres-url")));
    world.provider("odd", ODD);
    let bot = world.granted("bot", strict(), "provider = \"odd\"").await;
    let running = world.launched().await;
    on_its_way(&world, &bot).await;
    drop(postgres);
    let unsaved = is_unsaved(&world).await;
    until("the reply lies beside the database", async || {
        std::fs::read_dir(world.path("state/ledger.spill")).ok()?.next().map(drop)
    })
    .await;
    running.kill();

    let _postgres = start(Some(&port));
    let running = world.launched().await;
    // At once, as a rule; a start waits for it, and not for ever.
    until("the value that readers have seen is served", async || {
        (token(&world.read("bot").await) == unsaved).then_some(())
    })
    .await;
    let got = ask(&world.path("run/admin.sock"), "POST", "/v1/credentials/bot/refresh").await.unwrap();
    assert_eq!(got.0, 200, "{}", got.1);
    let counted = world.admin().counters_of(&bot.id);
    assert_eq!((counted.refresh_calls, counted.reuse_seen), (2, 0), "{counted:?}");
    assert!(std::fs::read_dir(world.path("state/ledger.spill")).unwrap().next().is_none(), "nothing is left beside it");
    assert_eq!(running.terminate(), Some(0));
}

/// A way to the database that can be held: then it takes nothing and gives nothing, as a network that swallows does.
#[cfg(feature = "postgres")]
async fn way_to(port: i64) -> (u16, tokio::sync::watch::Sender<bool>) {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
        sync::watch,
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = listener.local_addr().unwrap().port();
    let (open, is_open) = watch::channel(true);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let Ok(server) = TcpStream::connect(("127.0.0.1", u16::try_from(port).unwrap())).await else { continue };
            let ((from, to), (back, forth)) = (client.into_split(), server.into_split());
            for (mut from, mut to) in [(from, forth), (back, to)] {
                let mut is_open = is_open.clone();
                tokio::spawn(async move {
                    let mut bytes = vec![0; 64 * 1024];
                    while let Ok(count) = from.read(&mut bytes).await {
                        if count == 0 || is_open.wait_for(|open| *open).await.is_err() {
                            return;
                        }
                        if to.write_all(&bytes[..count]).await.is_err() {
                            return;
                        }
                    }
                });
            }
        }
    });
    (own, open)
}

/// A name in the same shard, of 64.
#[cfg(feature = "postgres")]
fn neighbour_of(name: &str) -> String {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let shard = |name: &str| {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        hasher.finish() % 64
    };
    (0..).map(|number| format!("neighbour-{number}")).find(|other| shard(other) == shard(name)).unwrap()
}

/// A ledger that hangs says neither yes nor no for half a minute and more. Readers do not wait for that.
#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn rf06_fm43_a_ledger_that_hangs_after_the_provider_has_acted_keeps_no_token_from_its_readers() {
    let postgres = Component::start("postgres.sh", &[]);
    let (port, open) = way_to(postgres.number("port")).await;
    let mut world = World::new().await;
    let url = postgres.text("url").replace(&format!(":{}/", postgres.number("port")), &format!(":{port}/"));
    write(&world.path("postgres-url"), &url);
    world.tables(&format!("postgres = {{ file = {:?} }}", world.path("postgres-url")));
    world.provider("odd", ODD);
    let bot = world.granted("bot", strict(), "provider = \"odd\"").await;
    let neighbour = neighbour_of("bot");
    world.granted(&neighbour, strict(), "provider = \"odd\"").await;
    world.start().await;
    world.becomes(&neighbour, "fresh").await;
    on_its_way(&world, &bot).await;
    open.send_replace(false);
    // Whatever is asked of the ledger now is asked before the new token is.
    let ledger = world.daemon().ledger.clone();
    let asked_before = tokio::spawn(async move { ledger.rotation().preflight().await });
    let unsaved = is_unsaved(&world).await;
    assert!(!asked_before.is_finished(), "the ledger has said nothing yet");
    let beside = std::fs::read_dir(world.path("state/ledger.spill")).unwrap().count();
    assert_eq!(beside, 1, "the reply lies beside the database, in case that credd dies now");

    // The others of its shard go on, and what is asked of it waits for its turn: one flight at a time.
    let mut operator = world.operator().await;
    operator.send("POST /v1/credentials/bot/refresh HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n").await;
    let probed = world.act(&neighbour, "probe").await;
    assert_eq!(probed.status, 200, "{}", probed.body);
    assert!(!asked_before.is_finished(), "the ledger has still said nothing");
    assert_eq!(world.admin().counters_of(&bot.id).refresh_calls, 1);
    assert_eq!(token(&world.read("bot").await), unsaved, "it is served meanwhile");

    open.send_replace(true);
    let refreshed = operator.answer().await;
    if refreshed.status != 200 {
        // It had its turn before the ledger was well again.
        assert!(refreshed.body.contains("ledger_unwritable"), "{}", refreshed.body);
        until("it is refreshed", async || (world.act("bot", "refresh").await.status == 200).then_some(())).await;
    }
    let last = world.read("bot").await;
    assert!(last.json()["unsaved"].is_null() && generation(&last) == 3, "{}", last.body);
    let log = world.logged("bot", "refreshed").await;
    let mut generations: Vec<i64> = log.iter().map(|entry| entry.generation.0).collect();
    generations.sort_unstable();
    assert_eq!(generations, [2, 3], "each was written, once");
    world.stop().await;
    world.start().await;
    assert_eq!(token(&world.read("bot").await), token(&last), "a restart knows it");
    let counted = world.admin().counters_of(&bot.id);
    assert_eq!((counted.refresh_calls, counted.reuse_seen, counted.overlaps), (2, 0, 0), "{counted:?}");
    assert!(std::fs::read_dir(world.path("state/ledger.spill")).unwrap().next().is_none(), "nothing is left beside it");
    world.stop().await;
}

/// FM-67: a stop waits for a value that readers have and the ledger has not.
#[tokio::test(flavor = "multi_thread")]
async fn rf06_fm67_a_stop_waits_until_a_new_token_is_saved() {
    let mut world = World::new().await;
    world.provider("odd", ODD);
    let bot = world.granted("bot", strict(), "provider = \"odd\"").await;
    world.start().await;
    on_its_way(&world, &bot).await;
    let thief = hold_the_ledger(&world).await;
    let unsaved = is_unsaved(&world).await;
    let admin = world.path("run/admin.sock");
    let gone = async {
        // The operator is answered until the flights are home; the ledger comes back while the stop goes on.
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        assert!(tokio::net::UnixStream::connect(&admin).await.is_ok(), "the stop waits");
        let_go(thief).await;
    };
    tokio::join!(world.stop(), gone);
    world.start().await;
    assert_eq!(token(&world.read("bot").await), unsaved);
    let log = world.logged("bot", "refreshed").await;
    let told: Vec<(i64, &str)> = log.iter().map(|entry| (entry.generation.0, entry.trigger.as_str())).collect();
    assert_eq!(told, [(2, "operator")], "it was written by the life that brought it, and not by a recovery");
    world.stop().await;
}

//! A token endpoint that answers at the last moment, and one that never does.

use credd::sandbox::{Fault, FaultKind, Place, Seed};

use crate::world::{World, grant, until};

/// A daemon that has just begun to refresh, at an endpoint that waits so long before it acts.
async fn waiting(ms: u64) -> (World, Seed) {
    let mut world = World::new().await;
    world.provider("rotating", "extends = \"rfc6749\"\n[rotation]\nprofile = \"grace\"\ngrace = \"60s\"\n");
    let terms = credd::sandbox::NewGrant { profile: "grace(60)".parse().unwrap(), ..grant(3600.0) };
    let seed = world.granted("bot", terms, "provider = \"rotating\"").await;
    world.start().await;
    let kind = FaultKind::Delay { ms, after_commit: false };
    world.admin().fault(Fault { kind, at: Place::Token, grant: Some(seed.id.clone()), calls: Some(1) });
    let mut operator = world.operator().await;
    operator.send("POST /v1/credentials/bot/refresh HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n").await;
    until("the refresh is out", async || (world.admin().counters_of(&seed.id).in_flight == 1).then_some(())).await;
    (world, seed)
}

/// Those of credd that lead to the provider.
fn connections(world: &World) -> usize {
    const ESTABLISHED: &str = "01";
    let port: u16 = world.sandbox.url.rsplit(':').next().unwrap().parse().unwrap();
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let to_it = |line: &&str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields[2].ends_with(&format!(":{port:04X}")) && fields[3] == ESTABLISHED
    };
    table.lines().skip(1).filter(to_it).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn fm03_an_answer_just_within_the_budget_is_an_answer() {
    let (mut world, seed) = waiting(28_500).await;
    assert_eq!(world.view("bot").await["state"], "refreshing");
    world.reaches("bot", 2).await;
    let counted = world.admin().counters_of(&seed.id);
    assert_eq!((counted.refresh_calls, counted.overlaps), (1, 0), "{counted:?}");
    assert!(world.logged("bot", "refresh_failed").await.is_empty());
    world.stop().await;
}

/// RF-11: the flight that hangs ends with its budget, and the next one begins by the rule; nothing is "in progress" for
/// ever.
#[tokio::test(flavor = "multi_thread")]
async fn fm02_rf11_an_endpoint_that_never_answers_holds_up_no_second_attempt() {
    let (mut world, seed) = waiting(600_000).await;
    let failed = until("the flight ends", async || world.logged("bot", "refresh_failed").await.first().cloned()).await;
    let sent = world.logged("bot", "refresh_sent").await.last().unwrap().at;
    let lasted = failed.at.duration_since(sent);
    assert!(lasted >= jiff::SignedDuration::from_secs(29), "it had its budget: {lasted:#}");
    assert_eq!(failed.outcome, "upstream_unavailable");
    assert!(connections(&world) <= 2, "one flight, one connection, and at most the next one's");
    // Within the grace the old token is presented again at once, and this time it is answered.
    world.reaches("bot", 2).await;
    assert_eq!(world.admin().counters_of(&seed.id).refresh_calls, 2);
    until("the first connection is closed", async || (connections(&world) == 0).then_some(())).await;
    until("no incident stays open", async || world.incidents().await.is_empty().then_some(())).await;
    world.stop().await;
}

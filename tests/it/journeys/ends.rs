//! As the end comes near and nobody renews: yellow, then red, then green again at the first success.

use credd::sandbox::{Fault, FaultKind, Place};

use crate::world::{World, grant, until};

#[tokio::test(flavor = "multi_thread")]
async fn health_turns_yellow_then_red_and_green_again_with_the_first_success() {
    let mut world = World::new().await;
    let seed = world.granted("bot", grant(40.0), "ttl_warn = \"24s\"\nttl_fail = \"14s\"").await;
    world.start().await;
    let refuse = FaultKind::Refuse { status: 400, error: "temporarily_unavailable".into(), description: None };
    let fault = world.admin().fault(Fault { kind: refuse, at: Place::Token, grant: None, calls: None });
    let status = async || {
        let got = world.health("/health").await;
        (got.status, got.json()["status"].as_str().unwrap().to_owned())
    };
    assert_eq!(status().await, (200, "pass".into()));
    let mut seen = vec!["pass".to_owned()];
    until("it is red", async || {
        let (code, word) = status().await;
        assert_eq!(code == 503, word == "fail", "{code} {word}");
        if seen.last() != Some(&word) {
            seen.push(word);
        }
        (code == 503).then_some(())
    })
    .await;
    assert_eq!(seen, ["pass", "warn", "fail"]);
    let left = seed.expires_at.duration_since(crate::world::now()).as_secs();
    eprintln!("red with {left} s left (set to 14)");
    assert!(left <= 14, "not before its time");
    assert_eq!(world.read("bot").await.status, 200, "red for the orchestrator, still served to readers");
    let one = world.health("/health/credentials/bot").await;
    assert_eq!(one.status, 503, "{}", one.body);
    world.admin().clear(fault);
    until("it is green", async || (status().await == (200, "pass".into())).then_some(())).await;
    assert_eq!(world.view("bot").await["state"], "fresh");
    world.stop().await;
}

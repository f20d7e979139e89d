//! A bug that panics ends no shard: it begins anew from the ledger, and readers keep their tokens (FM-69).

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use crate::world::{World, generation, grant, until};

#[tokio::test(flavor = "multi_thread")]
async fn fm69_a_shard_that_panics_begins_anew_and_readers_keep_their_tokens() {
    let (armed, panics) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let mut world = World::new().await;
    let (arm, count) = (armed.clone(), panics.clone());
    // The dice are thrown in the middle of a step, in the shard's own task.
    world.dice = Arc::new(move || {
        if arm.swap(false, Ordering::SeqCst) {
            count.fetch_add(1, Ordering::SeqCst);
            panic!("the dice fell off the table, as this test wants it");
        }
        0.5
    });
    let seed = world.granted("bot", grant(3600.0), "").await;
    world.granted("other", grant(3600.0), "").await;
    world.start().await;
    world.becomes("bot", "fresh").await;
    let before = generation(&world.read("bot").await);

    for round in 1..=3 {
        armed.store(true, Ordering::SeqCst);
        // Whoever asks is left without an answer of the shard; the token is there all the same.
        world.act("bot", "refresh").await;
        assert_eq!(panics.load(Ordering::SeqCst), round);
        assert!(generation(&world.read("bot").await) >= before);
    }
    until("the shard works again", async || {
        world.act("bot", "refresh").await;
        (generation(&world.read("bot").await) > before).then_some(())
    })
    .await;
    world.becomes("bot", "fresh").await;
    world.act("other", "refresh").await;
    world.reaches("other", 2).await;
    assert_eq!(world.health("/livez").await.body, "ok\n");
    assert_eq!(world.admin().counters_of(&seed.id).overlaps, 0, "one refresh at a time");
    world.stop().await;
}

//! Rotation profiles, lives and revocation, as counted by the sandbox.

use std::time::Duration;

use credd::{
    credential::Secret,
    sandbox::{Client, NewGrant, NewKey, Profile},
};
use serde_json::json;

use super::{HandClock, World, read, replied};

#[tokio::test]
async fn none_keeps_the_refresh_token() {
    let world = World::new().await;
    let seed = world.grant("none");
    for _ in 0..3 {
        let (_, next) = world.renewed(&seed.refresh_token).await;
        assert_eq!(next, seed.refresh_token);
    }
    let counters = world.sandbox.admin().counters_of(&seed.id);
    assert_eq!((counters.refresh_calls, counters.commits, counters.access_tokens_minted), (3, 3, 3));
    assert_eq!((counters.refresh_tokens_minted, counters.reuse_seen), (0, 0));
}

#[tokio::test]
async fn grace_forgives_for_its_time_and_no_longer() {
    let world = World::new().await;
    let seed = world.grant("grace(30)");
    let (_, second) = world.renewed(&seed.refresh_token).await;
    world.clock.advance(30);
    let (_, third) = world.renewed(&seed.refresh_token).await;
    world.clock.advance(1);
    world.refused(&seed.refresh_token).await;
    world.renewed(&second).await;
    world.renewed(&third).await;
    let counters = world.sandbox.admin().counters_of(&seed.id);
    assert_eq!((counters.refresh_calls, counters.commits), (5, 4));
    assert_eq!((counters.reuse_seen, counters.reuse_refused), (2, 1));
    let generations: Vec<_> =
        world.sandbox.admin().log_of(&seed.id).iter().map(|call| (call.presented, call.minted)).collect();
    let expected = [(1, Some(2)), (1, Some(3)), (1, None), (2, Some(4)), (3, Some(5))];
    assert_eq!(generations, expected.map(|(presented, minted)| (Some(presented), minted)));
}

#[tokio::test]
async fn until_first_use_forgives_until_the_new_pair_is_used() {
    let world = World::new().await;
    for by_api in [true, false] {
        let seed = world.grant("until_first_use");
        world.renewed(&seed.refresh_token).await;
        world.clock.advance(1_000_000);
        let (access, next) = world.renewed(&seed.refresh_token).await;
        if by_api {
            assert_eq!(world.me(&access).await.status, 200);
        } else {
            world.renewed(&next).await;
        }
        world.refused(&seed.refresh_token).await;
        assert!(world.sandbox.admin().is_live(&next) || !by_api);
    }
}

#[tokio::test]
async fn strict_refuses_reuse_and_nothing_else() {
    let world = World::new().await;
    let seed = world.grant("strict");
    let (access, next) = world.renewed(&seed.refresh_token).await;
    assert!(!world.sandbox.admin().is_live(&seed.refresh_token));
    assert_eq!(world.sandbox.admin().find(&next), Some((seed.id.clone(), 2)));
    world.refused(&seed.refresh_token).await;
    assert_eq!(world.me(&access).await.status, 200);
    world.renewed(&next).await;
    let counters = world.sandbox.admin().counters_of(&seed.id);
    assert_eq!((counters.reuse_seen, counters.reuse_refused, counters.commits), (1, 1, 2));
}

#[tokio::test]
async fn strict_kill_family_ends_the_grant_on_reuse() {
    let world = World::new().await;
    let seed = world.grant("strict_kill_family");
    let (access, next) = world.renewed(&seed.refresh_token).await;
    world.refused(&seed.refresh_token).await;
    world.refused(&next).await;
    let reply = world.me(&access).await;
    assert_eq!(reply.status, 401);
    assert!(reply.header("www-authenticate").unwrap().contains("was revoked"));
    let outcomes: Vec<_> = world.sandbox.admin().log_of(&seed.id).into_iter().map(|call| call.outcome).collect();
    assert_eq!(outcomes, ["rotated", "reuse_killed_family", "revoked", "revoked"]);
}

#[tokio::test]
async fn sporadic_rotates_now_and_then_and_the_old_one_lasts_a_day() {
    let world = World::with(HandClock::new(false), |options| options.seed = Some(7)).await;
    let seed = world.grant("sporadic(0.3)");
    let (mut token, mut changes, mut old) = (seed.refresh_token.clone(), 0, None);
    for _ in 0..60 {
        let (_, next) = world.renewed(&token).await;
        if next != token {
            changes += 1;
            old = Some(std::mem::replace(&mut token, next));
        }
    }
    assert_eq!(world.sandbox.admin().counters_of(&seed.id).refresh_tokens_minted, changes);
    assert!((1..60).contains(&changes), "{changes}");
    let old = old.unwrap();
    let (_, latest) = world.renewed(&old).await;
    assert_eq!(latest, token);
    world.clock.advance(24 * 3600 + 1);
    world.refused(&old).await;
    assert!(Profile::Sporadic(0.3) == "sporadic(0.3)".parse().unwrap());
}

#[tokio::test]
async fn lives_end_and_the_api_says_how() {
    let world = World::new().await;
    let terms = NewGrant {
        access_ttl: Duration::from_secs(60),
        refresh_ttl: Some(Duration::from_secs(600)),
        grant_ttl: Some(Duration::from_secs(1000)),
        expiry_header: true,
        ..NewGrant::default()
    };
    let seed = world.sandbox.admin().grant(terms);
    let good = world.me(&seed.access_token).await;
    assert_eq!(good.header("x-token-expires-at").unwrap(), seed.expires_at.to_string());
    world.clock.advance(59);
    assert_eq!(world.me(&seed.access_token).await.status, 200);
    world.clock.advance(1);
    let expired = world.me(&seed.access_token).await;
    assert_eq!(expired.status, 401);
    let challenge = expired.header("www-authenticate").unwrap();
    assert!(challenge.contains("error=\"invalid_token\"") && challenge.contains("expired"), "{challenge}");
    world.clock.advance(539);
    let (_, next) = world.renewed(&seed.refresh_token).await;
    world.clock.advance(401);
    assert_eq!(world.me(&Secret::new("sbx_at_never")).await.status, 401);
    world.refused(&next).await;
    let log = world.sandbox.admin().log_of(&seed.id);
    assert_eq!(log.last().unwrap().outcome, "expired", "the grant's own end");
}

#[tokio::test]
async fn a_new_access_token_may_end_the_old_one() {
    let world = World::new().await;
    let seed = world.sandbox.admin().grant(NewGrant { single_access: true, ..NewGrant::default() });
    let (access, _) = world.renewed(&seed.refresh_token).await;
    assert_eq!((world.me(&seed.access_token).await.status, world.me(&access).await.status), (401, 200));
}

#[tokio::test]
async fn revocation_takes_what_it_should() {
    let world = World::new().await;
    let admin = world.sandbox.admin();
    let active = async |token: &Secret| {
        read(world.post("/introspect", &[("token", token.expose())]).await).1["active"] == json!(true)
    };
    let by_client = world.grant("strict");
    assert!(active(&by_client.refresh_token).await && active(&by_client.access_token).await);
    assert_eq!(read(world.post("/revoke", &[("token", by_client.refresh_token.expose())]).await).0, 200);
    assert!(!active(&by_client.refresh_token).await && !active(&by_client.access_token).await);
    world.refused(&by_client.refresh_token).await;

    let by_operator = world.grant("strict");
    assert!(admin.revoke(&by_operator.id));
    world.refused(&by_operator.refresh_token).await;
    assert_eq!(world.me(&by_operator.access_token).await.status, 401);
    assert!(!admin.revoke("grant-99"));

    let (id, key) = admin.key(&NewKey { ttl: Some(Duration::from_secs(60)), expiry_header: true });
    assert!(world.me(&key).await.header("x-token-expires-at").is_some());
    world.clock.advance(60);
    assert!(world.me(&key).await.header("www-authenticate").unwrap().contains("expired"));
    let (forever, key) = admin.key(&NewKey::default());
    assert_eq!(world.me(&key).await.status, 200);
    assert!(admin.revoke(&forever) && admin.revoke(&id));
    assert!(world.me(&key).await.header("www-authenticate").unwrap().contains("revoked"));
    assert_eq!(admin.counters_of(&forever).api_refused, 1);
}

#[tokio::test]
async fn a_client_must_be_who_it_says() {
    let world = World::new().await;
    let seed = world.grant("strict");
    let form = [("grant_type", "refresh_token"), ("refresh_token", seed.refresh_token.expose())];
    let twice = [("client_id", "sandbox"), form[0], form[1]];
    assert_eq!(read(world.post("/token", &twice).await).1["error"], "invalid_request", "a parameter twice");
    world.sandbox.admin().client(Client { secret: Some(Secret::new("another")), ..Client::default() });
    let reply = replied(world.post("/token", &form).await);
    assert_eq!(reply.status, 401);
    assert!(reply.header("www-authenticate").unwrap().starts_with("Basic"));
    assert!(world.sandbox.admin().is_live(&seed.refresh_token), "nothing was spent");
}

#[tokio::test]
async fn rf32_the_same_access_token_may_come_again_until_it_ends() {
    let world = World::new().await;
    let terms = NewGrant { same_access: true, access_ttl: Duration::from_secs(60), ..NewGrant::default() };
    let seed = world.sandbox.admin().grant(terms);
    let (access, next) = world.renewed(&seed.refresh_token).await;
    assert_eq!(access, seed.access_token);
    world.clock.advance(60);
    let (access, _) = world.renewed(&next).await;
    assert_ne!(access, seed.access_token);
    let counters = world.sandbox.admin().counters_of(&seed.id);
    assert_eq!((counters.access_tokens_minted, counters.refresh_tokens_minted), (1, 2));
}

#[tokio::test]
async fn rf33_a_new_access_token_may_need_time_to_settle() {
    let world = World::new().await;
    let terms = NewGrant { settling: Duration::from_secs(10), ..NewGrant::default() };
    let seed = world.sandbox.admin().grant(terms);
    world.clock.advance(9);
    assert_eq!(world.me(&seed.access_token).await.status, 401);
    world.clock.advance(1);
    assert_eq!(world.me(&seed.access_token).await.status, 200);
}

#[tokio::test]
async fn rf38_the_oldest_grant_gives_way_to_the_newest() {
    let world = World::new().await;
    let admin = world.sandbox.admin();
    admin.client(Client { max_grants: Some(2), ..Client::default() });
    let seeds = [world.grant("strict"), world.grant("strict"), world.grant("strict")];
    assert_eq!(seeds.each_ref().map(|seed| admin.is_live(&seed.refresh_token)), [false, true, true]);
    world.refused(&seeds[0].refresh_token).await;
}

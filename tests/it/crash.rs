//! kill -9 of the real binary: whatever the moment, no grant is lost, and no refresh is made twice without need.
// Proves: CP-02, CP-03, CP-04, CP-05, CP-11, CP-12, CP-13, CP-14, CP-15, CP-16, CP-17, CP-19, CP-20, CP-21, CP-22, CP-23

mod wire;

use std::{collections::BTreeMap, time::Duration};

use credd::{
    clock::{Clock, SystemClock},
    sandbox::{Fault, FaultKind, NewGrant, Options, Place, Profile, Running, Sandbox, Seed},
};
use serde_json::Value;

use crate::journey::{Books, House, fraction, long, until};

/// A provider, its grants, and a house that watches them.
struct Scene {
    sandbox: Running,
    grants: Vec<(String, Seed)>,
    house: House,
}

impl Scene {
    /// Every other grant lives in a file, the others in the embedded store.
    async fn new(profile: Profile, rotation: &str, grants: usize) -> Self {
        let sandbox = Sandbox::start(Options::default()).await.unwrap();
        let terms = NewGrant { profile, access_ttl: Duration::from_secs(4), ..NewGrant::default() };
        let grants: Vec<_> =
            (0..grants).map(|number| (format!("grant-{number}"), sandbox.admin().grant(terms.clone()))).collect();
        let mut settings = "[stores.files]\nkind = \"file\"\nfolder = \"secrets\"\nwritable = true\n".to_owned();
        for (number, (name, _)) in grants.iter().enumerate() {
            settings += &format!(
                "[credentials.{name}]\nprovider = \"acme\"\nkind = \"refresh_token\"\nstore = \"{}\"\n\
                 [credentials.{name}.upstream]\ntoken_endpoint = \"{}\"\nprobe_url = \"{}\"\n",
                if number % 2 == 0 { "files" } else { "embedded" },
                sandbox.token_endpoint(),
                sandbox.probe_url(),
            );
        }
        let house = House::new(&settings, &[("acme", format!("[rotation]\n{rotation}\n"))]);
        let folder = house.path("secrets");
        std::fs::create_dir(&folder).unwrap();
        let mut embedded = BTreeMap::new();
        for (number, (name, seed)) in grants.iter().enumerate() {
            // Without an access token, so that the first refresh is due at once.
            let mut document: Value = serde_json::from_str(seed.document().expose()).unwrap();
            document.as_object_mut().unwrap().retain(|key, _| key != "access_token" && key != "expires_at");
            if number % 2 == 0 {
                std::fs::write(folder.join(name), document.to_string()).unwrap();
                let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
                std::fs::set_permissions(folder.join(name), mode).unwrap();
            } else {
                embedded.insert(name.clone(), document);
            }
        }
        if !embedded.is_empty() {
            house.import(&embedded);
        }
        Self { sandbox, grants, house }
    }

    /// The last life: every grant still refreshes, the books of both sides agree, and the home stores hold the last word.
    async fn settle(self, environment: &str) -> Tally {
        let Self { sandbox, grants, house } = self;
        let last = house.spawn(&[]);
        until("the daemon answers", || async { house.generations().await.len() == grants.len() }).await;
        // The operator is heard when the start is over, which is a little later than the first read.
        until("the operator is heard", || async { house.is_operated().await }).await;
        for (name, _) in &grants {
            let mut said = (0, Value::Null);
            for _ in 0..3 {
                said = house.operate(name, "refresh").await;
                if said.0 == 200 {
                    break;
                }
            }
            assert_eq!(said.0, 200, "{environment} {name} is lost: {}\n{}", said.1, house.log());
        }
        let homes = || async {
            let generations = house.generations().await;
            grants.iter().step_by(2).all(|(name, _)| {
                let text = std::fs::read_to_string(house.path("secrets").join(name)).unwrap();
                let document: Value = serde_json::from_str(&text).unwrap();
                document["generation"].as_i64() == generations.get(name).copied()
            })
        };
        for (name, _) in &grants {
            house.operate(name, "hold").await;
        }
        until("the home stores hold the last generations", homes).await;
        last.stop().await;

        let books = Books::open(house.ledger().await).await;
        assert_eq!(books.records.len(), grants.len());
        for record in &books.records {
            let material = record.material.as_ref().unwrap();
            let refresh_token = material.refresh_token.as_ref().unwrap();
            assert!(
                sandbox.admin().is_live(refresh_token),
                "{environment} {}: a grant is lost\n{}",
                record.id,
                house.log()
            );
        }
        let sent = books.count(None, "refresh_sent", "").await;
        let refreshed = books.count(None, "refreshed", "").await;
        let lost = books.count(None, "recovered", "no reply is durable").await;
        assert_eq!(books.count(None, "refresh_failed", "").await, 0, "{environment}\n{}", house.log());
        books.close().await;
        let seen = sandbox.admin().counters().total;
        assert_eq!(seen.overlaps, 0, "{environment}: P-2, one refresh of a grant at a time");
        assert_eq!(seen.reuse_refused, 0, "{environment}");
        // P-3: each call either brought a generation, or its reply died with the process.
        assert_eq!(sent, refreshed + lost, "{environment}: every flight has an end");
        assert!(
            seen.refresh_calls <= sent && seen.refresh_calls >= refreshed,
            "{environment}: {seen:?} {sent} {refreshed}"
        );
        assert!(seen.reuse_seen <= lost, "{environment}: {seen:?}, {lost} replies were lost");
        Tally { rotations: seen.refresh_tokens_minted, refreshed, lost, kept: seen.reuse_seen }
    }
}

#[derive(Debug)]
struct Tally {
    /// As the provider counts them.
    rotations: u64,
    /// Generations that we came by.
    refreshed: u64,
    /// Requests whose reply died with the process.
    lost: u64,
    /// Of these, those that the provider had acted upon: the old token was presented once more.
    kept: u64,
}

const PROFILES: [(Profile, &str); 2] = [
    (Profile::Grace(Duration::from_secs(30)), "profile = \"grace\"\ngrace = \"30s\""),
    (Profile::UntilFirstUse, "profile = \"until_first_use\""),
];

#[tokio::test(flavor = "multi_thread")]
async fn fm68_p1_p2_p3_kills_at_random_moments_lose_no_grant() {
    let (rotations, grants) = if long() { (200, 8) } else { (20, 4) };
    let lives = PROFILES.map(|(profile, rotation)| async move {
        let scene = Scene::new(profile, rotation, grants).await;
        let admin = scene.sandbox.admin();
        // The reply takes its time, so that many a kill comes between the provider's deed and our knowing.
        let kind = FaultKind::Delay { ms: 40, after_commit: true };
        admin.fault(Fault { kind, at: Place::Token, grant: None, calls: None });
        let mut kills = 0;
        while admin.counters().total.refresh_tokens_minted < rotations {
            let mut process = scene.house.spawn(&[]);
            SystemClock.sleep(Duration::from_millis(150) + Duration::from_millis(1200).mul_f64(fraction())).await;
            assert_eq!(process.died_of(), None, "{}", scene.house.log());
            process.kill();
            kills += 1;
        }
        let tally = scene.settle(rotation).await;
        eprintln!("{profile}: {kills} kills, {tally:?}");
        assert!(kills > 2 && tally.rotations >= rotations);
    });
    futures_util::future::join_all(lives).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fm68_p1_p2_p3_a_death_at_each_crash_point_loses_no_grant() {
    // Those of a flight, for each profile; the others happen beside flights, where the profile makes no difference.
    let flight =
        ["CP-02", "CP-03", "CP-04", "CP-05", "CP-11", "CP-12", "CP-13", "CP-14", "CP-15", "CP-16", "CP-17", "CP-19"];
    let beside = ["CP-20:3", "CP-21", "CP-22", "CP-23"];
    let deaths = flight.into_iter().flat_map(|point| PROFILES.map(|profile| (point, profile)));
    let deaths = deaths.chain(beside.into_iter().map(|point| (point, PROFILES[0])));
    let count = 2 * flight.len() + beside.len();
    let deaths: Vec<_> = deaths
        .map(|(point, (profile, rotation))| async move {
            let scene = Scene::new(profile, rotation, 1).await;
            let mut process = scene.house.spawn(&[("CREDD_FAILPOINT", point)]);
            if point == "CP-23" {
                until("it answers", || async { !scene.house.generations().await.is_empty() }).await;
                let settings = scene.house.path("credd.toml");
                let text = std::fs::read_to_string(&settings).unwrap();
                std::fs::write(&settings, text + "[policies.other]\nprobe = \"*/7 * * * * *\"\n").unwrap();
                // It dies of this, or has read the file by itself and is dead already.
                let _ = crate::journey::ask(&scene.house.path("run/admin.sock"), "POST", "/v1/reload").await;
            }
            until(point, || {
                let died = process.died_of();
                async move { died == Some(9) }
            })
            .await;
            let tally = scene.settle(point).await;
            // Where the request may be out and the reply is not durable, and nowhere else, the outcome is unknown.
            let unknown = matches!(point, "CP-05" | "CP-11" | "CP-12");
            assert_eq!(
                (tally.lost, tally.kept),
                (u64::from(unknown), u64::from(unknown && point != "CP-05")),
                "{point} {tally:?}"
            );
            tally
        })
        .collect();
    let at_once = if long() { 4 } else { 3 };
    let tallies: Vec<Tally> = futures_util::StreamExt::collect(futures_util::StreamExt::buffer_unordered(
        futures_util::stream::iter(deaths),
        at_once,
    ))
    .await;
    assert_eq!(tallies.len(), count);
    let refreshed: u64 = tallies.iter().map(|tally| tally.refreshed).sum();
    eprintln!("{} deaths, {refreshed} generations", tallies.len());
}

/// The flight that died presented a grant that the operator has replaced: nothing is unknown of the new one.
#[tokio::test(flavor = "multi_thread")]
async fn rr3_a_lost_refresh_of_a_replaced_grant_is_no_doubt_about_the_new_one() {
    let mut scene = Scene::new(Profile::StrictKillFamily, "profile = \"strict\"", 1).await;
    let admin = scene.sandbox.admin();
    let old = scene.grants[0].1.id.clone();
    let kind = FaultKind::Delay { ms: 20_000, after_commit: false };
    admin.fault(Fault { kind, at: Place::Token, grant: Some(old.clone()), calls: None });
    let mut process = scene.house.spawn(&[]);
    until("the refresh is out", || async { admin.counters_of(&old).in_flight == 1 }).await;
    let terms =
        NewGrant { profile: Profile::StrictKillFamily, access_ttl: Duration::from_secs(3600), ..NewGrant::default() };
    let new = admin.grant(terms);
    let home = scene.house.path("secrets/grant-0");
    let mode = std::fs::metadata(&home).unwrap().permissions();
    let beside = scene.house.path("secrets/next");
    std::fs::write(&beside, new.document().expose()).unwrap();
    std::fs::set_permissions(&beside, mode).unwrap();
    std::fs::rename(&beside, &home).unwrap();
    let read = || ask(&scene.house, "grant-0");
    until("the new grant is read", || async { read().await == Some(new.access_token.expose().to_owned()) }).await;
    process.kill();
    scene.grants[0].1 = new;
    let last = scene.house.spawn(&[]);
    until("the new grant is read again", || async { read().await.is_some() }).await;
    assert_eq!(scene.house.operate("grant-0", "refresh").await.0, 200, "{}", scene.house.log());
    last.stop().await;
    let books = Books::open(scene.house.ledger().await).await;
    let held = books.records[0].material.as_ref().unwrap().refresh_token.as_ref().unwrap();
    assert_eq!(admin.find(held), Some((scene.grants[0].1.id.clone(), 2)));
    assert_eq!(books.count(None, "recovered", "its grant was replaced").await, 1);
    assert_eq!(books.count(None, "recovered", "no reply is durable").await, 0);
    books.close().await;
}

async fn ask(house: &House, name: &str) -> Option<String> {
    let (status, body) = crate::journey::ask(&house.socket(), "GET", &format!("/v1/tokens/{name}")).await?;
    (status == 200).then(|| body["access_token"].as_str().unwrap().to_owned())
}

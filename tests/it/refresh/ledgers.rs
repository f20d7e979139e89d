//! The same journey on a ledger in PostgreSQL.

use credd::sandbox::{NewGrant, Options, Profile, Sandbox};

use super::*;
use crate::journey::ask;

#[tokio::test(flavor = "multi_thread")]
async fn a_journey_on_postgresql() {
    let postgres = Component::start("postgres.sh", &[("DURABLE", "1")]);
    let sandbox = Sandbox::start(Options::default()).await.unwrap();
    let terms =
        NewGrant { profile: Profile::StrictKillFamily, access_ttl: Duration::from_secs(6), ..NewGrant::default() };
    let names: Vec<String> = (0..4).map(|number| format!("grant-{number}")).collect();
    let mut settings = String::new();
    let mut seeds = BTreeMap::new();
    let mut ids = Vec::new();
    for name in &names {
        settings += &format!(
            "[credentials.{name}]\nprovider = \"acme\"\nkind = \"refresh_token\"\n\
             [credentials.{name}.upstream]\ntoken_endpoint = \"{}\"\nprobe_url = \"{}\"\n",
            sandbox.token_endpoint(),
            sandbox.probe_url(),
        );
        let seed = sandbox.admin().grant(terms.clone());
        seeds.insert(name.clone(), serde_json::from_str(seed.document().expose()).unwrap());
        ids.push(seed.id);
    }
    let house = House::new("", &[("acme", "[rotation]\nprofile = \"strict\"\n".to_owned())]);
    house.settle("path = \"state/ledger.db\"\npostgres = { file = \"postgres-url\" }", &settings);
    private_file(&house, "postgres-url", postgres.text("url"));
    house.import(&seeds);
    let daemon = house.start().await;
    let readers = Readers::start(&house.socket(), &names);
    let before = house.generations().await;
    let rose = |before: &BTreeMap<String, i64>, by: i64| {
        let (house, before) = (&house, before.clone());
        async move {
            let now = house.generations().await;
            before.iter().all(|(name, generation)| now.get(name).is_some_and(|now| *now >= generation + by))
        }
    };
    let refreshes = if long() { 25 } else { 3 };
    until("refreshes before the restart", || rose(&before, refreshes)).await;
    daemon.stop().await;
    let daemon = house.start().await;
    let after = house.generations().await;
    assert!(before.iter().all(|(name, generation)| after[name] >= generation + refreshes), "nothing was forgotten");
    until("refreshes after the restart", || rose(&after, refreshes)).await;
    let reads = readers.end().await;
    let seen = sandbox.admin().counters().total;
    assert_eq!((seen.overlaps, seen.reuse_seen), (0, 0));

    assert!(sandbox.admin().revoke(&ids[0]));
    until("the revocation is known", || async {
        matches!(ask(&house.socket(), "GET", "/v1/tokens/grant-0").await, Some((424, body)) if body["failure"]["subtype"] == "credential_revoked")
    })
    .await;
    until("the revocation is confirmed, and an incident", || async {
        let incidents = daemon.ledger.incidents().open().await.unwrap();
        incidents.iter().any(|it| it.kind == "credential_revoked" && it.credential.as_str() == "grant-0")
    })
    .await;
    assert_eq!(ask(&house.socket(), "GET", "/v1/tokens/grant-1").await.unwrap().0, 200, "the others go on");
    daemon.ledger.audit().verify().await.unwrap();
    daemon.stop().await;
    eprintln!("measured: postgresql: {} refreshes, {reads} reads, none failed, one restart", seen.refresh_calls);
}

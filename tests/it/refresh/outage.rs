//! A home store that is down costs no reader a token (FM-15): refreshes go on, and are carried home when it is back.

use credd::sandbox::{NewGrant, Options, Profile, Sandbox};

use super::*;
use crate::journey::ask;

#[tokio::test(flavor = "multi_thread")]
async fn fm15_a_vault_that_is_down_costs_no_reader_a_token() {
    let run = tempfile::tempdir().unwrap();
    let run_dir = run.path().to_str().unwrap();
    let vault = Component::start("vault.sh", &[("MODE", "server"), ("RUN_DIR", run_dir)]);
    let port = vault.text("url").rsplit(':').next().unwrap().to_owned();
    let sandbox = Sandbox::start(Options::default()).await.unwrap();
    let terms =
        NewGrant { profile: Profile::StrictKillFamily, access_ttl: Duration::from_secs(10), ..NewGrant::default() };
    let mut settings = vault_settings(&vault);
    let names: Vec<String> = (0..3).map(|number| format!("grant-{number}")).collect();
    for name in &names {
        settings += &format!(
            "[credentials.{name}]\nprovider = \"acme\"\nkind = \"refresh_token\"\nstore = \"vault\"\n\
             [credentials.{name}.upstream]\ntoken_endpoint = \"{}\"\nprobe_url = \"{}\"\n",
            sandbox.token_endpoint(),
            sandbox.probe_url(),
        );
        let seed = sandbox.admin().grant(terms.clone());
        put_in_vault(&vault, name, &serde_json::from_str(seed.document().expose()).unwrap()).await;
    }
    let house = House::new(&settings, &[("acme", "[rotation]\nprofile = \"strict\"\n".to_owned())]);
    private_file(&house, "vault-token", vault.text("token"));
    let daemon = house.start().await;
    let readers = Readers::start(&house.socket(), &names);
    let rose = |before: BTreeMap<String, i64>, by: i64| {
        let house = &house;
        async move {
            let now = house.generations().await;
            before.iter().all(|(name, generation)| now.get(name).is_some_and(|now| *now >= generation + by))
        }
    };
    let flags = |flag: &'static str| {
        let (house, names) = (&house, &names);
        async move {
            let (_, status) = ask(&house.path("run/admin.sock"), "GET", "/v1/status").await.unwrap();
            let credentials = status["credentials"].as_array().unwrap().clone();
            let up = status["daemon"]["stores"]
                .as_array()
                .unwrap()
                .iter()
                .find(|it| it["name"] == "vault")
                .map(|it| it["up"].clone());
            let flagged =
                credentials.iter().filter(|it| it["flags"].as_array().is_some_and(|all| all.contains(&flag.into())));
            (flagged.count() == names.len(), flagged_none(&credentials, flag), up)
        }
    };
    let before = house.generations().await;
    until("a refresh of each", || rose(before.clone(), 1)).await;

    let pid = rustix::process::Pid::from_raw(i32::try_from(vault.number("pid")).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let down = SystemClock.now().boot;
    until("the store is seen to be down", || async {
        matches!(flags("store_stale").await, (true, _, Some(Value::Bool(false))))
    })
    .await;
    let before = house.generations().await;
    until("three refreshes of each without the store", || rose(before.clone(), 3)).await;
    assert!(flags("writeback_pending").await.0, "what cannot be carried is shown");
    drop(vault);
    let vault = Component::start("vault.sh", &[("MODE", "server"), ("RUN_DIR", run_dir), ("PORT", &port)]);
    let back = SystemClock.now().boot;
    until("the store is seen to be back", || async {
        matches!(flags("store_stale").await, (_, true, Some(Value::Bool(true))))
    })
    .await;
    for name in &names {
        assert_eq!(house.operate(name, "hold").await.0, 200);
    }
    until("the outbox is empty", || async { flags("writeback_pending").await.1 }).await;
    let carried = SystemClock.now().boot;
    let reads = readers.end().await;
    daemon.stop().await;
    let books = Books::open(house.ledger().await).await;
    for record in &books.records {
        let refresh_token = record.material.as_ref().unwrap().refresh_token.as_ref().unwrap();
        assert!(sandbox.admin().is_live(refresh_token));
        let theirs = read_in_vault(&vault, record.id.as_str()).await;
        assert_eq!(theirs["refresh_token"], refresh_token.expose(), "{}", record.id);
        assert_eq!(theirs["generation"], record.generation.0);
    }
    books.close().await;
    let seen = sandbox.admin().counters().total;
    assert_eq!((seen.reuse_seen, seen.overlaps), (0, 0));
    eprintln!(
        "measured: vault was down for {:.1} s, {reads} reads, none failed; all was carried home {:.1} s after it was back",
        (back - down).as_secs_f64(),
        (carried - back).as_secs_f64()
    );
}

fn flagged_none(credentials: &[Value], flag: &str) -> bool {
    credentials.iter().all(|it| it["flags"].as_array().is_none_or(|all| !all.contains(&flag.into())))
}

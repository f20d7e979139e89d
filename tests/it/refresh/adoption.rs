//! Whose word counts when somebody changes the home store while credd is ahead of it.

use credd::{
    credential::Secret,
    sandbox::{self, Fault, FaultKind, NewGrant, Options, Place, Profile, Running, Sandbox},
};

use super::*;
use crate::journey::ask;

const STRICT: &str = "[rotation]\nprofile = \"strict\"\n";

fn grant(life: u64) -> NewGrant {
    NewGrant { profile: Profile::StrictKillFamily, access_ttl: Duration::from_secs(life), ..NewGrant::default() }
}

fn credential(sandbox: &Running, store: &str) -> String {
    format!(
        "[credentials.bot]\nprovider = \"acme\"\nkind = \"refresh_token\"\nstore = \"{store}\"\n\
         [credentials.bot.upstream]\ntoken_endpoint = \"{}\"\nprobe_url = \"{}\"\n",
        sandbox.token_endpoint(),
        sandbox.probe_url()
    )
}

/// A different grant in the home store is the operator's word. The reply to the old one comes too late.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_grant_wins_over_a_refresh_of_the_old_one_that_is_out() {
    let sandbox = Sandbox::start(Options::default()).await.unwrap();
    let settings = format!(
        "[stores.files]\nkind = \"file\"\nfolder = \"secrets\"\nwritable = true\n{}",
        credential(&sandbox, "files")
    );
    let house = House::new(&settings, &[("acme", STRICT.to_owned())]);
    std::fs::create_dir(house.path("secrets")).unwrap();
    let (old, new) = (sandbox.admin().grant(grant(3600)), sandbox.admin().grant(grant(3600)));
    private_file(&house, "secrets/bot", old.document().expose());
    let daemon = house.start().await;
    let kind = FaultKind::Delay { ms: 3000, after_commit: true };
    sandbox.admin().fault(Fault { kind, at: Place::Token, grant: Some(old.id.clone()), calls: None });
    let operator = tokio::spawn({
        let admin = house.path("run/admin.sock");
        async move { ask(&admin, "POST", "/v1/credentials/bot/refresh").await }
    });
    until("the refresh is out", || async { sandbox.admin().counters_of(&old.id).in_flight == 1 }).await;
    private_file(&house, "secrets/next", new.document().expose());
    std::fs::rename(house.path("secrets/next"), house.path("secrets/bot")).unwrap();
    until("the new grant is read", || async {
        let read = ask(&house.socket(), "GET", "/v1/tokens/bot").await;
        read.is_some_and(|(_, body)| body["access_token"] == new.access_token.expose())
    })
    .await;
    assert_eq!(sandbox.admin().counters_of(&old.id).in_flight, 1, "the old one is still out");
    operator.await.unwrap();
    assert_eq!(daemon.ledger.rotation().orphans().await.unwrap().len(), 1, "the late reply is kept");
    // The grant that took over can be refreshed at once, and the late reply is in nobody's way.
    assert_eq!(house.operate("bot", "refresh").await.0, 200);
    daemon.stop().await;
    let books = Books::open(house.ledger().await).await;
    let held = books.records[0].material.as_ref().unwrap().refresh_token.as_ref().unwrap();
    assert_eq!(sandbox.admin().find(held), Some((new.id.clone(), 2)));
    assert!(sandbox.admin().is_live(held));
    assert_eq!(books.count(None, "refresh_superseded", "the reply is kept").await, 1);
    assert_eq!(books.orphans().await, 0, "until the grant in its place is proven");
    books.close().await;
}

/// A new client secret beside a refresh token that we have spent since: the client is taken over, the token is not, also
/// not after a restart.
#[tokio::test(flavor = "multi_thread")]
async fn p1_a_changed_client_brings_no_spent_token_back() {
    let Some(endpoint) = with_aws("adoption::p1_a_changed_client_brings_no_spent_token_back") else { return };
    let sandbox = Sandbox::start(Options::default()).await.unwrap();
    // One write in an hour, so that the ledger is ahead.
    let settings = format!(
        "[stores.aws]\nkind = \"aws\"\nendpoint = \"{endpoint}\"\npoll_seconds = 1\ncoalesce_seconds = 3600\n{}",
        credential(&sandbox, "aws")
    );
    let house = House::new(&settings, &[("acme", STRICT.to_owned())]);
    let (aws, seed) = (aws_admin().await, sandbox.admin().grant(grant(3600)));
    aws.create_secret().name("bot").secret_string(seed.document().expose()).send().await.unwrap();
    let daemon = house.start().await;
    assert_eq!(house.operate("bot", "refresh").await.0, 200);
    until("the first write-back", || async { read_in_aws(&aws, "bot").await["generation"] == 2 }).await;
    for _ in 0..2 {
        assert_eq!(house.operate("bot", "refresh").await.0, 200);
    }
    let spent = read_in_aws(&aws, "bot").await["refresh_token"].clone();
    sandbox
        .admin()
        .client(sandbox::Client { secret: Some(Secret::new("another-secret")), ..sandbox::Client::default() });
    let document = json!({ "client_id": "sandbox", "client_secret": "another-secret", "refresh_token": spent });
    aws.put_secret_value().secret_id("bot").secret_string(document.to_string()).send().await.unwrap();
    until("the new client is taken over", || async { house.generations().await["bot"] == 5 }).await;
    assert_eq!(house.operate("bot", "refresh").await.0, 200, "with the new client and our own token");
    daemon.stop().await;

    let daemon = house.start().await;
    assert_eq!(house.operate("bot", "refresh").await.0, 200);
    until("the home store holds the last word", || async { read_in_aws(&aws, "bot").await["generation"] == 7 }).await;
    daemon.stop().await;
    let last = read_in_aws(&aws, "bot").await;
    assert_eq!(last["client_secret"], "another-secret");
    assert!(sandbox.admin().is_live(&Secret::new(last["refresh_token"].as_str().unwrap())));
    assert_eq!(sandbox.admin().counters().total.reuse_seen, 0);
}

/// RR-2: a success that nobody can read may hold the only token of its grant.
#[tokio::test(flavor = "multi_thread")]
async fn rr2_a_reply_that_cannot_be_read_is_kept() {
    let sandbox = Sandbox::start(Options::default()).await.unwrap();
    let settings = credential(&sandbox, "embedded");
    let house = House::new(&settings, &[("acme", "[rotation]\nprofile = \"until_first_use\"\n".to_owned())]);
    let seed = sandbox.admin().grant(NewGrant { profile: Profile::UntilFirstUse, ..grant(3600) });
    house.import(&BTreeMap::from([("bot".to_owned(), serde_json::from_str(seed.document().expose()).unwrap())]));
    let daemon = house.start().await;
    sandbox.admin().fault(Fault { kind: FaultKind::Malformed, at: Place::Token, grant: None, calls: Some(1) });
    house.operate("bot", "refresh").await;
    until("the old token is presented again", || async { house.generations().await["bot"] == 2 }).await;
    daemon.stop().await;
    let books = Books::open(house.ledger().await).await;
    assert_eq!(books.orphans().await, 1);
    let held = books.records[0].material.as_ref().unwrap().refresh_token.as_ref().unwrap();
    assert!(sandbox.admin().is_live(held));
    books.close().await;
}

//! A write to AWS takes two steps, and the process may die between them.

use credd::{
    credential::Secret,
    sandbox::{NewGrant, Options, Profile, Sandbox},
};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn cp18_fm27_a_death_between_the_two_steps_of_a_write_to_aws_makes_one_version() {
    let Some(endpoint) =
        with_aws("staging::cp18_fm27_a_death_between_the_two_steps_of_a_write_to_aws_makes_one_version")
    else {
        return;
    };
    let sandbox = Sandbox::start(Options::default()).await.unwrap();
    let settings = format!(
        "[stores.aws]\nkind = \"aws\"\nendpoint = \"{endpoint}\"\npoll_seconds = 1\n\
         [credentials.bot]\nprovider = \"acme\"\nkind = \"refresh_token\"\nstore = \"aws\"\n\
         [credentials.bot.upstream]\ntoken_endpoint = \"{}\"\nprobe_url = \"{}\"\n",
        sandbox.token_endpoint(),
        sandbox.probe_url()
    );
    let house = House::new(&settings, &[("acme", "[rotation]\nprofile = \"strict\"\n".to_owned())]);
    let terms = NewGrant { profile: Profile::StrictKillFamily, ..NewGrant::default() };
    let (aws, seed) = (aws_admin().await, sandbox.admin().grant(terms));
    aws.create_secret().name("bot").secret_string(seed.document().expose()).send().await.unwrap();

    let mut process = house.spawn(&[("CREDD_FAILPOINT", "CP-18")]);
    until("it answers", || async { house.generations().await.get("bot") == Some(&1) }).await;
    let _ = crate::journey::ask(&house.path("run/admin.sock"), "POST", "/v1/credentials/bot/refresh").await;
    until("it died", || {
        let died = process.died_of();
        async move { died == Some(9) }
    })
    .await;
    assert_eq!(read_in_aws(&aws, "bot").await["generation"], Value::Null, "AWSCURRENT was not moved");

    let last = house.spawn(&[]);
    until("the write is completed", || async { read_in_aws(&aws, "bot").await["generation"] == 2 }).await;
    last.stop().await;
    let versions = aws.list_secret_version_ids().secret_id("bot").include_deprecated(true).send().await.unwrap();
    assert_eq!(versions.versions().len(), 2, "the first, and one of ours");
    let home = read_in_aws(&aws, "bot").await;
    assert!(sandbox.admin().is_live(&Secret::new(home["refresh_token"].as_str().unwrap())));
    let counted = sandbox.admin().counters_of(&seed.id);
    assert_eq!((counted.refresh_calls, counted.reuse_seen), (1, 0), "{counted:?}");
}

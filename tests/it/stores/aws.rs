//! The AWS store against a server of the Secrets Manager API. Credentials and endpoint come from the standard chain, that is
//! from the environment of the whole process: so each test runs itself again in a process of its own.

use std::{process::Command, sync::Arc};

use aws_sdk_secretsmanager::{Client, config::retry::RetryConfig, types::RotationRulesType};
use credd::store::{
    self, SecretStore, StoreError,
    aws::{AwsSecrets, Settings},
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Ahead, Literal, Loud, Operator, at, clock, contract, renewed, version_of};
use crate::components::Component;

/// Starts the server and runs the test of that name again, with the environment that an operator would set.
/// False in that second process: there the test begins.
fn started_elsewhere(test: &str, server: &[(&str, &str)], more: &[(&str, &str)]) -> bool {
    if std::env::var_os("AWS_ENDPOINT_URL").is_some() {
        return false;
    }
    let moto = Component::start("moto.sh", server);
    let key = |field: &str| moto.ready["key"][field].as_str().unwrap();
    let (id, secret) = (key("access_key_id"), key("secret_access_key"));
    let found = [("AWS_ENDPOINT_URL", moto.text("url")), ("AWS_ACCESS_KEY_ID", id), ("AWS_SECRET_ACCESS_KEY", secret)];
    again(test, &[&found[..], more].concat());
    true
}

/// The same with an endpoint where no server of the API is.
fn started_alone(test: &str, endpoint: &str, key: &str) -> bool {
    if std::env::var_os("AWS_ENDPOINT_URL").is_some() {
        return false;
    }
    let none = [("AWS_ENDPOINT_URL", endpoint), ("AWS_ACCESS_KEY_ID", key), ("AWS_SECRET_ACCESS_KEY", key)];
    again(test, &none);
    true
}

fn again(test: &str, environment: &[(&str, &str)]) {
    let again = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("stores::aws::{test}"), "--nocapture"])
        .env("AWS_REGION", "eu-central-1")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    let output = format!("{}{}", String::from_utf8_lossy(&again.stdout), String::from_utf8_lossy(&again.stderr));
    assert!(again.status.success() && output.contains("1 passed"), "{output}");
}

fn open(clock: Arc<Ahead>, coalesce_seconds: u64) -> AwsSecrets {
    AwsSecrets::new(&Settings { coalesce_seconds, ..Settings::default() }, clock)
}

/// The administrator, with the SDK.
struct Admin(Client);

impl Admin {
    async fn new() -> Self {
        let config = aws_config::defaults(aws_config::BehaviorVersion::latest());
        Self(Client::new(&Box::pin(config.retry_config(RetryConfig::disabled()).load()).await))
    }

    /// Version ids with their stages.
    async fn stages(&self, name: &str) -> Vec<(String, Vec<String>)> {
        let found = self.0.describe_secret().secret_id(name).send().await.unwrap();
        found.version_ids_to_stages.unwrap_or_default().into_iter().collect()
    }

    async fn versions(&self, name: &str) -> usize {
        let listed = self.0.list_secret_version_ids().secret_id(name).include_deprecated(true).send().await.unwrap();
        listed.versions().len()
    }

    async fn pending(&self, name: &str, token: &str, document: &Value) {
        let put = self.0.put_secret_value().secret_id(name).client_request_token(token);
        put.secret_string(document.to_string()).version_stages("AWSPENDING").send().await.unwrap();
    }
}

impl Operator for Admin {
    async fn put(&self, name: &str, document: &Value) {
        let text = document.to_string();
        let put = self.0.put_secret_value().secret_id(name).secret_string(&text).send().await;
        if put.is_err() {
            self.0.create_secret().name(name).secret_string(&text).send().await.unwrap();
        }
    }

    /// As the console does: with a recovery window.
    async fn remove(&self, name: &str) {
        self.0.delete_secret().secret_id(name).recovery_window_in_days(7).send().await.unwrap();
    }
}

/// One of many writers wins there because the stage is moved only from the version that was read.
// Proves: FM-28
#[tokio::test]
async fn the_aws_store_keeps_the_contract() {
    if started_elsewhere("the_aws_store_keeps_the_contract", &[], &[]) {
        return;
    }
    let store = open(clock(), 0);
    contract(&store, &Admin::new().await).await;
    assert!(store.check().await.unwrap().description.contains("eu-central-1"));
}

#[tokio::test]
async fn an_arn_and_more_than_one_page_are_found_by_listing() {
    if started_elsewhere("an_arn_and_more_than_one_page_are_found_by_listing", &[], &[]) {
        return;
    }
    let (admin, store) = (Admin::new().await, open(clock(), 0));
    for number in 0..130 {
        admin.put(&format!("app-{number}"), &json!({"key": "k"})).await;
    }
    let arn = admin.0.describe_secret().secret_id("app-129").send().await.unwrap().arn.unwrap();
    let places: Vec<_> = (0..130).map(|number| at(&format!("app-{number}"))).chain([at(&arn)]).collect();
    let found = store.versions(&places).await;
    assert_eq!(found.len(), 131);
    assert_eq!(found[129], Ok(store.load(&at(&arn)).await.unwrap().version));
    assert_eq!(found[129], found[130]);
    assert!(found.iter().all(Result::is_ok));
}

#[tokio::test]
async fn writes_are_spread_in_time_and_the_same_attempt_is_not_held_up() {
    if started_elsewhere("writes_are_spread_in_time_and_the_same_attempt_is_not_held_up", &[], &[]) {
        return;
    }
    let (admin, clock) = (Admin::new().await, clock());
    let store = open(clock.clone(), 600);
    admin.put("app", &json!({"refresh_token": "r0"})).await;
    let mut held = store.load(&at("app")).await.unwrap();
    let attempt = Uuid::now_v7();
    held.version = store.write(&at("app"), &renewed(&held.material, "r1"), &held.version, attempt).await.unwrap();
    assert_eq!(
        store.write(&at("app"), &renewed(&held.material, "r1"), &held.version, attempt).await,
        Ok(held.version.clone())
    );
    let write = async |token: &str| {
        store.write(&at("app"), &renewed(&held.material, token), &held.version, Uuid::now_v7()).await
    };
    let error = write("r2").await.unwrap_err();
    let StoreError::Throttled { retry_after: Some(wait), .. } = &error else { panic!("{error:?}") };
    assert!((590..=600).contains(&wait.as_secs()), "{wait:?}");
    clock.by(300);
    assert!(matches!(write("r3").await, Err(StoreError::Throttled { .. })));
    clock.by(300);
    write("r4").await.unwrap();
    assert_eq!(admin.versions("app").await, 3, "what was held up made no version");
    assert_eq!(version_of(&store, "app").await.unwrap(), store.load(&at("app")).await.unwrap().version);
}

#[tokio::test]
async fn fm26_a_foreign_rotation_is_left_alone_and_our_own_remains_are_not_in_the_way() {
    if started_elsewhere("fm26_a_foreign_rotation_is_left_alone_and_our_own_remains_are_not_in_the_way", &[], &[]) {
        return;
    }
    let (admin, store) = (Admin::new().await, open(clock(), 0));
    admin.put("app", &json!({"refresh_token": "r0"})).await;
    let held = store.load(&at("app")).await.unwrap();
    let foreign = Uuid::now_v7().to_string();
    admin.pending("app", &foreign, &json!({"refresh_token": "theirs"})).await;
    let before = admin.stages("app").await.len();
    let refused =
        store.write(&at("app"), &renewed(&held.material, "r1"), &held.version, Uuid::now_v7()).await.unwrap_err();
    assert!(matches!(&refused, StoreError::ReadOnly { reason, .. } if reason.contains(&foreign)), "{refused}");
    assert_eq!((admin.stages("app").await.len(), admin.versions("app").await), (before, 2), "no write, no stage moved");
    assert_eq!(version_of(&store, "app").await, Ok(held.version.clone()));

    // A crash left an older attempt of ours pending; a newer value overtakes it.
    admin.put("ours", &json!({"refresh_token": "r0"})).await;
    let held = store.load(&at("ours")).await.unwrap();
    let old = Uuid::now_v7().to_string();
    admin.pending("ours", &old, &json!({"refresh_token": "r1", "attempt_id": old})).await;
    let written =
        store.write(&at("ours"), &renewed(&held.material, "r2"), &held.version, Uuid::now_v7()).await.unwrap();
    assert_eq!(version_of(&store, "ours").await, Ok(written));
    let pending = |stages: &[(String, Vec<String>)]| stages.iter().any(|(_, held)| held.contains(&"AWSPENDING".into()));
    assert!(!pending(&admin.stages("ours").await));
}

#[tokio::test]
async fn fm27_a_crash_between_put_and_move_makes_one_version() {
    if started_elsewhere("fm27_a_crash_between_put_and_move_makes_one_version", &[], &[]) {
        return;
    }
    let (admin, store) = (Admin::new().await, open(clock(), 600));
    admin.put("app", &json!({"refresh_token": "r0", "team": "ops"})).await;
    let held = store.load(&at("app")).await.unwrap();
    let attempt = Uuid::now_v7();
    let document = json!({"refresh_token": "r1", "team": "ops", "attempt_id": attempt.to_string()});
    admin.pending("app", &attempt.to_string(), &document).await;
    for _ in 0..2 {
        let written = store.write(&at("app"), &renewed(&held.material, "r1"), &held.version, attempt).await.unwrap();
        assert_eq!(written.0, attempt.to_string());
    }
    assert_eq!(admin.versions("app").await, 2);
    assert_eq!(store.load(&at("app")).await.unwrap().material.refresh_token.unwrap().expose(), "r1");
}

#[tokio::test]
async fn a_secret_that_aws_rotates_is_only_read() {
    if started_elsewhere("a_secret_that_aws_rotates_is_only_read", &[], &[]) {
        return;
    }
    let (admin, store) = (Admin::new().await, open(clock(), 0));
    admin.put("app", &json!({"refresh_token": "r0"})).await;
    assert_eq!(store.read_only(&at("app")).await, None);
    let monthly = RotationRulesType::builder().automatically_after_days(30).build();
    let rotate = admin.0.rotate_secret().secret_id("app").rotation_rules(monthly).rotate_immediately(false);
    rotate.send().await.unwrap();
    assert!(store.read_only(&at("app")).await.is_some());
    let held = version_of(&store, "app").await.unwrap();
    let material = credd::credential::Material::default();
    let refused = store.write(&at("app"), &renewed(&material, "r1"), &held, Uuid::now_v7()).await.unwrap_err();
    assert!(matches!(refused, StoreError::ReadOnly { .. }), "{refused}");
}

#[tokio::test]
async fn a_key_that_aws_does_not_know_is_denied_by_name() {
    let unknown = [("AWS_ACCESS_KEY_ID", "AKIAUNKNOWN")];
    if started_elsewhere("a_key_that_aws_does_not_know_is_denied_by_name", &[("AUTH", "1")], &unknown) {
        return;
    }
    let store = open(clock(), 0);
    for error in [store.load(&at("app")).await.unwrap_err(), store.check().await.unwrap_err()] {
        let StoreError::Denied { reason, .. } = &error else { panic!("{error:?}") };
        assert!(reason.contains("UnrecognizedClientException") && reason.contains("access key"), "{reason}");
    }
    let found = store.versions(&[at("app")]).await;
    assert!(matches!(found[..], [Err(StoreError::Denied { .. })]), "{found:?}");
}

#[tokio::test]
async fn no_credentials_and_no_network_are_told_apart() {
    if started_alone("no_credentials_and_no_network_are_told_apart", "http://127.0.0.1:9", "") {
        return;
    }
    let error = open(clock(), 0).load(&at("app")).await.unwrap_err();
    assert!(matches!(&error, StoreError::Denied { reason, .. } if reason.contains("standard chain")), "{error}");
}

#[tokio::test]
async fn an_aws_that_is_down_prevents_no_start() {
    let test = "an_aws_that_is_down_prevents_no_start";
    if started_alone(test, "http://127.0.0.1:9", "test") {
        return;
    }
    let settings = store::Settings::Aws(Settings::default());
    let store = store::open("aws-main", &settings, Arc::new(Literal), clock()).await.unwrap();
    let error = store.load(&at("app")).await.unwrap_err();
    assert!(matches!(error, StoreError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn no_library_below_us_logs_a_secret() {
    let secret = [("AWS_SECRET_ACCESS_KEY", "canary-key")];
    if started_elsewhere("no_library_below_us_logs_a_secret", &[], &secret) {
        return;
    }
    let loud = Loud::default();
    let _listening = loud.listen();
    let (admin, store) = (Admin::new().await, open(clock(), 0));
    admin.put("app", &json!({"refresh_token": "canary-refresh"})).await;
    let held = store.load(&at("app")).await.unwrap();
    store.versions(&[at("app"), at("none")]).await;
    for number in 0..2 {
        let ours = renewed(&held.material, &format!("canary-{number}"));
        let _ = store.write(&at("app"), &ours, &held.version, Uuid::now_v7()).await;
    }
    admin.put("app", &json!({"refresh_token": ["canary"]})).await;
    let error = store.load(&at("app")).await.unwrap_err();
    assert_eq!(loud.found("canary", &format!("{error} {error:?} {store:?} {held:?}")), None);
}

#[tokio::test]
async fn an_aws_that_hangs_ends_each_question_after_ten_seconds() {
    let deaf = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", deaf.local_addr().unwrap());
    let test = "an_aws_that_hangs_ends_each_question_after_ten_seconds";
    if started_alone(test, &endpoint, "test") {
        return;
    }
    let error = open(clock(), 0).load(&at("app")).await.unwrap_err();
    assert!(matches!(&error, StoreError::Unreachable { reason, .. } if reason.contains("10 s")), "{error}");
}

/// Makes a user who may do that and nothing else, with the same SDK that the server's own helper uses.
const LIMITED: &str = r#"
import boto3, json, os
iam = boto3.client("iam", endpoint_url=os.environ["AWS_ENDPOINT_URL"], region_name="us-east-1")
iam.create_user(UserName="credd")
actions = ["secretsmanager:" + name for name in ("GetSecretValue", "DescribeSecret")]
rules = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": actions, "Resource": "*"}]}
iam.put_user_policy(UserName="credd", PolicyName="read", PolicyDocument=json.dumps(rules))
print(json.dumps(iam.create_access_key(UserName="credd")["AccessKey"], default=str))
"#;

#[tokio::test]
async fn a_role_that_may_not_list_or_write_still_reads_and_sees_changes() {
    let test = "a_role_that_may_not_list_or_write_still_reads_and_sees_changes";
    if std::env::var_os("LIMITED").is_some() {
        return limited().await;
    }
    if started_elsewhere(test, &[("AUTH", "1")], &[]) {
        return;
    }
    let admin = Admin::new().await;
    admin.put("app", &json!({"refresh_token": "r0"})).await;
    let python = crate::components::tools().join("py-moto/bin/python");
    let made = Command::new(python).args(["-c", LIMITED]).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let key: Value = serde_json::from_slice(&made.stdout).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let profile = folder.path().join("config");
    let text = |name: &str| key[name].as_str().unwrap().to_owned();
    let lines = [
        "[profile limited]".into(),
        format!("aws_access_key_id = {}", text("AccessKeyId")),
        format!("aws_secret_access_key = {}", text("SecretAccessKey")),
    ];
    std::fs::write(&profile, lines.join("\n")).unwrap();
    // Once more, as the operator who names a profile instead of keys (an empty key counts as none).
    let config = profile.to_str().unwrap();
    let none = [("AWS_ACCESS_KEY_ID", ""), ("AWS_SECRET_ACCESS_KEY", "")];
    again(test, &[&none[..], &[("LIMITED", "1"), ("AWS_CONFIG_FILE", config)]].concat());
}

async fn limited() {
    let settings = Settings { profile: Some("limited".into()), coalesce_seconds: 0, ..Settings::default() };
    let store = AwsSecrets::new(&settings, clock());
    store.check().await.unwrap();
    let held = store.load(&at("app")).await.unwrap();
    let found = store.versions(&[at("app"), at("none")]).await;
    assert!(
        matches!(&found[..], [Ok(version), Err(StoreError::NotFound { .. })] if *version == held.version),
        "{found:?}"
    );
    let refused =
        store.write(&at("app"), &renewed(&held.material, "r1"), &held.version, Uuid::now_v7()).await.unwrap_err();
    assert!(matches!(&refused, StoreError::Denied { reason, .. } if reason.contains("policy")), "{refused}");
}

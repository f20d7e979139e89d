//! AWS access keys and sessions, against a server of the AWS API that checks signatures and policies.

use std::process::{Command, Output};

use credd::credential::Secret;
use serde_json::{Value, json};

use crate::{
    components::{Component, tools},
    world::{
        World,
        binary::{err, out},
        token, until,
    },
};

/// The AWS API, and its administrator.
struct Aws(Component);

impl Aws {
    fn start(more: &[(&str, &str)]) -> Self {
        Self(Component::start("moto.sh", &[&[("AUTH", "1")], more].concat()))
    }

    fn url(&self) -> &str {
        self.0.text("url")
    }

    /// Runs a script with AWS's own SDK for Python; `environment` says who it is.
    fn python(&self, script: &str, environment: &[(&str, &str)]) -> Output {
        Command::new(tools().join("py-moto/bin/python"))
            .args(["-c", &format!("import boto3, json\n{script}")])
            .env("AWS_ENDPOINT_URL", self.url())
            .env("AWS_DEFAULT_REGION", "us-east-1")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_CONFIG_FILE", "/dev/null")
            .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
            .envs(environment.iter().copied())
            .output()
            .unwrap()
    }

    fn administer(&self, script: &str) -> Value {
        let key = |field: &str| self.0.ready["key"][field].as_str().unwrap().to_owned();
        let (id, secret) = (key("access_key_id"), key("secret_access_key"));
        let done = self.python(script, &[("AWS_ACCESS_KEY_ID", &id), ("AWS_SECRET_ACCESS_KEY", &secret)]);
        assert!(done.status.success(), "{}", err(&done));
        serde_json::from_str(&out(&done)).unwrap_or(Value::Null)
    }

    /// A user with the right to do everything, and its key as a document of a home store.
    fn key(&self, user: &str) -> Value {
        self.administer(&format!(
            "iam = boto3.client('iam')\niam.create_user(UserName='{user}')\n\
             iam.put_user_policy(UserName='{user}', PolicyName='all', PolicyDocument=json.dumps({{'Version': '2012-10-17', \
             'Statement': [{{'Effect': 'Allow', 'Action': '*', 'Resource': '*'}}]}}))\n\
             k = iam.create_access_key(UserName='{user}')['AccessKey']\n\
             print(json.dumps({{'access_key_id': k['AccessKeyId'], 'secret_access_key': k['SecretAccessKey']}}))"
        ))
    }

    /// A role that anybody of the account may take.
    fn role(&self, name: &str) -> String {
        let made = self.administer(&format!(
            "iam = boto3.client('iam')\nanybody = json.dumps({{'Version': '2012-10-17', 'Statement': [{{'Effect': 'Allow', \
             'Principal': {{'AWS': '*'}}, 'Action': 'sts:AssumeRole'}}]}})\n\
             role = iam.create_role(RoleName='{name}', AssumeRolePolicyDocument=anybody)['Role']\n\
             iam.put_role_policy(RoleName='{name}', PolicyName='all', PolicyDocument=json.dumps({{'Version': '2012-10-17', \
             'Statement': [{{'Effect': 'Allow', 'Action': '*', 'Resource': '*'}}]}}))\n\
             print(json.dumps(role['Arn']))"
        ));
        made.as_str().unwrap().to_owned()
    }
}

async fn watch(world: &mut World, aws: &Aws, name: &str, kind: &str, document: &Value, more: &str) {
    world.keep(name, &Secret::new(document.to_string())).await;
    world.tables(&format!(
        "[credentials.{name}]\nprovider = \"aws\"\nkind = \"{kind}\"\nstartup = \"warn\"\n\
         [credentials.{name}.upstream.with]\nendpoint = \"{}\"\n{more}",
        aws.url()
    ));
}

const EVERY_SECOND: &str = "[policies.default]\nprobe = \"*/1 * * * * *\"";

#[tokio::test(flavor = "multi_thread")]
async fn an_access_key_is_proven_by_a_signature_and_its_troubles_are_told_apart() {
    let aws = Aws::start(&[]);
    let key = aws.key("agent");
    let mut world = World::new().await;
    world.tables(EVERY_SECOND);
    let wrong =
        json!({ "access_key_id": aws.key("other")["access_key_id"], "secret_access_key": "canary-of-another-key" });
    watch(&mut world, &aws, "good", "aws_access_key", &key, "region = \"eu-central-1\"").await;
    watch(&mut world, &aws, "wrong", "aws_access_key", &wrong, "").await;
    world.start().await;
    let view = world.becomes("good", "fresh").await;
    assert!(!view["last_success_at"].is_null(), "{view}");
    let got = world.read("good").await;
    let body = got.json();
    assert_eq!(
        (&body["access_key_id"], &body["secret_access_key"]),
        (&key["access_key_id"], &key["secret_access_key"])
    );
    assert!(body["session_token"].is_null() && body.get("access_token").is_none(), "{body}");
    let view = until("the wrong secret is noticed", async || {
        Some(world.view("wrong").await).filter(|view| view["problem"]["cause"] == "wrong_secret")
    })
    .await;
    assert!(!view.to_string().contains("canary"), "{view}");

    aws.administer(&format!(
        "boto3.client('iam').update_access_key(UserName='agent', AccessKeyId={}, Status='Inactive')",
        key["access_key_id"]
    ));
    let view = world.becomes("good", "suspect").await;
    assert_eq!(view["problem"]["cause"], "unknown_key", "{view}");
    assert_eq!(world.read("good").await.status, 200, "served until it is certain");
    world.becomes("good", "revoked").await;
    let view = world.becomes("wrong", "revoked").await;
    assert_eq!(view["problem"]["cause"], "wrong_secret", "a key that signs nothing works nowhere: {view}");
    assert_eq!(world.read("good").await.status, 424);
    until("on-call is told", async || {
        let open = world.incidents().await;
        open.iter().any(|one| one.credential == "good" && one.kind == "credential_revoked").then_some(())
    })
    .await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_nobody_renews_ends_for_good_and_one_of_ours_is_renewed() {
    let aws = Aws::start(&[("STS_LIFE", "6")]);
    let (key, role) = (aws.key("agent"), aws.role("deploy"));
    let handed_over = aws.administer(&format!(
        "k = boto3.client('sts').assume_role(RoleArn='{role}', RoleSessionName='by-hand')['Credentials']\n\
         print(json.dumps({{'AccessKeyId': k['AccessKeyId'], 'SecretAccessKey': k['SecretAccessKey'], \
         'SessionToken': k['SessionToken']}}))"
    ));
    let mut world = World::new().await;
    world.tables(EVERY_SECOND);
    watch(&mut world, &aws, "by-hand", "aws_access_key", &handed_over, "").await;
    watch(&mut world, &aws, "deploy", "aws_session", &key, &format!("role_arn = \"{role}\"")).await;
    world.start().await;
    let body = world.read("deploy").await.json();
    assert!(body["access_key_id"] != key["access_key_id"] && body["session_token"].is_string(), "{}", body["name"]);
    assert!(!body["expires_at"].is_null());
    assert_eq!(world.act("deploy", "refresh").await.status, 200);
    world.reaches("deploy", body["generation"].as_i64().unwrap() + 1).await;
    let renewed = world.read("deploy").await.json();
    assert!(renewed["access_key_id"] != body["access_key_id"], "the same session again");
    let view = world.becomes("by-hand", "revoked").await;
    assert_eq!(view["problem"]["cause"], "expired", "{view}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_of_a_key_gets_a_session_with_a_policy() {
    let aws = Aws::start(&[]);
    let (key, role) = (aws.key("agent"), aws.role("deploy"));
    let mut world = World::new().await;
    world.keep("agent", &Secret::new(key.to_string())).await;
    let uid = rustix::process::geteuid().as_raw();
    world.tables(&format!(
        "[credentials.agent]\nprovider = \"aws\"\nkind = \"aws_access_key\"\n\
         readers = [{{ uid = {uid}, narrow = {{ policy = {{ Version = \"2012-10-17\", Statement = [{{ Effect = \"Allow\", \
         Action = \"s3:GetObject\", Resource = \"*\" }}] }} }} }}]\n\
         [credentials.agent.upstream.with]\nendpoint = \"{}\"\nrole_arn = \"{role}\"\n",
        aws.url()
    ));
    world.start().await;
    let got = until("a session", async || {
        let got = world.read("agent").await;
        (got.status == 200).then(|| got.json())
    })
    .await;
    assert!(got["name"].as_str().unwrap().starts_with("agent.cut-"), "{}", got["name"]);
    assert!(got["session_token"].is_string() && got["access_key_id"] != key["access_key_id"], "{}", got["name"]);
    let text = |member: &str| got[member].as_str().unwrap().to_owned();
    let (id, secret, session) = (text("access_key_id"), text("secret_access_key"), text("session_token"));
    let asked = aws.python(
        "print(boto3.client('sts').get_caller_identity()['Arn'])",
        &[("AWS_ACCESS_KEY_ID", &id), ("AWS_SECRET_ACCESS_KEY", &secret), ("AWS_SESSION_TOKEN", &session)],
    );
    assert!(out(&asked).contains("assumed-role/deploy/credd"), "{} {}", out(&asked), err(&asked));
    assert_eq!(world.view("agent").await["state"], "fresh");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_aws_sdk_takes_what_get_prints() {
    let aws = Aws::start(&[]);
    let (key, role) = (aws.key("agent"), aws.role("deploy"));
    let mut world = World::new().await;
    watch(&mut world, &aws, "agent", "aws_access_key", &key, "").await;
    watch(
        &mut world,
        &aws,
        "deploy",
        "aws_session",
        &key,
        &format!("role_arn = \"{role}\"\nsession_name = \"nightly\""),
    )
    .await;
    let (_, plain) = world.admin().key(&credd::sandbox::NewKey::default());
    world.keep("plain", &plain).await;
    world.credential("plain", "api_key", "");
    let running = world.launched().await;
    until("a session", async || (world.read("deploy").await.status == 200).then_some(())).await;
    let config = world.path("aws.config");
    let command = world.credd(&[]);
    let credd = [command.get_program()].into_iter().chain(command.get_args()).map(|part| part.to_str().unwrap());
    let credd = credd.collect::<Vec<_>>().join(" ");
    for (name, who) in [("agent", "user/agent"), ("deploy", "assumed-role/deploy/nightly")] {
        std::fs::write(&config, format!("[default]\ncredential_process = {credd} get {name} --format aws\n")).unwrap();
        let asked = aws.python(
            "print(json.dumps(boto3.client('sts').get_caller_identity()['Arn']))",
            &[("AWS_CONFIG_FILE", config.to_str().unwrap())],
        );
        assert!(out(&asked).contains(who), "{name}: {} {}", out(&asked), err(&asked));
    }
    let unclear = world.run(&["get", "agent"]);
    assert!(!unclear.status.success() && err(&unclear).contains("--format aws"), "{}", err(&unclear));
    assert_eq!(out(&unclear), "");
    let none = world.run(&["get", "plain", "--format", "aws"]);
    assert!(!none.status.success() && err(&none).contains("no AWS access key"), "{}", err(&none));
    assert_eq!(out(&world.run(&["get", "plain"])).trim(), token(&world.read("plain").await));
    assert_eq!(running.terminate(), Some(0));
}

//! The exec store over a command of the tests, and the example scripts over stand-ins for their vendors' clients.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, sync::Arc};

use credd::store::{
    self, SecretStore, StoreError,
    exec::{Exec, Settings},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

use super::{Literal, Operator, at, clock, contract, renewed, version_of};

fn settings(command: &[&str]) -> Settings {
    Settings {
        command: command.iter().map(|&word| word.into()).collect(),
        directory: None,
        environment: Vec::new(),
        writable: true,
        timeout_seconds: 30,
        poll_seconds: 60,
    }
}

fn shell(script: &str) -> Exec {
    // What follows the script is `$0` and the operation.
    Exec::new("test", &settings(&["/bin/sh", "-c", script, "store"]), Arc::new(credd::clock::SystemClock)).unwrap()
}

struct Held(TempDir);

impl Held {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("held.json"), "{}").unwrap();
        Self(folder)
    }

    fn store(&self, variables: &[&str]) -> Exec {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/stores/exec/store.py");
        let held = self.0.path().join("held.json");
        let mut command = vec!["/usr/bin/env"];
        command.extend(variables);
        command.extend(["python3", script.to_str().unwrap(), held.to_str().unwrap()]);
        Exec::new("test", &settings(&command), Arc::new(credd::clock::SystemClock)).unwrap()
    }

    fn change(&self, change: impl FnOnce(&mut Value)) {
        let path = self.0.path().join("held.json");
        let mut held: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        change(&mut held);
        fs::write(path, held.to_string()).unwrap();
    }
}

impl Operator for Held {
    async fn put(&self, name: &str, document: &Value) {
        self.change(|held| {
            let version = held[name]["version"].as_i64().unwrap_or(0) + 1;
            held[name] = json!({ "version": version, "secret": document });
        });
    }

    async fn remove(&self, name: &str) {
        self.change(|held| drop(held.as_object_mut().unwrap().remove(name)));
    }
}

#[tokio::test]
async fn the_exec_store_keeps_the_contract() {
    let held = Held::new();
    contract(&held.store(&[]), &held).await;
}

#[tokio::test]
async fn a_command_that_knows_only_get_is_asked_by_digest_and_never_written() {
    let held = Held::new();
    let store = held.store(&["OLD=1"]);
    held.put("app", &json!({"refresh_token": "r1"})).await;
    let first = store.load(&at("app")).await.unwrap();
    for _ in 0..2 {
        assert_eq!(version_of(&store, "app").await, Ok(first.version.clone()));
    }
    held.put("app", &json!({"refresh_token": "r2"})).await;
    assert_ne!(version_of(&store, "app").await.unwrap(), first.version);
    assert!(matches!(version_of(&store, "none").await, Err(StoreError::NotFound { .. })));
    store.check().await.unwrap();

    let settings = store::Settings::Exec(Settings { writable: false, ..settings(&["/bin/false"]) });
    let store = store::open("old", &settings, Arc::new(Literal), clock()).await.unwrap();
    assert!(store.read_only(&at("app")).await.is_some());
    let refused = store.write(&at("app"), &first.material, &first.version, Uuid::now_v7()).await;
    assert!(matches!(refused, Err(StoreError::ReadOnly { .. })));
}

#[tokio::test]
async fn refusals_by_code_and_by_exit_mean_the_same() {
    let error = async |script: &str| shell(script).load(&at("app")).await.unwrap_err();
    assert!(matches!(error("exit 66").await, StoreError::NotFound { .. }));
    assert!(matches!(error(r#"echo '{"error":"not_found"}'; exit 1"#).await, StoreError::NotFound { .. }));
    assert!(matches!(error(r#"echo '{"error":"denied"}'"#).await, StoreError::Denied { .. }));
    let throttled = error(r#"echo '{"error":"throttled","retry_after":7}'"#).await;
    assert!(matches!(throttled, StoreError::Throttled { retry_after: Some(wait), .. } if wait.as_secs() == 7));
    let denied = error("echo 'login has ended, run vendor login' >&2; exit 77").await;
    assert!(matches!(&denied, StoreError::Denied { reason, .. } if reason.contains("run vendor login")), "{denied}");
    let said = error(r#"echo 'no luck with sk_live_canary1234567890' >&2; exit 1"#).await;
    assert!(matches!(said, StoreError::Unreachable { .. }) && !said.to_string().contains("canary"), "{said}");
    let page = error("echo '<html>canary</html>'").await;
    assert!(matches!(page, StoreError::Malformed { .. }) && !page.to_string().contains("canary"), "{page}");
    assert!(matches!(error(r#"echo '{"secret":17}'"#).await, StoreError::Malformed { .. }));
    assert!(matches!(error("echo '{}'").await, StoreError::Malformed { .. }));
    assert!(matches!(error("kill -9 $$").await, StoreError::Unreachable { .. }));
    for command in [&[][..], &["relative"][..]] {
        assert!(Exec::new("x", &settings(command), clock()).unwrap_err().to_string().contains("[stores.x]"));
    }
}

#[tokio::test]
async fn the_command_sees_its_question_and_only_the_environment_that_was_named() {
    let look = r#"question=$(cat); test "$1" = get && test -z "$CARGO_MANIFEST_DIR" && test -n "$PATH" &&
        test "$question" = '{"at":"app","operation":"get","version":1}' && echo '{"secret":"key","version":"v"}'"#;
    let loaded = shell(look).load(&at("app")).await.unwrap();
    assert_eq!(loaded.version.0, "v");
    let mut named = settings(&["/bin/sh", "-c", r#"test -n "$CARGO_MANIFEST_DIR" && echo '{"secret":"key"}'"#]);
    named.environment = vec!["CARGO_MANIFEST_DIR".into()];
    Exec::new("test", &named, Arc::new(credd::clock::SystemClock)).unwrap().load(&at("app")).await.unwrap();
}

/// A folder with a program of the vendor's name, and the example script over it.
fn example(vendor: &str, stand_in: &str, arguments: &[&str]) -> (TempDir, Exec) {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join(vendor);
    fs::write(&program, format!("#!/bin/sh\ncd '{}'\n{stand_in}", folder.path().display())).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("deploy/examples/exec-{vendor}"));
    let path = format!("PATH={}:/usr/local/bin:/usr/bin:/bin", folder.path().display());
    let mut command = vec!["/usr/bin/env", &path, script.to_str().unwrap()];
    command.extend(arguments);
    let store = Exec::new(vendor, &settings(&command), Arc::new(credd::clock::SystemClock)).unwrap();
    (folder, store)
}

#[tokio::test]
async fn the_doppler_example_reads_and_writes_what_the_client_prints() {
    // As the client does: `get NAME --json` prints the value as `computed`; `set NAME` takes it from standard input.
    let stand_in = r#"
        echo "$@" >> calls
        [ "$1" = secrets ] && [ "$4 $5" = "--project web" ] || [ "$2" = set ] || exit 9
        if [ "$2" = set ]; then cat > "$3"; echo '{}'; exit 0; fi
        if [ "$3" = SECRET_DENIED ]; then echo 'Doppler Error: Invalid Auth token' >&2; exit 1; fi
        [ -f "$3" ] || { echo "Doppler Error: Could not find requested secrets: $3" >&2; exit 1; }
        python3 -c 'import json,sys; print(json.dumps({sys.argv[1]: {"computed": open(sys.argv[1]).read(), "note": ""}}))' "$3"
    "#;
    let (folder, store) = example("doppler", stand_in, &["--project", "web"]);
    fs::write(folder.path().join("SLACK"), r#"{"refresh_token":"r1","team":"ops"}"#).unwrap();
    let first = store.load(&at("SLACK")).await.unwrap();
    assert_eq!(version_of(&store, "SLACK").await, Ok(first.version.clone()));
    let written =
        store.write(&at("SLACK"), &renewed(&first.material, "canary-r2"), &first.version, Uuid::now_v7()).await;
    let second = store.load(&at("SLACK")).await.unwrap();
    assert_eq!(written, Ok(second.version));
    assert_eq!(second.material.refresh_token.unwrap().expose(), "canary-r2");
    assert_eq!(second.material.other.text("team").as_deref(), Some("ops"));
    let late = store.write(&at("SLACK"), &first.material, &first.version, Uuid::now_v7()).await;
    assert!(matches!(late, Err(StoreError::Conflict { .. })), "{late:?}");
    assert!(matches!(store.load(&at("NONE")).await, Err(StoreError::NotFound { .. })));
    assert!(matches!(store.load(&at("SECRET_DENIED")).await, Err(StoreError::Denied { .. })));
    let calls = fs::read_to_string(folder.path().join("calls")).unwrap();
    assert!(calls.contains("set SLACK") && !calls.contains("canary"), "no value in an argument: {calls}");
}

#[tokio::test]
async fn the_infisical_example_reads_what_the_client_prints() {
    // As the client does: a list; what is not there is listed with a text for its value.
    let stand_in = r#"
        [ "$1 $2 $4" = "secrets get --path" ] && [ "$6 $7" = "--env prod" ] || exit 9
        value='*not found*'
        [ "$3 $5" = "STRIPE /billing" ] && value=sk_test_1
        [ "$3 $5" = "ROOT /" ] && value='{\"refresh_token\":\"r\"}'
        if [ "$3" = DENIED ]; then echo 'error: status-code=403' >&2; exit 1; fi
        printf '[{"secretKey":"%s","secretValue":"%s"}]\n' "$3" "$value"
    "#;
    let (_folder, store) = example("infisical", stand_in, &["--env", "prod"]);
    let stripe = store.load(&at("/billing/STRIPE")).await.unwrap();
    assert_eq!(stripe.material.access_token.unwrap().expose(), "sk_test_1");
    assert_eq!(version_of(&store, "/billing/STRIPE").await, Ok(stripe.version));
    assert_eq!(store.load(&at("ROOT")).await.unwrap().material.refresh_token.unwrap().expose(), "r");
    assert!(matches!(store.load(&at("NONE")).await, Err(StoreError::NotFound { .. })));
    assert!(matches!(store.load(&at("DENIED")).await, Err(StoreError::Denied { .. })));
}

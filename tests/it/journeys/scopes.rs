//! `credd check --online` holds keys to the scopes that they need, before anything breaks.

use credd::sandbox::NewKey;
use serde_json::Value;

use crate::world::{
    World,
    binary::{err, out},
};

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_may_more_or_less_than_they_need_are_named() {
    let mut world = World::new().await;
    let probe = world.sandbox.probe_url();
    let file = format!(
        "title = \"Scoped\"\nextends = \"rfc6749\"\n[probe]\nurl = \"{probe}\"\nscopes_header = \"x-oauth-scopes\"\n"
    );
    world.provider("scoped", &file);
    let (_, key) = world.admin().key(&NewKey::default());
    // The sandbox's keys may read and write.
    let wanted = [
        ("right", "scopes = [\"write\", \"read\"]", "success", "its scopes are those that it needs"),
        ("wide", "scopes = [\"read\"]", "warning", "wider than needed: write"),
        ("short", "scopes = [\"read\", \"admin\"]", "failure", "insufficient_scope: it lacks admin"),
        ("silent", "", "success", "works"),
    ];
    for (name, scopes, ..) in wanted {
        world.keep(name, &key).await;
        world.credential(name, "api_key", &format!("provider = \"scoped\"\n{scopes}"));
    }
    world.keep("untold", &key).await;
    world.credential("untold", "api_key", "scopes = [\"read\"]");
    world.write_settings();
    let output = world.run(&["check", "--online", "--json"]);
    let report: Value = serde_json::from_str(&out(&output)).unwrap_or_else(|_| panic!("{}", err(&output)));
    assert_eq!(output.status.code(), Some(1), "one lacks a scope: {report}");
    let untold = ("untold", "", "success", "its provider does not tell its scopes");
    for (name, _, severity, words) in wanted.into_iter().chain([untold]) {
        let told =
            report["diagnostics"].as_array().unwrap().iter().find(|one| one["path"] == format!("credentials.{name}"));
        let told = told.unwrap_or_else(|| panic!("{name} in {report}"));
        assert_eq!(told["severity"], severity, "{told}");
        assert!(told["message"].as_str().unwrap().contains(words), "{told}");
        assert!(!told.to_string().contains(key.expose()));
    }
    // Read by a person, the names stand there too.
    let shown = out(&world.run(&["check", "--online"]));
    assert!(
        shown.contains("[ warning ] credentials.wide:") && shown.contains("[ failure ] credentials.short:"),
        "{shown}"
    );
}

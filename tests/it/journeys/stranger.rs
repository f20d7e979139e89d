//! A stranger adds a provider that credd does not know, as the README says: one file, no rebuild, no restart.

use std::fs;

use credd::sandbox::NewKey;

use crate::world::{
    World,
    binary::{err, out},
    until, write,
};

/// The README's section, as far as a shell would read it.
fn section() -> &'static str {
    let readme = include_str!("../../../README.md");
    let (_, rest) = readme.split_once("### A provider that credd does not know").unwrap();
    rest.split("\n## ").next().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_provider_is_one_file_and_is_used_at_once() {
    for words in
        ["providers = \"providers\"", "credd providers new acme --in", "credd providers lint", "explain --providers"]
    {
        assert!(section().contains(words), "the README says it otherwise now: {words}");
    }
    let mut world = World::new().await;
    let folder = world.path("providers");
    fs::create_dir(&folder).unwrap();
    world.head("providers = \"providers\"");
    let running = world.launched().await;

    let shown = folder.to_str().unwrap();
    let begun = world.run(&["providers", "new", "acme", "--in", shown]);
    assert!(begun.status.success() && out(&begun).contains("credd providers lint"), "{}", err(&begun));
    let file = folder.join("acme.toml");
    let mut text = fs::read_to_string(&file).unwrap();
    text += &format!(
        "\n[probe]\nurl = \"{}\"\n\n[[failure]]\nsubtype = \"rate_limit_reached\"\ncause = \"kettle\"\n\
         when = {{ status = 418 }}\n\n[[example]]\nsubtype = \"rate_limit_reached\"\nreply = {{ status = 418 }}\n",
        world.sandbox.probe_url()
    );
    write(&file, &text);
    let lint = world.run(&["providers", "lint", shown]);
    assert!(lint.status.success(), "{}", err(&lint));
    let explained = world
        .run_with(&["explain", "--providers", shown, "--provider", "acme", "--json"], "HTTP/1.1 418 Teapot\r\n\r\n");
    assert!(out(&explained).contains("\"kettle\""), "{}{}", out(&explained), err(&explained));

    // It is used by the daemon that runs already.
    let (_, key) = world.admin().key(&NewKey::default());
    let put = world.run_with(&["credential", "put", "kettle"], key.expose());
    assert!(put.status.success(), "{}", err(&put));
    world.tables("[credentials.kettle]\nprovider = \"acme\"\nkind = \"api_key\"\n");
    world.write_settings();
    until("the new provider's credential is proven by its probe", async || {
        let status = world.run(&["status", "--json"]);
        let status: serde_json::Value = serde_json::from_str(&out(&status)).ok()?;
        let view = status["credentials"].as_array()?.iter().find(|view| view["name"] == "kettle")?.clone();
        (view["provider"] == "acme" && view["last_success_at"].is_string()).then_some(())
    })
    .await;
    assert_eq!(running.terminate(), Some(0));
}

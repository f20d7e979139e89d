//! A reply that no rule matches becomes a rule.

use std::fs;

use credd::sandbox::{Fault, FaultKind, Place};

use crate::world::{
    World,
    binary::{err, out},
    grant, until, write,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_that_no_rule_matched_becomes_the_example_of_one() {
    let mut world = World::new().await;
    let bot = world.granted("bot", grant(3600.0), "").await;
    let running = world.launched().await;
    world.becomes("bot", "fresh").await;
    assert!(out(&world.run(&["unclassified", "list"])).contains("matched by a rule"));

    let unheard = FaultKind::Refuse { status: 400, error: "zzz_teapot".into(), description: None };
    let first =
        world.admin().fault(Fault { kind: unheard, at: Place::Token, grant: Some(bot.id.clone()), calls: None });
    world.act("bot", "refresh").await;
    let listed = until("the reply is kept", async || {
        let listed = world.run(&["unclassified", "list"]);
        Some(out(&listed)).filter(|text| text.contains("zzz_teapot"))
    })
    .await;
    assert!(listed.contains("token_endpoint") && listed.contains("400"), "{listed}");
    world.measures("credd_upstream_unclassified_total{provider=\"rfc6749\",status_class=\"4xx\"} 1").await;
    let unknown = world.run(&["unclassified", "export", "nothing"]);
    assert!(unknown.status.code() == Some(1) && err(&unknown).contains("unclassified list"), "{}", err(&unknown));

    // What is exported needs its meaning and a rule, and is then a provider's file that lint is content with.
    let exported = out(&world.run(&["unclassified", "export", "--provider", "rfc6749"]));
    for secret in [bot.access_token.expose(), bot.refresh_token.expose(), "sandbox-secret"] {
        assert!(!exported.contains(secret), "{exported}");
    }
    let folder = world.path("rules");
    fs::create_dir(&folder).unwrap();
    let rule = "extends = \"rfc6749\"\n[[failure]]\nsubtype = \"not_a_credential_failure\"\n\
                when = { body = { \"/error\" = \"zzz_teapot\" } }\n\n";
    let meant = exported.replace("subtype = \"\"", "subtype = \"not_a_credential_failure\"");
    write(&folder.join("acme.toml"), &format!("{rule}{meant}"));
    let lint = world.run(&["providers", "lint", folder.to_str().unwrap()]);
    assert_eq!(lint.status.code(), Some(0), "{}\n{exported}", err(&lint));

    // Dismissed: by its id, all or none, and with a line in the audit log.
    let id = listed.lines().find(|line| line.contains("zzz_teapot")).unwrap().split(' ').next().unwrap();
    for (ids, words) in [(&[id, "0123456789ab"][..], "none was dismissed"), (&["../status"], "no unclassified reply")] {
        let odd = world.run(&[&["unclassified", "rm"], ids].concat());
        assert!(odd.status.code() == Some(1) && err(&odd).contains(words), "{}", err(&odd));
    }
    assert!(out(&world.run(&["unclassified", "list"])).contains("zzz_teapot"), "nothing was taken away");
    assert_eq!(world.run(&["unclassified", "rm"]).status.code(), Some(2), "neither which nor all");
    let gone = world.run(&["unclassified", "rm", id]);
    assert!(gone.status.success() && out(&gone).contains("1 reply dismissed"), "{}", err(&gone));
    assert!(out(&world.run(&["unclassified", "list"])).contains("matched by a rule"));
    let log = out(&world.run(&["audit", "--json"]));
    let line = log.lines().find(|line| line.contains("unclassified_removed")).unwrap_or_else(|| panic!("{log}"));
    let uid = format!("\"actor\":\"uid {}\"", rustix::process::geteuid().as_raw());
    assert!(line.contains(id) && line.contains(&uid), "{line}");
    // All can go at once.
    assert!(world.admin().clear(first));
    let unheard = FaultKind::Refuse { status: 400, error: "zzz_kettle".into(), description: None };
    world.admin().fault(Fault { kind: unheard, at: Place::Token, grant: Some(bot.id.clone()), calls: None });
    world.act("bot", "refresh").await;
    until("another one is kept", async || {
        Some(out(&world.run(&["unclassified", "list"]))).filter(|text| text.contains("zzz_kettle"))
    })
    .await;
    let gone = world.run(&["unclassified", "rm", "--all"]);
    assert!(gone.status.success() && out(&gone).contains("1 reply dismissed"), "{}", err(&gone));
    assert_eq!(running.terminate(), Some(0));
    assert_eq!(world.run(&["unclassified", "list"]).status.code(), Some(69), "nobody answers");
}

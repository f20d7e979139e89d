//! Marked secrets through every door of the real program, at the most talkative log level: they come out nowhere but at the
//! readers' socket.

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt, path::Path};

use credd::{
    credential::Secret,
    sandbox::{Client, Fault, FaultKind, NewGrant, Place},
};
use serde_json::json;

use crate::{
    components::Component,
    world::{World, until, write},
};

/// In every secret that we choose ourselves.
const MARK: &str = "CANARY";

fn all_files(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()) {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            all_files(&entry.path(), found);
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
}

fn fault(kind: FaultKind, at: Place, grant: &str, calls: Option<u32>) -> Fault {
    Fault { kind, at, grant: Some(grant.to_owned()), calls }
}

fn raw(status: u16, body: &str) -> FaultKind {
    let headers = BTreeMap::from([
        ("content-type".to_owned(), "application/json".to_owned()),
        ("x-debug".to_owned(), "CANARY-header-of-a-reply".to_owned()),
        (
            "www-authenticate".to_owned(),
            "Bearer error=\"invalid_token\", error_description=\"CANARY-challenge\"".to_owned(),
        ),
    ]);
    FaultKind::Raw { status, headers, body: body.to_owned() }
}

async fn lives(format: &str) {
    let server = Component::start("smtp.sh", &[("SMTP_PASS", "CANARY-smtp-password")]);
    let sink = Component::start("webhook-sink.py", &[]);
    let bao = Component::start("vault.sh", &[("TLS", "0")]);
    let mut world = World::new().await;
    let admin = world.admin();
    admin.client(Client {
        id: "marked".into(),
        secret: Some(Secret::new("CANARY-client-secret")),
        ..Client::default()
    });
    // What the sandbox mints itself has no mark of ours: these are looked for as they are.
    let mut minted = Vec::new();
    let marked = |minted: &mut Vec<String>| {
        let seed = admin.grant(NewGrant { client: "marked".into(), ..NewGrant::default() });
        minted.extend([seed.refresh_token.expose().to_owned(), seed.access_token.expose().to_owned()]);
        seed
    };

    write(&world.path("smtp-password"), "CANARY-smtp-password");
    write(&world.path("hook-secret"), "whsec_Q0FOQVJZLXdlYmhvb2stc2VjcmV0LUNBTkFSWQ==");
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let made =
        http.post(format!("{}/v1/auth/token/create", bao.text("url"))).header("X-Vault-Token", bao.text("token"));
    let made = made.body(json!({ "policies": ["root"], "ttl": "1h" }).to_string()).send().await.unwrap();
    let made: serde_json::Value = serde_json::from_slice(&made.bytes().await.unwrap()).unwrap();
    let vault_token = made["auth"]["client_token"].as_str().unwrap().to_owned();
    write(&world.path("vault-token"), &vault_token);
    write(&world.path("details"), "CANARY-details-token");
    minted.extend([vault_token, "Q0FOQVJZLXdlYmhvb2st".to_owned()]);
    let kept = http.post(format!("{}/v1/secret/data/key", bao.text("url"))).header("X-Vault-Token", bao.text("token"));
    let kept = kept.body(json!({ "data": { "access_token": "CANARY-in-vault" } }).to_string()).send().await.unwrap();
    assert!(kept.status().is_success());
    fs::create_dir(world.path("secrets")).unwrap();
    let in_file = marked(&mut minted);
    write(&world.path("secrets/in-file"), in_file.document().expose());
    let key = "-----BEGIN PRIVATE KEY-----\nCANARYprivatekeyCANARYprivatekeyCANARY\n-----END PRIVATE KEY-----\n";
    write(&world.path("secrets/with-key"), &json!({ "access_token": "CANARY-static", "private_key": key }).to_string());
    // The command tells what it was started with; it answers with a secret, and complains in one.
    let script = format!(
        "#!/bin/sh\n{{ tr '\\0' '\\n' < /proc/$$/environ; tr '\\0' ' ' < /proc/$$/cmdline; }} >> {:?}\ncat > /dev/null\n\
         echo '{{\"secret\":\"CANARY-from-exec\",\"version\":\"1\"}}'\n",
        world.path("children"),
    );
    write(&world.path("store.sh"), &script);
    fs::set_permissions(world.path("store.sh"), fs::Permissions::from_mode(0o700)).unwrap();

    world.head("startup = \"warn\"");
    let mut tables = format!(
        "[log]\nlevel = \"trace\"\nformat = \"{format}\"\n[policies.default]\nprobe = \"*/2 * * * * *\"\n\
         [stores.files]\nkind = \"file\"\nfolder = {:?}\n[stores.exec]\nkind = \"exec\"\ncommand = [{:?}]\npoll_seconds = 2\n\
         [stores.vault]\nkind = \"vault\"\naddress = \"{}\"\nmount = \"secret\"\npoll_seconds = 2\n\
         auth = {{ method = \"token\", token = {{ file = {:?} }} }}\n\
         [pager.channels.mail]\nkind = \"email\"\nhost = \"localhost\"\nport = {}\nca = {:?}\nfrom = \"a@example.com\"\n\
         to = [\"b@example.com\"]\nusername = \"user\"\npassword = {{ file = {:?} }}\n\
         [pager.channels.hook]\nkind = \"webhook\"\nurl = \"{}/hook\"\nsecrets = [{{ file = {:?} }}]\n",
        world.path("secrets"),
        world.path("store.sh"),
        bao.text("url"),
        world.path("vault-token"),
        server.ready["port"],
        server.text("ca"),
        world.path("smtp-password"),
        sink.text("url"),
        world.path("hook-secret"),
    );
    for (name, store, at, kind) in [
        ("in-file", "files", "in-file", "refresh_token"),
        ("with-key", "files", "with-key", "api_key"),
        ("from-exec", "exec", "anything", "api_key"),
        ("in-vault", "vault", "key#access_token", "api_key"),
        ("put", "embedded", "put", "refresh_token"),
        ("imported", "embedded", "imported", "refresh_token"),
        ("echoed", "embedded", "echoed", "refresh_token"),
        ("malformed", "embedded", "malformed", "refresh_token"),
        ("revoked", "embedded", "revoked", "refresh_token"),
    ] {
        tables += &format!(
            "[credentials.{name}]\nprovider = \"rfc6749\"\nkind = \"{kind}\"\nstore = \"{store}\"\nat = \"{at}\"\n\
             [credentials.{name}.upstream]\ntoken_endpoint = \"{}\"\nprobe_url = \"{}\"\n",
            world.sandbox.token_endpoint(),
            world.sandbox.probe_url(),
        );
    }
    world.tables(&tables);
    world.write_settings();

    let (put, imported, echoed, malformed, revoked) =
        (marked(&mut minted), marked(&mut minted), marked(&mut minted), marked(&mut minted), marked(&mut minted));
    let mut printed = Vec::new();
    let mut keep = |output: std::process::Output| {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        printed.extend([output.stdout, output.stderr].concat());
    };
    keep(world.run_with(&["credential", "put", "put"], put.document().expose()));
    let document =
        |seed: &credd::sandbox::Seed| serde_json::from_str::<serde_json::Value>(seed.document().expose()).unwrap();
    let many = json!({ "imported": document(&imported), "echoed": document(&echoed), "malformed": document(&malformed), "revoked": document(&revoked) });
    keep(world.run_with(&["credential", "import"], &many.to_string()));

    let token = json!({ "error": "invalid_request", "error_description": format!("CANARY-description {}", echoed.refresh_token.expose()) });
    admin.fault(fault(raw(400, &token.to_string()), Place::Token, &echoed.id, None));
    admin.fault(fault(raw(401, "{\"message\":\"CANARY-api-body\"}"), Place::Api, &echoed.id, None));
    admin.fault(fault(raw(200, "{\"access_token\":\"CANARY-cut-off"), Place::Token, &malformed.id, None));
    for (name, value) in [("access_token", "CANARY-new-access"), ("refresh_token", "CANARY-new-refresh")] {
        let member = FaultKind::Member { name: name.into(), value: Some(value.into()) };
        admin.fault(fault(member, Place::Token, &put.id, None));
    }

    let running = world.launched().await;
    let mut texts: Vec<(String, Vec<u8>)> = Vec::new();
    for name in ["in-file", "imported", "in-vault", "from-exec", "with-key"] {
        until(&format!("{name} has a value"), async || (world.view(name).await["generation"] != 0).then_some(())).await;
    }
    for name in ["put", "imported", "echoed", "malformed"] {
        texts.push((format!("refresh of {name}"), world.act(name, "refresh").await.body.into_bytes()));
    }
    world.reaches("put", 2).await;
    admin.revoke(&revoked.id);
    let body = "{\"error\":\"invalid_token\",\"error_description\":\"CANARY-refused-body\"}";
    texts.push(("verdict".into(), world.refused("in-vault", 1, 401, body).await.body.into_bytes()));
    world.becomes("revoked", "revoked").await;
    until("both pages", async || {
        let both = crate::paging::received(&server, &sink).await;
        (both.len() >= 2).then_some(())
    })
    .await;
    for (number, page) in crate::paging::received(&server, &sink).await.into_iter().enumerate() {
        texts.push((format!("page {number}"), page.into_bytes()));
    }
    for name in ["revoked", "echoed", "malformed", "no-such-name"] {
        let read = world.read(name).await;
        if read.status != 200 {
            texts.push((format!("problem of {name}"), read.body.into_bytes()));
        }
    }
    for path in
        ["/metrics", "/health", "/health?verbose", "/health/credentials/echoed", "/readyz?verbose", "/livez?verbose"]
    {
        texts.push((path.into(), world.asked(path).await.body.into_bytes()));
    }
    for name in ["echoed", "malformed", "put"] {
        texts.push((format!("view of {name}"), world.view(name).await.to_string().into_bytes()));
    }
    for command in
        [&["status", "--json"][..], &["status"], &["audit", "export"], &["audit", "--json"], &["credential", "list"]]
    {
        let output = world.run(command);
        texts.push((command.join(" "), [output.stdout, output.stderr].concat()));
    }
    let process = format!("/proc/{}", running.pid());
    for name in ["cmdline", "environ"] {
        texts.push((name.into(), fs::read(format!("{process}/{name}")).unwrap_or_default()));
    }
    let limits = fs::read_to_string(format!("{process}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().filter(|word| *word == "0").count(), 2, "{core}");
    assert_eq!(running.terminate(), Some(0));
    texts.push(("printed".into(), printed));
    texts.push(("settings".into(), fs::read(world.settings_path()).unwrap()));
    let children = fs::read(world.path("children")).unwrap();
    assert!(!children.is_empty(), "the command was never started");
    texts.push(("children".into(), children));
    let mut state = Vec::new();
    for folder in ["state", "run"] {
        all_files(&world.path(folder), &mut state);
    }
    assert!(state.iter().any(|path| path.ends_with("ledger.db")), "{state:?}");
    for path in state {
        texts.push((path.display().to_string(), fs::read(path).unwrap()));
    }
    let log = world.log();
    for spoken in ["echoed", "malformed", "revoked", "TRACE", "hyper_util"] {
        assert!(log.contains(spoken), "the log says nothing of {spoken}, so nothing is proven");
    }
    texts.push(("log".into(), log.into_bytes()));

    minted.push(MARK.to_owned());
    let wanted = minted.iter().map(|text| regex::escape(text)).collect::<Vec<_>>().join("|");
    let wanted = regex::bytes::Regex::new(&wanted).unwrap();
    let mut leaks = Vec::new();
    for (place, text) in &texts {
        for found in wanted.find_iter(text).take(5) {
            let around = &text[found.start().saturating_sub(300)..(found.end() + 80).min(text.len())];
            leaks.push(format!("{place}: {}", String::from_utf8_lossy(around)));
        }
    }
    assert!(leaks.is_empty(), "{} leaks:\n{}", leaks.len(), leaks.join("\n---\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn t22_rf48_no_marked_secret_leaves_the_real_program_in_text() {
    lives("text").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t22_rf48_no_marked_secret_leaves_the_real_program_in_json() {
    lives("json").await;
}

//! Writing home to a Vault where others write as well, or where credd may no longer write.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use axum::{
    Router,
    body::to_bytes,
    extract::{Request, State},
    http::{Method, StatusCode},
    response::IntoResponse,
};
use credd::sandbox::{NewGrant, Options, Profile, Running, Sandbox, Seed};

use super::*;
use crate::journey::ask;

const STRICT: &str = "[rotation]\nprofile = \"strict\"\n";

fn grant(sandbox: &Running) -> Seed {
    let terms =
        NewGrant { profile: Profile::StrictKillFamily, access_ttl: Duration::from_secs(3600), ..NewGrant::default() };
    sandbox.admin().grant(terms)
}

fn document(seed: &Seed) -> Value {
    serde_json::from_str(seed.document().expose()).unwrap()
}

fn credential(sandbox: &Running) -> String {
    format!(
        "[credentials.bot]\nprovider = \"acme\"\nkind = \"refresh_token\"\nstore = \"vault\"\n\
         [credentials.bot.upstream]\ntoken_endpoint = \"{}\"\nprobe_url = \"{}\"\n",
        sandbox.token_endpoint(),
        sandbox.probe_url()
    )
}

/// Stands between credd and Vault. So many times, somebody else writes in the moment before credd's own write arrives.
#[derive(Clone)]
struct Rival {
    vault: Arc<Component>,
    times: Arc<AtomicI64>,
    /// What is written then; where there is none, a note into what lies there.
    document: Arc<std::sync::Mutex<Option<Value>>>,
}

impl Rival {
    async fn start(vault: Arc<Component>) -> (Self, String) {
        let rival = Self { vault, times: Arc::default(), document: Arc::default() };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(pass).with_state(rival.clone());
        tokio::spawn(axum::serve(listener, router).into_future());
        (rival, url)
    }

    async fn write(&self) {
        let chosen = self.document.lock().unwrap().clone();
        let next = match chosen {
            Some(document) => document,
            None => {
                let mut present = read_in_vault(&self.vault, "bot").await;
                present["note"] = format!("{} to come", self.times.load(Ordering::SeqCst)).into();
                present
            }
        };
        put_in_vault(&self.vault, "bot", &next).await;
    }
}

async fn pass(State(rival): State<Rival>, request: Request) -> impl IntoResponse {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    let writes = parts.method != Method::GET && parts.uri.path() == "/v1/secret/data/bot";
    if writes && rival.times.fetch_sub(1, Ordering::SeqCst) > 0 {
        rival.write().await;
    }
    let url = format!("{}{}", rival.vault.text("url"), parts.uri);
    let mut onward = http().request(parts.method, url).body(body);
    for (name, value) in parts.headers.iter().filter(|(name, _)| name.as_str().starts_with("x-vault")) {
        onward = onward.header(name, value);
    }
    let reply = onward.send().await.unwrap();
    let status = StatusCode::from_u16(reply.status().as_u16()).unwrap();
    (status, [("content-type", "application/json")], reply.bytes().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn fm19_five_conflicts_in_a_row_overwrite_nothing_that_is_newer() {
    let vault = Arc::new(Component::start("vault.sh", &[]));
    let (rival, url) = Rival::start(vault.clone()).await;
    let sandbox = Sandbox::start(Options::default()).await.unwrap();
    let (ours, theirs) = (grant(&sandbox), grant(&sandbox));
    put_in_vault(&vault, "bot", &document(&ours)).await;
    let settings = vault_settings(&vault).replace(vault.text("url"), &url) + &credential(&sandbox);
    let house = House::new(&settings, &[("acme", STRICT.to_owned())]);
    private_file(&house, "vault-token", vault.text("token"));
    let daemon = house.start().await;
    let conflicts = || daemon.metrics.credd_store_errors_total.with_label_values(&["vault", "conflict"]).get();

    // Whoever writes there leaves our grant as it is: ours is written all the same, after the fifth.
    rival.times.store(5, Ordering::SeqCst);
    assert_eq!(house.operate("bot", "refresh").await.0, 200);
    until("our value stands at home", || async { read_in_vault(&vault, "bot").await["generation"] == 2 }).await;
    assert!(conflicts() >= 5, "{} conflicts", conflicts());
    let home = read_in_vault(&vault, "bot").await;
    assert!(sandbox.admin().is_live(&credd::credential::Secret::new(home["refresh_token"].as_str().unwrap())));

    // An operator has authorised anew: that grant wins, five times over, and is never written over.
    let before = conflicts();
    *rival.document.lock().unwrap() = Some(document(&theirs));
    rival.times.store(5, Ordering::SeqCst);
    assert_eq!(house.operate("bot", "refresh").await.0, 200);
    until("the operator's grant is served", || async {
        let read = ask(&house.socket(), "GET", "/v1/tokens/bot").await;
        read.is_some_and(|(_, body)| body["access_token"] == theirs.access_token.expose())
    })
    .await;
    assert!(conflicts() > before);
    assert_eq!(read_in_vault(&vault, "bot").await["refresh_token"], theirs.refresh_token.expose());
    rival.times.store(0, Ordering::SeqCst);
    // And it is the one that is refreshed and carried home from now on.
    assert_eq!(house.operate("bot", "refresh").await.0, 200);
    until("it goes home", || async {
        let home = read_in_vault(&vault, "bot").await;
        let token = credd::credential::Secret::new(home["refresh_token"].as_str().unwrap());
        sandbox.admin().find(&token) == Some((theirs.id.clone(), 2))
    })
    .await;
    daemon.stop().await;
}

/// The right to write is asked for before each refresh that makes a new refresh token, not when it is too late.
#[tokio::test(flavor = "multi_thread")]
async fn rf08_a_right_to_write_that_was_taken_away_is_noticed_before_the_grant_is_spent() {
    let vault = Component::start("vault.sh", &[]);
    let may = async |what: &str| {
        let rules = format!("path \"secret/*\" {{ capabilities = [{what}] }}");
        vault_admin(&vault, reqwest::Method::PUT, "sys/policies/acl/app", json!({ "policy": rules })).await;
    };
    may("\"read\", \"list\", \"create\", \"update\"").await;
    let wanted = json!({ "policies": ["app"], "ttl": "1h" });
    let made = vault_admin(&vault, reqwest::Method::POST, "auth/token/create", wanted).await;
    let sandbox = Sandbox::start(Options::default()).await.unwrap();
    let seed = grant(&sandbox);
    put_in_vault(&vault, "bot", &document(&seed)).await;
    let house = House::new(&(vault_settings(&vault) + &credential(&sandbox)), &[("acme", STRICT.to_owned())]);
    private_file(&house, "vault-token", made["auth"]["client_token"].as_str().unwrap());
    let daemon = house.start().await;
    assert_eq!(house.operate("bot", "refresh").await.0, 200);
    until("it goes home", || async { read_in_vault(&vault, "bot").await["generation"] == 2 }).await;

    may("\"read\", \"list\"").await;
    assert_eq!(house.operate("bot", "refresh").await.0, 409);
    assert_eq!(sandbox.admin().counters_of(&seed.id).refresh_calls, 1, "nothing was sent");
    let (_, view) = ask(&house.path("run/admin.sock"), "GET", "/v1/credentials/bot").await.unwrap();
    assert_eq!((&view["state"], &view["problem"]["cause"]), (&json!("degraded"), &json!("writeback_denied")), "{view}");
    assert_eq!(ask(&house.socket(), "GET", "/v1/tokens/bot").await.unwrap().0, 200, "what lives is served");

    may("\"read\", \"list\", \"create\", \"update\"").await;
    until("it is refreshed again", || async { house.operate("bot", "refresh").await.0 == 200 }).await;
    assert_eq!(sandbox.admin().counters_of(&seed.id).refresh_calls, 2);
    until("it goes home", || async { read_in_vault(&vault, "bot").await["generation"] == 3 }).await;
    daemon.stop().await;
}

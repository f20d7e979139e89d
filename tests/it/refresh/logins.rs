//! Our own login to a home store is watched like a credential.

use super::*;
use crate::journey::ask;

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_login_that_nothing_renews_is_told_while_the_store_still_answers() {
    let vault = Component::start("vault.sh", &[]);
    let rules = json!({ "policy": "path \"secret/*\" { capabilities = [\"read\", \"list\"] }" });
    vault_admin(&vault, reqwest::Method::PUT, "sys/policies/acl/app", rules).await;
    let login = async |ttl: &str, renewable: bool| {
        let wanted = json!({ "policies": ["app"], "ttl": ttl, "renewable": renewable });
        let made = vault_admin(&vault, reqwest::Method::POST, "auth/token/create", wanted).await;
        made["auth"]["client_token"].as_str().unwrap().to_owned()
    };
    put_in_vault(&vault, "bot", &json!({ "api_key": "k" })).await;
    let settings =
        vault_settings(&vault) + "[credentials.bot]\nprovider = \"acme\"\nkind = \"api_key\"\nstore = \"vault\"\n";
    let house = House::new(&settings, &[("acme", String::new())]);
    private_file(&house, "vault-token", &login("60s", false).await);
    let daemon = house.start().await;
    let seen = || async {
        let about = ask(&house.path("run/admin.sock"), "GET", "/v1/status").await.unwrap().1;
        let stores = about["daemon"]["stores"].as_array().or(about["stores"].as_array()).unwrap().clone();
        stores.into_iter().find(|store| store["name"] == "vault").unwrap()
    };
    until("its end is known", || async { seen().await["auth_expires_at"].is_string() }).await;
    assert_eq!(seen().await["login_trouble"], Value::Null);

    let told = || async { daemon.ledger.incidents().open().await.unwrap() };
    until("on-call is told", || async { told().await.iter().any(|it| it.kind == "store_login_failing") }).await;
    let open = told().await;
    assert_eq!((open.len(), open[0].credential.as_str()), (1, "store vault"), "{open:?}");
    assert!(open[0].body.contains("not renewable"), "{}", open[0].body);
    let store = seen().await;
    assert_eq!(store["up"], true, "the store answers all the while: {store}");
    let end: jiff::Timestamp = store["auth_expires_at"].as_str().unwrap().parse().unwrap();
    assert!(end > SystemClock.now().wall, "there is time to act");
    let gauge = daemon.metrics.credd_store_auth_expiration_timestamp_seconds.with_label_values(&["vault"]).get();
    assert!((gauge - end.as_millisecond() as f64 / 1e3).abs() < 2.0, "{gauge} {end}");

    private_file(&house, "vault-token", &login("1h", true).await);
    until("the page is resolved", || async { told().await.is_empty() }).await;
    assert_eq!(seen().await["login_trouble"], Value::Null);
    assert_eq!(ask(&house.socket(), "GET", "/v1/tokens/bot").await.unwrap().0, 200);
    daemon.stop().await;
}

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;

use super::*;
use crate::{
    catalogue::{Assertion, ClientAuthentication, Probe, Request, Token},
    credential::Rotation,
    fetch::Call,
};

fn provider() -> Provider {
    Provider {
        name: "acme".into(),
        title: "Acme".into(),
        docs: None,
        token: Token { endpoint: Some("https://{tenant}.example.com/token".into()), ..Token::default() },
        consent: Default::default(),
        rate_limit: Default::default(),
        unattended: Default::default(),
        probes: vec![],
        revocation_endpoint: None,
        introspection_endpoint: None,
        narrow: None,
        rotation: Rotation::Strict,
        grace: None,
        reuse_kills_access_token: true,
        refresh_idle: None,
        refresh_absolute: None,
        default_lifetime: None,
        max_lead: None,
        rules: Default::default(),
    }
}

fn subject(kind: Kind, document: &str, provider: Provider) -> Subject {
    let settings = Settings { with: BTreeMap::from([("tenant".into(), "eu".into())]), ..Settings::default() };
    Subject {
        provider: Arc::new(provider),
        kind,
        material: Arc::new(Material::parse(document.as_bytes()).unwrap()),
        settings: Arc::new(settings),
    }
}

#[expect(clippy::disallowed_methods, reason = "compared with what should be sent")]
fn header<'a>(call: &'a Call, name: &str) -> Option<&'a str> {
    call.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.expose())
}

#[expect(clippy::disallowed_methods, reason = "compared with what should be sent")]
fn body(call: &Call) -> &str {
    call.body.as_ref().unwrap().expose()
}

const NOW: Timestamp = Timestamp::UNIX_EPOCH;
const GRANT: &str = r#"{"refresh_token":"r/1","client_id":"i:d","client_secret":"s e&c:"}"#;

#[test]
fn the_client_shows_itself_as_the_provider_wants() {
    let ask = |client_authentication, document| {
        let mut provider = provider();
        provider.token.client_authentication = client_authentication;
        grant::call(&subject(Kind::RefreshToken, document, provider), NOW)
    };
    let basic = ask(ClientAuthentication::Basic, GRANT).unwrap();
    assert_eq!(basic.url.as_str(), "https://eu.example.com/token");
    assert_eq!(body(&basic), "grant_type=refresh_token&refresh_token=r%2F1");
    // RFC 6749 §2.3.1: base64 of `i%3Ad:s+e%26c%3A`.
    assert_eq!(header(&basic, "authorization"), Some("Basic aSUzQWQ6cytlJTI2YyUzQQ=="));
    let post = ask(ClientAuthentication::Post, GRANT).unwrap();
    assert_eq!(body(&post), "grant_type=refresh_token&refresh_token=r%2F1&client_id=i%3Ad&client_secret=s+e%26c%3A");
    assert_eq!(header(&post, "authorization"), None);
    let public = "grant_type=refresh_token&refresh_token=r%2F1&client_id=i%3Ad";
    assert_eq!(body(&ask(ClientAuthentication::None, GRANT).unwrap()), public);
    let no_secret = r#"{"refresh_token":"r/1","client_id":"i:d"}"#;
    assert_eq!(body(&ask(ClientAuthentication::Basic, no_secret).unwrap()), public);
    let nobody = ask(ClientAuthentication::Post, r#"{"refresh_token":"r"}"#).unwrap_err();
    assert_eq!(nobody.to_string(), "the secret has no client_id (nor have the credential's settings)");
}

#[test]
fn a_request_departs_from_the_rfc_where_the_provider_says() {
    let mut provider = provider();
    provider.token.scope_separator = ",".into();
    provider.token.request = Request {
        json: true,
        headers: BTreeMap::from([("accept".into(), "text/x-{tenant}".into())]),
        parameters: BTreeMap::from([("grant_type".into(), "renew".into()), ("account".into(), "{account}".into())]),
    };
    let mut subject = subject(Kind::ClientCredentials, r#"{"client_secret":"s","account":7}"#, provider);
    let settings = Arc::make_mut(&mut subject.settings);
    settings.client_id = Some("c".into());
    settings.scopes = vec!["a".into(), "b".into()];
    settings.resource = Some("https://api.example.com".into());
    let call = grant::call(&subject, NOW).unwrap();
    let sent: BTreeMap<String, String> = serde_json::from_str(body(&call)).unwrap();
    let expected = [
        ("account", "7"),
        ("client_id", "c"),
        ("client_secret", "s"),
        ("grant_type", "renew"),
        ("resource", "https://api.example.com"),
        ("scope", "a,b"),
    ];
    assert_eq!(sent, expected.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect());
    assert_eq!(header(&call, "accept"), Some("text/x-eu"));
    assert_eq!(header(&call, "content-type"), Some("application/json"));
}

#[test]
fn what_cannot_be_asked_says_what_is_missing() {
    let table = [
        (Kind::RefreshToken, r#"{"access_token":"a","client_id":"c"}"#, "the secret has no refresh_token"),
        (Kind::ClientCredentials, r#"{"access_token":"a","client_id":"c"}"#, "the secret has no client_secret"),
        (Kind::JwtBearer, r#"{"private_key":"k"}"#, "provider acme does not describe jwt_bearer credentials"),
        (Kind::ApiKey, r#"{"api_key":"k"}"#, "provider acme does not describe api_key credentials"),
    ];
    for (kind, document, words) in table {
        let error = grant::call(&subject(kind, document, provider()), NOW).unwrap_err().to_string();
        assert!(error.starts_with(words), "{error}");
    }
    let mut lost = subject(Kind::RefreshToken, GRANT, provider());
    Arc::make_mut(&mut lost.settings).with.clear();
    assert_eq!(grant::call(&lost, NOW).unwrap_err(), Unmakable::Placeholder("tenant".into()));
    let mut nowhere = provider();
    nowhere.token.endpoint = None;
    let error = grant::call(&subject(Kind::RefreshToken, GRANT, nowhere), NOW).unwrap_err();
    assert!(matches!(error, Unmakable::Undescribed { what: "token_endpoint", .. }));
}

fn signing(algorithm: &str, bearer: bool) -> Provider {
    let assertion = Assertion {
        algorithm: algorithm.into(),
        audience: None,
        issuer: Some("{client_email}".into()),
        subject: Some("{subject}".into()),
        lifetime: Duration::from_secs(600),
        bearer,
    };
    let mut provider = provider();
    provider.token.endpoint = None;
    provider.token.assertion = Some(assertion);
    provider
}

fn account(pem: &str) -> String {
    serde_json::json!({"type": "service_account", "client_email": "bot@p.example", "private_key_id": "k1",
        "private_key": pem, "token_uri": "https://oauth.example.com/token", "client_id": "1089"})
    .to_string()
}

#[test]
fn a_service_accounts_own_key_file_is_enough() {
    let pem = ed25519_pem();
    let mut subject = subject(Kind::JwtBearer, &account(&pem), signing("EdDSA", false));
    Arc::make_mut(&mut subject.settings).scopes = vec!["read".into()];
    let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let call = grant::call(&subject, now).unwrap();
    assert_eq!(call.url.as_str(), "https://oauth.example.com/token");
    let form: BTreeMap<String, String> = url::form_urlencoded::parse(body(&call).as_bytes()).into_owned().collect();
    assert_eq!(form["grant_type"], "urn:ietf:params:oauth:grant-type:jwt-bearer");
    assert_eq!(form.keys().collect::<Vec<_>>(), ["assertion", "grant_type", "scope"]);
    let part = |index| {
        use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
        let part = form["assertion"].split('.').nth(index).unwrap();
        serde_json::from_slice::<serde_json::Value>(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    };
    assert_eq!(part(0), serde_json::json!({"typ": "JWT", "alg": "EdDSA", "kid": "k1"}));
    let claims = part(1);
    assert_eq!(claims["iss"], "bot@p.example");
    assert_eq!(claims["aud"], "https://oauth.example.com/token");
    assert_eq!(claims["iat"], now.as_second() - 30);
    assert_eq!(claims["exp"], now.as_second() + 570);
    assert_eq!(claims["scope"], "read");
    assert!(claims.get("sub").is_none(), "nobody named a subject");

    Arc::make_mut(&mut subject.settings).with.insert("subject".into(), "ann@p.example".into());
    let named = grant::call(&subject, now).unwrap();
    assert_ne!(body(&named), body(&call));
}

#[test]
fn an_assertion_in_the_header_leaves_the_body_alone() {
    let call = grant::call(&subject(Kind::JwtBearer, &account(&ed25519_pem()), signing("EdDSA", true)), NOW).unwrap();
    assert!(header(&call, "authorization").unwrap().starts_with("Bearer ey"));
    assert_eq!(body(&call), "");
}

#[test]
fn a_key_that_does_not_sign_is_not_quoted() {
    let pem = ed25519_pem();
    let escaped = pem.replace('\n', "\\n");
    assert!(grant::call(&subject(Kind::JwtBearer, &account(&escaped), signing("EdDSA", false)), NOW).is_ok());
    for (algorithm, key) in [("RS256", pem.as_str()), ("EdDSA", "canary"), ("HS256", "canary"), ("XX", "canary")] {
        let error = grant::call(&subject(Kind::JwtBearer, &account(key), signing(algorithm, false)), NOW).unwrap_err();
        assert!(matches!(error, Unmakable::Key(_)), "{error:?}");
        assert!(!error.to_string().contains("canary") && !error.to_string().contains("BEGIN"), "{error}");
    }
}

#[test]
fn a_probe_carries_the_token_once_and_where_the_provider_wants() {
    let ask = |probe: Option<Probe>, url: Option<&str>| {
        let mut provider = provider();
        provider.probes = probe.into_iter().collect();
        let mut subject = subject(Kind::ApiKey, "key-1", provider);
        Arc::make_mut(&mut subject.settings).probe_url = url.map(|url| url.parse().unwrap());
        probe::call(&subject, NOW)
    };
    let described = |url: &str, header: Option<(&str, &str)>, body: Option<&str>| Probe {
        method: if body.is_some() { "POST" } else { "GET" }.into(),
        url: url.into(),
        headers: header.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
        body: body.map(Into::into),
        ..Probe::default()
    };
    let plain = ask(Some(described("https://{tenant}.example.com/me", None, None)), None).unwrap();
    assert_eq!((plain.method.as_str(), plain.url.as_str()), ("GET", "https://eu.example.com/me"));
    assert_eq!(header(&plain, "authorization"), Some("Bearer key-1"));
    let named =
        ask(Some(described("https://api.example.com/me", Some(("x-api-key", "{access_token}")), None)), None).unwrap();
    assert_eq!((header(&named, "x-api-key"), header(&named, "authorization")), (Some("key-1"), None));
    let in_url = ask(Some(described("https://api.example.com/bot{access_token}/me", None, None)), None).unwrap();
    assert_eq!((in_url.url.path(), header(&in_url, "authorization")), ("/botkey-1/me", None));
    let graph = described("https://api.example.com/graphql", None, Some("{\"query\":\"{ viewer { login } }\"}"));
    let graph = ask(Some(graph), None).unwrap();
    assert_eq!((graph.method.as_str(), body(&graph)), ("POST", "{\"query\":\"{ viewer { login } }\"}"));
    assert_eq!(header(&graph, "content-type"), Some("application/json"));
    let basic = Probe {
        basic: Some(("api".into(), "{access_token}".into())),
        ..described("https://api.example.com/me", None, None)
    };
    // RFC 7617: base64 of `api:key-1`.
    assert_eq!(header(&ask(Some(basic), None).unwrap(), "authorization"), Some("Basic YXBpOmtleS0x"));
    let other = Probe { kinds: vec![Kind::RefreshToken], ..described("https://api.example.com/me", None, None) };
    assert!(matches!(ask(Some(other), None).unwrap_err(), Unmakable::Undescribed { what: "probe_url", .. }));
    let own = ask(None, Some("https://other.example.com/ping")).unwrap();
    assert_eq!(header(&own, "authorization"), Some("Bearer key-1"));
    assert!(matches!(ask(None, None).unwrap_err(), Unmakable::Undescribed { what: "probe_url", .. }));
    assert!(!format!("{in_url:?}").contains("key-1"));
}

/// A new key each time, as PKCS#8 in PEM.
fn ed25519_pem() -> String {
    use aws_lc_rs::signature::Ed25519KeyPair;
    use base64::{Engine, engine::general_purpose::STANDARD};
    let document = Ed25519KeyPair::generate_pkcs8v1(&aws_lc_rs::rand::SystemRandom::new()).unwrap();
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(document.as_ref()))
}

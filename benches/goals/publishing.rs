//! Credentials as the shards would publish them, without shards.

use std::{sync::Arc, time::Duration};

use credd::{
    clock::{Clock, SystemClock},
    credential::{CredentialId, ExpirySource, Generation, Kind, Secret, Value},
    lifecycle::State,
    publish::{Criticality, Published, Token, View},
};

/// Bytes of an access token, as a JWT of a large provider has them.
pub const TOKEN: usize = 1024;

/// `c00042`.
pub fn name(number: usize) -> String {
    format!("c{number:05}")
}

/// A fresh credential with a token of 1 KB that ends in an hour. Only the daemon's own user may read it.
pub fn published(number: usize, generation: i64) -> Published {
    let now = SystemClock.now().wall;
    let (generation, expires_at) = (Generation(generation), Some(now + Duration::from_secs(3600)));
    let view = View {
        name: CredentialId::new(&name(number)).expect("it has the form of a name"),
        kind: Kind::RefreshToken,
        provider: "rfc6749".into(),
        store: "embedded".into(),
        criticality: Criticality::Required,
        state: State::Fresh,
        since: now,
        generation,
        issued_at: Some(now),
        expires_at,
        expiry_source: ExpirySource::Response,
        refresh_expires_at: None,
        refresh_expiry_source: None,
        store_error: None,
        client_secret_expires_at: None,
        refresh_at: Some(now + Duration::from_secs(2700)),
        probe_at: None,
        last_probe_at: None,
        last_success_at: Some(now),
        last_rotation_at: Some(now),
        ttl_warn_seconds: None,
        ttl_fail_seconds: None,
        problem: None,
        flags: vec![],
    };
    let token = Token {
        value: Value::Token(Secret::new("t".repeat(TOKEN))),
        token_type: "Bearer".into(),
        expires_at,
        scope: Some("read write".into()),
        generation,
        unsaved: false,
    };
    Published { view, token: Some(token), readers: Arc::from([]), offer: None }
}

//! Assertions: short-lived statements signed with the credential's private key (RFC 7523 §3).

use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{Algorithm, AlgorithmFamily, EncodingKey, Header, errors::Error};
use serde_json::{Map, Value, json};
use url::Url;

use super::{Subject, Unmakable, fill};
use crate::{catalogue::Assertion, credential::Secret};

/// Back-dating for upstreams whose clock is behind ours; many refuse an `iat` in their future.
const ALLOWANCE: SignedDuration = SignedDuration::from_secs(30);

/// Makes and signs the assertion for a token endpoint.
pub(super) fn sign(
    assertion: &Assertion,
    subject: &Subject,
    endpoint: &Url,
    scope: Option<&str>,
    now: Timestamp,
) -> Result<Secret, Unmakable> {
    let value = |name: &str| fill::value(subject, name);
    let issued = (now - ALLOWANCE).as_second();
    let lifetime = i64::try_from(assertion.lifetime.as_secs()).unwrap_or(i64::MAX);
    let audience = match &assertion.audience {
        Some(audience) => fill::text(audience, value)?,
        None => endpoint.to_string(),
    };
    let mut claims = Map::new();
    claims.insert("iss".into(), fill::text(assertion.issuer.as_deref().unwrap_or("{client_id}"), value)?.into());
    claims.insert("aud".into(), audience.into());
    claims.insert("iat".into(), issued.into());
    // Counted from `iat`: upstreams limit the span between the two.
    claims.insert("exp".into(), issued.saturating_add(lifetime).into());
    claims.insert("jti".into(), json!(unique()?));
    // One description serves with and without delegation: a subject that nobody named is left out.
    match assertion.subject.as_ref().map(|text| fill::text(text, value)) {
        Some(Ok(subject)) => drop(claims.insert("sub".into(), subject.into())),
        None | Some(Err(Unmakable::Placeholder(_))) => {}
        Some(Err(error)) => return Err(error),
    }
    // Google reads the scope here; RFC 7521 §4.1 has it beside the assertion, where it stands as well.
    if let Some(scope) = scope {
        claims.insert("scope".into(), scope.into());
    }
    let (algorithm, key) = key(assertion, subject)?;
    let mut header = Header::new(algorithm);
    header.kid = subject.material.other.text("private_key_id");
    let signed = jsonwebtoken::encode(&header, &Value::Object(claims), &key).map_err(|error| unusable(&error))?;
    Ok(Secret::new(signed))
}

#[expect(clippy::disallowed_methods, reason = "the private key is read to sign with it")]
fn key(assertion: &Assertion, subject: &Subject) -> Result<(Algorithm, EncodingKey), Unmakable> {
    let algorithm: Algorithm = assertion
        .algorithm
        .parse()
        .map_err(|_| Unmakable::Key(format!("{:?} is no signing algorithm", assertion.algorithm)))?;
    let pem = subject.material.private_key.as_ref().ok_or(Unmakable::Missing("private_key"))?;
    // A key that went through an environment variable often has its line breaks written out.
    let pem = Secret::new(pem.expose().replace("\\n", "\n"));
    let pem = pem.expose().as_bytes();
    let key = match algorithm.family() {
        AlgorithmFamily::Rsa => EncodingKey::from_rsa_pem(pem),
        AlgorithmFamily::Ec => EncodingKey::from_ec_pem(pem),
        AlgorithmFamily::Ed => EncodingKey::from_ed_pem(pem),
        _ => return Err(Unmakable::Key(format!("{} needs no private key", assertion.algorithm))),
    };
    Ok((algorithm, key.map_err(|_| unfit(&assertion.algorithm))?))
}

fn unfit(algorithm: &str) -> Unmakable {
    Unmakable::Key(format!("it is not a PEM private key for {algorithm} (PKCS#8, unencrypted)"))
}

/// The library's words name forms and algorithms, never key material.
fn unusable(error: &Error) -> Unmakable {
    Unmakable::Key(error.to_string())
}

/// 128 random bits in hex: some upstreams refuse an assertion that they have seen.
fn unique() -> Result<String, Unmakable> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Unmakable::Key("the system gives no random numbers".into()))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

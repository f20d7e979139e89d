//! Signatures of Standard Webhooks 1.0: HMAC-SHA256 over `id.timestamp.body`.

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::credential::Secret;

/// How far a sender's clock may be from ours, in seconds.
const TOLERANCE: i64 = 300;

/// Why a receiver refuses a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// `webhook-timestamp` is no number of seconds.
    #[error("webhook-timestamp is not a Unix time")]
    Timestamp,
    /// It is more than five minutes off: perhaps a replay.
    #[error("webhook-timestamp is more than five minutes away from our clock")]
    Stale,
    /// One of our own secrets has not the form.
    #[error("the signing secret is not of the form whsec_ and base64 of 24 to 64 bytes")]
    Secret,
    /// None of the signatures is of any of the secrets.
    #[error("no signature of webhook-signature matches")]
    Signature,
}

/// The value of `webhook-signature`: one for each secret, the current one first.
pub(super) fn sign(secrets: &[Secret], id: &str, timestamp: &str, body: &[u8]) -> Result<String, String> {
    let signatures = secrets.iter().map(|secret| {
        let tag = tag(&key(secret).map_err(|refused| refused.to_string())?, id, timestamp, body);
        Ok(format!("v1,{}", STANDARD.encode(tag)))
    });
    Ok(signatures.collect::<Result<Vec<_>, String>>()?.join(" "))
}

/// What a receiver checks before it believes a message: the three headers, the raw body, its own clock.
/// Any of several secrets may match, so that either side can rotate first. The id must still be kept against replay.
pub fn verify(
    secrets: &[Secret],
    id: &str,
    timestamp: &str,
    signature: &str,
    body: &[u8],
    now: Timestamp,
) -> Result<(), Refused> {
    let sent: i64 = timestamp.parse().map_err(|_| Refused::Timestamp)?;
    if sent.abs_diff(now.as_second()) > TOLERANCE.unsigned_abs() {
        return Err(Refused::Stale);
    }
    let given: Vec<Vec<u8>> =
        signature.split_ascii_whitespace().filter_map(|one| STANDARD.decode(one.strip_prefix("v1,")?).ok()).collect();
    let signed = signed(id, timestamp, body);
    for secret in secrets {
        let key = key(secret)?;
        if given.iter().any(|tag| hmac::verify(&key, &signed, tag).is_ok()) {
            return Ok(());
        }
    }
    Err(Refused::Signature)
}

fn tag(key: &hmac::Key, id: &str, timestamp: &str, body: &[u8]) -> hmac::Tag {
    hmac::sign(key, &signed(id, timestamp, body))
}

fn signed(id: &str, timestamp: &str, body: &[u8]) -> Vec<u8> {
    [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat()
}

#[expect(clippy::disallowed_methods, reason = "pages are signed with it")]
fn key(secret: &Secret) -> Result<hmac::Key, Refused> {
    let text = secret.expose().trim().strip_prefix("whsec_").ok_or(Refused::Secret)?;
    let bytes = Zeroizing::new(STANDARD.decode(text).map_err(|_| Refused::Secret)?);
    if (24..=64).contains(&bytes.len()) { Ok(hmac::Key::new(hmac::HMAC_SHA256, &bytes)) } else { Err(Refused::Secret) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const TIME: &str = "1614265330";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;

    fn secret() -> Secret {
        Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    }

    fn other() -> Secret {
        Secret::new(format!("whsec_{}", STANDARD.encode([7; 32])))
    }

    fn now(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_614_265_330 + seconds).unwrap()
    }

    #[test]
    fn the_published_example_is_signed_as_published() {
        let signature = sign(&[secret()], ID, TIME, BODY).unwrap();
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn either_side_may_rotate_first() {
        for (signers, verifiers, good) in [
            (vec![secret()], vec![secret()], true),
            (vec![other(), secret()], vec![secret()], true),
            (vec![other(), secret()], vec![other()], true),
            (vec![secret()], vec![other(), secret()], true),
            (vec![secret()], vec![other()], false),
            (vec![], vec![secret()], false),
        ] {
            let signature = sign(&signers, ID, TIME, BODY).unwrap();
            assert_eq!(verify(&verifiers, ID, TIME, &signature, BODY, now(0)).is_ok(), good);
        }
    }

    #[test]
    fn n091_old_changed_and_malformed_messages_are_refused() {
        let signature = sign(&[secret()], ID, TIME, BODY).unwrap();
        let check = |id, time, signature: &str, body, at| verify(&[secret()], id, time, signature, body, now(at));
        assert_eq!(check(ID, TIME, &signature, BODY, 300), Ok(()));
        assert_eq!(check(ID, TIME, &signature, BODY, 360), Err(Refused::Stale));
        assert_eq!(check(ID, TIME, &signature, BODY, -360), Err(Refused::Stale));
        assert_eq!(check(ID, "-9223372036854775808", &signature, BODY, 0), Err(Refused::Stale));
        assert_eq!(check(ID, "today", &signature, BODY, 0), Err(Refused::Timestamp));
        assert_eq!(check("msg_x", TIME, &signature, BODY, 0), Err(Refused::Signature));
        assert_eq!(check(ID, "1614265331", &signature, BODY, 0), Err(Refused::Signature));
        assert_eq!(check(ID, TIME, &signature, b"{}", 0), Err(Refused::Signature));
        for broken in ["", "v1,", "v1", "v2,AAAA", "v1,*", &signature[..20], &signature.replace("v1,", "v1a,")] {
            assert_eq!(check(ID, TIME, broken, BODY, 0), Err(Refused::Signature), "{broken}");
        }
    }

    #[test]
    fn a_secret_of_another_form_is_refused_without_being_shown() {
        for bad in ["", "canary", "whsec_canary*", "whsec_AAAA"] {
            let error = sign(&[Secret::new(bad)], ID, TIME, BODY).unwrap_err();
            assert!(!error.contains("canary") && error.contains("whsec_"), "{error}");
        }
    }
}

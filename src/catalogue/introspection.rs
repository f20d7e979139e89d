//! What an introspection endpoint says of a token (RFC 7662 §2.2).

use jiff::Timestamp;
use serde_json::Value;

use super::{Provider, Refusal, Surface, expiry};
use crate::credential::{ExpirySource, Failure, Reply, Verdict};

impl Provider {
    /// The token lives, perhaps until a known moment; or why nobody can say so.
    pub fn introspected(&self, reply: &Reply, now: Timestamp) -> Result<Option<(Timestamp, ExpirySource)>, Verdict> {
        let json: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        match json["active"].as_bool().filter(|_| reply.is_success()) {
            Some(true) => Ok(expiry::moment(&json["exp"]).map(|end| (end, ExpirySource::Introspection))),
            // Expired, revoked, or never issued: the RFC lets the server not say which.
            Some(false) => Err(Verdict {
                evidence: "body /active: false".into(),
                rule: "generic/inactive".into(),
                ..Verdict::of(Failure::CredentialRejected, "inactive")
            }),
            None => {
                let surface = Surface::TokenEndpoint;
                let verdict = self.classify(&Refusal { surface, presented: "client_credentials", reply, now });
                // What is refused here is the client that asks; of the token nothing was said.
                let of_the_token = matches!(
                    verdict.failure,
                    Failure::CredentialRevoked | Failure::CredentialRejected | Failure::CredentialExpired
                );
                let failure = if of_the_token { Failure::ClientMisconfigured } else { verdict.failure };
                Err(Verdict { failure, definitive: false, ..verdict })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::Catalogue;

    #[test]
    fn active_inactive_and_answers_that_say_nothing_of_the_token() {
        let provider = Catalogue::embedded().unwrap().provider("rfc6749").unwrap();
        let now = Timestamp::from_second(1_767_225_600).unwrap();
        let says = |status, body: &str| provider.introspected(&Reply::new(status, [], body), now);
        let end = Timestamp::from_second(1_767_229_200).unwrap();
        assert_eq!(says(200, r#"{"active":true,"exp":1767229200}"#).unwrap(), Some((end, ExpirySource::Introspection)));
        assert_eq!(says(200, r#"{"active":true}"#).unwrap(), None);
        assert_eq!(says(200, r#"{"active":false}"#).unwrap_err().failure, Failure::CredentialRejected);
        for (status, body, failure) in [
            (401, r#"{"error":"invalid_client"}"#, Failure::ClientMisconfigured),
            (401, r#"{"error":"invalid_token"}"#, Failure::ClientMisconfigured),
            (503, "", Failure::UpstreamUnavailable),
            (429, "", Failure::RateLimitReached),
        ] {
            assert_eq!(says(status, body).unwrap_err().failure, failure, "{status} {body}");
        }
        // A success that is no introspection response proves nothing.
        assert!(says(200, "<html>sign in</html>").is_err() && says(200, "{}").is_err());
    }
}

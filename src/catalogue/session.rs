//! Reads what AWS STS answers where a session is made (AssumeRole, GetFederationToken, GetSessionToken).

use std::time::Duration;

use jiff::Timestamp;

use super::{Provider, Refusal, Surface, Tokens, TokensError};
use crate::credential::{AccessKey, ExpirySource, Reply, Secret, Value, Verdict};

impl Provider {
    /// Reads an answer of STS. `presented` as the surface's words have it.
    pub fn session_for(&self, reply: &Reply, presented: &str, sent_at: Timestamp) -> Result<Tokens, TokensError> {
        if !reply.is_success() {
            let refusal = Refusal { surface: Surface::TokenEndpoint, presented, reply, now: sent_at };
            let verdict: Verdict = self.classify(&refusal);
            return Err(TokensError::Refused(verdict));
        }
        let body = String::from_utf8_lossy(&reply.body);
        let text = |name: &str| {
            let missing = || TokensError::Unreadable { reason: format!("it has no <{name}>") };
            member(&body, name).filter(|text| !text.is_empty()).ok_or_else(missing)
        };
        let key = AccessKey {
            id: text("AccessKeyId")?.to_owned(),
            secret: Secret::new(text("SecretAccessKey")?),
            session_token: Some(Secret::new(text("SessionToken")?)),
        };
        let end: Timestamp = text("Expiration")?
            .parse()
            .map_err(|_| TokensError::Unreadable { reason: "its <Expiration> is no date".into() })?;
        Ok(Tokens {
            value: Value::AccessKey(key),
            refresh_token: None,
            token_type: None,
            lifetime: Some(Duration::try_from(end.duration_since(sent_at)).unwrap_or_default()),
            lifetime_source: ExpirySource::Response,
            refresh_lifetime: None,
            scope: None,
            repaired: false,
        })
    }
}

/// The text of the first element of that name. Keys, tokens and dates need no escapes in XML.
fn member<'a>(body: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = body.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(text, _)| text.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::Catalogue;

    const GOOD: &str = "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>ASIAEXAMPLE</AccessKeyId>\
        <SecretAccessKey>canary/secret+</SecretAccessKey><SessionToken>canary==</SessionToken>\
        <Expiration>2026-01-01T01:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>";

    #[test]
    fn a_session_is_read_with_its_end_and_half_an_answer_is_none() {
        let aws = Catalogue::embedded().unwrap().provider("aws").unwrap();
        let sent_at: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let read = |body: &str| {
            aws.session_for(&Reply::new(200, [("content-type", "text/xml")], body), "signing_key", sent_at)
        };
        let tokens = read(GOOD).unwrap();
        assert_eq!(tokens.lifetime, Some(Duration::from_secs(3600)));
        let Value::AccessKey(key) = tokens.value else { panic!("an access key") };
        assert_eq!(
            (key.id.as_str(), key.secret, key.session_token),
            ("ASIAEXAMPLE", Secret::new("canary/secret+"), Some(Secret::new("canary==")))
        );
        for cut in ["<SessionToken>", "<Expiration>", "<AccessKeyId>", "</SecretAccessKey>"] {
            let error = read(&GOOD.replace(cut, "")).unwrap_err();
            assert!(
                matches!(&error, TokensError::Unreadable { .. }) && !error.to_string().contains("canary"),
                "{error}"
            );
        }
    }
}

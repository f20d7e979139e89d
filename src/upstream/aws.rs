//! Calls to AWS STS: signed with SigV4 instead of carrying a token. They prove a key, and make sessions of it.

use jiff::Timestamp;
use url::Url;

use super::{PROBE_BUDGET, REFRESH_BUDGET, Subject, Unmakable, fill};
use crate::{
    credential::{AccessKey, Value},
    fetch::Call,
};

const VERSION: &str = "2011-06-15";
/// Where the settings name no region: the one that has always been there.
const REGION: &str = "us-east-1";
/// How long a session lives where the settings say nothing; seconds.
const LIFE: &str = "3600";

/// GetCallerIdentity: needs no permission, so it tells whether the key itself is good.
pub(super) fn probe(subject: &Subject, now: Timestamp) -> Result<Call, Unmakable> {
    let Some(Value::AccessKey(key)) = subject.material.value(subject.kind) else {
        return Err(Unmakable::Missing("access_key_id"));
    };
    let described = subject.provider.probe(subject.kind).map(|probe| probe.url.as_str());
    let url = endpoint(subject, subject.settings.probe_url.as_ref(), described, "probe_url")?;
    let form = [("Action", "GetCallerIdentity".to_owned()), ("Version", VERSION.to_owned())];
    let timeout = PROBE_BUDGET;
    signed(subject, &key, url, &form, now, timeout)
}

/// A session: of the role that the settings name, else of the key's own user.
pub(super) fn session(subject: &Subject, now: Timestamp) -> Result<Call, Unmakable> {
    let key = subject.material.access_key.as_ref().ok_or(Unmakable::Missing("access_key_id"))?;
    let described = subject.provider.token.endpoint.as_deref();
    let url = endpoint(subject, subject.settings.token_endpoint.as_ref(), described, "token_endpoint")?;
    let value = |name: &str| fill::value(subject, name).filter(|value| !value.is_empty());
    let name = value("session_name").unwrap_or_else(|| "credd".to_owned());
    let narrow = subject.settings.narrow.as_ref();
    let mut form: Vec<(&str, String)> = match (value("role_arn"), narrow) {
        (Some(role), _) => vec![("Action", "AssumeRole".to_owned()), ("RoleArn", role), ("RoleSessionName", name)],
        // Only a federated user's session takes a policy without a role.
        (None, Some(_)) => vec![("Action", "GetFederationToken".to_owned()), ("Name", name)],
        (None, None) => vec![("Action", "GetSessionToken".to_owned())],
    };
    if form[0].1 == "AssumeRole" {
        form.extend(value("external_id").map(|id| ("ExternalId", id)));
    }
    form.push(("Version", VERSION.to_owned()));
    form.push(("DurationSeconds", value("duration_seconds").unwrap_or_else(|| LIFE.to_owned())));
    let policy = narrow.and_then(|narrow| narrow.0.get("policy"));
    form.extend(policy.map(|policy| ("Policy", policy.as_str().map_or_else(|| policy.to_string(), str::to_owned))));
    let arns = narrow.and_then(|narrow| narrow.texts("policy_arns")).unwrap_or_default();
    let arns: Vec<(String, String)> =
        (1..).zip(arns).map(|(at, arn): (u32, &str)| (format!("PolicyArns.member.{at}.arn"), arn.to_owned())).collect();
    form.extend(arns.iter().map(|(name, arn)| (name.as_str(), arn.clone())));
    signed(subject, key, url, &form, now, REFRESH_BUDGET)
}

fn region(subject: &Subject) -> String {
    fill::value(subject, "region").filter(|region| !region.is_empty()).unwrap_or_else(|| REGION.to_owned())
}

/// The settings' own address, else `with.endpoint` (as AWS_ENDPOINT_URL), else what the provider's file says.
fn endpoint(
    subject: &Subject,
    own: Option<&Url>,
    described: Option<&str>,
    what: &'static str,
) -> Result<Url, Unmakable> {
    let value = |name: &str| if name == "region" { Some(region(subject)) } else { fill::value(subject, name) };
    if let Some(own) = own {
        return Ok(own.clone());
    }
    if value("endpoint").is_some() {
        return fill::url("{endpoint}/", value);
    }
    let described =
        described.ok_or_else(|| Unmakable::Undescribed { provider: subject.provider.name.clone(), what })?;
    fill::url(described, value)
}

/// A signed POST of a form.
#[cfg(feature = "aws")]
#[expect(clippy::disallowed_methods, reason = "the access key signs the call")]
fn signed(
    subject: &Subject,
    key: &AccessKey,
    url: Url,
    form: &[(&str, String)],
    now: Timestamp,
    timeout: std::time::Duration,
) -> Result<Call, Unmakable> {
    use aws_credential_types::Credentials;
    use aws_sigv4::{
        http_request::{SignableBody, SignableRequest, SigningSettings, sign},
        sign::v4,
    };
    use http::{HeaderName, Method, header::CONTENT_TYPE};

    use crate::credential::Secret;

    const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";
    let unsigned = |error: &dyn std::fmt::Display| Unmakable::Key(format!("SigV4: {error}"));
    let body: String = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    // As AWS's own clients write it; some who speak its API sign what they would have written.
    let body = body.replace('*', "%2A");
    let token = key.session_token.as_ref().map(|token| token.expose().to_owned());
    let identity = Credentials::new(key.id.as_str(), key.secret.expose(), token, None, "credd").into();
    let region = region(subject);
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(&region)
        .name("sts")
        .time(now.into())
        .settings(SigningSettings::default())
        .build()
        .map_err(|error| unsigned(&error))?
        .into();
    let headers = [(CONTENT_TYPE.as_str(), FORM)];
    let request = SignableRequest::new("POST", url.as_str(), headers.into_iter(), SignableBody::Bytes(body.as_bytes()))
        .map_err(|error| unsigned(&error))?;
    let (instructions, _) = sign(request, &parameters).map_err(|error| unsigned(&error))?.into_parts();
    let mut headers = vec![(CONTENT_TYPE, Secret::new(FORM))];
    for (name, value) in instructions.headers() {
        let name: HeaderName = name.parse().map_err(|_| unsigned(&"a header has no name"))?;
        headers.push((name, Secret::new(value)));
    }
    Ok(Call { method: Method::POST, url, headers, body: Some(Secret::new(body)), timeout })
}

#[cfg(not(feature = "aws"))]
fn signed(
    _: &Subject,
    _: &AccessKey,
    _: Url,
    _: &[(&str, String)],
    _: Timestamp,
    _: std::time::Duration,
) -> Result<Call, Unmakable> {
    Err(Unmakable::Unbuilt("aws"))
}

#[cfg(all(test, feature = "aws"))]
#[expect(clippy::disallowed_methods, reason = "compared with what was put in")]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use super::*;
    use crate::{
        catalogue::Catalogue,
        credential::{Kind, Material, Narrow},
        upstream::Settings,
    };

    const KEY: &str = r#"{"access_key_id":"AKIAIOSFODNN7EXAMPLE","secret_access_key":"canary-secret"}"#;

    fn subject(kind: Kind, with: &[(&str, &str)], narrow: Option<&str>) -> Subject {
        let with: BTreeMap<String, String> =
            with.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let narrow = narrow.map(|text| serde_json::from_str::<Narrow>(text).unwrap());
        Subject {
            provider: Catalogue::embedded().unwrap().provider("aws").unwrap(),
            kind,
            material: Arc::new(Material::parse(KEY.as_bytes()).unwrap()),
            settings: Arc::new(Settings { with, narrow, ..Settings::default() }),
        }
    }

    fn form(call: &Call) -> BTreeMap<String, String> {
        url::form_urlencoded::parse(call.body.as_ref().unwrap().expose().as_bytes()).into_owned().collect()
    }

    #[test]
    fn a_probe_goes_to_the_region_signed_for_it_and_shows_no_secret() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        for (with, url, region) in [
            (&[][..], "https://sts.us-east-1.amazonaws.com/", "us-east-1"),
            (&[("region", "eu-central-1")], "https://sts.eu-central-1.amazonaws.com/", "eu-central-1"),
            (&[("endpoint", "https://sts.example.com:8443")], "https://sts.example.com:8443/", "us-east-1"),
        ] {
            let call = probe(&subject(Kind::AwsAccessKey, with, None), now).unwrap();
            assert_eq!(call.url.as_str(), url);
            let header =
                |name: &str| call.headers.iter().find(|(known, _)| known == name).unwrap().1.expose().to_owned();
            let scope = format!("AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20260101/{region}/sts/aws4_request");
            assert!(header("authorization").starts_with(&scope), "{}", header("authorization"));
            assert_eq!(header("x-amz-date"), "20260101T000000Z");
            assert_eq!(form(&call)["Action"], "GetCallerIdentity");
            assert!(!format!("{call:?}").contains("canary"));
        }
        let none =
            Subject { material: Arc::new(Material::parse(b"k").unwrap()), ..subject(Kind::AwsAccessKey, &[], None) };
        assert_eq!(probe(&none, now).unwrap_err(), Unmakable::Missing("access_key_id"));
    }

    #[test]
    fn a_session_is_asked_for_by_role_by_policy_or_plainly() {
        let ask = |with: &[(&str, &str)], narrow| {
            form(&session(&subject(Kind::AwsSession, with, narrow), Timestamp::UNIX_EPOCH).unwrap())
        };
        let plain = ask(&[("duration_seconds", "900")], None);
        assert_eq!((plain["Action"].as_str(), plain["DurationSeconds"].as_str()), ("GetSessionToken", "900"));
        let role = [("role_arn", "arn:aws:iam::1:role/r"), ("external_id", "e")];
        let role = ask(&role, Some(r#"{"policy":{"Version":"2012-10-17"},"policy_arns":["arn:a","arn:b"]}"#));
        assert_eq!((role["Action"].as_str(), role["ExternalId"].as_str()), ("AssumeRole", "e"));
        assert_eq!(role["Policy"], r#"{"Version":"2012-10-17"}"#);
        assert_eq!(role["PolicyArns.member.2.arn"], "arn:b");
        let federated = ask(&[], Some(r#"{"policy":"{}"}"#));
        assert_eq!((federated["Action"].as_str(), federated["Name"].as_str()), ("GetFederationToken", "credd"));
        assert_eq!(federated["Policy"], "{}");
    }
}

//! Placeholders: `{name}` in a provider's texts, filled from the credential's settings and its secret.

use url::Url;

use super::{Subject, Unmakable};

/// Finds the value of a placeholder: the credential's `with` table, then the OAuth client, then the secret's members.
pub(super) fn value(subject: &Subject, name: &str) -> Option<String> {
    let own = || (name == "client_id").then(|| client_id(subject)).flatten();
    subject.settings.with.get(name).cloned().or_else(own).or_else(|| subject.material.other.text(name))
}

/// The OAuth client: the one that stands beside the grant, because a grant belongs to its client (RF-18).
pub(super) fn client_id(subject: &Subject) -> Option<String> {
    subject.material.client_id.clone().or_else(|| subject.settings.client_id.clone())
}

/// A text with its placeholders filled as they are; for headers, body members and claims.
pub(super) fn text(template: &str, value: impl Fn(&str) -> Option<String>) -> Result<String, Unmakable> {
    let mut filled = String::with_capacity(template.len());
    for part in parts(template) {
        match part {
            Part::Plain(plain) => filled.push_str(plain),
            Part::Placeholder(name) => filled.push_str(&lookup(&value, name)?),
        }
    }
    Ok(filled)
}

/// An address with its placeholders filled. A value may be a whole origin at the very beginning (`{instance_url}/token`)
/// or part of the host name; behind the host it is percent-encoded, so that no value can change where a secret goes.
pub(super) fn url(template: &str, value: impl Fn(&str) -> Option<String>) -> Result<Url, Unmakable> {
    let mut filled = String::with_capacity(template.len());
    for part in parts(template) {
        let name = match part {
            Part::Plain(plain) => {
                filled.push_str(plain);
                continue;
            }
            Part::Placeholder(name) => name,
        };
        let value = lookup(&value, name)?;
        let behind_host = filled.split_once("://").is_some_and(|(_, rest)| rest.contains(['/', '?', '#']));
        if behind_host {
            filled.extend(encoded(&value));
        } else if filled.is_empty() {
            let origin =
                Url::parse(&value).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
            origin.ok_or_else(|| Unmakable::Address(format!("{{{name}}} must be an address (https://…)")))?;
            filled.push_str(value.trim_end_matches('/'));
        } else if value.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b':')) {
            filled.push_str(&value);
        } else {
            return Err(Unmakable::Address(format!("{{{name}}} stands for a host name, and its value is none")));
        }
    }
    Url::parse(&filled).map_err(|error| Unmakable::Address(format!("{template:?} gives no usable address: {error}")))
}

fn lookup(value: impl Fn(&str) -> Option<String>, name: &str) -> Result<String, Unmakable> {
    value(name).filter(|value| !value.is_empty()).ok_or_else(|| Unmakable::Placeholder(name.to_owned()))
}

/// Everything but the unreserved characters of RFC 3986 §2.3 as %XX.
fn encoded(value: &str) -> impl Iterator<Item = char> {
    value.bytes().flat_map(|byte| {
        let plain = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
        let hex = |digit: u8| char::from_digit(digit.into(), 16).map_or('0', |c| c.to_ascii_uppercase());
        let text = if plain {
            [Some(byte.into()), None, None]
        } else {
            [Some('%'), Some(hex(byte >> 4)), Some(hex(byte & 15))]
        };
        text.into_iter().flatten()
    })
}

/// The placeholders in a text.
pub(super) fn names(template: &str) -> impl Iterator<Item = &str> {
    parts(template).into_iter().filter_map(|part| match part {
        Part::Placeholder(name) => Some(name),
        Part::Plain(_) => None,
    })
}

enum Part<'a> {
    Plain(&'a str),
    Placeholder(&'a str),
}

/// Splits at `{name}`; a brace that encloses anything but a name is plain text, so that JSON bodies need no escapes.
fn parts(template: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let (mut from, mut search) = (0, 0);
    while let Some(open) = template[search..].find('{').map(|at| search + at) {
        let inside = &template[open + 1..];
        let length = inside.find(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'));
        match length {
            Some(length) if length > 0 && inside[length..].starts_with('}') => {
                parts.push(Part::Plain(&template[from..open]));
                parts.push(Part::Placeholder(&inside[..length]));
                from = open + length + 2;
                search = from;
            }
            _ => search = open + 1,
        }
    }
    parts.push(Part::Plain(&template[from..]));
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(name: &str) -> Option<String> {
        let value = match name {
            "tenant" => "contoso",
            "odd" => "a/b?c=d&e ü",
            "domain" => "acme.auth.example.com:8443",
            "instance_url" => "https://eu1.example.com/",
            "trick" => "evil.example/",
            "login" => "x@evil.example",
            "empty" => "",
            _ => return None,
        };
        Some(value.to_owned())
    }

    #[test]
    fn texts_are_filled_and_json_is_left_alone() {
        assert_eq!(text("{\"q\":\"{tenant}\"}", known).unwrap(), "{\"q\":\"contoso\"}");
        assert_eq!(text("{ viewer { login } }", known).unwrap(), "{ viewer { login } }");
        assert_eq!(text("{", known).unwrap(), "{");
        assert_eq!(text("a{tenant}{tenant}b", known).unwrap(), "acontosocontosob");
        assert_eq!(text("{nobody}", known).unwrap_err(), Unmakable::Placeholder("nobody".into()));
        assert_eq!(text("{empty}", known).unwrap_err(), Unmakable::Placeholder("empty".into()));
    }

    #[test]
    fn no_value_changes_where_a_secret_goes() {
        let table = [
            ("https://login.example.com/{tenant}/token", "https://login.example.com/contoso/token"),
            ("https://api.example.com/{odd}/x", "https://api.example.com/a%2Fb%3Fc%3Dd%26e%20%C3%BC/x"),
            ("https://{tenant}.example.com/x", "https://contoso.example.com/x"),
            ("https://{domain}/oauth/token", "https://acme.auth.example.com:8443/oauth/token"),
            ("{instance_url}/token", "https://eu1.example.com/token"),
        ];
        for (template, expected) in table {
            assert_eq!(url(template, known).unwrap().as_str(), expected);
        }
        for bad in ["https://{trick}.example.com/", "https://{login}/", "{tenant}/x", "{login}/x", "no address"] {
            assert!(matches!(url(bad, known), Err(Unmakable::Address(_))), "{bad}");
        }
    }
}

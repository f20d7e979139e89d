//! A stored document, and the one key of it that a location may name (`path#key`).

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{Location, StoreError, Version};
use crate::credential::{Material, MaterialError, Secret};

impl Location {
    /// The document's place, and the key inside it.
    pub fn split(&self) -> (&str, Option<&str>) {
        match self.0.rsplit_once('#') {
            Some((path, key)) => (path, Some(key)),
            None => (&self.0, None),
        }
    }
}

/// The material at a location, from the document that stands there.
pub fn read(document: &[u8], at: &Location) -> Result<Material, StoreError> {
    let malformed = |reason| StoreError::Malformed { path: at.0.clone(), reason };
    let (_, Some(key)) = at.split() else {
        return Material::parse(document).map_err(malformed);
    };
    match object(document).map_err(malformed)?.remove(key) {
        None | Some(Value::Null) => Err(StoreError::NotFound { path: at.0.clone() }),
        Some(Value::String(text)) => Material::parse(text.as_bytes()).map_err(malformed),
        Some(Value::Object(object)) => Material::from_object(object).map_err(malformed),
        Some(_) => Err(malformed(MaterialError::Foreign("a number, a list or a truth value"))),
    }
}

/// The document to write: the material alone, or, for one key of many, the present document with that key replaced.
#[expect(clippy::disallowed_methods, reason = "a secret goes back into the document around it")]
pub(super) fn write(present: &[u8], at: &Location, material: &Material) -> Result<Secret, StoreError> {
    let (_, Some(key)) = at.split() else {
        return Ok(material.render());
    };
    let mut all = object(present).map_err(|reason| StoreError::Malformed { path: at.0.clone(), reason })?;
    let text = material.render();
    let value = match all.get(key) {
        Some(Value::Object(_)) => {
            serde_json::from_str(text.expose()).expect("what was rendered as an object parses as one")
        }
        _ => Value::from(text.expose()),
    };
    all.insert(key.to_owned(), value);
    Ok(Secret::new(Value::Object(all).to_string()))
}

/// The material with the mark of the attempt that writes it.
pub(super) fn stamped(material: &Material, attempt: Uuid) -> Material {
    Material { attempt_id: Some(attempt.to_string()), ..material.clone() }
}

/// A version for stores that keep none: a digest of document and place, so that equal values at two places do not show.
pub(super) fn version_of(document: &[u8], path: &str) -> Version {
    let mut text = path.as_bytes().to_vec();
    text.push(0);
    let mut text = zeroize::Zeroizing::new(text);
    text.extend_from_slice(document);
    Version(digest(&SHA256, &text).as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect())
}

fn object(document: &[u8]) -> Result<Map<String, Value>, MaterialError> {
    let text = std::str::from_utf8(document).map_err(|_| MaterialError::NotText)?;
    let text = text.trim_start_matches('\u{feff}').trim();
    match text.as_bytes().first() {
        None => Err(MaterialError::Empty),
        Some(b'{') => serde_json::from_str(text)
            .map_err(|error| MaterialError::BadJson { line: error.line(), column: error.column() }),
        Some(_) => Err(MaterialError::Foreign("a text without keys")),
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "compared with what was put in")]
mod tests {
    use super::*;

    #[test]
    fn one_key_of_many_is_read_and_replaced_alone() {
        let document = br#"{"slack":"xoxb-1","github":{"refresh_token":"r","team":"ops"},"count":3}"#;
        let at = |key: &str| Location(format!("app#{key}"));
        assert_eq!(read(document, &at("slack")).unwrap().access_token, Some(Secret::new("xoxb-1")));
        let mut github = read(document, &at("github")).unwrap();
        github.refresh_token = Some(Secret::new("r2"));
        let written = write(document, &at("github"), &github).unwrap();
        let value: Value = serde_json::from_str(written.expose()).unwrap();
        assert_eq!(value, serde_json::json!({"slack":"xoxb-1","github":{"refresh_token":"r2","team":"ops"},"count":3}));
        assert_eq!(read(document, &at("none")).unwrap_err(), StoreError::NotFound { path: "app#none".into() });
        assert!(read(document, &at("count")).unwrap_err().to_string().contains("a number"));
        assert!(read(b"plain", &at("x")).unwrap_err().to_string().contains("without keys"));
    }

    #[test]
    fn versions_differ_by_place_and_value() {
        assert_eq!(version_of(b"v", "a"), version_of(b"v", "a"));
        assert_ne!(version_of(b"v", "a"), version_of(b"v", "b"));
        assert_ne!(version_of(b"v", "a"), version_of(b"w", "a"));
    }
}

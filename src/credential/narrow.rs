//! Cuts: tokens of the same grant that may do less.

use std::collections::BTreeMap;

use aws_lc_rs::digest;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::CredentialId;

/// Between a credential's name and the mark of a cut of it.
const CUT: &str = ".cut-";

/// What a token is narrowed to, in the words of its provider (`[narrow]` in its file): `repositories`, `permissions`,
/// `scopes`, `policy`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Narrow(pub BTreeMap<String, Value>);

impl Narrow {
    /// Eight hex digits that stay the same as long as it says the same.
    fn mark(&self) -> String {
        let text = serde_json::to_string(&self.0).expect("a table of plain values");
        let digest = digest::digest(&digest::SHA256, text.as_bytes());
        digest.as_ref().iter().take(4).map(|byte| format!("{byte:02x}")).collect()
    }

    /// A list of texts, also where a single one stands.
    pub fn texts(&self, name: &str) -> Option<Vec<&str>> {
        match self.0.get(name)? {
            Value::String(one) => Some(vec![one]),
            Value::Array(several) => several.iter().map(Value::as_str).collect(),
            _ => None,
        }
    }
}

impl CredentialId {
    /// The most bytes of a name whose credential can be cut.
    pub const LONGEST_WHOLE: usize = 63 - CUT.len() - 8;

    /// The name of that cut of it; `None` where the name has no room for it.
    pub fn cut(&self, narrow: &Narrow) -> Option<Self> {
        Self::new(&format!("{self}{CUT}{}", narrow.mark())).ok()
    }

    /// Whose cut it is, if it has the name of one.
    pub fn whole(&self) -> Option<&str> {
        let (whole, mark) = self.as_str().rsplit_once(CUT)?;
        let is_mark = mark.len() == 8 && mark.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
        is_mark.then_some(whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn narrow(text: &str) -> Narrow {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_cut_is_named_after_its_whole_and_by_what_it_may() {
        let bot = CredentialId::new("bot").unwrap();
        let read =
            bot.cut(&narrow(r#"{"permissions":{"contents":"read","issues":"read"},"repositories":["web"]}"#)).unwrap();
        assert_eq!(read.whole(), Some("bot"));
        let same =
            bot.cut(&narrow(r#"{"repositories":["web"],"permissions":{"issues":"read","contents":"read"}}"#)).unwrap();
        assert_eq!(read, same, "order says nothing");
        assert_ne!(read, bot.cut(&narrow(r#"{"repositories":["api"]}"#)).unwrap());
        for plain in ["bot", "bot.cut-", "bot.cut-1234567", "bot.cut-1234567g", "bot-cut-12345678"] {
            assert_eq!(CredentialId::new(plain).unwrap().whole(), None, "{plain}");
        }
        let long = |length| CredentialId::new(&"x".repeat(length)).unwrap().cut(&Narrow::default());
        assert!(long(CredentialId::LONGEST_WHOLE).is_some() && long(CredentialId::LONGEST_WHOLE + 1).is_none());
    }
}

//! An upstream's reply as it came: status, headers, body. What is captured, classified and explained.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

/// A complete reply. Its body may hold a token, so it prints as nothing and is wiped when dropped.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Header names in lower case, in order of arrival; values decoded leniently.
    pub headers: Vec<(String, String)>,
    /// The body, decompressed, at most the cap of the call that brought it.
    pub body: Vec<u8>,
}

impl Reply {
    /// A reply from parts; header names are lower-cased here.
    pub fn new<'a>(
        status: u16,
        headers: impl IntoIterator<Item = (&'a str, &'a str)>,
        body: impl Into<Vec<u8>>,
    ) -> Self {
        Self {
            status,
            headers: headers.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect(),
            body: body.into(),
        }
    }

    /// The first header of a name, which is given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// Whether the status is 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reply({}, {} bytes)", self.status, self.body.len())
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.body.zeroize();
        for (_, value) in &mut self.headers {
            value.zeroize();
        }
    }
}

//! What an entry of the lexicon is: a meaning, and a pattern over words.

use super::{localised, words::unmarked};

/// What a phrase says, before surface and kind of credential are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// A clock, a nonce or a short-lived proof of ours is off: signed anew, the call works.
    Skew,
    /// The refresh grant itself is named as dead.
    DeadGrant,
    /// Dead until a person acts.
    Dead,
    /// Over; whether that is death depends on what was presented.
    Expired,
    /// Expired or revoked: the reply does not say which, but it is one of them.
    ExpiredOrDead,
    /// Refused for one of several listed reasons.
    Ambiguous,
    /// Refused without a reason.
    Rejected,
    /// A code of RFC 6749 that means the grant, or whatever stands in its place.
    InvalidGrant,
    /// Rights are missing.
    Scope,
    /// Our client, or the way we call, is wrong.
    Config,
    /// Too many.
    Rate,
    /// The provider failed.
    Unavailable,
    /// Money, plans, quotas that waiting does not mend: a person must act, but not on the credential.
    Money,
    /// An address list, a firewall, a region.
    Network,
    /// An administrator's switch.
    Feature,
    /// A question to a browser.
    Challenge,
    /// Not yet, or not now: the same call may work.
    Pending,
    /// Nothing about the credential.
    Unrelated,
}

/// One entry: its name is the verdict's cause.
pub struct Entry {
    /// lower_snake_case.
    pub name: &'static str,
    /// What it says.
    pub meaning: Meaning,
    /// Regular expression over words; `<token>` and `<who>` stand for the nouns below, `<gap>` for up to three words.
    pattern: &'static str,
}

impl Entry {
    /// The pattern with its nouns and the words of other languages filled in; for a search in bytes.
    pub fn expression(&self) -> String {
        let filled = self.pattern.replace("<gap>", r"(?: \w+){0,4}?");
        unmarked(&NOUNS.iter().fold(filled, |pattern, (name, words)| pattern.replace(name, words)))
    }
}

const TOKEN: &str = r"(?:tokens?|keys?|apikeys?|credentials?|secrets?|jwts?|sessions?|signatures?|assertions?|passwords?|certificates?|cookies?|pats?|sas|grants?|authorizations?|authentications?|logins?|bearer|macaroons?|tickets?)";
const WHO: &str = r"(?:accounts?|users?|organi[sz]ations?|org|workspaces?|teams?|apps?|applications?|clients?|projects?|consumers?|installations?|tenants?|owners?|members?|tokens?|keys?|credentials?|integrations?|merchants?|sessions?|grants?|subscriber|principal|connection|authorization|webhooks?|consent)";

/// An entry, in one line.
pub const fn entry(name: &'static str, meaning: Meaning, pattern: &'static str) -> Entry {
    Entry { name, meaning, pattern }
}

const NOUNS: [(&str, &str); 15] = [
    ("<BAD_SIGNATURE>", localised::BAD_SIGNATURE),
    ("<token>", TOKEN),
    ("<who>", WHO),
    ("<EXPIRED>", localised::EXPIRED),
    ("<REVOKED>", localised::REVOKED),
    ("<INVALID>", localised::INVALID),
    ("<FORBIDDEN>", localised::FORBIDDEN),
    ("<TOO_MANY>", localised::TOO_MANY),
    ("<UNAVAILABLE>", localised::UNAVAILABLE),
    ("<NOT_LISTED>", localised::NOT_LISTED),
    ("<MISSING>", localised::MISSING),
    ("<UNKNOWN>", localised::UNKNOWN),
    ("<REFUSED>", localised::REFUSED),
    ("<UNPAID>", localised::UNPAID),
    ("<BLOCKED>", localised::BLOCKED),
];

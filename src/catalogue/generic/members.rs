//! Where replies keep what they say: the names of members, headers and elements, whatever the envelope.

use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind};

/// Members that carry codes or words of an error, without case and punctuation.
const SPEAKING: [&str; 65] = [
    "moreinformation",
    "moreinfo",
    "troubleshoot",
    "errorclass",
    "class",
    "info",
    "response",
    "note",
    "notice",
    "estado",
    "codigo",
    "stato",
    "codice",
    "desc",
    "statustext",
    "statusdescription",
    "returnauthmsg",
    "ecode",
    "hint",
    "explanation",
    "summary",
    "value",
    "typekey",
    "errorkey",
    "cause",
    "error",
    "code",
    "errorcode",
    "errorsubcode",
    "errorsubtype",
    "suberror",
    "type",
    "reason",
    "errortype",
    "status",
    "statuscode",
    "tag",
    "category",
    "name",
    "id",
    "issue",
    "errcode",
    "errorname",
    "faultcode",
    "fault",
    "subcode",
    "message",
    "errordescription",
    "description",
    "detail",
    "details",
    "msg",
    "errormessage",
    "errorsummary",
    "err",
    "title",
    "errormsg",
    "errors",
    "faultstring",
    "authenticationerrordetail",
    "errmsg",
    "text",
    "exception",
    "errortext",
    "serviceerrorcode",
];

/// What is in the name of a member that speaks, in the languages of those who build services.
const STEMS: [&str; 26] = [
    "message",
    "errorcode",
    "errordesc",
    "errordetail",
    "errorinfo",
    "errorstring",
    "errortext",
    "errorcause",
    "errorreason",
    "errortitle",
    "reason",
    "unsuccessful",
    "explanation",
    "problem",
    "fehler",
    "meldung",
    "nachricht",
    "erreur",
    "mensaje",
    "mensagem",
    "descripcion",
    "descricao",
    "messaggio",
    "foutmelding",
    "felmeddelande",
    "komunikat",
];

/// All of them in one search: replies have many members.
static IN_NAMES: LazyLock<AhoCorasick> =
    LazyLock::new(|| AhoCorasick::builder().kind(Some(AhoCorasickKind::DFA)).build(STEMS).expect("constant patterns"));

/// A member's name without case and punctuation.
pub fn key(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

/// Whether a member speaks of the error.
pub fn speaks(name: &str) -> bool {
    let key = key(name);
    SPEAKING.contains(&key.as_str()) || key.ends_with("msg") || IN_NAMES.is_match(&key)
}

/// Members whose insides are the caller's business, not the error's.
pub const AWAY: [&str; 8] = ["data", "metadata", "result", "links", "request", "input", "params", "signInOptions"];

/// Headers by which services tell the reason of a refusal.
pub fn tells_reason(name: &str) -> bool {
    let told = ["-reason", "loginreason", "-notice", "errortype"];
    let error = ["error-code", "error_code", "error-message", "error_message", "error-description", "error-detail"];
    let ends = name.ends_with("-error") || name.ends_with("_error") || told.iter().any(|end| name.ends_with(end));
    name.starts_with("x-error") || ends || error.iter().any(|part| name.contains(part))
}

/// The HTTP status that a gRPC status stands for.
pub fn grpc(value: &str) -> Option<u16> {
    Some(match value.trim() {
        "16" => 401,
        "7" => 403,
        "8" => 429,
        "5" => 404,
        "3" | "9" | "11" => 400,
        "6" | "10" => 409,
        "1" | "2" | "4" | "13" | "14" | "15" => 503,
        "12" => 501,
        _ => return None,
    })
}

pub fn percent_decoded(value: &str) -> String {
    let plain = value.replace('+', "%2B");
    url::form_urlencoded::parse(plain.as_bytes()).map(|(name, _)| name.into_owned()).next().unwrap_or_default()
}

/// Elements that hold text alone: name without prefix, and text.
pub fn leaves(xml: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = xml;
    std::iter::from_fn(move || {
        loop {
            let open = rest.find('<')?;
            let close = open + rest[open..].find('>')?;
            let tag = &rest[open + 1..close];
            let after = &rest[close + 1..];
            rest = after;
            if tag.starts_with(['/', '?', '!']) || tag.ends_with('/') {
                continue;
            }
            let end = after.find('<').unwrap_or(after.len());
            let (text, name) = (after[..end].trim(), tag.split_whitespace().next().unwrap_or_default());
            if after[end..].starts_with("</") && !text.is_empty() {
                rest = &after[end..];
                return Some((name.rsplit(':').next().unwrap_or(name), text));
            }
        }
    })
}

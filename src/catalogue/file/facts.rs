//! What a file tells for people and for the calls that credd makes on their behalf: consent, limits, the card.

use std::collections::BTreeMap;

use super::{
    super::{Answer, Consent, Fact, NarrowBy, Narrowing, Pkce, RateLimit, Reset, Topic, toml_reader::Table},
    address, header_name, set, set_some,
};

/// `[authorize]`.
pub fn authorize(table: &Table<'_, '_>, consent: &mut Consent) {
    set(&mut consent.parameters, table.map("parameters"));
    let words = [("required", Pkce::Required), ("supported", Pkce::Supported), ("unsupported", Pkce::Unsupported)];
    set_some(&mut consent.pkce, table.word("pkce", &words));
    table.finish();
}

/// `[rate_limit]`.
pub fn rate_limit(table: &Table<'_, '_>) -> RateLimit {
    let ways = [
        ("seconds", Reset::Seconds),
        ("milliseconds", Reset::Milliseconds),
        ("epoch", Reset::Epoch),
        ("epoch_milliseconds", Reset::EpochMilliseconds),
        ("date", Reset::Date),
    ];
    let rate_limit = RateLimit {
        limit: header_name(table, "limit"),
        remaining: header_name(table, "remaining"),
        reset: header_name(table, "reset"),
        reset_is: table.word("reset_is", &ways),
    };
    if rate_limit.reset.is_some() != rate_limit.reset_is.is_some() {
        table.wrong("\"reset\" and \"reset_is\" go together: which header, and how it is written");
    }
    table.finish();
    rate_limit
}

/// `[unattended]`.
pub fn unattended(table: &Table<'_, '_>) -> BTreeMap<Topic, Fact> {
    let answers = [("yes", Answer::Yes), ("partly", Answer::Partly), ("no", Answer::No)];
    let facts = Topic::ALL.iter().filter_map(|(name, topic)| {
        let fact = table.table(name)?;
        let answer = fact.word("answer", &answers);
        if answer.is_none() && !fact.members().any(|(name, _)| name == "answer") {
            fact.wrong("\"answer\" is missing: yes, partly or no");
        }
        let (source, note) = (address(&fact, "source"), fact.text("note"));
        fact.finish();
        Some((*topic, Fact { answer: answer?, source, note }))
    });
    let facts = facts.collect();
    table.finish();
    facts
}

/// `[narrow]`.
pub fn narrow(table: &Table<'_, '_>) -> Option<Narrowing> {
    let ways = [("body", NarrowBy::Body), ("scope", NarrowBy::Scope), ("session_policy", NarrowBy::SessionPolicy)];
    let by = table.word("by", &ways);
    let members = match (by, table.texts("members")) {
        (Some(NarrowBy::Scope), None) => vec!["scopes".to_owned()],
        (Some(NarrowBy::SessionPolicy), None) => vec!["policy".to_owned(), "policy_arns".to_owned()],
        (Some(NarrowBy::Body), Some(members)) if !members.is_empty() => members,
        (Some(NarrowBy::Body), _) => {
            table.wrong("\"by\" is \"body\": say which \"members\" of the request's body narrow the token");
            vec![]
        }
        (Some(_), Some(_)) => {
            table.wrong("\"members\" goes with by = \"body\" alone");
            vec![]
        }
        (None, _) => {
            if !table.members().any(|(name, _)| name == "by") {
                table.wrong("\"by\" is missing: body, scope or session_policy");
            }
            vec![]
        }
    };
    table.finish();
    Some(Narrowing { by: by?, members })
}

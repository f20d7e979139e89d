//! What on-call is told of a credential: the facts behind pages, in words.

use super::effects::Note;
use crate::{
    credential::{CredentialId, Failure, Rotation, Verdict},
    incident::words::{self, MEND},
    ledger::{Fact, FactChange},
    lifecycle::{Effect, Incident},
};

/// The fact that an effect makes for on-call, if it does.
pub(super) fn fact(
    effect: &Effect,
    watched: &super::Watched,
    life: &crate::lifecycle::Lifecycle,
    at: jiff::Timestamp,
    note: &Note,
) -> Option<Fact> {
    let (incident, change) = match effect {
        Effect::Raise(incident) => (*incident, raise(*incident, watched, life)),
        Effect::Clear(incident) => {
            let why = note.event.map_or("it passed", |event| match event {
                "refreshed" => "refreshed",
                "loaded" => "new material in its home store",
                "probed" => "a probe succeeded",
                "released" => "an operator released it",
                other => other,
            });
            (*incident, FactChange::Clear { why: why.to_owned() })
        }
        _ => return None,
    };
    let assignment = &watched.assignment;
    let group = if incident == Incident::ClientMisconfigured {
        assignment.endpoint()
    } else {
        assignment.provider.name.clone()
    };
    // A cut's grant is its whole's: one death, one incident.
    let grant = assignment.whole.as_ref().filter(|_| incident == Incident::CredentialRevoked);
    let credential = grant.unwrap_or(&assignment.id).to_string();
    Some(Fact { kind: incident.as_str().to_owned(), credential, group, change, at })
}

/// A cut that ended while its whole was in doubt: the death of the whole explains it.
pub(super) fn explained(cut: &CredentialId, whole: &super::Watched, at: jiff::Timestamp) -> Fact {
    Fact {
        kind: Incident::CredentialExpired.as_str().to_owned(),
        credential: cut.to_string(),
        group: whole.assignment.provider.name.clone(),
        change: FactChange::Clear { why: "its whole was revoked".to_owned() },
        at,
    }
}

/// What a page says: what, the evidence, what credd already tried, and the one command that mends it.
fn raise(incident: Incident, watched: &super::Watched, life: &crate::lifecycle::Lifecycle) -> FactChange {
    let assignment = &watched.assignment;
    let (name, provider) = (&assignment.id, &assignment.provider.name);
    let end = life.validity().and_then(|validity| validity.expires_at);
    let until = end.map_or_else(|| "it has no known end".to_owned(), |end| format!("it ends at {end}"));
    let (severity, summary, tried, mend) = match incident {
        Incident::CredentialRevoked => (
            "critical",
            format!("{name} was revoked by {provider}"),
            "credd asked the home store for a newer secret and the provider once more, then stopped calling."
                .to_owned(),
            watched.remedy(),
        ),
        Incident::RotationOutcomeUnknown => {
            let meanwhile = format!(
                "The current token is served meanwhile ({until}); credd presents the old grant once more when it is safe."
            );
            match watched.lost.as_ref().and_then(|lost| lost.unreadable.as_deref()) {
                None => (
                    "critical",
                    format!("{name}: a refresh was sent to {provider} and its reply was lost"),
                    meanwhile,
                    format!("if it does not resolve by itself, re-authorise: {}", watched.remedy()),
                ),
                Some(reason) => (
                    "critical",
                    format!("{name}: {provider} answered a refresh with success, and credd cannot read its reply"),
                    format!("The reply was kept and is read again at each start: {reason}. {meanwhile}"),
                    format!(
                        "correct the provider's file, or install a credd that knows this reply, and restart credd; \
                         or re-authorise: {}",
                        watched.remedy()
                    ),
                ),
            }
        }
        Incident::CredentialExpired => (
            "critical",
            format!("{name} has expired and could not be refreshed"),
            "credd goes on trying.".to_owned(),
            format!("credd status, then: credd refresh {name}"),
        ),
        Incident::ClientMisconfigured if life.trouble().is_some_and(|trouble| is_ours(&trouble.verdict)) => (
            "warning",
            format!("{name}: no request to {provider} can be made, because something here is missing or changed"),
            "Nothing was sent. credd tries again when the settings or the secret change.".to_owned(),
            life.trouble().map(|trouble| watched.correction(&trouble.verdict)).unwrap_or_default(),
        ),
        Incident::ClientMisconfigured => (
            "warning",
            format!("{provider} refuses the client of {name}"),
            "credd tries again every 15 minutes and when the settings or the secret change.".to_owned(),
            format!(
                "correct the client's id, secret or scopes; if that was done at {provider}, try at once: \
                 credd release {name}"
            ),
        ),
        Incident::OrphanPromoted => (
            "warning",
            format!("{name}: its grant was refused, and the one of an earlier reply took its place"),
            "That reply had come too late for its own refresh and was kept. The next refresh proves its grant."
                .to_owned(),
            format!("look who else changes this secret: credd audit --credential {name}"),
        ),
        Incident::LedgerRolledBack => (
            "critical",
            format!("{name}: the ledger is older than what it had reached, so its refresh token was spent already"),
            format!(
                "credd does not present it, because {provider} may then revoke the whole grant. The current token is \
                 served meanwhile ({until}). The home store has nothing newer."
            ),
            format!(
                "restore a newer ledger, or re-authorise: {}; if it is certain that the token was never used: \
                 credd release {name}",
                watched.remedy()
            ),
        ),
        Incident::DuplicateOwner => (
            "critical",
            format!("{name}: another credd may own this grant, so this one makes no calls for it"),
            "This ledger was used on another machine before, or somebody else has advanced the grant. What the home \
             store brings is served meanwhile."
                .to_owned(),
            format!("make sure that no other credd uses a copy of this ledger, then here: credd release {name}"),
        ),
        Incident::RefreshThrottled => (
            "warning",
            format!("{name}: {provider} hands out lifetimes that are malformed or absurd"),
            "credd limits its refreshes so that the grant is not burnt.".to_owned(),
            format!("look at the provider's answers: credd audit --credential {name}"),
        ),
    };
    let evidence = life.trouble().map_or_else(String::new, |trouble| {
        let verdict = &trouble.verdict;
        let failure =
            if incident == Incident::CredentialRevoked { Failure::CredentialRevoked } else { verdict.failure };
        format!(
            "Evidence: {failure}{}{} (rule {})\n",
            verdict.code.as_ref().map_or_else(String::new, |code| format!(", code {code}")),
            if verdict.evidence.is_empty() { String::new() } else { format!(", {}", verdict.evidence) },
            verdict.rule
        )
    });
    let lost = watched.lost.as_ref().filter(|_| incident == Incident::RotationOutcomeUnknown || was_lost(life));
    let lost = lost.map_or_else(String::new, |lost| {
        format!(
            "Attempt: {}, sent at {}: {}; {provider} {} (what became of it: credd audit --credential {name})\n",
            lost.attempt,
            words::date(lost.sent_at),
            words::one_line(&lost.how, 200),
            old_token(assignment.provider.rotation),
        )
    });
    let body = format!(
        "Credential: {name}\nProvider: {provider}\nHome store: {}\n{evidence}{lost}Tried: {tried}\n{MEND}{mend}\n",
        assignment.store_name
    );
    FactChange::Raise { severity: severity.to_owned(), summary, body }
}

/// The request could not be made: nobody has refused anything.
fn is_ours(verdict: &Verdict) -> bool {
    matches!(verdict.cause.as_deref(), Some("request" | "client_binding"))
}

/// What the provider does with the refresh token that was presented.
fn old_token(rotation: Rotation) -> &'static str {
    match rotation {
        Rotation::None => "does not change refresh tokens",
        Rotation::Grace => "lets the old refresh token work for a while",
        Rotation::UntilFirstUse => "lets the old refresh token work until the new one is used",
        Rotation::Strict => "ends the old refresh token at once",
        Rotation::Sporadic => "changes refresh tokens now and then",
        Rotation::Unknown => "may or may not have ended the old refresh token",
    }
}

/// RR-4: the grant did not die of itself, its successor was lost on the way.
fn was_lost(life: &crate::lifecycle::Lifecycle) -> bool {
    life.trouble().is_some_and(|trouble| trouble.verdict.cause.as_deref() == Some("rotation_lost"))
}

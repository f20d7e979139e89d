//! What holds for a provider that nobody described: reads a reply by its structure and the common phrasings.

mod challenge;
mod claim;
mod lexicon;
mod localised;
mod members;
mod observe;
mod page;
mod phrase;
mod search;
mod weight;
mod words;

pub use members::key;
pub use observe::{Form, Observed};

use lexicon::ENTRIES;
use phrase::Meaning;

use super::Surface;
use crate::credential::Failure;

/// Authentication schemes (RFC 7235 registry and common others): their bare names say nothing.
const SCHEMES: [&str; 14] = [
    "bearer",
    "basic",
    "digest",
    "dpop",
    "oauth",
    "negotiate",
    "ntlm",
    "mutual",
    "hoba",
    "token",
    "gnap",
    "privatetoken",
    "hawk",
    "aws4-hmac-sha256",
];

/// What generic knowledge makes of a reply.
#[derive(Debug)]
pub struct Finding {
    /// One of the nine words.
    pub failure: Failure,
    /// A finer word.
    pub cause: &'static str,
    /// Where it departs from what the failure usually means.
    pub retryable: Option<bool>,
    /// Where it departs from what the failure usually means.
    pub needs_human: Option<bool>,
    /// Which statement of the reply decided, if one did.
    pub statement: Option<usize>,
    /// From which byte on it is worth quoting.
    pub from: usize,
}

impl Finding {
    fn of(failure: Failure, cause: &'static str) -> Self {
        Self { failure, cause, retryable: None, needs_human: None, statement: None, from: 0 }
    }

    fn retryable(self, retryable: bool) -> Self {
        Self { retryable: Some(retryable), ..self }
    }

    fn human(self) -> Self {
        Self { needs_human: Some(true), ..self }
    }
}

/// Keys that nothing renews: once expired, a person must make a new one.
pub fn is_static(presented: &str) -> bool {
    matches!(presented, "api_key" | "pat" | "bot_token" | "client_secret" | "password" | "signing_key")
}

/// What buys access tokens: refused by name, it is dead.
fn is_grant(presented: &str, surface: Surface) -> bool {
    presented == "refresh_token" || (presented == "session_token" && surface == Surface::TokenEndpoint)
}

/// Good for one use; a refused one says nothing about any grant.
fn is_one_time(presented: &str) -> bool {
    matches!(presented, "authorization_code" | "device_code")
}

/// A client that proves itself by its secret, at the token endpoint.
fn is_client(observed: &Observed<'_>) -> bool {
    let refusal = &observed.refusal;
    matches!(refusal.presented, "client_secret" | "client_credentials") && refusal.surface == Surface::TokenEndpoint
}

/// Judges a reply. Total: there is always a finding.
pub fn judge(observed: &Observed<'_>) -> Finding {
    if let Some(finding) = page::judge(observed) {
        return finding;
    }
    let status = observed.status();
    if (200..300).contains(&status) && !observed.claims_error() {
        return by_status(observed, status);
    }
    let candidates = search::candidates(observed.statements.iter().map(|said| said.words.as_str()));
    let found = candidates
        .into_iter()
        .find(|(said, at)| said.is_in(&observed.statements[*at].words) && weight::counts(observed, *at, said.entry));
    match found {
        Some((phrasing, at)) => {
            let said = &observed.statements[at];
            let entry = &ENTRIES[phrasing.entry];
            let finding = meaning(observed, entry.meaning, entry.name, &said.words);
            // A server in trouble says much; never that a person must act on a credential.
            if observed.refusal.reply.status >= 500 && finding.failure == Failure::CredentialRevoked {
                return by_status(observed, status);
            }
            // A page proves no death, whoever wrote it.
            if observed.form == Form::Html && !said.header && finding.failure == Failure::CredentialRevoked {
                return Finding::of(Failure::CredentialRejected, "page");
            }
            Finding { statement: Some(at), from: phrasing.place(&said.words, &said.raw), ..finding }
        }
        None if observed.form == Form::Html => page::by_status(observed),
        None => by_status(observed, status),
    }
}

fn meaning(observed: &Observed<'_>, meaning: Meaning, name: &'static str, words: &str) -> Finding {
    use Failure::{
        ClientMisconfigured, CredentialExpired, CredentialRejected, CredentialRevoked, InsufficientScope,
        NotACredentialFailure, RateLimitReached, UpstreamUnavailable,
    };
    let presented = observed.refusal.presented;
    let grant = is_grant(presented, observed.refusal.surface);
    let fixed = is_static(presented);
    if is_one_time(presented)
        && matches!(
            meaning,
            Meaning::DeadGrant
                | Meaning::Expired
                | Meaning::ExpiredOrDead
                | Meaning::Ambiguous
                | Meaning::Rejected
                | Meaning::InvalidGrant
        )
    {
        return Finding::of(ClientMisconfigured, "one_time_code");
    }
    let status = observed.status();
    match meaning {
        // RFC 8628 §3.5, RFC 6749 §4.1.2.1: the person said no.
        Meaning::Scope
            if name == "forbidden"
                && words.contains("denied")
                && is_one_time(presented)
                && observed.refusal.surface == Surface::TokenEndpoint =>
        {
            Finding::of(CredentialRevoked, "consent_denied")
        }
        // A scope that a call lacks, or one that a token request must not ask for.
        Meaning::Config if name == "scope" && observed.refusal.surface != Surface::TokenEndpoint => {
            Finding::of(InsufficientScope, name)
        }
        // "Unauthorized" under 403: who it is, is known; what it may, is not enough.
        Meaning::Rejected
            if name == "unauthorized"
                && status == 403
                && observed.refusal.surface != Surface::TokenEndpoint
                && !observed.flagged() =>
        {
            Finding::of(InsufficientScope, name)
        }
        // Who presents a token signs nothing himself: the signature that is over is the token's.
        Meaning::Skew
            if name == "signature_expired"
                && matches!(presented, "oauth_access_token" | "service_account_jwt" | "session_token") =>
        {
            Finding::of(CredentialExpired, "expired")
        }
        Meaning::Skew if name == "signature_expired" && grant => Finding::of(CredentialRevoked, "expired"),
        Meaning::Skew => Finding::of(ClientMisconfigured, name).retryable(true).no_human(),
        Meaning::Dead | Meaning::DeadGrant => Finding::of(CredentialRevoked, name),
        // What a cache has forgotten was never said to be over; a token that is minted anew will be in it.
        Meaning::Expired if fixed && name == "not_in_cache" => Finding::of(CredentialRejected, name),
        // That it should be made anew does not say that it cannot be.
        Meaning::Expired if name == "refresh_wanted" && fixed && !words.contains("expired") => {
            Finding::of(CredentialRejected, name)
        }
        Meaning::Expired if grant || fixed => Finding::of(CredentialRevoked, name),
        Meaning::Expired => Finding::of(CredentialExpired, name),
        Meaning::ExpiredOrDead if grant || fixed => Finding::of(CredentialRevoked, name),
        // Whom "unauthorized" is about, the client or the grant, it does not say; a key or a header is no grant.
        Meaning::Rejected
            if grant
                && !(name == "authentication_failed" && words.contains("credential"))
                && (name != "rejected" || ["api key", "apikey", "header"].iter().any(|of| words.contains(of))) =>
        {
            Finding::of(CredentialRejected, name)
        }
        Meaning::Ambiguous | Meaning::Rejected if grant => Finding::of(CredentialRevoked, name),
        // A client that proves itself by a secret, refused where it does so: the secret or the id is wrong.
        Meaning::Ambiguous | Meaning::Rejected if is_client(observed) => {
            Finding::of(ClientMisconfigured, "client_refused")
        }
        Meaning::ExpiredOrDead | Meaning::Ambiguous | Meaning::Rejected => Finding::of(CredentialRejected, name),
        Meaning::InvalidGrant => match presented {
            "refresh_token" | "session_token" | "service_account_jwt" => Finding::of(CredentialRevoked, name),
            "client_credentials" | "client_secret" => Finding::of(ClientMisconfigured, name),
            _ => Finding::of(CredentialRejected, name),
        },
        Meaning::Scope if name == "forbidden" && is_client(observed) => {
            Finding::of(ClientMisconfigured, "client_refused")
        }
        Meaning::Scope => Finding::of(InsufficientScope, name),
        Meaning::Config => Finding::of(ClientMisconfigured, name),
        Meaning::Rate => Finding::of(RateLimitReached, name),
        Meaning::Unavailable => Finding::of(UpstreamUnavailable, name),
        Meaning::Money | Meaning::Network | Meaning::Feature => Finding::of(NotACredentialFailure, name).human(),
        Meaning::Challenge | Meaning::Pending => Finding::of(NotACredentialFailure, name).retryable(true),
        Meaning::Unrelated => Finding::of(NotACredentialFailure, name),
    }
}

/// No phrase decided: the status is what is left.
fn by_status(observed: &Observed<'_>, status: u16) -> Finding {
    use Failure::{
        ClientMisconfigured, CredentialExpired, CredentialRejected, CredentialRevoked, InsufficientScope,
        NotACredentialFailure, RateLimitReached, Unclassified, UpstreamUnavailable,
    };
    let token_endpoint = observed.refusal.surface == Surface::TokenEndpoint;
    let publish = observed.refusal.surface == Surface::Publish;
    let says = !observed.statements.is_empty();
    match status {
        300..=399 => Finding::of(ClientMisconfigured, "redirect"),
        401 | 498
            if token_endpoint && is_grant(observed.refusal.presented, observed.refusal.surface) && status == 498 =>
        {
            Finding::of(CredentialRevoked, "status")
        }
        401 | 498 => Finding::of(CredentialRejected, "status"),
        419 | 440 => Finding::of(CredentialExpired, "session_timeout"),
        402 => Finding::of(NotACredentialFailure, "payment_required").human(),
        403 if publish => Finding::of(InsufficientScope, "publish_forbidden"),
        // A token endpoint says no in OAuth's words. Without any, a gateway before it spoke (RF-21).
        403 if !says && token_endpoint => Finding::of(NotACredentialFailure, "status").human(),
        403 if !says => Finding::of(InsufficientScope, "status"),
        403 if observed.form == Form::Text => Finding::of(NotACredentialFailure, "status").human(),
        407 => Finding::of(ClientMisconfigured, "proxy_authentication"),
        408 | 425 | 499 => Finding::of(UpstreamUnavailable, "timeout"),
        429 | 509 => Finding::of(RateLimitReached, "status"),
        451 => Finding::of(NotACredentialFailure, "unavailable_for_legal_reasons").human(),
        500.. => Finding::of(UpstreamUnavailable, "status"),
        400 | 403 if token_endpoint => Finding::of(Unclassified, "unknown_reply"),
        200..=299 if token_endpoint && says => Finding::of(Unclassified, "unknown_reply"),
        200..=299 => Finding::of(NotACredentialFailure, "no_error"),
        // Registries do not tell strangers that a package exists: whoever may not write it is told that it is not there.
        404 if publish => Finding::of(CredentialRejected, "publish_not_found"),
        400..=499 => Finding::of(NotACredentialFailure, "request"),
        _ => Finding::of(Unclassified, "unknown_reply"),
    }
}

impl Finding {
    fn no_human(self) -> Self {
        Self { needs_human: Some(false), ..self }
    }
}

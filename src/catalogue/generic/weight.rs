//! Which phrases count under which status, on which surface, and for whom.

use super::{Form, Observed, is_one_time, lexicon::ENTRIES, observe::Statement, phrase::Meaning};
use crate::catalogue::Surface;

/// Whether a phrase may decide under this status: some statuses speak louder than words.
pub fn counts(observed: &Observed<'_>, at: usize, entry: usize) -> bool {
    use Meaning::{
        Ambiguous, Challenge, Config, Dead, DeadGrant, Expired, ExpiredOrDead, Money, Network, Pending, Rate, Rejected,
        Scope, Skew, Unavailable, Unrelated,
    };
    let statement = &observed.statements[at];
    let meaning = ENTRIES[entry].meaning;
    let token_endpoint = observed.refusal.surface == Surface::TokenEndpoint;
    // An error type that only says whose fault it is ("invalid_request_error").
    if statement.code && statement.words.starts_with("invalid request error") {
        return false;
    }
    // OpenID Connect's code, not the sentence that any API says to a stranger.
    if ENTRIES[entry].name == "login_required" && !token_endpoint && !statement.raw.contains('_') {
        return false;
    }
    // A coupon has a code too.
    if ENTRIES[entry].name == "code_refused" && !token_endpoint && !is_one_time(observed.refusal.presented) {
        return false;
    }
    // RFC 6749 §5.2; elsewhere it is anybody's word for a bad request.
    if ENTRIES[entry].name == "invalid_request" && !token_endpoint {
        return false;
    }
    let name = ENTRIES[entry].name;
    let publish = observed.refusal.surface == Surface::Publish;
    // Where the address itself is the credential, a link that is over is nothing else.
    if matches!(name, "one_time_code_expired" | "signature_expired")
        && matches!(observed.refusal.presented, "signed_url" | "sas_token")
    {
        return false;
    }
    // Many things are over, deleted or invalid; outside the token endpoint it must be said of what was presented.
    if !token_endpoint && matches!(observed.status(), 200..=299 | 400 | 403) {
        let named = names_credential(statement) || statement.header;
        let whole = statement.code && matches!(statement.words.as_str(), "expired" | "revoked");
        if name == "expired"
            && !named
            && !whole
            && !matches!(observed.refusal.presented, "signed_url" | "sas_token")
            && !statement.words.contains("request has expired")
            && !statement.words.contains("request expired")
        {
            return false;
        }
        // A query that is too old or wrong is none of ours.
        if name == "listed_causes" && !named && !["account", "user"].iter().any(|of| statement.words.contains(of)) {
            return false;
        }
        // An invitation is revoked too.
        let whose = ["account", "user", "access", "app", "authori", "consent", "webhook", "no service", "team", "hook"];
        if (name == "expired_or_revoked"
            || (name == "revoked" && ["revoked", "no longer"].iter().any(|of| statement.words.contains(of))))
            && !named
            && !whole
            && !whose.iter().any(|noun| statement.words.contains(noun))
        {
            return false;
        }
    }
    // Whom one looks for, unless nobody else is spoken of.
    if name == "rejected" && statement.words == "user not found" && !token_endpoint && observed.status() != 401 {
        return false;
    }
    // Nobody whom we write to, but we are blocked.
    if name == "blocked_by_recipient" && (observed.status() == 401 || token_endpoint) {
        return false;
    }
    // The account that money or words go to is not the one that asks.
    let theirs = ["destination", "recipient", "beneficiary", "payee", "counterparty", "receiver", "cardholder"];
    if matches!(name, "account_blocked" | "account_locked" | "revoked")
        && !token_endpoint
        && observed.status() != 401
        && observed.statements.iter().any(|said| theirs.iter().any(|of| said.words.contains(of)))
    {
        return false;
    }
    // A payment's authorization is cancelled too.
    if name == "authorization_withdrawn" && !token_endpoint && !matches!(observed.status(), 401 | 403) {
        return false;
    }
    // Whoever wants to be asked again because a token is over, has said what is wrong with it.
    if name == "interaction_required"
        && statement.words.contains("expired")
        && ["reauth", "re auth"].iter().any(|again| statement.words.contains(again))
        && !["consent", "password", "factor", "mfa"].iter().any(|other| statement.words.contains(other))
    {
        return false;
    }
    // The mere word "owner" is about rights where the status is, and nowhere else.
    if name == "words_of_rights" {
        return observed.status() == 403 && !token_endpoint;
    }
    // A parameter that is wrong, unless it is the one that carries the credential.
    if name == "request_field" {
        let carries = ["token", "auth", "api", "credential", "client", "secret", "signature", "bearer"];
        return !token_endpoint
            && !statement.code
            && matches!(observed.status(), 400 | 422)
            && !carries.iter().any(|noun| statement.words.contains(noun));
    }
    match observed.status() {
        300..=399 | 451 => false,
        // Who says when to come again means a limit, whatever it sells beside it.
        429 if meaning == Money && statement.words.contains("try again in") => false,
        429 => {
            matches!(meaning, Money | Unavailable | Challenge | Rate | Network)
                && !matches!(name, "try_later" | "upgrade_offered")
        }
        // A number of the service's own that looks like a status: its words know better.
        500.. if observed.refusal.reply.status < 300 && names_credential(statement) => true,
        // Never proof that a grant is dead. SOAP 1.1 sends every fault with 500 (§6.2), some services every refusal.
        500.. => match meaning {
            Rejected if observed.form == Form::Json && observed.status() == 500 => {
                statement.words.split(' ').count() <= 6 && about_credential(&statement.words, meaning)
            }
            Skew if observed.form == Form::Xml => true,
            Expired | Skew | Rate | Unavailable => about_credential(&statement.words, meaning),
            Rejected | Ambiguous | Config | Scope | ExpiredOrDead | Unrelated => {
                observed.form == Form::Xml && observed.status() == 500 && names_credential(statement)
            }
            _ => false,
        },
        404 if publish && names_credential(statement) => !matches!(meaning, Unrelated | Pending | Meaning::Challenge),
        404 | 405 | 406 | 409 | 410 | 411..=418 | 422 if !token_endpoint => match meaning {
            Dead | DeadGrant | Expired | ExpiredOrDead => {
                about_credential(&statement.words, meaning)
                    || (meaning == Dead
                        && (name == "reconnect"
                            || (statement.words.contains("your account") && !statement.words.contains("pending"))
                            || statement.words.contains("consent")))
            }
            Rate | Skew => true,
            // Subscriptions and plans are things too, which may be gone.
            Money => !matches!(observed.status(), 404 | 410),
            Unrelated => true,
            // Whoever does not know our key says so, whatever the status; other keys may just not be there.
            Rejected => {
                let presented = ["api key", "apikey", "access token", "api token"];
                let ours = presented.iter().any(|noun| statement.words.contains(noun));
                observed.status() == 404 && (name == "unknown_key_id" || (ours && statement.words.contains("invalid")))
            }
            // What some libraries answer to a token that is none.
            Config => observed.status() == 422 && matches!(name, "malformed_credential" | "authorization_scheme"),
            Pending => observed.status() == 409,
            _ => false,
        },
        // A bare "forbidden" repeats the status, and only there does it mean rights.
        400 | 401 if name == "forbidden" && !token_endpoint => false,
        // "Not authorized for this resource" under 401 is the status in words; under 403 it is about rights.
        401 if name == "permission"
            && !names_user(&statement.words)
            && BARE.iter().any(|bare| statement.words.ends_with(bare)) =>
        {
            false
        }
        // A form may want somebody's password, or the secret of a webhook.
        400 if name == "credential_missing" && !token_endpoint => {
            ["token", "api", "auth", "credential", "bearer", "header", "sign", "session", "jwt"]
                .iter()
                .any(|noun| statement.words.contains(noun))
        }
        // Some deeds want a proven address of whoever is known already.
        400 if name == "interaction_required" && !token_endpoint && statement.words.contains("mail") => false,
        // A validation error may name anybody's organization.
        400 if name == "organization_unknown" => false,
        // A second factor is asked for even there.
        402 => meaning == Unrelated || (name == "interaction_required" && statement.words.contains("factor")),
        _ => true,
    }
}

/// Whether a sentence says which user it is about, and so knows him.
fn names_user(words: &str) -> bool {
    words.contains("user ") && !words.contains("user is not")
}

/// Sentences that any 401 may carry.
const BARE: [&str; 6] = [
    "not authorized to access this resource",
    "not authorized for this resource",
    "not authorized to access this page",
    "not authorized to access this endpoint",
    "not authorized to make this call",
    "not authorized to make this request",
];

/// Whether a statement, or the member that makes it, speaks of something that is presented; of other languages one
/// cannot tell.
fn names_credential(statement: &Statement) -> bool {
    let words = &statement.words;
    const NOUNS: [&str; 18] = [
        "token",
        "key",
        "credential",
        "session",
        "jwt",
        "secret",
        "signature",
        "auth",
        "login",
        "log in",
        "password",
        "certificate",
        "grant",
        "assertion",
        "cookie",
        "bearer",
        "sas",
        "link",
    ];
    !statement.raw.is_ascii()
        || statement.place.to_ascii_lowercase().contains("auth")
        || NOUNS.iter().any(|noun| words.contains(noun))
}

fn about_credential(words: &str, meaning: Meaning) -> bool {
    let nouns =
        ["token", "key", "credential", "session", "jwt", "webhook", "secret", "signature", "no service", "nonce"];
    matches!(meaning, Meaning::Rate | Meaning::Unavailable) || nouns.iter().any(|noun| words.contains(noun))
}

//! Pages for people where an API's answer should be: gateways, portals, firewalls, noise. They prove nothing about a
//! credential.

use super::{Finding, Form, Observed, words::normalise};
use crate::credential::Failure;

/// Where the heading of a page stands among the statements.
pub const TITLE: &str = "body title";

/// What a page, or bytes that are no text, mean by their status; `None` for replies that speak for themselves.
pub fn judge(observed: &Observed<'_>) -> Option<Finding> {
    if !matches!(observed.form, Form::Html | Form::Binary) {
        return None;
    }
    // A header may know better than the page below it, and so may the heading.
    if observed.statements.iter().any(|said| (said.header && said.code) || said.place == TITLE) {
        return None;
    }
    Some(by_status(observed))
}

/// What a page means that says nothing else.
pub fn by_status(observed: &Observed<'_>) -> Finding {
    let text = observed.text[..observed.text.floor_char_boundary(8 * 1024)].to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let challenge = observed.header("cf-mitigated").is_some()
        || says(&[
            "just a moment",
            "checking your browser",
            "challenge-platform",
            "enable javascript and cookies",
            "captcha",
        ]);
    let status = observed.status();
    match status {
        403 | 429 | 503 if challenge => {
            Finding::of(Failure::NotACredentialFailure, "browser_challenge").retryable(true)
        }
        401 | 498 => Finding::of(Failure::CredentialRejected, "page"),
        407 => Finding::of(Failure::ClientMisconfigured, "proxy_authentication"),
        403 if says(&["maintenance", "temporarily unavailable"]) => {
            Finding::of(Failure::UpstreamUnavailable, "maintenance")
        }
        403 if says(&["rate limit", "too many requests", "error 1015", "over qps", "over rate"]) => {
            Finding::of(Failure::RateLimitReached, "page")
        }
        // A service's own page, whose heading says what a gateway's never would.
        403 if heading(&text).is_some_and(|words| {
            ["authentication information", "invalid token", "invalid api", "invalid credential"]
                .iter()
                .any(|sign| words.contains(sign))
        }) =>
        {
            Finding::of(Failure::CredentialRejected, "page")
        }
        403 if heading(&text).is_some_and(|words| {
            ["isnt allowed to", "is not allowed to", "permission to"].iter().any(|sign| words.contains(sign))
                && ["user", "project", "repository", "upload"].iter().any(|sign| words.contains(sign))
        }) =>
        {
            Finding::of(Failure::InsufficientScope, "page")
        }
        403 | 406 | 451 => Finding::of(Failure::NotACredentialFailure, "web_application_firewall").human(),
        402 => Finding::of(Failure::NotACredentialFailure, "payment_required").human(),
        429 => Finding::of(Failure::RateLimitReached, "page"),
        408 | 425 | 499 => Finding::of(Failure::UpstreamUnavailable, "gateway"),
        300..=399 => Finding::of(Failure::ClientMisconfigured, "redirect"),
        200..=299 => Finding::of(Failure::UpstreamUnavailable, "captive_portal"),
        400..=499 => Finding::of(Failure::NotACredentialFailure, "page"),
        _ => Finding::of(Failure::UpstreamUnavailable, "gateway"),
    }
}

/// Whether a heading speaks of what was presented, as only the service itself does.
pub fn names_credential(heading: &str) -> bool {
    ["api key", "apikey", "access token", "api token", "credentials", "crumb", "csrf", "forgery"]
        .iter()
        .any(|noun| heading.contains(noun))
}

/// The words of a page's title.
pub fn heading(page: &str) -> Option<String> {
    let start = page.find("<title").or_else(|| page.find("<TITLE"))?;
    let start = start + page[start..].find('>')? + 1;
    let end = page[start..].find('<').unwrap_or(page.len() - start);
    Some(normalise(&page[start..start + end], false))
}

//! From a refusal to a verdict: the provider's rules, then generic knowledge. Total and pure.

use super::{
    Provider, Refusal, Rule,
    generic::{self, Form, Observed, is_static},
    redact, retry,
};
use crate::credential::{Failure, Kind, Verdict};

impl Provider {
    /// Whether a reply to the probe is a refusal that proves that the credential lives.
    pub fn probe_proves(&self, kind: Kind, refusal: &Refusal<'_>) -> bool {
        let proves = self.probe(kind).and_then(|probe| probe.proves.as_ref());
        proves.is_some_and(|when| when.holds(&Observed::new(refusal)))
    }

    /// What a refusal means and why we think so. Never panics, reads at most 64 KiB of the body, and quotes no secret.
    pub fn classify(&self, refusal: &Refusal<'_>) -> Verdict {
        let observed = Observed::new(refusal);
        let mut verdict =
            match self.rules.failures.iter().find(|rule| may(rule, &observed) && rule.when.holds(&observed)) {
                Some(rule) => {
                    let verdict = plain(rule.failure, rule.cause.as_deref().unwrap_or_default(), refusal.presented);
                    let said = rule.when.body.iter().find_map(|(pointer, _)| {
                        let value = observed.json.as_ref()?.pointer(pointer)?;
                        Some(format!("body {pointer}: {}", quoted(value)))
                    });
                    let header = rule.when.header.first().and_then(|(name, _)| {
                        Some(format!("header {name}: {}", redact::quotation(refusal.reply.header(name)?)))
                    });
                    let code = rule
                        .when
                        .body
                        .iter()
                        .find_map(|(pointer, _)| redact::code(observed.json.as_ref()?.pointer(pointer)?.as_str()?));
                    Verdict {
                        retryable: rule.retryable.unwrap_or(verdict.retryable),
                        needs_human: rule.needs_human.unwrap_or(verdict.needs_human),
                        definitive: rule.definitive,
                        code,
                        rule: rule.place.clone(),
                        evidence: said.or(header).unwrap_or_else(|| fallback(&observed)),
                        ..verdict
                    }
                }
                None => {
                    let finding = generic::judge(&observed);
                    let verdict = plain(finding.failure, finding.cause, refusal.presented);
                    let evidence = finding.statement.map(|at| {
                        let statement = &observed.statements[at];
                        format!("{}: {}", statement.place, redact::quotation(&statement.raw[finding.from..]))
                    });
                    Verdict {
                        retryable: finding.retryable.unwrap_or(verdict.retryable),
                        needs_human: finding.needs_human.unwrap_or(verdict.needs_human),
                        rule: format!("generic/{}", finding.cause),
                        evidence: evidence.unwrap_or_else(|| fallback(&observed)),
                        ..verdict
                    }
                }
            };
        let codes =
            || observed.statements.iter().filter(|statement| statement.code).filter_map(|s| redact::code(&s.raw));
        verdict.code = verdict.code.or_else(|| codes().next());
        if verdict.failure == Failure::CredentialRevoked {
            verdict.definitive |= codes().any(|code| self.rules.definitive.contains(&code));
        } else {
            verdict.definitive = false;
        }
        if matches!(verdict.failure, Failure::RateLimitReached | Failure::UpstreamUnavailable) {
            verdict.retry_after =
                retry::after(&observed, &self.rate_limit, verdict.failure == Failure::RateLimitReached);
        }
        verdict
    }
}

/// A server in trouble, or a page that anybody in between may have written, proves no death, whatever a rule says.
fn may(rule: &Rule, observed: &Observed<'_>) -> bool {
    let page = matches!(observed.form, Form::Html | Form::Binary) && rule.when.header.is_empty();
    rule.failure != Failure::CredentialRevoked || (observed.refusal.reply.status < 500 && !page)
}

fn plain(failure: Failure, cause: &str, presented: &str) -> Verdict {
    let verdict = Verdict::of(failure, cause);
    if failure == Failure::CredentialRejected {
        let fixed = is_static(presented);
        return Verdict { retryable: !fixed, needs_human: fixed, ..verdict };
    }
    verdict
}

fn quoted(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| redact::quotation(&value.to_string()), redact::quotation)
}

fn fallback(observed: &Observed<'_>) -> String {
    let said = observed
        .statements
        .first()
        .map_or_else(String::new, |s| format!(", {}: {}", s.place, redact::quotation(&s.raw)));
    format!("status {}{said}", observed.refusal.reply.status)
}

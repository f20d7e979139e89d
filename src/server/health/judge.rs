//! The health document: a pure function of what is published and of the time.

use std::{collections::BTreeMap, time::Duration};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::{help, stores::StoreCheck};
use crate::{
    credential::CredentialId,
    lifecycle::State,
    publish::{Criticality, Used, View},
    server::{
        FailOn,
        unavailable::{failure, span},
    },
    web::AuthFailure,
};

/// How a credential, or the whole, does. Worse is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// All is well.
    Pass,
    /// Works, but somebody should look.
    Warn,
    /// Does not work, or soon will not.
    Fail,
}

/// What is asked of the judgement.
#[derive(Clone, Copy, Debug, Default)]
pub struct Terms {
    /// From which state on a required credential fails the whole.
    pub fail_on: FailOn,
    /// Less time left than this fails, whatever the settings say.
    pub min_ttl: Option<Duration>,
    /// Show the checks that pass, too.
    pub verbose: bool,
}

/// `application/health+json`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Document {
    /// The worst of the required; at most `warn` from the optional.
    pub status: Status,
    /// Of this format.
    pub version: &'static str,
    /// Of the program.
    pub release_id: &'static str,
    /// Which daemon.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub service_id: String,
    /// For people.
    pub notes: Vec<String>,
    /// What is wrong, one clause for each credential.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// Credentials and home stores.
    pub checks: Checks,
    /// When a failing one is tried again, at the earliest.
    #[serde(skip)]
    pub retry_after: Option<Duration>,
}

/// What was looked at: arrays of one, as the draft has it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Checks {
    /// By `name:ttl`.
    #[serde(flatten)]
    pub credentials: BTreeMap<String, [Check; 1]>,
    /// By `name:responseTime`.
    #[serde(flatten)]
    pub stores: BTreeMap<String, [StoreCheck; 1]>,
}

/// One credential in the document.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// Which.
    pub component_id: CredentialId,
    /// What it is.
    pub component_type: &'static str,
    /// Seconds left; absent when no end is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_value: Option<i64>,
    /// Of the value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_unit: Option<&'static str>,
    /// Its own status, whatever it means for the whole.
    pub status: Status,
    /// When this was judged.
    pub time: Timestamp,
    /// The user's word.
    pub state: State,
    /// What it means for the whole.
    pub criticality: Criticality,
    /// What is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// The same for agents.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<AuthFailure>,
    /// Who read it, and when last; only for callers who may know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub readers: Option<Vec<Used>>,
    /// Who may read it and is affected, while it is not well; only for callers who may know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub affected_endpoints: Vec<String>,
    /// Where this one is told alone, and what to do about it.
    pub links: BTreeMap<&'static str, String>,
}

/// Judges credentials. Those that `/health` must ignore are left out.
pub fn judge(views: &[View], now: Timestamp, terms: &Terms) -> Document {
    let watched: Vec<&View> = views.iter().filter(|view| view.criticality != Criticality::Ignore).collect();
    let mut document = empty();
    let mut wrong = Vec::new();
    for view in &watched {
        let check = check(view, now, terms);
        if check.status == Status::Pass && !terms.verbose {
            continue;
        }
        document.status = document.status.max(match view.criticality {
            Criticality::Required => check.status,
            _ => check.status.min(Status::Warn),
        });
        wrong.extend(check.output.clone());
        document.add(view, check, now);
    }
    document.notes = match (watched.len(), wrong.len()) {
        (0, _) => vec!["no credential is watched".into()],
        (all, 0) => vec![format!("{all} of {all} credentials are well")],
        (all, 1) => vec![format!("1 of {all} credentials needs attention")],
        (all, some) => vec![format!("{some} of {all} credentials need attention")],
    };
    if views.iter().any(|view| view.flags.contains(&"clock_untrusted")) {
        document.status = document.status.max(Status::Warn);
        document
            .notes
            .push("the machine's clock has jumped: time since boot alone decides until it is confirmed".into());
    }
    document.output = (!wrong.is_empty()).then(|| wrong.join("; "));
    document
}

/// Judges one credential for itself, whatever it means for the whole.
pub fn judge_one(view: &View, now: Timestamp, terms: &Terms) -> Document {
    let check = check(view, now, terms);
    let mut document = empty();
    document.status = check.status;
    document.output.clone_from(&check.output);
    document.add(view, check, now);
    document
}

fn empty() -> Document {
    Document {
        status: Status::Pass,
        version: "1",
        release_id: env!("CARGO_PKG_VERSION"),
        service_id: String::new(),
        notes: Vec::new(),
        output: None,
        checks: Checks::default(),
        retry_after: None,
    }
}

impl Document {
    fn add(&mut self, view: &View, check: Check, now: Timestamp) {
        if check.status == Status::Fail {
            let again = view.problem.as_ref().and_then(|problem| problem.retry_at);
            let again = again.map(|at| Duration::try_from(at.duration_since(now)).unwrap_or_default());
            self.retry_after = [self.retry_after, again].into_iter().flatten().min();
        }
        self.checks.credentials.insert(format!("{}:ttl", view.name), [check]);
    }
}

fn check(view: &View, now: Timestamp, terms: &Terms) -> Check {
    let (state, left) = (view.state_at(now), view.left(now));
    let status = assess(view, state, left, terms);
    let failure = (status != Status::Pass).then(|| failure(view, state, now)).flatten();
    let output = (status != Status::Pass).then(|| {
        let why = failure.as_ref().map_or(String::new(), |failure| format!(" ({})", failure.subtype));
        let time = match left {
            Some(left) if left.is_positive() => format!(", {} left", span(left)),
            Some(left) => format!(", ended {} ago", span(left)),
            None => String::new(),
        };
        format!("{}: {state}{why}{time}", view.name)
    });
    let help = (status != Status::Pass).then(|| ("help", help::link(help::heading(view, state))));
    Check {
        component_id: view.name.clone(),
        component_type: "https://credd.dev/types/credential",
        observed_value: left.map(|left| left.as_secs()),
        observed_unit: left.map(|_| "s"),
        status,
        time: now,
        state,
        criticality: view.criticality,
        output,
        failure,
        readers: None,
        affected_endpoints: vec![],
        links: [("self", format!("/health/credentials/{}", view.name))].into_iter().chain(help).collect(),
    }
}

/// How one credential does.
fn assess(view: &View, state: State, left: Option<SignedDuration>, terms: &Terms) -> Status {
    let under = |seconds: Option<u64>| match (left, seconds) {
        (Some(left), Some(seconds)) => Duration::try_from(left).unwrap_or_default() < Duration::from_secs(seconds),
        _ => false,
    };
    let by_state = match state {
        State::Fresh | State::RefreshDue => Status::Pass,
        // A flight changes nothing: what was wrong before is wrong until it lands.
        State::Refreshing if view.problem.is_none() => Status::Pass,
        State::Refreshing
        | State::Degraded
        | State::Suspect
        | State::OutcomeUnknown
        | State::Misconfigured
        | State::Held => Status::Warn,
        State::Uninitialised | State::Expired | State::Revoked => Status::Fail,
    };
    let by_time = match (under(view.ttl_fail_seconds), under(view.ttl_warn_seconds)) {
        (true, _) => Status::Fail,
        (false, true) => Status::Warn,
        (false, false) => Status::Pass,
    };
    let status = match (by_state.max(by_time), terms.fail_on) {
        (Status::Warn, FailOn::Degraded) => Status::Fail,
        (Status::Fail, FailOn::Revoked) if state != State::Revoked => Status::Warn,
        (status, _) => status,
    };
    let too_short = terms.min_ttl.is_some_and(|need| under(Some(need.as_secs())));
    if too_short { Status::Fail } else { status }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        credential::{ExpirySource, Failure, Generation, Kind},
        publish::{Problem, Subtype},
    };

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    fn view(state: State, left: Option<i64>) -> View {
        View {
            name: CredentialId::new("bot").unwrap(),
            kind: Kind::RefreshToken,
            provider: "p".into(),
            store: "embedded".into(),
            criticality: Criticality::Required,
            state,
            since: now(),
            generation: Generation(3),
            issued_at: None,
            expires_at: left.map(|left| now() + SignedDuration::from_secs(left)),
            expiry_source: ExpirySource::Response,
            refresh_expires_at: None,
            refresh_expiry_source: None,
            client_secret_expires_at: None,
            refresh_at: None,
            probe_at: None,
            last_probe_at: None,
            last_success_at: None,
            last_rotation_at: None,
            ttl_warn_seconds: Some(3600),
            ttl_fail_seconds: Some(60),
            problem: None,
            store_error: None,
            flags: vec![],
        }
    }

    fn terms(fail_on: FailOn) -> Terms {
        Terms { fail_on, ..Terms::default() }
    }

    #[test]
    fn fm66_a_clock_that_is_not_believed_is_a_warning() {
        let doubted = View { flags: vec!["clock_untrusted"], ..view(State::Fresh, Some(7200)) };
        let document = judge(&[doubted], now(), &Terms::default());
        assert_eq!(document.status, Status::Warn);
        assert!(document.notes[1].contains("clock"), "{:?}", document.notes);
    }

    #[test]
    fn each_state_has_its_status_under_each_threshold() {
        use Status::{Fail, Pass, Warn};
        let table = [
            (State::Uninitialised, Fail, Fail, Warn),
            (State::Fresh, Pass, Pass, Pass),
            (State::RefreshDue, Pass, Pass, Pass),
            (State::Refreshing, Pass, Pass, Pass),
            (State::Degraded, Fail, Warn, Warn),
            (State::Suspect, Fail, Warn, Warn),
            (State::OutcomeUnknown, Fail, Warn, Warn),
            (State::Expired, Fail, Fail, Warn),
            (State::Misconfigured, Fail, Warn, Warn),
            (State::Revoked, Fail, Fail, Fail),
            (State::Held, Fail, Warn, Warn),
        ];
        assert_eq!(table.len(), State::ALL.len());
        for (state, degraded, expired, revoked) in table {
            let judged = |fail_on| judge(&[view(state, Some(7200))], now(), &terms(fail_on)).status;
            let all = [judged(FailOn::Degraded), judged(FailOn::Expired), judged(FailOn::Revoked)];
            assert_eq!(all, [degraded, expired, revoked], "{state}");
        }
    }

    #[test]
    fn time_left_alone_turns_it_yellow_and_red_at_exactly_its_thresholds() {
        let table = [
            (Some(3601), Status::Pass),
            (Some(3600), Status::Pass),
            (Some(3599), Status::Warn),
            (Some(60), Status::Warn),
            (Some(59), Status::Fail),
            (Some(1), Status::Fail),
            (Some(0), Status::Fail),
            (Some(-5), Status::Fail),
            (None, Status::Pass),
        ];
        for (left, status) in table {
            assert_eq!(judge(&[view(State::Fresh, left)], now(), &Terms::default()).status, status, "{left:?}");
        }
        let ended = judge(&[view(State::Fresh, Some(-5))], now(), &Terms::default());
        assert_eq!(ended.checks.credentials["bot:ttl"][0].state, State::Expired, "whatever the shard said before");
    }

    #[test]
    fn criticality_decides_what_one_means_for_the_whole() {
        let with = |criticality| View { criticality, ..view(State::Revoked, None) };
        let table = [
            (Criticality::Required, Status::Fail, 1),
            (Criticality::Optional, Status::Warn, 1),
            (Criticality::Ignore, Status::Pass, 0),
        ];
        for (criticality, status, checks) in table {
            let document = judge(&[with(criticality), view(State::Fresh, None)], now(), &Terms::default());
            assert_eq!((document.status, document.checks.credentials.len()), (status, checks), "{criticality:?}");
        }
        assert_eq!(judge_one(&with(Criticality::Ignore), now(), &Terms::default()).status, Status::Fail);
    }

    #[test]
    fn a_refresh_in_flight_hides_no_earlier_failure() {
        let problem = Problem {
            failure: Subtype::Failure(Failure::RateLimitReached),
            cause: None,
            detail: "canary-detail".into(),
            since: now(),
            retry_at: Some(now() + SignedDuration::from_secs(30)),
            remedy: None,
        };
        let troubled = View { problem: Some(problem), ..view(State::Refreshing, Some(7200)) };
        let document = judge(&[troubled], now(), &Terms::default());
        assert_eq!(document.status, Status::Warn);
        let text = serde_json::to_string(&document).unwrap();
        assert!(text.contains("bot: refreshing (rate_limit_reached), 2 h 0 min left"), "{text}");
        assert!(!text.contains("canary-detail"), "evidence stays with the operator");
    }

    #[test]
    fn a_caller_may_ask_for_more_time_left() {
        let asked = |min_ttl| {
            let terms = Terms { min_ttl: Some(Duration::from_secs(min_ttl)), ..Terms::default() };
            judge(&[view(State::Fresh, Some(7200))], now(), &terms).status
        };
        assert_eq!((asked(7200), asked(7201)), (Status::Pass, Status::Fail));
    }

    #[test]
    fn a_passing_document_says_so_once() {
        let text = serde_json::to_string(&judge(&[view(State::Fresh, None)], now(), &Terms::default())).unwrap();
        assert!(text.contains(r#""status":"pass""#) && !text.contains("output"), "{text}");
        let verbose = Terms { verbose: true, ..Terms::default() };
        assert_eq!(judge(&[view(State::Fresh, None)], now(), &verbose).checks.credentials.len(), 1);
    }
}

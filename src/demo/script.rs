//! The script: what is made to go wrong, and what must then be seen. Its moments scale with the length of the demo; what
//! follows from them is waited for by looking at the daemon, at the sandbox and at the receivers.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::join_all;
use http::Method;
use serde_json::json;

use super::{
    api::{Api, Health},
    cast::{CAST, Part, who},
    crowd::Tally,
    reader::{Judged, Reader, request},
    sinks::{By, Inbox, Says},
    stage::{Stage, Withdrawn},
    view::View,
};
use crate::{
    cli::{self, client::Client},
    clock::Clock,
    credential::Reply,
    lifecycle::State,
    publish::{self, Subscriber},
    sandbox::{CallRecord, FaultKind, RetryAfter, Running},
};

/// What is still under way at the end may take so much longer.
const GRACE: Duration = Duration::from_secs(30);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(40);
/// What the provider asks for when it limits.
const ASKED: u64 = 3;
/// An outage fails so many calls; five in a row would open the breaker, which then spares the provider for 30 s, longer
/// than these tokens live.
const OUTAGE: u32 = 4;
/// Readers that are refused at once.
const REFUSED: usize = 5;

/// What is promised, in the order of telling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// Short-lived tokens are renewed ahead of their end.
    Proactive,
    /// A refusal that readers hand in is mended by one refresh.
    Refusal,
    /// A rate limit is waited out.
    RateLimit,
    /// An outage of the provider is survived.
    Outage,
    /// A revocation flips `/health` and pages.
    Revocation,
    /// A new secret heals it.
    Healing,
}

impl Promise {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Proactive, Self::Refusal, Self::RateLimit, Self::Outage, Self::Revocation, Self::Healing];
}

/// The script, and what came of it.
pub struct Script {
    /// Where it is told.
    pub view: Arc<View>,
    /// What the crowd counts.
    pub tally: Arc<Tally>,
    /// What was paged.
    pub inbox: Arc<Inbox>,
    /// How `/health` answered.
    pub health: Arc<Health>,
    clock: Arc<dyn Clock>,
    sandbox: Arc<Running>,
    grants: BTreeMap<&'static str, String>,
    withdrawn: Arc<Withdrawn>,
    api: Arc<Api>,
    subscriber: Subscriber,
    socket: PathBuf,
    length: Duration,
    outcomes: Mutex<BTreeMap<Promise, Result<String, String>>>,
}

impl Script {
    /// For this stage and that long.
    pub fn new(stage: &Stage, view: Arc<View>, length: Duration) -> Self {
        Self {
            view,
            tally: stage.tally.clone(),
            inbox: stage.inbox.clone(),
            health: stage.health.clone(),
            clock: stage.clock.clone(),
            sandbox: stage.sandbox.clone(),
            grants: stage.grants.clone(),
            withdrawn: stage.withdrawn.clone(),
            api: stage.api.clone(),
            subscriber: stage.watched(),
            socket: stage.socket().to_owned(),
            length,
            outcomes: Mutex::default(),
        }
    }

    /// Plays it all; ends when everything has happened or its time is up.
    pub async fn play(&self) {
        let trouble = async {
            let down = self.outage().await;
            let (survived, ()) = tokio::join!(self.recovery(down), self.revocation());
            self.note(Promise::Outage, survived);
        };
        let (proactive, refusal, limit, ()) =
            tokio::join!(self.proactive(), self.refusal(), self.rate_limit(), trouble);
        self.note(Promise::Proactive, proactive);
        self.note(Promise::Refusal, refusal);
        self.note(Promise::RateLimit, limit);
    }

    /// Until its length is over.
    pub async fn until_the_end(&self) {
        self.at(1.0).await;
    }

    /// What came of a promise; `None` if it never came so far.
    pub fn outcome(&self, promise: Promise) -> Option<Result<String, String>> {
        self.outcomes.lock().unwrap_or_else(PoisonError::into_inner).get(&promise).cloned()
    }

    fn note(&self, promise: Promise, outcome: Result<String, String>) {
        if let Err(why) = &outcome {
            self.view.bad(&format!("not as promised: {why}"));
        }
        self.outcomes.lock().unwrap_or_else(PoisonError::into_inner).insert(promise, outcome);
    }

    /// Every short-lived token is renewed before it ends.
    async fn proactive(&self) -> Result<String, String> {
        let short = || CAST.iter().filter(|role| matches!(role.part, Part::Short | Part::Limited));
        self.view.say("Tokens that live 12 to 24 seconds: each is renewed ahead of its end, and nobody waits.");
        self.until("a refresh of each short-lived token", || {
            let renewed = short().all(|role| self.calls(role.name).iter().any(|call| call.committed.is_some()));
            renewed.then_some(())
        })
        .await?;
        Ok(format!("{} short-lived tokens renewed ahead of their end, again and again", short().count()))
    }

    /// A session ends at the provider before its time; readers that are refused hand that in.
    async fn refusal(&self) -> Result<String, String> {
        let name = who(Part::Refused);
        self.at(0.08).await;
        let mut reader = self.reader();
        let token = reader.token(name).await?;
        expect(self.api.call(&self.sandbox.probe_url(), &token.access_token).await?, 200, "the first call")?;
        self.view.say(&format!("Somebody signs {name} out at the provider: its token is dead long before its date."));
        let url = format!("{}/revoke", self.sandbox.url);
        expect(self.api.sign_out(&url, &token.access_token).await?, 200, "the sign-out")?;
        let refused = expect(self.api.call(&self.sandbox.probe_url(), &token.access_token).await?, 401, "the next call")?;
        self.view.say(&format!("{REFUSED} readers of {name} got 401 from the API, and all hand that in at once."));
        let headers: BTreeMap<&str, &str> = refused.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
        let body = String::from_utf8_lossy(&refused.body);
        let document = json!({ "generation": token.generation, "status": 401, "headers": headers, "body": body });
        let document = Bytes::from(document.to_string());
        let path = format!("/v1/tokens/{name}/refused");
        let judged = join_all((0..REFUSED).map(|_| async {
            let answer = self.reader().ask(request(Method::POST, &path, document.clone())).await?;
            if answer.status == 200 { answer.read::<Judged>() } else { Err(answer.reason()) }
        }));
        let mut newest = None;
        for judged in judged.await {
            newest = judged?.token.filter(|new| new.generation > token.generation).or(newest);
        }
        let newest = newest.ok_or("handing in a refusal brought no newer token")?;
        expect(self.api.call(&self.sandbox.probe_url(), &newest.access_token).await?, 200, "a call with the new token")?;
        let refreshes = self.sandbox.admin().counters_of(self.grant(name)).refresh_calls;
        if refreshes != 1 {
            return Err(format!("{REFUSED} refusals of one token made {refreshes} refreshes"));
        }
        self.view.good(&format!("{name}: one refresh mended it, and the API takes the new token"));
        Ok(format!("{REFUSED} readers handed in the same 401: 1 refresh, and the API takes the new token"))
    }

    /// The provider asks for patience.
    async fn rate_limit(&self) -> Result<String, String> {
        let name = who(Part::Limited);
        self.at(0.1).await;
        let fault = FaultKind::RateLimit { retry_after: RetryAfter::Seconds(ASKED) }.next(1);
        self.sandbox.admin().fault(fault.of(self.grant(name)));
        self.view.say(&format!("The next refresh of {name} will be answered with 429 and Retry-After: {ASKED}."));
        let limited = self
            .until("the rate limit", || self.calls(name).into_iter().find(|call| call.status == Some(429)))
            .await?;
        let next = self
            .until("the refresh after the rate limit", || {
                self.calls(name).into_iter().find(|call| call.seq > limited.seq)
            })
            .await?;
        let waited = next.arrived.duration_since(limited.arrived).as_secs_f64();
        if waited < ASKED as f64 {
            return Err(format!("{name} was refreshed {waited:.1} s after a 429 that asked for {ASKED} s"));
        }
        self.until("a value after the rate limit", || {
            self.calls(name).iter().any(|call| call.seq > limited.seq && call.committed.is_some()).then_some(())
        })
        .await?;
        self.view.good(&format!("{name}: the limit was waited out ({waited:.1} s), and its readers never noticed"));
        Ok(format!("429 with Retry-After: {ASKED} was waited out ({waited:.1} s), then refreshed"))
    }

    /// The token endpoint is down until some refreshes have failed. Who was hit, and by which call last.
    async fn outage(&self) -> Result<BTreeMap<&'static str, u64>, String> {
        self.at(0.25).await;
        self.view.say("The provider's token endpoint goes down: 503 for everybody.");
        let admin = self.sandbox.admin();
        let fault = admin.fault(FaultKind::Status { status: 503, after_commit: false }.next(OUTAGE));
        let hit = || {
            let failed = |name| self.calls(name).iter().rev().find(|call| call.status == Some(503)).map(|call| call.seq);
            CAST.iter().filter_map(|role| Some((role.name, failed(role.name)?))).collect::<BTreeMap<_, _>>()
        };
        let count = || CAST.iter().flat_map(|role| self.calls(role.name)).filter(|call| call.status == Some(503)).count();
        let down = self.until("three refreshes that fail in the outage", || (count() >= 3).then_some(())).await;
        admin.clear(fault);
        down?;
        self.view.say(&format!("The provider is back, after {} refreshes that failed.", count()));
        Ok(hit())
    }

    /// Everybody who was hit is renewed.
    async fn recovery(&self, down: Result<BTreeMap<&'static str, u64>, String>) -> Result<String, String> {
        let down = down?;
        let names: Vec<&str> = down.keys().copied().collect();
        self.until("a refresh after the outage of each that it hit", || {
            let recovered = |(name, failed): (&&'static str, &u64)| {
                self.calls(name).iter().any(|call| call.seq > *failed && call.committed.is_some())
            };
            down.iter().all(recovered).then_some(())
        })
        .await?;
        self.view.good(&format!("The outage is over for {} as well: renewed.", names.join(", ")));
        Ok(format!("503 for everybody: {} lived on their old tokens, and were renewed after it", names.join(", ")))
    }

    /// A grant dies, and a person brings a new one.
    async fn revocation(&self) {
        let name = who(Part::Revoked);
        self.at(0.38).await;
        self.view.say(&format!("Somebody revokes the grant of {name} at the provider. Nobody tells credd."));
        self.withdrawn.begin(name);
        let began = self.clock.now().boot;
        self.sandbox.admin().revoke(self.grant(name));
        let outcome = self.paged(name, began).await;
        let revoked = outcome.is_ok();
        self.note(Promise::Revocation, outcome);
        self.at(0.65).await;
        let healed =
            if revoked { self.healed(name).await } else { Err("nothing to heal: the revocation was not seen".into()) };
        self.note(Promise::Healing, healed);
    }

    async fn paged(&self, name: &str, began: Duration) -> Result<String, String> {
        let since = |at: Duration| at.saturating_sub(began).as_secs_f64();
        self.until("the revocation", || self.view_of(name).filter(|view| view.state == State::Revoked)).await?;
        let seen = since(self.clock.now().boot);
        let red = self
            .until("/health turning red", || self.health.changes().last().copied().filter(|(_, status)| *status == 503))
            .await?;
        let mail = self.until("the page by e-mail", || self.inbox.first(By::Mail, Says::Opened)).await?;
        self.view.bad("PAGE by e-mail: somebody is woken");
        let hook = self.until("the page by webhook", || self.inbox.first(By::Hook, Says::Opened)).await?;
        self.view.bad("PAGE by webhook, its signature is good");
        Ok(format!(
            "found by a probe and confirmed after {seen:.1} s; /health 503 after {:.1} s; paged after {:.1} s (mail) and \
             {:.1} s (webhook)",
            since(red.0),
            since(mail.at),
            since(hook.at)
        ))
    }

    async fn healed(&self, name: &'static str) -> Result<String, String> {
        let before = self.view_of(name).ok_or("the credential is gone")?.generation;
        let role = CAST.iter().find(|role| role.name == name).ok_or("nobody plays this part")?;
        let (_, document) = role.grant(&self.sandbox);
        self.view.say(&format!("A person has connected {name} anew, and puts the new secret into the embedded store."));
        let began = self.clock.now().boot;
        let since = |at: Duration| at.saturating_sub(began).as_secs_f64();
        let client = Client::operator(&cli::Context { config: None, socket: Some(self.socket.clone()) });
        let path = format!("/v1/embedded/{name}");
        let put = client.ask(Method::PUT, &path, Some(&document)).await.map_err(|error| error.to_string())?;
        if !put.is_success() {
            return Err(put.detail());
        }
        let view = |state| self.view_of(name).filter(|view| view.generation > before && view.state == state);
        self.until("the new secret being served", || view(State::Fresh)).await?;
        self.withdrawn.end(name);
        let green = self
            .until("/health turning green", || self.health.changes().last().copied().filter(|(_, status)| *status == 200))
            .await?;
        let mail = self.until("the resolve by e-mail", || self.inbox.first(By::Mail, Says::Resolved)).await?;
        let hook = self.until("the resolve by webhook", || self.inbox.first(By::Hook, Says::Resolved)).await?;
        self.view.good("The incident is resolved, by e-mail and by webhook.");
        Ok(format!(
            "served after {:.1} s; resolved after {:.1} s (mail) and {:.1} s (webhook)",
            since(green.0),
            since(mail.at),
            since(hook.at)
        ))
    }

    /// Waits for a moment of the script.
    async fn at(&self, part: f64) {
        let moment = self.view.began.boot + self.length.mul_f64(part);
        let left = moment.saturating_sub(self.clock.now().boot);
        self.clock.sleep(left).await;
    }

    /// Looks again and again until something is seen, or the demo's time is up.
    async fn until<T>(&self, what: &str, look: impl Fn() -> Option<T>) -> Result<T, String> {
        let end = self.view.began.boot + self.length + GRACE;
        loop {
            if let Some(seen) = look() {
                return Ok(seen);
            }
            if self.clock.now().boot >= end {
                return Err(format!("{what} did not come"));
            }
            self.clock.sleep(LOOK).await;
        }
    }

    fn reader(&self) -> Reader {
        Reader::new(self.socket.clone())
    }

    fn grant(&self, name: &str) -> &str {
        self.grants.get(name).map_or("", String::as_str)
    }

    fn view_of(&self, name: &str) -> Option<publish::View> {
        self.subscriber.get(name).map(|slot| slot.current().view.clone())
    }

    /// The calls of the token endpoint with this credential's grant, as the provider saw them.
    fn calls(&self, name: &str) -> Vec<CallRecord> {
        let mut calls = self.sandbox.admin().log_of(self.grant(name));
        calls.retain(|call| call.endpoint == "token");
        calls
    }
}

fn expect(reply: Reply, status: u16, what: &str) -> Result<Reply, String> {
    if reply.status == status { Ok(reply) } else { Err(format!("{what} was answered with {}", reply.status)) }
}

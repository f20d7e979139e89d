//! The crowd: programs that read tokens all the time, each in its own way, and count what they get.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Method, header};
use http_body_util::BodyExt;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    cast::CAST,
    reader::{Answer, Reader, Token, request},
    stage::{Stage, Withdrawn},
};
use crate::clock::Clock;

/// Programs that read before each of their calls, for each credential.
const POLLERS: usize = 4;
/// What such a program does between two reads.
const WORK: Duration = Duration::from_millis(80);

/// What the crowd has counted.
#[derive(Debug, Default)]
pub struct Tally {
    /// Answers with an unexpired token, or that the one at hand is still the newest.
    pub good: AtomicU64,
    /// Any other answer while an unexpired token existed.
    pub failed: AtomicU64,
    /// Refusals while there was none, because the grant was dead.
    pub refused: AtomicU64,
    /// Tokens that were pushed to those who follow the watch stream.
    pub pushed: AtomicU64,
    /// New values that came after the old one had ended.
    pub late: AtomicU64,
    /// The longest plain read, in microseconds.
    pub slowest: AtomicU64,
    /// How the first failed read failed.
    first: Mutex<Option<String>>,
}

impl Tally {
    /// How the first failed read failed.
    pub fn first_failure(&self) -> Option<String> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn fail(&self, name: &str, why: &str) {
        self.failed.fetch_add(1, Relaxed);
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert_with(|| format!("{name}: {why}"));
    }
}

/// One reader of one credential.
struct Member {
    name: &'static str,
    reader: Reader,
    tally: Arc<Tally>,
    withdrawn: Arc<Withdrawn>,
    clock: Arc<dyn Clock>,
}

/// How many there are.
pub const fn size() -> usize {
    CAST.len() * (POLLERS + 2)
}

/// Lets them in: for each credential some that poll, one that waits for news, one that follows the stream.
pub fn gather(stage: &Stage, tasks: &TaskTracker, stop: &CancellationToken) {
    for role in &CAST {
        let member = || Member {
            name: role.name,
            reader: Reader::new(stage.socket().to_owned()),
            tally: stage.tally.clone(),
            withdrawn: stage.withdrawn.clone(),
            clock: stage.clock.clone(),
        };
        for _ in 0..POLLERS {
            tasks.spawn(stop.clone().run_until_cancelled_owned(member().poll()));
        }
        tasks.spawn(stop.clone().run_until_cancelled_owned(member().wait_for_news()));
        tasks.spawn(stop.clone().run_until_cancelled_owned(member().follow()));
    }
}

impl Member {
    /// A read before each call.
    async fn poll(mut self) {
        let path = format!("/v1/tokens/{}", self.name);
        loop {
            let (excused, began) = (self.withdrawn.has(self.name), self.clock.now().boot);
            let answer = self.reader.ask(request(Method::GET, &path, Bytes::new())).await;
            let took = self.clock.now().boot.saturating_sub(began).as_micros();
            self.tally.slowest.fetch_max(u64::try_from(took).unwrap_or(u64::MAX), Relaxed);
            self.judge(&answer, excused);
            self.clock.sleep(WORK).await;
        }
    }

    /// Long-polls: asks for something newer than what it has.
    async fn wait_for_news(mut self) {
        let path = format!("/v1/tokens/{}?wait=5s", self.name);
        let mut etag = None;
        loop {
            let excused = self.withdrawn.has(self.name);
            let mut ask = request(Method::GET, &path, Bytes::new());
            if let Some(etag) = etag.take() {
                ask.headers_mut().insert(header::IF_NONE_MATCH, etag);
            }
            let answer = self.reader.ask(ask).await;
            self.judge(&answer, excused);
            match answer {
                Ok(Answer { status: 200 | 304, etag: current, .. }) => etag = current,
                _ => self.clock.sleep(WORK).await,
            }
        }
    }

    /// Follows the watch stream (server-sent events).
    async fn follow(mut self) {
        let path = format!("/v1/watch?names={}", self.name);
        loop {
            let Ok(response) = self.reader.send(request(Method::GET, &path, Bytes::new())).await else {
                self.tally.fail(self.name, "the watch stream could not be opened");
                self.clock.sleep(WORK).await;
                continue;
            };
            let mut body = response.into_body();
            while let Some(Ok(frame)) = body.frame().await {
                // A block of events is one frame, and may be cut in two: counting the words that begin one is enough.
                let data = frame.into_data().unwrap_or_default();
                let tokens = data.split(|byte| *byte == b'\n').filter(|line| *line == b"event: token").count();
                self.tally.pushed.fetch_add(tokens as u64, Relaxed);
            }
            // The daemon ends no stream while it runs.
            self.tally.fail(self.name, "the watch stream ended");
        }
    }

    /// A failed read is any answer but an unexpired token while one existed.
    fn judge(&self, answer: &Result<Answer, String>, excused: bool) {
        let why = match answer {
            Ok(answer) if answer.status == 304 => None,
            Ok(answer) if answer.status == 200 => match answer.read::<Token>() {
                Ok(token) if token.expires_at.is_none_or(|end| end > self.clock.now().wall) => None,
                Ok(token) => Some(format!("generation {} had expired", token.generation)),
                Err(why) => Some(why),
            },
            Ok(answer) => Some(answer.reason()),
            Err(why) => Some(why.clone()),
        };
        match why {
            None => _ = self.tally.good.fetch_add(1, Relaxed),
            Some(_) if excused || self.withdrawn.has(self.name) => _ = self.tally.refused.fetch_add(1, Relaxed),
            Some(why) => self.tally.fail(self.name, &why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    #[test]
    fn a_failed_read_is_any_answer_but_an_unexpired_token_while_one_existed() {
        let member = Member {
            name: "crm",
            reader: Reader::new("/nowhere".into()),
            tally: Arc::default(),
            withdrawn: Arc::default(),
            clock: Arc::new(SystemClock),
        };
        let tally = &member.tally;
        let answer =
            |status, body: &str| Ok(Answer { status, etag: None, body: Bytes::copy_from_slice(body.as_bytes()) });
        let counts = || [&tally.good, &tally.failed, &tally.refused].map(|count| count.load(Relaxed));
        let token = |end: &str| answer(200, &format!(r#"{{"access_token":"x","generation":3,"expires_at":{end}}}"#));
        member.judge(&token(r#""9999-01-01T00:00:00Z""#), false);
        member.judge(&token("null"), false);
        member.judge(&answer(304, ""), false);
        assert_eq!(counts(), [3, 0, 0]);
        member.judge(&token(r#""2020-01-01T00:00:00Z""#), false);
        assert_eq!(tally.first_failure().as_deref(), Some("crm: generation 3 had expired"));
        member.judge(&answer(200, "{}"), false);
        member.judge(&answer(503, r#"{"failure":{"subtype":"upstream_unavailable"}}"#), false);
        member.judge(&Err("connect: refused".into()), false);
        assert_eq!(counts(), [3, 4, 0]);
        member.withdrawn.begin("crm");
        member.judge(&answer(409, "{}"), false);
        member.withdrawn.end("crm");
        member.judge(&answer(409, "{}"), true);
        assert_eq!(counts(), [3, 4, 2]);
    }
}

//! `POST /v1/tokens/{name}/refused`: a reader's call was refused; what does that mean, and is there a newer token?

use std::{collections::BTreeMap, fmt, sync::Arc};

use bytes::Bytes;
use http::{Request, StatusCode, header};
use hyper::body::Incoming;
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::Value;
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::{Desk, Response, Target, answer};
use crate::{
    catalogue::{SURFACES, Surface},
    credential::{Generation, Reply},
    publish::{Answer, Ask, Edition, Peer},
    web::{self, AuthFailure, Problem},
};

/// What a reader hands in.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Refusal {
    /// The generation that the refused call carried.
    generation: Generation,
    /// The upstream's status.
    status: u16,
    /// Where it was met, in the catalogue's words; `api` where it is not said.
    #[serde(default = "api", deserialize_with = "as_surface")]
    surface: Surface,
    /// Its headers: an object, whose values may be lists, or a list of pairs.
    #[serde(default)]
    headers: Headers,
    /// Its body as text, or as the JSON that it was.
    #[serde(default, deserialize_with = "as_text")]
    body: Option<Zeroizing<String>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Headers {
    Pairs(Vec<(String, String)>),
    Map(BTreeMap<String, OneOrMany>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl Default for Headers {
    fn default() -> Self {
        Self::Pairs(Vec::new())
    }
}

impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Refusal(generation {}, status {})", self.generation, self.status)
    }
}

fn api() -> Surface {
    Surface::Api
}

fn as_surface<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Surface, D::Error> {
    let word = String::deserialize(deserializer)?;
    let found = SURFACES.iter().find(|(name, _)| *name == word).map(|(_, surface)| *surface);
    found.ok_or_else(|| D::Error::custom("no such surface"))
}

fn as_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Zeroizing<String>>, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::Null => None,
        Value::String(text) => Some(text.into()),
        json => Some(json.to_string().into()),
    })
}

impl Refusal {
    /// Reads what was handed in. The error says where, never what.
    fn parse(document: &[u8]) -> Result<Self, String> {
        serde_json::from_slice::<Self>(document)
            .map_err(|error| {
                format!(
                    "line {} column {}: this is not {{\"generation\": number, \"status\": number, \"headers\": object, \
                     \"body\": text}}, with a \"surface\" if it was not an API's call: {}",
                    error.line(),
                    error.column(),
                    SURFACES.map(|(word, _)| word).join(", ")
                )
            })
            .and_then(|refusal| match refusal.status {
                100..=599 => Ok(refusal),
                _ => Err("`status` must be the HTTP status of the upstream's answer".into()),
            })
    }

    fn reply(self) -> Reply {
        let headers: Vec<(String, String)> = match self.headers {
            Headers::Pairs(pairs) => pairs,
            Headers::Map(map) => map
                .into_iter()
                .flat_map(|(name, values)| {
                    let values = match values {
                        OneOrMany::One(value) => vec![value],
                        OneOrMany::Many(values) => values,
                    };
                    values.into_iter().map(move |value| (name.clone(), value))
                })
                .collect(),
        };
        let pairs = headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        Reply::new(self.status, pairs, self.body.map_or_else(Vec::new, |body| body.as_bytes().to_vec()))
    }
}

impl Desk {
    pub(super) async fn refused(&self, name: &str, request: Request<Incoming>, peer: Peer) -> Response {
        let now = self.parts.clock.now().wall;
        let target = Target::Name(name);
        let Some(found) = self.find(&target, peer) else { return self.unknown(&target, peer, now) };
        let (slot, edition) = (found.slot.clone(), Arc::clone(&found.slot.current()));
        if !is_json(&request) {
            let detail = "send the refusal as application/json";
            return answer::problem(&Problem::plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail), now);
        }
        let document = match web::read(request.into_body(), self.limits.web.body, &*self.parts.clock).await {
            Ok(document) => document,
            Err(error) => return answer::of_body(error, now),
        };
        let refusal = match Refusal::parse(&document) {
            Ok(refusal) => refusal,
            Err(words) => return self.bad_request(&words),
        };
        let (id, used) = (edition.view.name.clone(), refusal.generation);
        if used > edition.view.generation {
            return self
                .bad_request(&format!("{id} has no generation {used} yet; it is at {}", edition.view.generation));
        }
        let (answer, answered) = oneshot::channel();
        let (surface, actor) = (refusal.surface, format!("uid {}", peer.uid));
        let ask = Ask::Refused { id, generation: used, surface, reply: refusal.reply(), actor, answer };
        let judged = async {
            self.parts.asks.put(ask).await.ok()?;
            answered.await.ok()
        };
        let judged = tokio::select! {
            judged = judged => judged,
            () = self.parts.clock.sleep(self.limits.verdict) => None,
            () = self.stop.cancelled() => None,
        };
        let current: Arc<Edition> = Arc::clone(&slot.current());
        match judged {
            Some(judged) => self.verdict(&judged, &current, used, peer),
            None => {
                let failure = AuthFailure::not_ready(name).retry_after(std::time::Duration::from_secs(1));
                let detail = "the refusal is not judged yet; read the token again in a moment";
                answer::problem(&Problem::failure(failure, detail), self.parts.clock.now().wall)
            }
        }
    }

    /// The verdict and, if there is one, the newer token, so that the reader can go on at once.
    fn verdict(&self, judged: &Answer, current: &Edition, used: Generation, peer: Peer) -> Response {
        let now = self.parts.clock.now();
        let view = &current.view;
        let verdict = judged.verdict.as_ref().map(|verdict| {
            let mut failure = AuthFailure::judged(verdict, view.name.as_str());
            failure.generation = Some(used);
            failure.state = Some(current.state(now));
            failure.since = Some(view.since);
            failure
        });
        let readable = current.grants(peer, self.own_uid).is_some();
        let token = current.token(now).filter(|ready| readable && ready.generation > used);
        let words = serde_json::json!({ "verdict": verdict, "message": judged.message }).to_string();
        let mut body = Zeroizing::new(Vec::with_capacity(words.len() + 16 + token.map_or(0, |ready| ready.body.len())));
        body.extend_from_slice(words.as_bytes());
        if let Some(ready) = token {
            body.pop();
            body.extend_from_slice(b",\"token\":");
            body.extend_from_slice(&ready.body);
            body.push(b'}');
        }
        answer::json(Bytes::from_owner(body))
    }
}

fn is_json(request: &Request<Incoming>) -> bool {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_and_bodies_come_in_the_forms_that_clients_have() {
        let forms = [
            r#"{"generation":3,"status":401,"headers":{"X-A":"1","x-b":["2","3"]},"body":"no"}"#,
            r#"{"generation":3,"status":401,"headers":[["x-a","1"],["X-B","2"],["x-b","3"]],"body":"no"}"#,
        ];
        for form in forms {
            let reply = Refusal::parse(form.as_bytes()).unwrap().reply();
            assert_eq!(reply, Reply::new(401, [("x-a", "1"), ("x-b", "2"), ("x-b", "3")], "no"));
        }
        let json = Refusal::parse(br#"{"generation":3,"status":401,"body":{"error":"invalid_token"}}"#).unwrap();
        assert_eq!(json.reply().body, br#"{"error":"invalid_token"}"#);
    }

    #[test]
    fn what_is_wrong_is_told_without_repeating_it() {
        for bad in [r#"{"generation":"canary","status":401}"#, r#"{"generation":1,"status":"canary"}"#, "canary", "{}"]
        {
            assert!(!Refusal::parse(bad.as_bytes()).unwrap_err().contains("canary"));
        }
        assert!(Refusal::parse(br#"{"generation":1,"status":42}"#).is_err());
        let elsewhere = Refusal::parse(br#"{"generation":1,"status":404,"surface":"canary"}"#).unwrap_err();
        assert!(elsewhere.contains("publish") && !elsewhere.contains("canary"), "{elsewhere}");
    }

    #[test]
    fn where_it_was_met_may_be_said() {
        let surface = |document: &str| Refusal::parse(document.as_bytes()).unwrap().surface;
        assert_eq!(surface(r#"{"generation":1,"status":404}"#), Surface::Api);
        assert_eq!(surface(r#"{"generation":1,"status":404,"surface":"publish"}"#), Surface::Publish);
    }
}

//! The operator's own socket: what the command line talks to. Only the daemon's own user and root are heard.
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/status` | `{daemon, credentials: [View]}` |
//! | `GET /v1/credentials/{name}` | `{…View, readers: [Used]}` |
//! | `POST /v1/credentials/{name}/{refresh\|probe\|hold\|release}` | `{done, generation, message, failure}`; 409 with the same when it did not help |
//! | `GET /v1/audit?credential=&limit=` | `{entries: […]}` |
//! | `GET /v1/unclassified` | `{entries: […]}`: replies that no rule matched |
//! | `DELETE /v1/unclassified`, `/v1/unclassified/{id,id,…}` | `{message}`: all of them, or some, are dismissed |
//! | `POST /v1/reload` | `{message}`, or 422 with what is wrong |
//! | `GET /v1/embedded`, `PUT`, `DELETE /v1/embedded/{name}` | the embedded store: names, a new document, its end |

use std::{fmt, path::Path as FilePath, sync::Arc};

use axum::{
    Extension, Json, Router,
    body::Body,
    extract::{Path, Query, Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{delete, get, post, put},
};
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    credential::{CredentialId, Generation, Secret},
    publish::{Ask, Asks, Subscriber, Used, View},
    web::{self, AuthFailure, Caller, Problem, UnixDoor},
};

/// What only the house can do; the daemon supplies it. Errors are sentences for the operator.
pub trait House: Send + Sync {
    /// Version, process id, uptime, stores: whatever `status` should show of the daemon itself.
    fn about(&self) -> BoxFuture<'_, Value>;
    /// The last lines of the audit log, newest last.
    fn audit(&self, wanted: AuditQuery) -> BoxFuture<'_, Result<Vec<Value>, String>>;
    /// Replies that no rule matched, without their secrets.
    fn unclassified(&self) -> BoxFuture<'_, Result<Vec<Value>, String>>;
    /// Dismisses some of them, or all, on behalf of somebody (`uid 1000`).
    fn dismiss(&self, ids: Option<Vec<String>>, actor: String) -> BoxFuture<'_, Result<String, String>>;
    /// Applies the settings file anew; says what changed.
    fn reload(&self) -> BoxFuture<'_, Result<String, String>>;
    /// What the embedded store holds: names and dates, no values.
    fn embedded(&self) -> BoxFuture<'_, Result<Vec<Value>, String>>;
    /// Puts a document into the embedded store, on behalf of somebody.
    fn put(&self, name: CredentialId, document: Secret, actor: String) -> BoxFuture<'_, Result<String, String>>;
    /// Takes one out, on behalf of somebody.
    fn remove(&self, name: CredentialId, actor: String) -> BoxFuture<'_, Result<String, String>>;
}

/// Which lines of the audit log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct AuditQuery {
    /// Only of this credential.
    pub credential: Option<CredentialId>,
    /// How many; 100 if it is not said.
    pub limit: Option<u32>,
}

/// What the operator's socket works with.
#[derive(Clone)]
pub struct Parts {
    /// What is published.
    pub subscriber: Subscriber,
    /// The way to the shards.
    pub asks: Asks,
    /// The house.
    pub house: Arc<dyn House>,
    /// The only source of time.
    pub clock: Arc<dyn Clock>,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Parts")
    }
}

/// Binds the operator's socket, for its owner alone.
pub async fn bind(path: &FilePath, clock: Arc<dyn Clock>) -> Result<UnixDoor, web::BindError> {
    UnixDoor::bind(path, 0o600, clock).await
}

/// Serves the operator until `stop`.
pub async fn serve<L: web::Listener>(listener: L, parts: Parts, stop: CancellationToken) {
    let limits = web::Limits { idle: None, per_party: 64, ..web::Limits::default() };
    let clock = parts.clock.clone();
    web::serve_router(listener, router(parts), limits, clock, stop).await;
}

fn router(parts: Parts) -> Router {
    let parts = Arc::new(parts);
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/credentials/{name}", get(one))
        .route("/v1/credentials/{name}/{verb}", post(act))
        .route("/v1/audit", get(audit))
        .route("/v1/unclassified", get(unclassified).delete(dismiss_all))
        .route("/v1/unclassified/{ids}", delete(dismiss))
        .route("/v1/reload", post(reload))
        .route("/v1/embedded", get(embedded))
        .route("/v1/embedded/{name}", put(put_embedded).delete(remove_embedded))
        .fallback(no_such_path)
        .layer(middleware::from_fn_with_state(parts.clone(), operators_only))
        .with_state(parts)
}

type Parted = State<Arc<Parts>>;

async fn operators_only(
    State(parts): Parted,
    Extension(caller): Extension<Caller>,
    request: Request,
    next: Next,
) -> Response {
    let own = rustix::process::geteuid().as_raw();
    match caller {
        Caller::Local { uid, .. } if uid == own || uid == 0 => {
            let mut response = next.run(request).await;
            response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response
        }
        _ => {
            tracing::warn!(?caller, "somebody else knocked at the operator's socket");
            parts.plain(StatusCode::FORBIDDEN, "only root and credd's own user are heard here")
        }
    }
}

async fn status(State(parts): Parted) -> Response {
    let daemon = parts.house.about().await;
    Json(json!({ "daemon": daemon, "credentials": parts.views() })).into_response()
}

#[derive(Serialize)]
struct Detailed {
    #[serde(flatten)]
    view: View,
    readers: Vec<Used>,
}

async fn one(State(parts): Parted, Path(name): Path<String>) -> Response {
    match parts.subscriber.get(&name) {
        Some(slot) => Json(Detailed { view: parts.looked_at(slot.current().view.clone()), readers: slot.usage.list() })
            .into_response(),
        None => parts.unknown(&name),
    }
}

async fn act(
    State(parts): Parted,
    Extension(caller): Extension<Caller>,
    Path((name, verb)): Path<(String, String)>,
) -> Response {
    let Some(slot) = parts.subscriber.get(&name) else { return parts.unknown(&name) };
    let id = slot.current().view.name.clone();
    let actor = actor(caller);
    let (answer, answered) = oneshot::channel();
    let ask = match verb.as_str() {
        "refresh" => Ask::Refresh { id, actor, answer },
        "probe" => Ask::Probe { id, actor, answer },
        "hold" => Ask::Hold { id, actor, answer },
        "release" => Ask::Release { id, actor, answer },
        _ => return parts.plain(StatusCode::NOT_FOUND, "the verbs are refresh, probe, hold and release"),
    };
    // In a task of its own: an operator who presses Ctrl-C cancels nothing.
    let asks = parts.asks.clone();
    let put = tokio::spawn(async move { asks.put(ask).await });
    if !matches!(put.await, Ok(Ok(()))) {
        return parts.plain(StatusCode::SERVICE_UNAVAILABLE, "credd is stopping");
    }
    let Ok(answer) = answered.await else {
        return parts.plain(StatusCode::SERVICE_UNAVAILABLE, "no answer: see the log of credd, and try again");
    };
    #[derive(Serialize)]
    struct Done {
        done: bool,
        generation: Generation,
        message: String,
        failure: Option<AuthFailure>,
    }
    let failure = answer.verdict.as_ref().map(|verdict| AuthFailure::judged(verdict, &name));
    let status = if answer.done { StatusCode::OK } else { StatusCode::CONFLICT };
    let done = Done { done: answer.done, generation: answer.generation, message: answer.message, failure };
    (status, Json(done)).into_response()
}

async fn audit(State(parts): Parted, Query(wanted): Query<AuditQuery>) -> Response {
    parts.told(parts.house.audit(wanted).await.map(|entries| json!({ "entries": entries })))
}

async fn unclassified(State(parts): Parted) -> Response {
    parts.told(parts.house.unclassified().await.map(|entries| json!({ "entries": entries })))
}

async fn dismiss(State(parts): Parted, Extension(caller): Extension<Caller>, Path(ids): Path<String>) -> Response {
    let ids = ids.split(',').map(str::to_owned).collect();
    parts.told(parts.house.dismiss(Some(ids), actor(caller)).await.map(|message| json!({ "message": message })))
}

async fn dismiss_all(State(parts): Parted, Extension(caller): Extension<Caller>) -> Response {
    parts.told(parts.house.dismiss(None, actor(caller)).await.map(|message| json!({ "message": message })))
}

/// Who asks, for the audit log.
fn actor(caller: Caller) -> String {
    match caller {
        Caller::Local { uid, .. } => format!("uid {uid}"),
        Caller::Remote(_) => "unknown".into(),
    }
}

async fn reload(State(parts): Parted) -> Response {
    parts.told(parts.house.reload().await.map(|message| json!({ "message": message })))
}

async fn embedded(State(parts): Parted) -> Response {
    parts.told(parts.house.embedded().await.map(|entries| json!({ "entries": entries })))
}

async fn put_embedded(
    State(parts): Parted,
    Extension(caller): Extension<Caller>,
    Path(name): Path<CredentialId>,
    request: Request,
) -> Response {
    let document = match web::read(request.into_body(), web::Limits::default().body, &*parts.clock).await {
        Ok(document) => document,
        Err(error) => return error.response(parts.clock.now().wall).map(Body::new),
    };
    match std::str::from_utf8(&document) {
        Ok(text) => {
            let put = parts.house.put(name, Secret::new(text), actor(caller)).await;
            parts.told(put.map(|message| json!({ "message": message })))
        }
        Err(_) => parts.plain(StatusCode::UNPROCESSABLE_ENTITY, "the secret is not UTF-8 text"),
    }
}

async fn remove_embedded(
    State(parts): Parted,
    Extension(caller): Extension<Caller>,
    Path(name): Path<CredentialId>,
) -> Response {
    parts.told(parts.house.remove(name, actor(caller)).await.map(|message| json!({ "message": message })))
}

async fn no_such_path(State(parts): Parted) -> Response {
    parts.plain(StatusCode::NOT_FOUND, "no such path; is this command line of another version than the daemon?")
}

impl Parts {
    /// What is published, with a look at the clock.
    fn views(&self) -> Vec<View> {
        self.subscriber.list().into_iter().map(|view| self.looked_at(view)).collect()
    }

    fn looked_at(&self, mut view: View) -> View {
        view.state = view.state_at(self.clock.now().wall);
        view
    }

    fn told(&self, result: Result<Value, String>) -> Response {
        match result {
            Ok(value) => Json(value).into_response(),
            Err(words) => self.plain(StatusCode::UNPROCESSABLE_ENTITY, &words),
        }
    }

    fn plain(&self, status: StatusCode, words: &str) -> Response {
        Problem::plain(status, words).response(self.clock.now().wall).map(Body::new)
    }

    fn unknown(&self, name: &str) -> Response {
        let name: String = name.chars().take(80).collect();
        let detail = format!("there is no credential named {name:?}; `credd status` lists them");
        Problem::failure(AuthFailure::unknown(&name), detail).response(self.clock.now().wall).map(Body::new)
    }
}

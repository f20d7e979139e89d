//! Listeners, connections, and the way from a request to its endpoint.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, request::Parts};
use http_body_util::{BodyExt, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::{
    Shared, Ticket, api, call, control, oauth,
    reply::{Answer, Draft, HangUp, Manner},
};

/// Which of the two listeners a connection came through.
#[derive(Clone, Copy, Debug)]
pub(super) enum Door {
    Provider,
    Admin,
}

/// Takes connections until stopped.
pub(super) async fn accept(listener: TcpListener, door: Door, shared: Arc<Shared>, stop: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = connection(stream, door, Arc::clone(&shared));
                let stop = stop.clone();
                tokio::spawn(async move { stop.run_until_cancelled(connection).await });
            }
            // Out of descriptors: those that end make room.
            Err(_) => shared.clock.sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn connection(stream: TcpStream, door: Door, shared: Arc<Shared>) {
    stream.set_nodelay(true).ok();
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move {
            // In a task of its own: a provider finishes what it began, whether or not the caller stayed.
            let answer = match door {
                Door::Provider => tokio::spawn(provider(shared, request)),
                Door::Admin => tokio::spawn(admin(shared, request)),
            };
            answer.await.unwrap_or(Err(HangUp::Reset))
        }
    });
    let mut connection = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
    if let Err(error) = (&mut connection).await {
        let wanted = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<HangUp>());
        if wanted == Some(&HangUp::Reset) {
            connection.into_parts().io.into_inner().set_zero_linger().ok();
        }
    }
}

/// Reads a request whole: before that, nothing has arrived.
async fn read(request: Request<Incoming>) -> Result<(Parts, Bytes), HangUp> {
    let (parts, body) = request.into_parts();
    let body = Limited::new(body, 64 * 1024).collect().await.map_err(|_| HangUp::Close)?;
    Ok((parts, body.to_bytes()))
}

async fn provider(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Answer>, HangUp> {
    let (parts, body) = read(request).await?;
    let path = parts.uri.path().strip_prefix(shared.prefix.as_str()).unwrap_or("");
    let whole = |draft: Draft| Ok(draft.send(Manner::Whole, None, &shared.clock));
    let app = path.strip_prefix("/app/installations/").is_some_and(|rest| rest.ends_with("/access_tokens"));
    match (&parts.method, path) {
        (&Method::POST, "/token") => {
            let asked = match oauth::form(&parts.headers, &body) {
                Ok(form) => shared.asked(&parts.headers, &form),
                Err(draft) => oauth::Asked::Wrong(draft),
            };
            call::token(&shared, asked).await
        }
        (&Method::POST, _) if app => {
            let assertion = api::credential(&parts.headers).unwrap_or_default().to_owned();
            call::token(&shared, oauth::Asked::App { assertion, narrow: oauth::narrowed(&body) }).await
        }
        (&Method::GET | &Method::POST, "/api/me") => call::api(&shared, &parts).await,
        (&Method::POST, "/revoke" | "/introspect") => {
            let endpoint = if path == "/revoke" { "revoke" } else { "introspect" };
            let now = shared.clock.now();
            let seq = shared.state().log.open(endpoint, None, false, now.wall);
            let ticket = Ticket { shared: Arc::clone(&shared), seq, grant: None, refresh: false, handed_over: false };
            let (draft, outcome) = match oauth::form(&parts.headers, &body) {
                Err(draft) => (draft, "bad_request"),
                Ok(form) if path == "/revoke" => shared.revoke(&parts.headers, &form),
                Ok(form) => shared.introspect(&parts.headers, &form, now),
            };
            ticket.note(|call| (call.status, call.outcome) = (Some(draft.status), outcome.into()));
            Ok(draft.send(Manner::Whole, Some(ticket), &shared.clock))
        }
        (&Method::GET, "/.well-known/oauth-authorization-server") => whole(Draft::json(
            200,
            &json!({
                "issuer": shared.url,
                "token_endpoint": shared.token_endpoint(),
                "revocation_endpoint": format!("{}/revoke", shared.url),
                "introspection_endpoint": format!("{}/introspect", shared.url),
                "grant_types_supported":
                    ["refresh_token", "client_credentials", "urn:ietf:params:oauth:grant-type:jwt-bearer"],
                "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
            }),
        )),
        _ => whole(Draft::json(404, &json!({"error": "not_found", "error_description": "POST /token, GET /api/me"}))),
    }
}

async fn admin(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Answer>, HangUp> {
    let (parts, body) = read(request).await?;
    let draft = control::answer(&shared, &parts, &body);
    Ok(draft.send(Manner::Whole, None, &shared.clock))
}

//! Calls over loopback: a reader's call to the provider's API, a sign-out at the provider, and a look at `/health`.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::{HeaderName, Method, header};
use url::{Url, form_urlencoded};

use super::view::View;
use crate::{
    credential::{Reply, Secret},
    fetch::{Call, Exchange, Fetch, FetchSettings},
};

/// For a call on loopback.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks at `/health`.
const LOOK: Duration = Duration::from_millis(200);

/// The client.
pub struct Api(Fetch);

impl Api {
    /// A client for loopback.
    pub fn new() -> Result<Self, String> {
        Fetch::new(FetchSettings::default()).map(Self).map_err(|error| error.to_string())
    }

    /// What a program does with a token: it calls the API.
    #[expect(clippy::disallowed_methods, reason = "the demo's reader calls its API with it")]
    pub async fn call(&self, url: &str, token: &Secret) -> Result<Reply, String> {
        let bearer = Secret::new(format!("Bearer {}", token.expose()));
        self.exchange(Method::GET, url, vec![(header::AUTHORIZATION, bearer)], None).await
    }

    /// Somebody signs out at the provider: the access token ends (RFC 7009), the grant with it or not.
    #[expect(clippy::disallowed_methods, reason = "the demo's person revokes it")]
    pub async fn sign_out(&self, url: &str, token: &Secret) -> Result<Reply, String> {
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("token", token.expose())
            .append_pair("client_id", "sandbox")
            .append_pair("client_secret", "sandbox-secret")
            .finish();
        let kind = Secret::new("application/x-www-form-urlencoded");
        self.exchange(Method::POST, url, vec![(header::CONTENT_TYPE, kind)], Some(Secret::new(form))).await
    }

    async fn exchange(
        &self,
        method: Method,
        url: &str,
        headers: Vec<(HeaderName, Secret)>,
        body: Option<Secret>,
    ) -> Result<Reply, String> {
        let url = Url::parse(url).map_err(|error| format!("no URL: {error}"))?;
        match self.0.exchange(Call { method, url, headers, body, timeout: PATIENCE }).await {
            Exchange::Replied(reply) => Ok(reply),
            Exchange::NotSent(trouble) | Exchange::Ambiguous(trouble) => Err(trouble.detail),
        }
    }
}

/// How `/health` has answered: each change, by boot time.
#[derive(Debug, Default)]
pub struct Health(Mutex<Vec<(Duration, u16)>>);

impl Health {
    /// Every change so far.
    pub fn changes(&self) -> Vec<(Duration, u16)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether this is another answer than the one before; `None` if it is the first.
    fn note(&self, at: Duration, status: u16) -> Option<bool> {
        let mut changes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = changes.last().map(|(_, before)| *before);
        if before != Some(status) {
            changes.push((at, status));
        }
        before.map(|before| before != status)
    }
}

/// Looks at `/health` as an orchestrator does.
pub async fn watch_health(api: Arc<Api>, url: String, health: Arc<Health>, view: Arc<View>) {
    loop {
        // No answer at all is told as what it is to an orchestrator: bad.
        let status = api.exchange(Method::GET, &url, vec![], None).await.map_or(0, |reply| reply.status);
        if health.note(view.clock.now().boot, status) == Some(true) {
            match status {
                200 => view.good("/health is green again: 200"),
                0 => view.bad("/health does not answer"),
                status => view.bad(&format!("/health is red: {status}")),
            }
        }
        view.clock.sleep(LOOK).await;
    }
}

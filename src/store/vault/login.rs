//! Our own login to Vault: got when it is needed, renewed while Vault allows, got anew when it is gone.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use vaultrs::{api::AuthInfo, auth, error::ClientError};

use super::{
    Auth,
    wire::{Wire, fits, refusal, says, status},
};
use crate::{
    clock::{Clock, Now},
    credential::{Reference, Resolve, Secret},
    store::{LoginTrouble, StoreError},
};

/// At most one login in this time, whatever happens (FM-16).
const PACE: Duration = Duration::from_secs(30);
/// Two ends no further apart are the same one, looked up twice.
const SAME: Duration = Duration::from_secs(2);
/// Where a pod finds its own service-account token.
const POD_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// A token of ours.
#[derive(Clone, Debug)]
struct Token {
    value: Secret,
    renewable: bool,
    end: Option<End>,
}

/// When a token ends; absent for one that never does (a root token).
#[derive(Clone, Copy, Debug)]
struct End {
    boot: Duration,
    wall: Timestamp,
    /// How long it lived when it was got or renewed.
    life: Duration,
}

impl End {
    fn after(now: Now, seconds: u64) -> Option<Self> {
        let life = Duration::from_secs(seconds);
        let wall = now.wall.checked_add(SignedDuration::try_from(life).ok()?).ok()?;
        (seconds > 0).then_some(Self { boot: now.boot + life, wall, life })
    }
}

#[derive(Debug, Default)]
struct State {
    token: Option<Token>,
    /// Boot time of the last try to log in.
    tried: Option<Duration>,
    /// Why it failed, if it did.
    refused: Option<StoreError>,
}

/// The login of one store.
#[derive(Debug)]
pub(super) struct Login {
    store: String,
    auth: Auth,
    wire: Arc<Wire>,
    resolve: Arc<dyn Resolve>,
    clock: Arc<dyn Clock>,
    /// Locked during a login, so that everybody waits for the one that is under way.
    state: tokio::sync::Mutex<State>,
    expires_at: Mutex<Option<Timestamp>>,
    trouble: Mutex<Option<LoginTrouble>>,
}

impl Login {
    pub(super) fn new(
        store: &str,
        auth: Auth,
        wire: Arc<Wire>,
        resolve: Arc<dyn Resolve>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (state, expires_at, trouble) = Default::default();
        Self { store: store.into(), auth, wire, resolve, clock, state, expires_at, trouble }
    }

    /// When our login ends, as far as we know.
    pub(super) fn expires_at(&self) -> Option<Timestamp> {
        *self.expires_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why it cannot go on, if so.
    pub(super) fn trouble(&self) -> Option<LoginTrouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes why our login cannot go on, or that it can. The first day of a trouble stays.
    fn judge(&self, trouble: Option<String>) {
        let mut known = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_some() != trouble.is_some() {
            match &trouble {
                Some(reason) => {
                    tracing::warn!(store = self.store, reason, "our Vault login ends, and nothing renews it")
                }
                None => tracing::info!(store = self.store, "our Vault login goes on again"),
            }
        }
        let since = known.as_ref().map_or_else(|| self.clock.now().wall, |known| known.since);
        *known = trouble.map(|reason| LoginTrouble { since, reason });
    }

    /// A token that is good as far as we know.
    pub(super) async fn token(&self) -> Result<Secret, StoreError> {
        let mut state = self.state.lock().await;
        let now = self.clock.now();
        match &state.token {
            Some(token) if token.end.is_none_or(|end| now.boot < end.boot) => Ok(token.value.clone()),
            _ => self.log_in(&mut state, now).await,
        }
    }

    /// Whether Vault's "permission denied" was about the token itself. Vault says the same to a dead token and to a live
    /// one that may not: only asking for the token's own data tells them apart.
    pub(super) async fn is_dead(&self, used: &Secret) -> bool {
        let looked = vaultrs::token::lookup_self(&self.wire.client(Some(used))).await;
        // A live token without the default policy may not even ask that; Vault counts the errors of a policy, and only those.
        let dead = looked.is_err_and(|error| status(&error) == Some(403) && !says(&error, "1 error occurred"));
        if dead {
            let mut state = self.state.lock().await;
            if state.token.as_ref().is_some_and(|token| token.value == *used) {
                self.keep_token(&mut state, None);
                tracing::warn!(store = self.store, "our Vault token is gone (expired or revoked); logging in again");
            }
        }
        dead
    }

    /// Renews the login in time, for ever.
    pub(super) async fn keep(&self) {
        loop {
            // A refusal was logged where it happened, and is told to whoever asks for a secret.
            let _ = self.token().await;
            let wait = self.renew_if_due().await;
            // In short steps: a machine that slept has overslept the rest.
            self.clock.sleep(wait.clamp(Duration::from_secs(1), PACE)).await;
        }
    }

    /// At two thirds of its life; answers how long nothing is to be done.
    async fn renew_if_due(&self) -> Duration {
        let mut state = self.state.lock().await;
        let now = self.clock.now();
        let Some((token, end)) = state.token.clone().and_then(|token| Some((token.clone(), token.end?))) else {
            return PACE;
        };
        let left = end.boot.saturating_sub(now.boot);
        if left > end.life / 3 {
            return left - end.life / 3;
        }
        if token.renewable {
            match vaultrs::token::renew_self(&self.wire.client(Some(&token.value)), None).await {
                Ok(renewed) => {
                    let longer = End::after(now, renewed.lease_duration);
                    let capped = longer.is_some_and(|longer| longer.life < end.life / 2);
                    self.keep_token(&mut state, Some(Token { end: longer, ..token }));
                    if !capped {
                        self.judge(None);
                        return longer.map_or(PACE, |longer| longer.life * 2 / 3);
                    }
                    // It nears the end that no renewal moves: a new one is needed.
                }
                Err(error) if status(&error) == Some(403) => self.keep_token(&mut state, None),
                Err(_) => {}
            }
        }
        // A login that fails, or brings no longer life, leaves the token that still works.
        let old = state.token.clone();
        let login = self.log_in(&mut state, now).await;
        let lives_on =
            |end: End| state.token.as_ref().is_some_and(|new| new.end.is_none_or(|new| new.boot > end.boot + SAME));
        if lives_on(end) {
            self.judge(None);
            return PACE;
        }
        // A Vault that does not answer is another trouble than a login that does not work.
        if !matches!(login, Err(StoreError::Unreachable { .. } | StoreError::Throttled { .. })) || !token.renewable {
            let why = match &login {
                Err(error @ StoreError::Denied { .. }) => error.to_string(),
                _ if token.renewable => "it nears its max TTL, and Vault renews it no further".to_owned(),
                _ => "it is not renewable".to_owned(),
            };
            self.judge(Some(format!("our token ends at {}: {why}", end.wall)));
        }
        // Looked up once more it would seem young; it is asked for again and again until a better one is there.
        self.keep_token(&mut state, old);
        left / 4
    }

    fn keep_token(&self, state: &mut State, token: Option<Token>) {
        let wall = token.as_ref().and_then(|token| token.end).map(|end| end.wall);
        *self.expires_at.lock().unwrap_or_else(PoisonError::into_inner) = wall;
        state.token = token;
    }

    async fn log_in(&self, state: &mut State, now: Now) -> Result<Secret, StoreError> {
        if let Some(tried) = state.tried
            && now.boot < tried + PACE
        {
            let wait = (tried + PACE - now.boot).as_secs() + 1;
            return Err(state.refused.clone().unwrap_or_else(|| StoreError::Unreachable {
                path: "auth".into(),
                reason: format!("our Vault token was refused right after a login; the next login is in {wait} s"),
            }));
        }
        state.tried = Some(now.boot);
        let anew = state.token.as_ref().is_none_or(|token| token.end.is_some_and(|end| end.boot <= now.boot));
        match self.new_token(now).await {
            Ok(token) => {
                tracing::info!(store = self.store, lives = ?token.end.map(|end| end.life), "logged in to Vault");
                state.refused = None;
                if anew {
                    self.judge(None);
                }
                let value = token.value.clone();
                self.keep_token(state, Some(token));
                Ok(value)
            }
            Err(error) => {
                tracing::warn!(store = self.store, %error, "cannot log in to Vault");
                if anew && matches!(error, StoreError::Denied { .. }) {
                    self.judge(Some(error.to_string()));
                }
                state.refused = Some(error.clone());
                self.keep_token(state, None);
                Err(error)
            }
        }
    }

    #[expect(clippy::disallowed_methods, reason = "what we log in with")]
    async fn new_token(&self, now: Now) -> Result<Token, StoreError> {
        let anonymous = self.wire.client(None);
        let (path, answer) = match &self.auth {
            Auth::Token { token } => return self.given_token(token, now).await,
            Auth::AppRole { mount, role_id, secret_id } => {
                let mount = mounted(mount, "approle")?;
                let (role, secret) = (self.secret(role_id).await?, self.secret(secret_id).await?);
                let answer = auth::approle::login(&anonymous, mount, role.expose(), secret.expose()).await;
                (format!("auth/{mount}/login"), answer)
            }
            Auth::Kubernetes { mount, role, jwt } => {
                let mount = mounted(mount, "kubernetes")?;
                let jwt = match jwt {
                    Some(reference) => self.secret(reference).await?,
                    None => pod_token(Path::new(POD_TOKEN)).await?,
                };
                let answer = auth::kubernetes::login(&anonymous, mount, role, jwt.expose()).await;
                (format!("auth/{mount}/login"), answer)
            }
            Auth::Userpass { mount, username, password } => {
                let mount = mounted(mount, "userpass")?;
                fits(username).map_err(|reason| denied("username", &reason))?;
                let password = self.secret(password).await?;
                let answer = auth::userpass::login(&anonymous, mount, username, password.expose()).await;
                (format!("auth/{mount}/login/{username}"), answer)
            }
        };
        let AuthInfo { client_token, renewable, lease_duration, .. } =
            answer.map_err(|error| login_refusal(&path, &error))?;
        let value = checked(Secret::new(client_token), &path)?;
        Ok(Token { value, renewable, end: End::after(now, lease_duration) })
    }

    /// A token from the settings: asked for its own data, which says how long it lives.
    #[expect(clippy::disallowed_methods, reason = "a line break around it is cut off")]
    async fn given_token(&self, reference: &Reference, now: Now) -> Result<Token, StoreError> {
        let value = Secret::new(self.secret(reference).await?.expose().trim());
        let value = checked(value, "auth.token")?;
        let found = vaultrs::token::lookup_self(&self.wire.client(Some(&value))).await;
        let found = found.map_err(|error| login_refusal("auth/token/lookup-self", &error))?;
        Ok(Token { value, renewable: found.renewable.unwrap_or(false), end: End::after(now, found.ttl) })
    }

    async fn secret(&self, reference: &Reference) -> Result<Secret, StoreError> {
        self.resolve.resolve(reference).await.map_err(|reason| denied(&reference.to_string(), &reason))
    }
}

fn mounted<'a>(mount: &'a Option<String>, usual: &'a str) -> Result<&'a str, StoreError> {
    let mount = mount.as_deref().unwrap_or(usual).trim_matches('/');
    fits(mount).map_err(|reason| denied("auth.mount", &reason))?;
    Ok(mount)
}

/// Kubernetes gives this file to the pod's group, so it is not held to 0600 like the files of the settings.
async fn pod_token(path: &Path) -> Result<Secret, StoreError> {
    match tokio::fs::read_to_string(path).await {
        Ok(text) => Ok(Secret::new(text.trim())),
        Err(error) => Err(denied(&path.display().to_string(), &format!("cannot be read: {}", error.kind()))),
    }
}

/// What can stand in a header.
#[expect(clippy::disallowed_methods, reason = "what no header can carry is refused here")]
fn checked(token: Secret, path: &str) -> Result<Secret, StoreError> {
    if token.is_empty() || token.expose().bytes().any(|byte| !(b'!'..=b'~').contains(&byte)) {
        return Err(denied(path, "what it holds is no Vault token; is it empty, or cut wrongly?"));
    }
    Ok(token)
}

fn login_refusal(path: &str, error: &ClientError) -> StoreError {
    match status(error) {
        // 400 is Vault's word for wrong or used-up role ids, secret ids and passwords; 404 for a method not mounted.
        Some(code @ (400 | 401 | 403 | 404)) => {
            denied(path, &format!("Vault refuses our login ({code}); are mount, role and secret right and still good?"))
        }
        _ => refusal(path, error),
    }
}

fn denied(path: &str, reason: &str) -> StoreError {
    StoreError::Denied { path: path.into(), reason: reason.into() }
}

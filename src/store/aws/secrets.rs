//! Secrets through the SDK: read with versions, found by listing, written by moving a stage.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aws_config::{BehaviorVersion, Region, retry::RetryConfig, timeout::TimeoutConfig};
use aws_sdk_secretsmanager::{
    Client,
    config::{ProvideCredentials, SharedCredentialsProvider},
    error::ProvideErrorMetadata,
    operation::describe_secret::DescribeSecretOutput,
    primitives::Blob,
};
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use tokio::sync::{OnceCell, mpsc};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{Settings, refusal::refusal};
use crate::{
    clock::Clock,
    credential::Material,
    failpoint,
    store::{Loaded, Location, SecretStore, StoreError, StoreHealth, Version, document, each},
};

const CURRENT: &str = "AWSCURRENT";
const PENDING: &str = "AWSPENDING";
const CONNECT: Duration = Duration::from_secs(5);
const TOTAL: Duration = Duration::from_secs(10);

/// The secrets of one account and region.
#[derive(Debug)]
pub struct AwsSecrets {
    settings: Settings,
    clock: Arc<dyn Clock>,
    client: OnceCell<(Client, Option<SharedCredentialsProvider>)>,
    /// When (boot time), and by which attempt, each secret was written last: AWS counts versions.
    written: Mutex<HashMap<String, (Duration, Uuid)>>,
    session_end: Mutex<Option<Timestamp>>,
}

/// Which version holds which stage.
struct Stages {
    current: Option<String>,
    pending: Option<String>,
    all: HashMap<String, Vec<String>>,
    rotates: bool,
}

impl Stages {
    fn of(secret: &DescribeSecretOutput) -> Self {
        let all = secret.version_ids_to_stages().cloned().unwrap_or_default();
        Self {
            current: holder(&all, CURRENT),
            pending: holder(&all, PENDING),
            all,
            rotates: secret.rotation_enabled().unwrap_or(false),
        }
    }
}

fn holder(stages: &HashMap<String, Vec<String>>, stage: &str) -> Option<String> {
    stages.iter().find(|(_, held)| held.iter().any(|it| it == stage)).map(|(version, _)| version.clone())
}

impl AwsSecrets {
    /// Nothing is asked yet, not even the standard chain.
    pub fn new(settings: &Settings, clock: Arc<dyn Clock>) -> Self {
        let (client, written, session_end) = Default::default();
        Self { settings: settings.clone(), clock, client, written, session_end }
    }

    async fn connected(&self) -> &(Client, Option<SharedCredentialsProvider>) {
        let made = self.client.get_or_init(|| async {
            let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT).operation_timeout(TOTAL).build();
            let mut loader = aws_config::defaults(BehaviorVersion::latest())
                .retry_config(RetryConfig::disabled())
                .timeout_config(timeouts);
            if let Some(region) = &self.settings.region {
                loader = loader.region(Region::new(region.clone()));
            }
            if let Some(profile) = &self.settings.profile {
                loader = loader.profile_name(profile);
            }
            if let Some(endpoint) = &self.settings.endpoint {
                loader = loader.endpoint_url(endpoint.as_str());
            }
            let config = Box::pin(loader.load()).await;
            (Client::new(&config), config.credentials_provider())
        });
        made.await
    }

    async fn client(&self) -> &Client {
        &self.connected().await.0
    }

    /// A version's document: the current one, or the one named.
    async fn document(
        &self,
        at: &Location,
        version: Option<&str>,
    ) -> Result<(Zeroizing<Vec<u8>>, Version), StoreError> {
        let (name, _) = at.split();
        let question = self.client().await.get_secret_value().secret_id(name).set_version_id(version.map(Into::into));
        let found = question.send().await.map_err(|error| match error.code() {
            // GetSecretValue says so of a secret that is marked for deletion.
            Some("InvalidRequestException") => StoreError::NotFound { path: at.0.clone() },
            _ => refusal(&at.0, &error),
        })?;
        let bytes = match (found.secret_string, found.secret_binary) {
            (Some(text), _) => text.into_bytes(),
            (None, blob) => blob.map(Blob::into_inner).unwrap_or_default(),
        };
        Ok((Zeroizing::new(bytes), Version(found.version_id.unwrap_or_default())))
    }

    async fn stages(&self, at: &Location) -> Result<Stages, StoreError> {
        let (name, _) = at.split();
        let found = self.client().await.describe_secret().secret_id(name).send().await;
        let found = found.map_err(|error| refusal(&at.0, &error))?;
        if found.deleted_date().is_some() {
            return Err(StoreError::NotFound { path: at.0.clone() });
        }
        Ok(Stages::of(&found))
    }

    /// The current version of every secret that our role may list, by name and by ARN. Values are never read.
    async fn list(&self) -> Result<HashMap<String, Version>, StoreError> {
        let mut found = HashMap::new();
        let mut pages = self.client().await.list_secrets().max_results(100).into_paginator().send();
        while let Some(page) = pages.next().await {
            for secret in page.map_err(|error| refusal("ListSecrets", &error))?.secret_list.unwrap_or_default() {
                let current = secret.secret_versions_to_stages.and_then(|stages| holder(&stages, CURRENT));
                if let Some(current) = current {
                    for id in [secret.name, secret.arn].into_iter().flatten() {
                        found.insert(id, Version(current.clone()));
                    }
                }
            }
        }
        Ok(found)
    }

    async fn version(&self, at: &Location) -> Result<Version, StoreError> {
        let current = self.stages(at).await?.current;
        current.map(Version).ok_or_else(|| StoreError::NotFound { path: at.0.clone() })
    }

    /// AWS keeps every version of the last 24 hours and counts them: one write per secret in `coalesce_seconds`.
    fn pace(&self, at: &Location, attempt: Uuid) -> Result<(), StoreError> {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let pause = Duration::from_secs(self.settings.coalesce_seconds);
        match written.get(at.split().0) {
            Some((when, by)) if *by != attempt && self.clock.now().boot < *when + pause => {
                let wait = *when + pause - self.clock.now().boot;
                Err(StoreError::Throttled { path: at.0.clone(), retry_after: Some(wait) })
            }
            _ => Ok(()),
        }
    }

    /// AWSPENDING held by somebody else means that a rotation of theirs is under way: hands off (FM-26). One that carries
    /// its own id as our mark was left by an attempt of ours that a newer value has overtaken.
    async fn refuse_foreign_rotation(&self, at: &Location, stages: &Stages, own: &str) -> Result<(), StoreError> {
        let refuse = |reason: String| StoreError::ReadOnly { path: at.0.clone(), reason };
        if stages.rotates {
            return Err(refuse(
                "AWS rotates this secret itself; turn its rotation off, or let credd only read it".into(),
            ));
        }
        let Some(pending) = stages.pending.as_deref().filter(|it| *it != own && stages.current.as_deref() != Some(*it))
        else {
            return Ok(());
        };
        let ours = match self.document(at, Some(pending)).await {
            Ok((document, _)) => {
                document::read(&document, at).is_ok_and(|it| it.attempt_id.as_deref() == Some(pending))
            }
            // A rotation that has begun and has no value yet.
            Err(StoreError::NotFound { .. }) => false,
            Err(error) => return Err(error),
        };
        if ours {
            return Ok(());
        }
        Err(refuse(format!(
            "another rotation holds AWSPENDING (version {pending}); finish it, or take the stage away with \
             `aws secretsmanager update-secret-version-stage --version-stage AWSPENDING --remove-from-version-id {pending}`"
        )))
    }

    async fn move_current(&self, at: &Location, to: &str, from: &str) -> Result<(), StoreError> {
        let (name, _) = at.split();
        let request = self.client().await.update_secret_version_stage().secret_id(name).version_stage(CURRENT);
        let moved = request.move_to_version_id(to).remove_from_version_id(from).send().await;
        moved.map(drop).map_err(|error| match error.code() {
            // FM-28: AWSCURRENT is no longer where we saw it.
            Some("InvalidParameterException" | "InvalidRequestException") => {
                StoreError::Conflict { path: at.0.clone() }
            }
            _ => refusal(&at.0, &error),
        })
    }

    /// Takes AWSPENDING from a version of ours. It is in nobody's way if that fails.
    async fn drop_pending(&self, at: &Location, version: &str) {
        let (name, _) = at.split();
        let request = self.client().await.update_secret_version_stage().secret_id(name).version_stage(PENDING);
        if let Err(error) = request.remove_from_version_id(version).send().await {
            tracing::debug!(secret = name, code = error.code(), "AWSPENDING stays on a version of ours");
        }
    }

    #[expect(clippy::disallowed_methods, reason = "a secret goes back to its home store")]
    async fn put(
        &self,
        at: &Location,
        material: &Material,
        expected: &Version,
        attempt: Uuid,
    ) -> Result<Version, StoreError> {
        let own = attempt.to_string();
        let conflict = || StoreError::Conflict { path: at.0.clone() };
        let stages = self.stages(at).await?;
        if stages.current.as_deref() == Some(&own) {
            if stages.pending.as_deref() == Some(&own) {
                self.drop_pending(at, &own).await;
            }
            return Ok(Version(own));
        }
        if stages.current.as_deref() != Some(&expected.0) {
            return Err(conflict());
        }
        self.pace(at, attempt)?;
        self.refuse_foreign_rotation(at, &stages, &own).await?;
        // FM-27: after a crash between the two steps the version is there already.
        if !stages.all.contains_key(&own) {
            let (present, version) = self.document(at, None).await?;
            if version != *expected {
                return Err(conflict());
            }
            let text = document::write(&present, at, &document::stamped(material, attempt))?;
            let (name, _) = at.split();
            let request = self.client().await.put_secret_value().secret_id(name).client_request_token(&own);
            let put = request.secret_string(text.expose()).version_stages(PENDING).send().await;
            put.map_err(|error| refusal(&at.0, &error))?;
            failpoint::reach("CP-18");
        }
        let now = self.clock.now().boot;
        self.written.lock().unwrap_or_else(PoisonError::into_inner).insert(at.split().0.to_owned(), (now, attempt));
        let moved = self.move_current(at, &own, &expected.0).await;
        if matches!(moved, Ok(()) | Err(StoreError::Conflict { .. })) {
            self.drop_pending(at, &own).await;
        }
        moved.map(|()| Version(own))
    }
}

impl SecretStore for AwsSecrets {
    fn kind(&self) -> &'static str {
        "aws"
    }

    fn load<'a>(&'a self, at: &'a Location) -> BoxFuture<'a, Result<Loaded, StoreError>> {
        Box::pin(async move {
            let (document, version) = self.document(at, None).await?;
            Ok(Loaded { material: document::read(&document, at)?, version })
        })
    }

    fn versions<'a>(&'a self, at: &'a [Location]) -> BoxFuture<'a, Vec<Result<Version, StoreError>>> {
        Box::pin(async move {
            let listed = match self.list().await {
                Ok(listed) => Ok(listed.into_iter().map(|(id, version)| (id, Ok(version))).collect()),
                // A role that may not list is asked for each of its secrets.
                Err(StoreError::Denied { .. }) => Ok(HashMap::new()),
                Err(error) => Err(error),
            };
            // Partial ARNs, secrets of other accounts, and those that are marked for deletion are not listed.
            each::versions(at, listed, |at| self.version(at)).await
        })
    }

    fn write<'a>(
        &'a self,
        at: &'a Location,
        material: &'a Material,
        expected: &'a Version,
        attempt: Uuid,
    ) -> BoxFuture<'a, Result<Version, StoreError>> {
        Box::pin(self.put(at, material, expected, attempt))
    }

    fn read_only<'a>(&'a self, at: &'a Location) -> BoxFuture<'a, Option<String>> {
        Box::pin(async move {
            let rotates = self.stages(at).await.is_ok_and(|stages| stages.rotates);
            rotates.then(|| "AWS rotates this secret itself".to_owned())
        })
    }

    fn check(&self) -> BoxFuture<'_, Result<StoreHealth, StoreError>> {
        Box::pin(async move {
            let (client, provider) = self.connected().await;
            // A role that may not list is no fault: its secrets are asked for one by one.
            match client.list_secrets().max_results(1).send().await {
                Err(error) if error.code() != Some("AccessDeniedException") => {
                    return Err(refusal("ListSecrets", &error));
                }
                _ => {}
            }
            let session = match provider {
                Some(provider) => provider.provide_credentials().await.ok().and_then(|it| it.expiry()),
                None => None,
            };
            let session = session.and_then(|end| Timestamp::try_from(end).ok());
            *self.session_end.lock().unwrap_or_else(PoisonError::into_inner) = session;
            let region = client.config().region().map_or("no region", |region| region.as_ref());
            let description = match &self.settings.endpoint {
                Some(endpoint) => format!("AWS Secrets Manager in {region} at {endpoint}"),
                None => format!("AWS Secrets Manager in {region}"),
            };
            Ok(StoreHealth { description, auth_expires_at: session })
        })
    }

    /// The SDK renews our session by itself, and AWS tells of no change.
    fn run(&self, _: mpsc::Sender<Location>, stop: CancellationToken) -> BoxFuture<'_, ()> {
        Box::pin(stop.cancelled_owned())
    }

    fn poll_interval(&self) -> Option<Duration> {
        Some(Duration::from_secs(self.settings.poll_seconds.max(1)))
    }

    fn auth_expires_at(&self) -> Option<Timestamp> {
        *self.session_end.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

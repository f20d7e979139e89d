//! From settings to opened parts: ledger, catalogue, home stores, channels, assignments.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use aws_lc_rs::digest;

use super::{ByName, StartError, cuts, places};
use crate::{
    catalogue::{self, Catalogue},
    clock::{Clock, SteadyClock},
    config::{Config, Credential, Difference, Loaded, Problem, Problems, References},
    credential::{CredentialId, Resolve, StoreReference},
    fetch::{Fetch, FetchSettings},
    ledger::{Ledger, Place},
    lifecycle::Policy,
    pager::{self, Channel},
    seal::Sealer,
    store::{self, Location, SecretStore},
    upstream::{HttpUpstream, Upstream, introspects},
    watcher::Assignment,
};

pub(super) fn mode(config: &Config) -> Result<u32, StartError> {
    u32::from_str_radix(config.server.socket_mode.trim_start_matches("0o"), 8)
        .ok()
        .filter(|mode| *mode <= 0o777)
        .ok_or_else(|| StartError::Settings("server.socket_mode must be an octal mode such as \"0660\"".into()))
}

/// This machine's name, for people.
pub(super) fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "localhost".into(), |name| name.trim().to_owned())
}

/// Opens the ledger of these settings, making it and its key if there is none.
pub async fn ledger(config: &Config, references: &References, clock: Arc<dyn Clock>) -> Result<Ledger, StartError> {
    let places = places(config);
    let beside = places.ledger.parent().unwrap_or(Path::new(".")).to_owned();
    private_folder(&beside)?;
    let fresh = config.ledger.key.is_none() && !places.ledger.exists();
    if fresh {
        let path = beside.join(KEY);
        let (_, made) = Sealer::from_file_or_new(&path).map_err(|error| key_problem(&error))?;
        if made {
            tracing::warn!(key = %path.display(), "made a new ledger key; back it up apart from the ledger, without it the ledger cannot be read");
        }
    }
    let me = rustix::process::geteuid().as_raw();
    let (place, sealer) = place_and_key(config, references, me).await?;
    Ledger::open(place, sealer, clock).await.map_err(|error| StartError::Environment(error.to_string()))
}

/// Opens the ledger of these settings to read it, whether a daemon holds it or not.
pub async fn ledger_to_read(
    config: &Config,
    references: &References,
    clock: Arc<dyn Clock>,
) -> Result<Ledger, StartError> {
    let me = rustix::process::geteuid();
    let owner = places(config).ledger.symlink_metadata().ok().filter(|_| me.is_root());
    let owner = owner.map_or(me.as_raw(), |ledger| std::os::unix::fs::MetadataExt::uid(&ledger));
    let (place, sealer) = place_and_key(config, references, owner).await?;
    Ledger::open_to_read(place, sealer, clock).await.map_err(|error| StartError::Environment(error.to_string()))
}

const KEY: &str = "ledger.key";

fn key_problem(error: &dyn std::fmt::Display) -> StartError {
    StartError::Environment(format!("the ledger's key: {error}"))
}

async fn place_and_key(config: &Config, references: &References, owner: u32) -> Result<(Place, Sealer), StartError> {
    let places = places(config);
    let beside = places.ledger.parent().unwrap_or(Path::new(".")).to_owned();
    let sealer = match &config.ledger.key {
        Some(reference) => {
            let key = references.resolve(reference).await.map_err(|error| key_problem(&error))?;
            Sealer::from_base64(&key).map_err(|error| key_problem(&error))?
        }
        // A new key would open nothing that an existing ledger holds.
        None => Sealer::from_file_of(&beside.join(KEY), owner).map_err(|error| key_problem(&error))?,
    };
    let place = match &config.ledger.postgres {
        None => Place::Sqlite(places.ledger),
        Some(reference) => postgres(references, reference, beside).await?,
    };
    Ok((place, sealer))
}

#[cfg(feature = "postgres")]
async fn postgres(
    references: &References,
    reference: &crate::credential::Reference,
    beside: PathBuf,
) -> Result<Place, StartError> {
    let url = references
        .resolve(reference)
        .await
        .map_err(|error| StartError::Environment(format!("ledger.postgres: {error}")))?;
    Ok(Place::Postgres { url, beside })
}

#[cfg(not(feature = "postgres"))]
async fn postgres(_: &References, _: &crate::credential::Reference, _: PathBuf) -> Result<Place, StartError> {
    Err(StartError::Settings("ledger.postgres: this credd was built without the feature `postgres`".into()))
}

fn private_folder(folder: &Path) -> Result<(), StartError> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| {
        StartError::Environment(format!(
            "cannot make the state folder {}: {error}; create it for the daemon's user, or set ledger.path",
            folder.display()
        ))
    })
}

/// What is opened from the settings and lives as long as they say the same. Cheap to clone.
#[derive(Clone)]
pub struct Resources {
    catalogue: Catalogue,
    stores: ByName<dyn SecretStore>,
    /// Ways to on-call.
    pub channels: ByName<dyn Channel>,
    /// The way to the providers.
    pub upstream: Arc<dyn Upstream>,
    fetch: Arc<Fetch>,
    references: Arc<References>,
    clock: Arc<dyn Clock>,
}

impl Resources {
    /// Opens everything the settings name. Nothing is reached over the network yet.
    pub async fn open(
        loaded: &Loaded,
        embedded: Option<Arc<dyn SecretStore>>,
        references: &Arc<References>,
        clock: Arc<SteadyClock>,
    ) -> Result<Self, StartError> {
        let config = &loaded.config;
        let fetch = Fetch::new(FetchSettings::default()).map_err(|error| StartError::Environment(error.to_string()))?;
        let witnessed = clock.clone();
        let fetch = fetch.telling_dates(Arc::new(move |origin, date| witnessed.heard(origin, date)));
        let fetch = Arc::new(fetch);
        let mut resources = Self {
            catalogue: sound_catalogue(config)?,
            stores: embedded.map(|store| ("embedded".to_owned(), store)).into_iter().collect(),
            channels: ByName::new(),
            upstream: Arc::new(HttpUpstream::new(fetch.clone())),
            fetch,
            references: references.clone(),
            clock,
        };
        for name in config.stores.keys() {
            resources.open_store(loaded, name).await?;
        }
        for name in config.pager.channels.keys() {
            resources.open_channel(loaded, name)?;
        }
        let stores = resources.stores.clone();
        // Bound once: secrets of the settings that lie in home stores are read from those of the start.
        references.bind(Arc::new(move |reference: StoreReference| {
            let store = stores.get(&reference.store).cloned();
            Box::pin(async move {
                let store = store.ok_or_else(|| format!("there is no store named {:?}", reference.store))?;
                let loaded = store.load(&Location(reference.at.clone())).await.map_err(|error| error.to_string())?;
                let none = || {
                    format!("{} in store {} holds no single value; name a key after #", reference.at, reference.store)
                };
                loaded.material.access_token.ok_or_else(none)
            })
        }));
        Ok(resources)
    }

    /// What changed settings make of it, beside what is in force: what did not change stays open.
    pub async fn following(&self, loaded: &Loaded, difference: &Difference) -> Result<Self, StartError> {
        let mut next = Self { catalogue: sound_catalogue(&loaded.config)?, ..self.clone() };
        for name in difference.stores.added.iter().chain(&difference.stores.changed) {
            next.open_store(loaded, name).await?;
        }
        for name in difference.channels.added.iter().chain(&difference.channels.changed) {
            next.open_channel(loaded, name)?;
        }
        next.stores.retain(|name, _| !difference.stores.removed.contains(name));
        next.channels.retain(|name, _| !difference.channels.removed.contains(name));
        Ok(next)
    }

    async fn open_store(&mut self, loaded: &Loaded, name: &str) -> Result<(), StartError> {
        let settings = &loaded.config.stores[name];
        let store = store::open(name, settings, self.references.clone(), self.clock.clone())
            .await
            .map_err(|error| unopened(loaded, &format!("/stores/{name}"), &error))?;
        self.stores.insert(name.to_owned(), store);
        Ok(())
    }

    fn open_channel(&mut self, loaded: &Loaded, name: &str) -> Result<(), StartError> {
        let fetch = self.fetch.clone();
        let post: pager::Post = Arc::new(move |call| {
            let fetch = fetch.clone();
            Box::pin(async move { fetch.exchange(call).await })
        });
        let settings = &loaded.config.pager.channels[name];
        let channel = pager::open(name, settings, self.references.clone(), post, self.clock.clone())
            .map_err(|error| unopened(loaded, &format!("/pager/channels/{name}"), &error))?;
        self.channels.insert(name.to_owned(), channel);
        Ok(())
    }

    /// Home stores by name.
    pub fn stores(&self) -> &ByName<dyn SecretStore> {
        &self.stores
    }

    /// Names of all providers.
    pub fn provider_names(&self) -> Vec<String> {
        self.catalogue.names().map(str::to_owned).collect()
    }

    /// What the settings say of each credential, resolved; the cuts of one stand behind it.
    pub fn assignments(&self, config: &Config) -> Result<Vec<Assignment>, StartError> {
        let mut all = Vec::with_capacity(config.credentials.len());
        for (id, credential) in &config.credentials {
            let whole = self.assignment(config, id, credential)?;
            all.extend(cuts::with_cuts(whole).map_err(|why| StartError::Settings(format!("credential {id}: {why}")))?);
        }
        Ok(all)
    }

    /// Whether its readers can be narrowed as the settings say, for a check without stores.
    pub fn check_cuts(&self, credential: &Credential) -> Result<(), String> {
        let Some(provider) = self.catalogue.provider(&credential.provider) else { return Ok(()) };
        cuts::check_all(&provider, credential.kind, credential.readers.as_deref().unwrap_or_default())
    }

    /// What the settings say of one credential, resolved.
    pub fn assignment(
        &self,
        config: &Config,
        id: &CredentialId,
        credential: &Credential,
    ) -> Result<Assignment, StartError> {
        let missing = |what: &str, name: &str| {
            StartError::Settings(format!("credential {id}: there is no {what} named {name:?}"))
        };
        if credential.kind.signs() && !cfg!(feature = "aws") {
            let kind = credential.kind.as_str();
            return Err(StartError::Settings(format!(
                "credential {id}: kind {kind} needs signatures, and this credd was built without the feature `aws`; \
                 use one that was built with the default features"
            )));
        }
        let provider =
            self.catalogue.provider(&credential.provider).ok_or_else(|| missing("provider", &credential.provider))?;
        let store = self.stores.get(&credential.store).ok_or_else(|| missing("store", &credential.store))?.clone();
        let settings = match config.policies.get(&credential.policy) {
            Some(settings) => settings.clone(),
            None if credential.policy == "default" => crate::lifecycle::Settings::default(),
            None => return Err(missing("policy", &credential.policy)),
        };
        let span = |time: Option<jiff::SignedDuration>| time.and_then(|time| Duration::try_from(time).ok());
        let has_probe = provider.probe(credential.kind).is_some()
            || credential.upstream.probe_url.is_some()
            || introspects(&provider, credential.kind, &credential.upstream);
        let policy = Policy {
            kind: credential.kind,
            rotation: provider.rotation,
            grace: provider.grace.unwrap_or_default(),
            reuse_kills_access_token: provider.reuse_kills_access_token,
            refresh_idle: provider.refresh_idle,
            refresh_absolute: provider.refresh_absolute,
            has_probe,
            lead: span(settings.refresh_lead),
            max_lead: provider.max_lead,
            ttl_warn: span(credential.ttl_warn.or(settings.ttl_warn)),
            ttl_fail: span(credential.ttl_fail.or(settings.ttl_fail)),
        };
        let made_from = (
            credential,
            &settings,
            config.stores.get(&credential.store),
            self.catalogue.text(&credential.provider),
            config.providers.as_ref(),
        );
        let made_from = serde_json::to_vec(&made_from).expect("settings have only text keys");
        Ok(Assignment {
            made_from: digest::digest(&digest::SHA256, &made_from).as_ref().try_into().expect("SHA-256 has 32 bytes"),
            id: id.clone(),
            kind: credential.kind,
            provider,
            policy,
            probe: settings.probe,
            store_name: credential.store.clone(),
            store,
            at: Location(credential.at.clone().unwrap_or_else(|| id.to_string())),
            criticality: credential.criticality,
            shared: credential.shared,
            readers: credential.readers.clone().unwrap_or_default().into(),
            scopes: credential.scopes.clone().into(),
            offer: credential.offer().map(Arc::new),
            upstream: credential.upstream.clone(),
            expires_at: credential.expires_at,
            whole: None,
        })
    }
}

/// A part that its settings make impossible, whatever answers at the other end.
fn unopened(loaded: &Loaded, at: &str, reason: &dyn std::fmt::Display) -> StartError {
    let help = "correct it, or what it names; a store or a channel that is merely down would be no reason".to_owned();
    StartError::Impossible(Problems(vec![loaded.places().problem(at, reason.to_string(), Some(help))]))
}

/// What is known of the providers, and what is wrong with the files of the settings' own folder.
pub(super) fn catalogue(config: &Config) -> Result<(Catalogue, Vec<catalogue::Problem>), StartError> {
    let built_in = Catalogue::embedded().map_err(|problems| {
        StartError::Settings(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    })?;
    let Some(folder) = &config.providers else { return Ok((built_in, vec![])) };
    Ok(built_in.with_folder(folder))
}

/// The same for use, where every file must be good.
fn sound_catalogue(config: &Config) -> Result<Catalogue, StartError> {
    let (catalogue, broken) = catalogue(config)?;
    let problems: Vec<Problem> = broken.iter().map(of_provider_file).collect();
    if problems.is_empty() { Ok(catalogue) } else { Err(StartError::Impossible(Problems(problems))) }
}

/// In the words in which settings are told of.
pub(super) fn of_provider_file(problem: &catalogue::Problem) -> Problem {
    let help = "`credd providers lint FILE` checks it alone";
    Problem::at(Path::new(&problem.file), (problem.line, problem.column), &problem.message, help)
}

/// Which heavy backends this program was built with.
pub(super) fn features() -> &'static str {
    match (cfg!(feature = "aws"), cfg!(feature = "postgres")) {
        (true, true) => "aws,postgres",
        (true, false) => "aws",
        (false, true) => "postgres",
        (false, false) => "",
    }
}

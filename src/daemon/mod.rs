//! Builds every part, binds every listener, runs, and drains. It knows everybody and decides nothing.

mod admin;
mod cuts;
mod follow;
mod homes;
mod house;
mod latches;
mod pagers;
mod places;
mod ports;
mod possible;
mod residents;
mod resources;
mod startup;
mod time;

pub use admin::{put, remove};
pub use places::{Places, places};
pub use ports::{LedgerDocuments, LedgerOutbox};
pub use possible::{Examined, Open, examine, left_open};
pub use residents::Residents;
pub use resources::{Resources, ledger, ledger_to_read};
pub use startup::{Refused, StartError};

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    clock::{Clock, SteadyClock},
    config::{Loaded, References, Reloader},
    metrics::Metrics,
    publish::{self, Subscriber},
    server::{admin as operator, health, scrape, socket},
    store::embedded::Embedded,
    telemetry::Redactor,
    watcher::{Fleet, FleetParts},
    web::{self, Pulse, Readiness},
};

/// The first look at credentials takes at most this long (each of them, all at once).
const FIRST_LOOK: Duration = Duration::from_secs(10);
/// Per-credential series of `/metrics` at most.
const MOST_SERIES: usize = 50_000;
const SHARDS: u16 = 64;
/// Flights have 40 s, and a ledger that does not write some more.
const LONGEST_DRAIN: Duration = Duration::from_secs(60);
/// A part that must keep going and leaves no mark for so long is stuck. Shards leave one every 15 s, and wait for a
/// ledger or a home store no longer than this.
const SILENCE: Duration = Duration::from_secs(60);
/// Where a panic may come from, as the log of panics names it: each is counted from 0, so that the first one is seen.
const COMPONENTS: [&str; 11] = [
    "catalogue",
    "daemon",
    "dependency",
    "ledger",
    "lifecycle",
    "oncall",
    "pager",
    "publish",
    "server",
    "upstream",
    "watcher",
];

/// What a daemon is started with, beside its settings.
#[derive(Clone)]
pub struct Environment {
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// Masks secrets in logs.
    pub redactor: Redactor,
    /// Throws of 0 to 1.
    pub dice: Arc<dyn Fn() -> f64 + Send + Sync>,
    /// This machine's name, where it has one that no other has.
    pub machine: Option<String>,
    /// The log level's handle, where there is one.
    pub telemetry: Option<crate::telemetry::Telemetry>,
}

/// A running daemon.
pub struct Daemon {
    /// What is published.
    pub subscriber: Subscriber,
    /// The way to the shards.
    pub asks: publish::Asks,
    /// The readers' socket.
    pub socket: PathBuf,
    /// The operator's socket.
    pub admin_socket: PathBuf,
    /// Where health and metrics listen.
    pub health: std::net::SocketAddr,
    /// Whether it is ready.
    pub readiness: Readiness,
    /// Asks for a reload.
    pub reload: crate::config::Reload,
    /// All metrics.
    pub metrics: Metrics,
    /// The open ledger.
    pub ledger: crate::ledger::Ledger,
    clock: Arc<dyn Clock>,
    pulse: Pulse,
    fleet: Arc<tokio::sync::Mutex<Option<Fleet>>>,
    faces: Vec<JoinHandle<()>>,
    stop_faces: CancellationToken,
    oncall: pagers::Running,
    channels: house::Channels,
}

impl Daemon {
    /// Starts: everything is opened and bound before anything is served, and credentials that the ledger has never seen
    /// good are looked at before it says ready.
    pub async fn start(loaded: Loaded, environment: Environment) -> Result<Self, StartError> {
        let steady = Arc::new(SteadyClock::new(environment.clock.clone()));
        let clock: Arc<dyn Clock> = steady.clone();
        let environment = Environment { clock: clock.clone(), ..environment };
        let config = loaded.config.clone();
        let references = Arc::new(References::new(loaded.path.as_deref(), environment.redactor.clone()));
        possible::examine(&loaded, &references)?.verdict().map_err(StartError::Impossible)?;
        let metrics = Metrics::new();
        metrics.credd_build_info.with_label_values(&[env!("CARGO_PKG_VERSION"), resources::features()]).set(1);
        for component in COMPONENTS {
            metrics.credd_panics_total.with_label_values(&[component]);
        }
        let readiness = Readiness::default();
        let opening = readiness.hold("ledger");
        let (looking, syncing) = (readiness.hold("credentials"), readiness.hold("stores"));
        let pulse = Pulse::new(clock.clone());
        let ledger = resources::ledger(&config, &references, clock.clone()).await?;
        ledger.measure(&metrics);
        drop(opening);
        let (publisher, subscriber) = publish::channel(clock.clone());
        let kept = metrics.clone();
        publisher.on_removal(move |name| scrape::forget(&kept, name));
        let embedded = Arc::new(Embedded::new(Arc::new(LedgerDocuments(ledger.clone()))));
        let resources = Resources::open(&loaded, Some(embedded), &references, steady.clone()).await?;
        let places = places(&config);
        let health_listener = TcpListener::bind(config.server.health).await.map_err(|error| {
            StartError::Environment(format!(
                "cannot listen on {} for health and metrics: {error}; is another credd running? `server.health` chooses another address",
                config.server.health
            ))
        })?;
        let health_address = health_listener.local_addr().unwrap_or(config.server.health);
        places.make_folder()?;
        let house_log = ports::Chronicle::new(ledger.clone(), clock.clone());
        let rebound = house_log.clone();
        let door =
            socket::bind(&places.socket, resources::mode(&config)?, clock.clone(), move |path| rebound.rebound(path))
                .await
                .map_err(|error| StartError::Environment(error.to_string()))?;
        let admin_door = operator::bind(&places.admin, clock.clone())
            .await
            .map_err(|error| StartError::Environment(error.to_string()))?;

        let beats: Vec<web::Beat> =
            (0..SHARDS).map(|number| pulse.part(format!("watcher/{number}"), SILENCE)).collect();
        let redactor = environment.redactor.clone();
        let mut fleet = Fleet::start(FleetParts {
            clock: clock.clone(),
            ledger: ledger.clone(),
            publisher,
            upstream: resources.upstream.clone(),
            metrics: metrics.clone(),
            dice: environment.dice.clone(),
            boot_id: crate::clock::boot_id(),
            machine: environment.machine.clone(),
            shards: SHARDS,
            alive: Arc::new(move |number| beats[usize::from(number)].mark()),
            secrets: Arc::new(move |secret| redactor.register(secret)),
        })
        .await
        .map_err(|error| StartError::Environment(error.to_string()))?;

        let stop_faces = CancellationToken::new();
        let asks = fleet.asks();
        let mut faces = Vec::new();
        let health_parts = health::Parts {
            subscriber: subscriber.clone(),
            readiness: readiness.clone(),
            pulse: pulse.clone(),
            stores: homes::for_health(fleet.stores()),
            scrape: scrape::Scrape::new(metrics.clone(), subscriber.clone(), MOST_SERIES),
            clock: clock.clone(),
            fail_on: config.server.fail_on,
            details_token: config.server.details_token.clone(),
            resolve: references.clone(),
            service_id: format!("credd@{}", resources::host()),
        };
        let stop = stop_faces.clone();
        faces.push(tokio::spawn(health::serve(health_listener, health_parts, web::Limits::default(), stop)));
        let limits = socket::Limits::per_uid(config.server.connections_per_uid);
        let socket_parts = socket::Parts {
            subscriber: subscriber.clone(),
            asks: asks.clone(),
            metrics: metrics.clone(),
            clock: clock.clone(),
            witness: house_log.witness(),
        };
        let known = fleet.proven();
        let looks = fleet.watch(resources.assignments(&config)?).await;
        // Not before all are published: a reader that comes early must not hear that its credential does not exist.
        faces.push(tokio::spawn(socket::serve(door, socket_parts, limits, stop_faces.clone())));
        looks.wait(FIRST_LOOK).await;
        let refused = startup::judge(&config, &subscriber.list(), &known, clock.now().wall);
        if !refused.is_empty() {
            stop_faces.cancel();
            fleet.drain().await;
            ledger.close().await;
            return Err(StartError::Credentials(refused));
        }
        let (stores, of_stores, wake) = (fleet.stores(), fleet.stores(), Box::new(fleet.tell_time()));
        let fleet = Arc::new(tokio::sync::Mutex::new(Some(fleet)));
        let oncall = Arc::new(Mutex::new(None));
        let (reload, reloader) =
            Reloader::new(loaded.clone(), resources.provider_names(), metrics.clone(), clock.clone());
        let reloader = reloader.judged_by(possible::judge(references));
        let house = admin::Operator {
            ledger: ledger.clone(),
            fleet: fleet.clone(),
            reload: reload.clone(),
            stores: Box::new(stores),
            clock: clock.clone(),
            started: clock.now(),
            settings: loaded.path.clone(),
            health: health_address,
            socket: places.socket.clone(),
        };
        let operator_parts = operator::Parts {
            subscriber: subscriber.clone(),
            asks: asks.clone(),
            house: Arc::new(house),
            clock: clock.clone(),
        };
        faces.push(tokio::spawn(operator::serve(admin_door, operator_parts, stop_faces.clone())));
        let daemon = Self {
            subscriber,
            asks,
            socket: places.socket,
            admin_socket: places.admin,
            health: health_address,
            readiness,
            reload,
            metrics,
            ledger,
            clock: clock.clone(),
            pulse,
            fleet,
            faces,
            stop_faces,
            oncall,
            channels: house::Channels::default(),
        };
        daemon.tell_oncall(&resources, clock.clone());
        let watch = house::HouseWatch {
            ledger: daemon.ledger.clone(),
            clock: clock.clone(),
            metrics: daemon.metrics.clone(),
            readiness: daemon.readiness.clone(),
            subscriber: daemon.subscriber.clone(),
            stores: Box::new(of_stores),
            channels: daemon.channels.clone(),
            beat: daemon.pulse.part("ledger", SILENCE),
        };
        let latches = watch.latches();
        drop(syncing);
        daemon.readiness.forget("stores");
        let watch = watch.run(latches, daemon.stop_faces.clone());
        let (ledger, metrics) = (daemon.ledger.clone(), daemon.metrics.clone());
        let time = time::TimeWatch { clock: steady, ledger, metrics, wake };
        let time = time.run(daemon.stop_faces.clone());
        let follower = follow::Follower {
            fleet: daemon.fleet.clone(),
            oncall: daemon.oncall.clone(),
            channels: daemon.channels.clone(),
            ledger: daemon.ledger.clone(),
            metrics: daemon.metrics.clone(),
            clock: environment.clock.clone(),
            telemetry: environment.telemetry.clone(),
            resources,
            current: loaded.config,
        };
        let follower = follower.run(reloader, daemon.stop_faces.clone());
        let mut daemon = daemon;
        daemon.faces.push(tokio::spawn(follower));
        daemon.faces.push(tokio::spawn(watch));
        daemon.faces.push(tokio::spawn(time));
        drop(looking);
        tracing::info!(
            socket = %daemon.socket.display(),
            health = %daemon.health,
            credentials = daemon.subscriber.list().len(),
            "ready"
        );
        Ok(daemon)
    }

    /// Starts on-call's loops over these channels, in place of those that run.
    fn tell_oncall(&self, resources: &Resources, clock: Arc<dyn Clock>) {
        pagers::start(&self.oncall, &self.channels, &self.ledger, resources, &self.metrics, clock);
    }

    /// Whether parts that must keep going do.
    pub fn is_alive(&self) -> bool {
        self.pulse.list().iter().all(|(_, alive)| *alive)
    }

    /// Stops: no new flight, those that are out are brought home, readers are answered to the end.
    pub async fn stop(self) {
        tracing::info!("stopping: flights that are out are brought home first");
        let draining = self.readiness.hold("draining");
        if let Some(fleet) = self.fleet.lock().await.take() {
            // A ledger that refuses a token may hold a stop up this long, and no longer.
            tokio::select! {
                () = fleet.drain() => {}
                () = self.clock.sleep(LONGEST_DRAIN) => tracing::error!("stopping although not everything could be made durable"),
            }
        }
        self.stop_faces.cancel();
        let oncall = self.oncall.lock().expect("nothing panics while it is held").take();
        if let Some((task, stop)) = oncall {
            stop.cancel();
            let _ = task.await;
        }
        for face in self.faces {
            let _ = face.await;
        }
        self.ledger.close().await;
        drop(draining);
        tracing::info!("stopped");
    }
}

/// Names of what was opened, by name.
pub(crate) type ByName<T> = BTreeMap<String, Arc<T>>;

//! `credd sandbox`: an OAuth provider and API that misbehaves on demand.
//!
//! For rehearsals (what will my service do when the provider …?) and for our own tests. It keeps a log of every call
//! and counts overlaps, so that "exactly once" is counted by the other side. It uses nothing of what it is there to test.

mod admin;
mod api;
mod authority;
mod call;
mod control;
mod fault;
mod oauth;
mod profile;
mod record;
mod reply;
mod serve;
mod terms;

pub use admin::{Admin, Seed};
pub use fault::{Fault, FaultKind, Place, RetryAfter};
pub use profile::{Profile, UnknownProfile};
pub use record::{CallRecord, Counters, Totals};
pub use terms::{Client, NewGrant, NewKey};

use std::{
    fmt, io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::clock::{Clock, SystemClock};
use authority::Authority;
use fault::Switchboard;
use profile::Dice;
use record::Log;

/// How a sandbox is to be.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the provider and its API listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where the admin API listens: loopback only, because it hands out tokens to whoever asks.
    pub admin: SocketAddr,
    /// Who may ask for tokens.
    pub clients: Vec<Client>,
    /// Ordinary bad weather on each call (see [`FaultKind`]), and endpoints under a random path.
    pub misbehave: bool,
    /// Of all chance; drawn where absent.
    pub seed: Option<u64>,
    /// How many calls the log keeps.
    pub log_limit: usize,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
}

impl Default for Options {
    /// A free port on loopback, one client (`sandbox`, `sandbox-secret`), good weather.
    fn default() -> Self {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            listen: loopback,
            admin: loopback,
            clients: vec![Client::default()],
            misbehave: false,
            seed: None,
            log_limit: 100_000,
            clock: Arc::new(SystemClock),
        }
    }
}

/// Why a sandbox did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is taken or not ours.
    #[error("cannot listen on {address}: {source}; choose another port, or 0 for a free one")]
    Bind {
        /// Which one.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The admin API would be open to the network.
    #[error("the sandbox's admin API must stay on loopback, and {0} is not")]
    Admin(SocketAddr),
    /// No randomness for a seed.
    #[error("the system gives no random numbers: give a seed")]
    Random,
}

/// The sandbox. A namespace for [`Sandbox::start`].
#[derive(Clone, Copy, Debug)]
pub struct Sandbox;

impl Sandbox {
    /// Listens, and serves until the [`Running`] is dropped.
    pub async fn start(options: Options) -> Result<Running, StartError> {
        if !options.admin.ip().is_loopback() {
            return Err(StartError::Admin(options.admin));
        }
        let seed = match options.seed {
            Some(seed) => seed,
            None => {
                let mut bytes = [0; 8];
                aws_lc_rs::rand::fill(&mut bytes).map_err(|_| StartError::Random)?;
                u64::from_le_bytes(bytes)
            }
        };
        let mut dice = Dice::new(seed);
        let prefix = if options.misbehave { format!("/{:08x}", dice.roll() & 0xffff_ffff) } else { String::new() };
        let (listener, address) = bind(options.listen)?;
        let (admin, admin_address) = bind(options.admin)?;
        let mut authority = Authority::default();
        authority.clients.extend(options.clients.into_iter().map(|client| (client.id.clone(), client)));
        let state = State { authority, faults: Switchboard::default(), log: Log::new(options.log_limit), dice };
        let url = format!("http://{address}{prefix}");
        let shared = Arc::new(Shared {
            clock: options.clock,
            misbehave: options.misbehave,
            url: url.clone(),
            prefix,
            state: Mutex::new(state),
        });
        let stop = CancellationToken::new();
        tokio::spawn(serve::accept(listener, serve::Door::Provider, Arc::clone(&shared), stop.clone()));
        tokio::spawn(serve::accept(admin, serve::Door::Admin, Arc::clone(&shared), stop.clone()));
        let admin_url = format!("http://{admin_address}");
        Ok(Running { url, admin_url, seed, shared, _stop: stop.drop_guard() })
    }
}

/// Binds, with a queue that a crowd does not overflow.
fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let bound = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(4096)?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    bound().map_err(|source| StartError::Bind { address, source })
}

/// A sandbox at work; dropping it closes every connection.
#[derive(Debug)]
pub struct Running {
    /// Of the provider and API: `{url}/token`, `{url}/api/me`.
    pub url: String,
    /// Of the admin API: `{admin_url}/admin/log`.
    pub admin_url: String,
    /// Of all chance; the same seed gives the same misbehaviour.
    pub seed: u64,
    shared: Arc<Shared>,
    _stop: DropGuard,
}

impl Running {
    /// The admin API without HTTP.
    pub fn admin(&self) -> Admin {
        Admin::new(Arc::clone(&self.shared))
    }

    /// Where tokens are had.
    pub fn token_endpoint(&self) -> String {
        self.shared.token_endpoint()
    }

    /// Where they are used; fit for a probe.
    pub fn probe_url(&self) -> String {
        format!("{}/api/me", self.url)
    }
}

/// What all connections share.
struct Shared {
    clock: Arc<dyn Clock>,
    misbehave: bool,
    url: String,
    prefix: String,
    state: Mutex<State>,
}

struct State {
    authority: Authority,
    faults: Switchboard,
    log: Log,
    dice: Dice,
}

impl Shared {
    /// Held for a moment at a time, never across an await.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn token_endpoint(&self) -> String {
        format!("{}/token", self.url)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sandbox({})", self.url)
    }
}

/// A call under way. Dropped when it is over, however it ended.
#[derive(Debug)]
struct Ticket {
    shared: Arc<Shared>,
    seq: u64,
    grant: Option<String>,
    refresh: bool,
    handed_over: bool,
}

impl Ticket {
    /// The last byte of the reply went to the connection.
    fn handed_over(&mut self) {
        self.handed_over = true;
    }

    fn note(&self, write: impl FnOnce(&mut CallRecord)) {
        self.shared.state().log.note(self.seq, write);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let replied = self.handed_over.then(|| self.shared.clock.now().wall);
        self.shared.state().log.close(self.seq, self.grant.as_deref(), self.refresh, replied);
    }
}

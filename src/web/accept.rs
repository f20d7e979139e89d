//! Taking connections: an accept loop that neither spins nor parks for ever when file descriptors run out.

use std::{fs::File, future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixStream},
};

use crate::clock::Clock;

/// Who is at the other end, by the word of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Caller {
    /// A process of this host.
    Local {
        /// Its effective user.
        uid: u32,
        /// Its effective group.
        gid: u32,
        /// Its process id, where the kernel knows it.
        pid: Option<i32>,
    },
    /// Somebody on the network.
    Remote(SocketAddr),
}

impl Caller {
    /// What the limit of connections counts by: the user, or the address.
    pub(super) fn party(&self) -> Party {
        match self {
            Self::Local { uid, .. } => Party::User(*uid),
            Self::Remote(address) => Party::Address(address.ip().to_canonical()),
        }
    }

    /// Of a connection over a Unix socket.
    pub fn of(stream: &UnixStream) -> io::Result<Self> {
        let peer = stream.peer_cred()?;
        Ok(Self::Local { uid: peer.uid(), gid: peer.gid(), pid: peer.pid() })
    }
}

/// See [`Caller::party`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Party {
    User(u32),
    Address(std::net::IpAddr),
}

/// What [`super::serve`] takes connections from.
pub trait Listener: Send + 'static {
    /// A connection.
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next connection and who makes it.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Io, Caller)>> + Send;
}

impl Listener for TcpListener {
    type Io = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, Caller)> {
        let (stream, address) = TcpListener::accept(self).await?;
        stream.set_nodelay(true)?;
        Ok((stream, Caller::Remote(address)))
    }
}

/// An accept loop's memory: the reserve descriptor, and how often it had to be silent.
pub(super) struct Accepting<L> {
    listener: L,
    clock: Arc<dyn Clock>,
    reserve: Option<File>,
    hungry: u32,
}

impl<L: Listener> Accepting<L> {
    pub(super) fn new(listener: L, clock: Arc<dyn Clock>) -> Self {
        Self { listener, clock, reserve: spare(), hungry: 0 }
    }

    /// The next connection. Errors of one connection are passed over; a lack of descriptors is waited out.
    pub(super) async fn next(&mut self) -> (L::Io, Caller) {
        loop {
            match self.listener.accept().await {
                Ok(taken) => {
                    if self.hungry > 0 {
                        tracing::info!(waits = self.hungry, "connections are accepted again");
                        self.hungry = 0;
                    }
                    if self.reserve.is_none() {
                        self.reserve = spare();
                    }
                    return taken;
                }
                // The peer hung up between its connect and our accept: its loss alone.
                Err(error) if is_passing(&error) => {
                    tracing::debug!(%error, "a connection was gone before it was accepted")
                }
                Err(error) => self.shed(&error).await,
            }
        }
    }

    /// No descriptor is left, or the like: give up the reserve for as long as it takes to turn one caller away, then pause.
    async fn shed(&mut self, error: &io::Error) {
        if self.hungry.is_multiple_of(100) {
            tracing::error!(%error, "no more connections can be accepted; raise LimitNOFILE or close idle readers");
        }
        self.hungry += 1;
        if self.reserve.take().is_some() {
            // Only a waiting caller is taken: this must not wait for the next one.
            let turned_away = tokio::select! {
                biased;
                taken = self.listener.accept() => taken.is_ok(),
                () = std::future::ready(()) => false,
            };
            tracing::trace!(turned_away, "one waiting caller was turned away");
            self.reserve = spare();
        }
        self.clock.sleep(Duration::from_millis(100)).await;
    }
}

/// A descriptor to give up when there is no other.
fn spare() -> Option<File> {
    File::open("/dev/null").ok()
}

/// An error of one connection: the next may be fine at once.
fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, InvalidInput, NotConnected};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted | InvalidInput | NotConnected)
}

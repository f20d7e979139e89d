//! A connection whose peer has limited time: to begin, to complete a request's head, and to take what we send.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Limits;
use crate::clock::Clock;

/// How far the current request is; the connection and its service share it.
///
/// hyper's own head timeout also ends a kept-alive connection that merely waits, and takes a timer for each request.
/// This one takes a timer only when a peer dawdles.
#[derive(Clone, Debug, Default)]
pub(super) struct Phase(Arc<AtomicU8>);

/// Nothing was ever received.
const OPENED: u8 = 0;
/// Some bytes of a head were received.
const HEAD: u8 = 1;
/// A request is being served.
const SERVING: u8 = 2;
/// A response went out; the next request may come.
const IDLE: u8 = 3;

impl Phase {
    /// A head is complete, its request is served from now on.
    pub(super) fn serving(&self) {
        self.0.store(SERVING, Relaxed);
    }
}

/// See the module.
pub(super) struct Patient<Io> {
    io: Io,
    phase: Phase,
    limits: Limits,
    clock: Arc<dyn Clock>,
    /// The timer and the phase that it was set for.
    reading: Option<(u8, BoxFuture<'static, ()>)>,
    writing: Option<BoxFuture<'static, ()>>,
}

impl<Io> Patient<Io> {
    pub(super) fn new(io: Io, phase: Phase, limits: Limits, clock: Arc<dyn Clock>) -> Self {
        Self { io, phase, limits, clock, reading: None, writing: None }
    }

    /// Nothing came: for how long may that go on in this phase?
    fn await_bytes(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let phase = self.phase.0.load(Relaxed);
        let patience = match phase {
            OPENED => Some(self.limits.first),
            HEAD => Some(self.limits.head),
            IDLE => self.limits.idle,
            _ => None,
        };
        let Some(patience) = patience else {
            self.reading = None;
            return Poll::Pending;
        };
        if self.reading.as_ref().is_none_or(|(set_for, _)| *set_for != phase) {
            self.reading = Some((phase, self.clock.sleep(patience)));
        }
        late(self.reading.as_mut().map(|(_, timer)| timer), cx)
    }

    fn wrote(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if result.is_ready() {
            self.writing = None;
            self.phase.0.store(IDLE, Relaxed);
            if let Some(idle) = self.limits.idle {
                // hyper looked for the next request while this one was served, and looks again only when it is woken (FM-62).
                let mut timer = self.clock.sleep(idle);
                self.reading = timer.as_mut().poll(cx).is_pending().then_some((IDLE, timer));
            }
            return result;
        }
        let (clock, blocked) = (&self.clock, self.limits.blocked);
        let timer = self.writing.get_or_insert_with(|| clock.sleep(blocked));
        late(Some(timer), cx).map(Err)
    }
}

fn late(timer: Option<&mut BoxFuture<'static, ()>>, cx: &mut Context<'_>) -> Poll<io::Error> {
    let Some(timer) = timer else { return Poll::Pending };
    ready!(timer.as_mut().poll(cx));
    Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "the peer is too slow"))
}

impl<Io: AsyncRead + Unpin> AsyncRead for Patient<Io> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        match Pin::new(&mut this.io).poll_read(cx, buf) {
            Poll::Pending => this.await_bytes(cx).map(Err),
            done => {
                let phase = this.phase.0.load(Relaxed);
                if phase == OPENED || phase == IDLE {
                    this.phase.0.store(HEAD, Relaxed);
                    this.reading = None;
                }
                done
            }
        }
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Patient<Io> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write(cx, buf);
        self.wrote(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.wrote(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

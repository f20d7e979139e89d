//! The end of serving, told to every connection at no request's cost.
//!
//! A cancellation token takes locks that all connections share, each time that one of them is polled. Here a connection
//! asks to be woken once in each stage, and looks at one number.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::atomic::{AtomicU8, Ordering::SeqCst},
    task::Poll,
};

use bytes::Bytes;
use hyper::{
    body::{Body, Incoming},
    rt::{Read, Write},
    server::conn::http1::Connection,
    service::HttpService,
};
use tokio::sync::Notify;

use super::serve::BoxError;

/// How far the end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Stage {
    /// Answers under way are completed, and no more are taken.
    Drain = 1,
    /// Whatever is still open is cut.
    Cut = 2,
}

/// Shared by all connections of one listener.
#[derive(Debug, Default)]
pub(super) struct Ending {
    stage: AtomicU8,
    news: Notify,
}

impl Ending {
    pub(super) fn reach(&self, stage: Stage) {
        self.stage.store(stage as u8, SeqCst);
        self.news.notify_waiters();
    }

    /// Serves a connection to its end, or to this one. Must be polled by one task alone: it asks once to be woken.
    pub(super) async fn serve<I, S>(&self, connection: Connection<I, S>) -> hyper::Result<()>
    where
        I: Read + Write + Unpin,
        S: HttpService<Incoming, Error: Into<BoxError>, ResBody: Body<Data = Bytes, Error: Into<BoxError>> + 'static>,
    {
        let (mut connection, mut news) = (pin!(connection), pin!(self.news.notified()));
        let mut seen = None;
        poll_fn(|cx| {
            loop {
                let stage = self.stage.load(SeqCst);
                if seen == Some(stage) {
                    return connection.as_mut().poll(cx);
                }
                seen = Some(stage);
                // Then the number is looked at once more: nothing is reached unseen in between.
                news.set(self.news.notified());
                let _ = news.as_mut().poll(cx);
                if stage == Stage::Cut as u8 {
                    return Poll::Ready(Ok(()));
                }
                if stage == Stage::Drain as u8 {
                    connection.as_mut().graceful_shutdown();
                }
            }
        })
        .await
    }
}

//! A request body that remembers whether anybody took it.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use crate::credential::Secret;

/// Set from the moment at which bytes of the request may be on their way.
#[derive(Clone, Debug, Default)]
pub(super) struct Mark(Arc<AtomicBool>);

impl Mark {
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// The connection asks for the body in the same breath in which it buffers the head, before it writes either: a body
/// that nobody asked for means that nothing left. It cannot be cloned, so nothing below can send it twice.
pub(super) struct Watched {
    body: Option<Bytes>,
    mark: Mark,
}

impl Watched {
    pub(super) fn new(body: Secret) -> (Self, Mark) {
        struct Owner(Secret);
        impl AsRef<[u8]> for Owner {
            fn as_ref(&self) -> &[u8] {
                self.0.expose().as_bytes()
            }
        }
        let mark = Mark::default();
        (Self { body: Some(Bytes::from_owner(Owner(body))), mark: mark.clone() }, mark)
    }
}

impl Body for Watched {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.mark.0.store(true, Ordering::Release);
        Poll::Ready(self.body.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.body.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

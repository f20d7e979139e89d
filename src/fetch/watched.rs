//! A request body that knows whether anybody took it.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use crate::credential::Secret;

const WAITING: u8 = 0;
const TAKEN: u8 = 1;
const WITHDRAWN: u8 = 2;

/// Our end of a body: says whether bytes of the request may be on their way.
#[derive(Debug)]
pub(super) struct Mark(Arc<AtomicU8>);

impl Mark {
    /// Takes the body back. True if nobody had taken it, and then nobody will: the request never leaves.
    pub(super) fn withdraw(&self) -> bool {
        self.0.compare_exchange(WAITING, WITHDRAWN, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// The connection asks for the body in the same breath in which it buffers the head, before it writes either: a body
/// that nobody asked for means that nothing left, and one that was withdrawn in time breaks the connection instead.
/// It cannot be cloned, so nothing below can send it twice.
pub(super) struct Watched {
    body: Option<Bytes>,
    fate: Arc<AtomicU8>,
}

impl Watched {
    pub(super) fn new(body: Secret) -> (Self, Mark) {
        struct Owner(Secret);
        impl AsRef<[u8]> for Owner {
            #[expect(clippy::disallowed_methods, reason = "the body that is sent")]
            fn as_ref(&self) -> &[u8] {
                self.0.expose().as_bytes()
            }
        }
        let fate = Arc::new(AtomicU8::new(WAITING));
        (Self { body: Some(Bytes::from_owner(Owner(body))), fate: Arc::clone(&fate) }, Mark(fate))
    }
}

impl Body for Watched {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match self.fate.compare_exchange(WAITING, TAKEN, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) | Err(TAKEN) => Poll::Ready(self.body.take().map(|bytes| Ok(Frame::data(bytes)))),
            Err(_) => Poll::Ready(Some(Err(io::Error::other("withdrawn")))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.body.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

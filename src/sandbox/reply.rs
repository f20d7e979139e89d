//! Replies, whole and broken: what goes back over the wire, and how it is damaged on the way.

use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{
    HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderName},
};
use hyper::body::{Body, Frame, SizeHint};
use serde_json::Value;

use super::{Ticket, fault::FaultKind};
use crate::clock::Clock;

/// The connection ends without a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HangUp {
    /// In good form.
    Close,
    /// At once, with a reset.
    Reset,
}

impl fmt::Display for HangUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the sandbox hangs up on purpose")
    }
}

impl std::error::Error for HangUp {}

/// A reply before it is damaged and sent.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) status: u16,
    pub(super) headers: Vec<(HeaderName, String)>,
    pub(super) content_type: &'static str,
    pub(super) body: Vec<u8>,
}

impl Draft {
    pub(super) fn json(status: u16, value: &Value) -> Self {
        Self { status, headers: Vec::new(), content_type: "application/json", body: value.to_string().into_bytes() }
    }

    pub(super) fn text(status: u16, content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), content_type, body: body.into() }
    }

    pub(super) fn header(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Does to a good reply what the faults want that let the provider act first.
    pub(super) fn damage(mut self, faults: &[FaultKind]) -> (Self, Manner) {
        let mut manner = Manner::Whole;
        for fault in faults {
            match fault {
                FaultKind::Truncated => manner = Manner::Truncated,
                FaultKind::SlowBytes { every_ms } => manner = Manner::Slow(Duration::from_millis(*every_ms)),
                FaultKind::Malformed => drop(self.body.pop()),
                FaultKind::Empty => self.body.clear(),
                FaultKind::Restamp { status } => self.status = *status,
                FaultKind::DuplicateMembers => self.double(),
                FaultKind::Member { name, value } => self.replace(name, value.as_ref()),
                _ => {}
            }
        }
        (self, manner)
    }

    /// Repeats the first member in front, with another value.
    fn double(&mut self) {
        let Ok(Value::Object(object)) = serde_json::from_slice(&self.body) else { return };
        let Some(name) = object.keys().next() else { return };
        let rest = String::from_utf8_lossy(&self.body[1..]);
        self.body = format!("{{{}:\"another\",{rest}", Value::from(name.as_str())).into_bytes();
    }

    fn replace(&mut self, name: &str, value: Option<&Value>) {
        let Ok(Value::Object(mut object)) = serde_json::from_slice(&self.body) else { return };
        match value {
            Some(value) => drop(object.insert(name.to_owned(), value.clone())),
            None => drop(object.remove(name)),
        }
        self.body = Value::Object(object).to_string().into_bytes();
    }

    pub(super) fn send(self, manner: Manner, mut ticket: Option<Ticket>, clock: &Arc<dyn Clock>) -> Response<Answer> {
        let length = self.body.len();
        if let Some(ticket) = ticket.as_mut().filter(|_| length == 0) {
            ticket.handed_over();
        }
        let answer = Answer {
            body: self.body.into(),
            at: 0,
            flushed: false,
            manner,
            pause: None,
            ticket,
            clock: Arc::clone(clock),
        };
        let mut response = Response::new(answer);
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(CONTENT_LENGTH, length.into());
        if !self.content_type.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        }
        for (name, value) in self.headers {
            if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
                headers.insert(name, value);
            }
        }
        response
    }
}

/// How the body travels.
#[derive(Clone, Copy, Debug)]
pub(super) enum Manner {
    Whole,
    /// Half of it, and then the connection breaks.
    Truncated,
    /// Byte by byte, with this pause after each.
    Slow(Duration),
}

/// A body on its way. It holds the call's ticket, so that a call is over when its last byte was handed over.
pub(super) struct Answer {
    body: Bytes,
    at: usize,
    flushed: bool,
    manner: Manner,
    pause: Option<BoxFuture<'static, ()>>,
    ticket: Option<Ticket>,
    clock: Arc<dyn Clock>,
}

impl Answer {
    fn chunk(&mut self, upto: usize) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let bytes = self.body.slice(self.at..upto);
        self.at = upto;
        if let Some(ticket) = self.ticket.as_mut().filter(|_| upto == self.body.len()) {
            ticket.handed_over();
        }
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = self.get_mut();
        let length = this.body.len();
        if let Some(pause) = &mut this.pause {
            std::task::ready!(pause.as_mut().poll(context));
            this.pause = None;
        }
        match this.manner {
            // Once around, so that the half really leaves before the break: it would be thrown away with its buffer.
            Manner::Truncated if this.at > 0 && !std::mem::replace(&mut this.flushed, true) => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Manner::Truncated if this.at > 0 || length < 2 => {
                Poll::Ready(Some(Err(io::Error::other("the sandbox cuts the body on purpose"))))
            }
            Manner::Truncated => this.chunk(length / 2),
            _ if this.at == length => Poll::Ready(None),
            Manner::Whole => this.chunk(length),
            Manner::Slow(every) => {
                this.pause = Some(this.clock.sleep(every));
                this.chunk(this.at + 1)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.at == self.body.len() && !matches!(self.manner, Manner::Truncated)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact((self.body.len() - self.at) as u64)
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Answer({} bytes)", self.body.len())
    }
}

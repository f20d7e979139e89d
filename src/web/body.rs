//! Reading a request's body: never more than the cap, never for longer than the limit, wiped afterwards.

use std::time::Duration;

use bytes::Buf;
use http::{Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Body;
use jiff::Timestamp;
use zeroize::Zeroizing;

use super::Problem;
use crate::clock::Clock;

/// Bytes that a body may have.
pub const BODY_CAP: usize = 64 * 1024;

/// Why a body was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// More than the cap, by its announcement or in fact.
    #[error("the body has more than 64 KiB")]
    TooLarge,
    /// It did not come in time.
    #[error("the body did not come in time")]
    TooSlow,
    /// The peer ended it early.
    #[error("the body ended early or was malformed")]
    Broken,
}

impl BodyError {
    /// The answer; the connection is closed after it, because the rest of the body is not waited for.
    pub fn response(self, now: Timestamp) -> Response<http_body_util::Full<bytes::Bytes>> {
        let status = match self {
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Broken => StatusCode::BAD_REQUEST,
        };
        let mut response = Problem::plain(status, &self.to_string()).response(now);
        response.headers_mut().insert(http::header::CONNECTION, http::HeaderValue::from_static("close"));
        response
    }
}

/// Reads a whole body. One that announces more than the cap is refused before a byte of it is kept.
pub async fn read<B: Body + Unpin>(
    body: B,
    limit: Duration,
    clock: &dyn Clock,
) -> Result<Zeroizing<Vec<u8>>, BodyError> {
    if body.size_hint().lower() > BODY_CAP as u64 {
        return Err(BodyError::TooLarge);
    }
    tokio::select! {
        read = gather(body) => read,
        () = clock.sleep(limit) => Err(BodyError::TooSlow),
    }
}

async fn gather<B: Body + Unpin>(mut body: B) -> Result<Zeroizing<Vec<u8>>, BodyError> {
    let mut whole = Zeroizing::new(Vec::with_capacity(body.size_hint().lower().min(BODY_CAP as u64) as usize));
    while let Some(frame) = body.frame().await {
        let Ok(mut data) = frame.map_err(|_| BodyError::Broken)?.into_data() else { continue };
        while data.has_remaining() {
            let chunk = data.chunk();
            if whole.len() + chunk.len() > BODY_CAP {
                return Err(BodyError::TooLarge);
            }
            whole.extend_from_slice(chunk);
            data.advance(chunk.len());
        }
    }
    Ok(whole)
}

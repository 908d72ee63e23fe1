//! Bodies: what responses are made of, and how much of a request is taken in.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use http::StatusCode;
use http_body::{Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};

use crate::status::Failure;

/// The most bytes of a request's body.
pub const BODY_BYTES_MAX: usize = 3 << 20;
/// How much of a body that is too large is read to its end, so that the client sees the answer and not a reset.
const DRAIN_BYTES_MAX: usize = 64 << 20;
/// How long a client may take to send a body.
const BODY_MILLIS_MAX: u64 = 30_000;

/// The body of every response: whole, or a stream of pieces.
pub type Body = UnsyncBoxBody<Bytes, BrokenOff>;

/// A stream that ends before its end: the client is to see that it did not get all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BrokenOff(pub(crate) String);

/// Makes a body that is there at once.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// Makes a body from pieces that come over time.
pub fn stream(pieces: impl Stream<Item = Bytes> + Send + 'static) -> Body {
    stream_or_break(pieces.map(Ok))
}

/// As [`stream`], of pieces of which one may be the news that there is no more to be had.
pub fn stream_or_break(
    pieces: impl Stream<Item = Result<Bytes, BrokenOff>> + Send + 'static,
) -> Body {
    StreamBody::new(pieces.map(|piece| piece.map(Frame::data))).boxed_unsync()
}

/// Makes a body that holds something until it has been sent or given up.
pub(crate) fn holding(body: Body, held: impl Send + Unpin + 'static) -> Body {
    Holding { body, _held: held }.boxed_unsync()
}

struct Holding<T> {
    body: Body,
    _held: T,
}

impl<T: Unpin> http_body::Body for Holding<T> {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Reads a request's body.
///
/// # Errors
/// 413 above [`BODY_BYTES_MAX`], 408 when it takes too long, 400 when the client breaks off.
pub(crate) async fn read<B>(body: B) -> Result<Bytes, Failure>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: std::fmt::Display,
{
    match tokio::time::timeout(Duration::from_millis(BODY_MILLIS_MAX), collect(body)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Failure::new(
            StatusCode::REQUEST_TIMEOUT,
            "Timeout",
            format!("the request's body did not arrive within {BODY_MILLIS_MAX} ms"),
        )),
    }
}

async fn collect<B>(body: B) -> Result<Bytes, Failure>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: std::fmt::Display,
{
    let mut body = std::pin::pin!(body);
    let mut bytes = BytesMut::new();
    let mut length = 0usize;
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|error| Failure::bad_request(format!("the body broke off: {error}")))?;
        let Ok(piece) = frame.into_data() else { continue };
        length = length.saturating_add(piece.len());
        if length <= BODY_BYTES_MAX {
            bytes.extend_from_slice(&piece);
        } else if length > DRAIN_BYTES_MAX {
            break;
        }
    }
    if length > BODY_BYTES_MAX {
        let message = format!("the body is too large: at most {BODY_BYTES_MAX} bytes");
        return Err(Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", message));
    }
    Ok(bytes.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_over_the_limit_is_413_and_one_at_the_limit_is_read() {
        let at = read(Full::new(Bytes::from(vec![b' '; BODY_BYTES_MAX]))).await.expect("fits");
        assert_eq!(at.len(), BODY_BYTES_MAX);
        let over = read(Full::new(Bytes::from(vec![b' '; 10 << 20]))).await.expect_err("too large");
        assert_eq!(over.code, StatusCode::PAYLOAD_TOO_LARGE);
    }
}

//! Streams of a client: the pieces of a log, and the events of a watch.

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use serde_json::Value;

use super::connect::ResponseBody;
use super::error::ClientError;

/// The longest line of a watch, in bytes.
const LINE_BYTES_MAX: usize = 16 << 20;

/// Bytes that come over time, such as a log. Dropping it ends it.
#[derive(Debug)]
pub struct ByteStream {
    body: ResponseBody,
    server: String,
}

impl ByteStream {
    pub(super) const fn new(body: ResponseBody, server: String) -> Self {
        Self { body, server }
    }

    /// Waits for the next piece; `None` at the end. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<Bytes, ClientError>> {
        loop {
            match self.body.frame().await? {
                Ok(frame) => {
                    if let Ok(piece) = frame.into_data() {
                        return Some(Ok(piece));
                    }
                }
                Err(error) => {
                    let (server, reason) = (self.server.clone(), error.to_string());
                    return Some(Err(ClientError::Broken { server, reason }));
                }
            }
        }
    }
}

/// Something that happened to an object.
#[derive(Clone, Debug, PartialEq)]
pub enum WatchEvent {
    /// There is a new object, or one that is selected now.
    Added(Value),
    /// Everything up to this revision has been told.
    Bookmark(Value),
    /// An object is gone, or is not selected any more; this is its last value.
    Deleted(Value),
    /// An object changed.
    Modified(Value),
}

/// The events of a watch. Dropping it ends it.
#[derive(Debug)]
pub struct WatchStream {
    bytes: ByteStream,
    buffer: BytesMut,
    /// How much of the buffer is known to have no line end.
    searched: usize,
}

impl WatchStream {
    pub(super) fn new(bytes: ByteStream) -> Self {
        Self { bytes, buffer: BytesMut::new(), searched: 0 }
    }

    /// Waits for the next event; `None` when the server ended the watch in good order. Cancel-safe.
    ///
    /// An error for which [`ClientError::is_expired`] is true means: list again.
    pub async fn next(&mut self) -> Option<Result<WatchEvent, ClientError>> {
        loop {
            let unread = &self.buffer[self.searched..];
            if let Some(end) = unread.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(self.searched + end);
                self.buffer.advance(1);
                self.searched = 0;
                if line.is_empty() {
                    continue;
                }
                return Some(self.decode(&line));
            }
            self.searched = self.buffer.len();
            if self.searched > LINE_BYTES_MAX {
                return Some(Err(self.unexpected("an endless event")));
            }
            match self.bytes.next().await? {
                Ok(piece) => self.buffer.extend_from_slice(&piece),
                Err(error) => return Some(Err(error)),
            }
        }
    }

    fn decode(&self, line: &[u8]) -> Result<WatchEvent, ClientError> {
        let mut event: Value =
            serde_json::from_slice(line).map_err(|error| self.unexpected(&error.to_string()))?;
        let object = event.get_mut("object").map(Value::take).unwrap_or_default();
        match event.get("type").and_then(Value::as_str) {
            Some("ADDED") => Ok(WatchEvent::Added(object)),
            Some("BOOKMARK") => Ok(WatchEvent::Bookmark(object)),
            Some("DELETED") => Ok(WatchEvent::Deleted(object)),
            Some("MODIFIED") => Ok(WatchEvent::Modified(object)),
            Some("ERROR") => Err(ClientError::from_status_object(&object)),
            Some(_) | None => Err(self.unexpected("an event of no known type")),
        }
    }

    fn unexpected(&self, reason: &str) -> ClientError {
        let server = self.bytes.server.clone();
        ClientError::Unexpected { server, reason: reason.to_owned() }
    }
}

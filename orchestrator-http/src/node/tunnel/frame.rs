//! Frames: a kind, a length and bytes, one after the other in the body of a request or an answer.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use orchestrator_core::model::{Time, Uid};
use orchestrator_core::runtime::{
    LogLine, LogOptions, LogSource, RuntimeError, SessionEvent, SessionOptions,
};
use serde::{Deserialize, Serialize};

use crate::causes::causes;

/// The most bytes of a frame; pieces of streams are far smaller.
const FRAME_BYTES_MAX: usize = 4 << 20;
/// The bytes of a kind and a length.
const HEAD_BYTES: usize = 5;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// Of a request, the first: an [`Open`].
    Open = 0,
    /// Of a request: bytes for the input.
    Input = 1,
    /// Of a request: the input is at its end.
    Close = 2,
    /// Of a request: columns and rows of a terminal.
    Resize = 3,
    /// Of an answer, the first: it was opened.
    Opened = 4,
    Stdout = 5,
    Stderr = 6,
    /// Of an answer, the last: an exit code.
    Exited = 7,
    /// Of an answer, the last: a [`Trouble`].
    Failed = 8,
    /// Of an answer: a line of a log.
    Line = 9,
}

impl Kind {
    fn read(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::Open,
            1 => Self::Input,
            2 => Self::Close,
            3 => Self::Resize,
            4 => Self::Opened,
            5 => Self::Stdout,
            6 => Self::Stderr,
            7 => Self::Exited,
            8 => Self::Failed,
            9 => Self::Line,
            _ => return None,
        })
    }
}

/// What the server wants of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Open {
    Attach {
        pod: Uid,
        container: String,
        stdin: bool,
    },
    Connect {
        pod: Uid,
        port: u16,
    },
    Logs {
        pod: Uid,
        container: String,
        previous: bool,
        follow: bool,
        tail_lines: Option<usize>,
        since: Option<i64>,
    },
    Session {
        pod: Uid,
        container: String,
        command: Vec<String>,
        stdin: bool,
        terminal: bool,
    },
}

impl Open {
    pub(super) fn logs(pod: Uid, container: &str, previous: bool, options: &LogOptions) -> Self {
        let LogOptions { follow, tail_lines, since } = options;
        Self::Logs {
            pod,
            container: container.to_owned(),
            previous,
            follow: *follow,
            tail_lines: *tail_lines,
            since: since.map(Time::as_seconds),
        }
    }

    pub(super) fn session(pod: Uid, container: &str, options: &SessionOptions) -> Self {
        let SessionOptions { command, stdin, terminal } = options.clone();
        Self::Session { pod, container: container.to_owned(), command, stdin, terminal }
    }
}

/// Why a stream was not opened, or ended before its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Trouble {
    Invalid(String),
    NotFound(String),
    Other(String),
}

impl Trouble {
    pub(super) fn of(error: &RuntimeError) -> Self {
        match error {
            RuntimeError::Invalid { message } => Self::Invalid(message.clone()),
            RuntimeError::NotFound { what } => Self::NotFound(what.clone()),
            error => Self::Other(causes(error)),
        }
    }

    pub(super) fn into_error(self) -> RuntimeError {
        match self {
            Self::Invalid(message) => RuntimeError::Invalid { message },
            Self::NotFound(what) => RuntimeError::NotFound { what },
            Self::Other(message) => RuntimeError::Backend {
                action: "on the pod's node".to_owned(),
                source: message.into(),
            },
        }
    }
}

/// Writes a frame.
pub(super) fn frame(kind: Kind, content: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(HEAD_BYTES + content.len());
    bytes.put_u8(kind as u8);
    // What is longer the other side refuses.
    bytes.put_u32(u32::try_from(content.len()).unwrap_or(u32::MAX));
    bytes.put_slice(content);
    bytes.freeze()
}

pub(super) fn opening(open: &Open) -> Bytes {
    frame(Kind::Open, &serde_json::to_vec(open).unwrap_or_default())
}

pub(super) fn failure(error: &RuntimeError) -> Bytes {
    frame(Kind::Failed, &serde_json::to_vec(&Trouble::of(error)).unwrap_or_default())
}

pub(super) fn event(event: &SessionEvent) -> Bytes {
    match event {
        SessionEvent::Exited(code) => frame(Kind::Exited, &code.to_be_bytes()),
        SessionEvent::Stderr(bytes) => frame(Kind::Stderr, bytes),
        SessionEvent::Stdout(bytes) => frame(Kind::Stdout, bytes),
    }
}

/// A line: where it was written, how long its time is, its time and its text.
pub(super) fn line(line: &LogLine) -> Bytes {
    let mut content = BytesMut::with_capacity(2 + line.time.len() + line.text.len());
    content.put_u8(u8::from(line.stream == LogSource::Stderr));
    let time = line.time.as_bytes().get(..255).unwrap_or(line.time.as_bytes());
    content.put_u8(u8::try_from(time.len()).unwrap_or(u8::MAX));
    content.put_slice(time);
    content.put_slice(&line.text);
    frame(Kind::Line, &content)
}

pub(super) fn read_line(mut content: Bytes) -> Option<LogLine> {
    let source = content.try_get_u8().ok()?;
    let length = usize::from(content.try_get_u8().ok()?);
    if content.len() < length {
        return None;
    }
    let time = String::from_utf8(content.split_to(length).to_vec()).ok()?;
    let stream = if source == 1 { LogSource::Stderr } else { LogSource::Stdout };
    Some(LogLine { time, stream, text: content })
}

pub(super) fn size(columns: u16, rows: u16) -> Bytes {
    let [a, b] = columns.to_be_bytes();
    let [c, d] = rows.to_be_bytes();
    frame(Kind::Resize, &[a, b, c, d])
}

pub(super) fn read_size(content: &[u8]) -> Option<(u16, u16)> {
    let &[a, b, c, d] = content else { return None };
    Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
}

/// Reads frames from a body.
#[derive(Debug)]
pub(super) struct Frames {
    body: Incoming,
    buffer: BytesMut,
}

impl Frames {
    pub(super) fn new(body: Incoming) -> Self {
        Self { body, buffer: BytesMut::new() }
    }

    /// Waits for the next frame; `None` at the end of the body. Cancel-safe.
    ///
    /// # Errors
    /// A text, when the body breaks off or is not made of frames.
    pub(super) async fn next(&mut self) -> Option<Result<(Kind, Bytes), String>> {
        loop {
            match split(&mut self.buffer) {
                Ok(Some(frame)) => return Some(Ok(frame)),
                Ok(None) => {}
                Err(error) => return Some(Err(error)),
            }
            match self.body.frame().await {
                Some(Ok(piece)) => {
                    if let Ok(bytes) = piece.into_data() {
                        self.buffer.extend_from_slice(&bytes);
                    }
                }
                Some(Err(error)) => return Some(Err(error.to_string())),
                None if self.buffer.is_empty() => return None,
                None => return Some(Err("it ends in the middle of a frame".to_owned())),
            }
        }
    }
}

/// Takes a frame off the front; `None` when it has not come whole.
fn split(buffer: &mut BytesMut) -> Result<Option<(Kind, Bytes)>, String> {
    let Some((head, rest)) = buffer.split_first_chunk::<HEAD_BYTES>() else { return Ok(None) };
    let [kind, length @ ..] = *head;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    let kind = Kind::read(kind).ok_or_else(|| format!("there is no frame of the kind {kind}"))?;
    if length > FRAME_BYTES_MAX {
        return Err(format!("a frame of {length} bytes is too long"));
    }
    if rest.len() < length {
        return Ok(None);
    }
    buffer.advance(HEAD_BYTES);
    Ok(Some((kind, buffer.split_to(length).freeze())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_in_whatever_pieces_they_come() {
        let whole = [frame(Kind::Stdout, b"hello"), event(&SessionEvent::Exited(-3))].concat();
        let (mut buffer, mut found) = (BytesMut::new(), Vec::new());
        for byte in whole {
            buffer.put_u8(byte);
            found.extend(split(&mut buffer).expect("well-formed"));
        }
        assert_eq!(found[0], (Kind::Stdout, Bytes::from_static(b"hello")));
        assert_eq!(found[1], (Kind::Exited, Bytes::copy_from_slice(&(-3i32).to_be_bytes())));
        assert_eq!((found.len(), buffer.len()), (2, 0));
    }

    #[test]
    fn what_is_no_frame_is_refused_before_it_is_waited_for() {
        assert!(split(&mut BytesMut::from(&b"\x63\0\0\0\x01"[..])).is_err());
        assert!(split(&mut BytesMut::from(&b"\x05\xff\xff\xff\xff"[..])).is_err());
    }

    #[test]
    fn a_line_and_a_size_come_back_as_they_were() {
        for (time, stream) in [("2026-01-02T03:04:05Z", LogSource::Stderr), ("", LogSource::Stdout)]
        {
            let text = Bytes::from_static(b"x\n");
            let said = LogLine { time: time.to_owned(), stream, text };
            assert_eq!(read_line(line(&said).slice(HEAD_BYTES..)), Some(said));
        }
        assert_eq!(read_line(Bytes::from_static(b"\0\x09abc")), None);
        assert_eq!(read_size(&size(80, 24)[HEAD_BYTES..]), Some((80, 24)));
    }

    #[test]
    fn what_went_wrong_is_told_from_one_another() {
        let back = |error: RuntimeError| Trouble::of(&error).into_error();
        let what = "a run".to_owned();
        assert!(matches!(back(RuntimeError::NotFound { what }), RuntimeError::NotFound { .. }));
        let message = "no such program".to_owned();
        assert!(matches!(back(RuntimeError::Invalid { message }), RuntimeError::Invalid { .. }));
        let error = back(RuntimeError::Unreachable("no engine".into()));
        let RuntimeError::Backend { source, .. } = error else { panic!("{error:?}") };
        assert!(source.to_string().contains("no engine"), "{source}");
    }
}

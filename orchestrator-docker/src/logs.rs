//! `DockerLog`: a container's log as the engine streams it.

use std::collections::VecDeque;
use std::fmt;

use async_trait::async_trait;
use bollard::container::LogOutput;
use bollard::query_parameters::LogsOptions;
use bytes::Bytes;
use futures_util::StreamExt;
use orchestrator_core::runtime::{
    LOG_LINE_BYTES_MAX, LogLine, LogOptions, LogSource, LogStream, RuntimeError,
};

use crate::engine::OutputStream;

/// The length of the pieces into which the engine cuts long lines, in bytes.
const ENGINE_PIECE_BYTES: usize = 16 * 1024;

/// A log being read.
pub(crate) struct DockerLog {
    container: String,
    stream: OutputStream,
    /// What is left of a message that was longer than one line may be.
    pending: VecDeque<LogLine>,
}

impl DockerLog {
    pub(crate) fn new(container: String, stream: OutputStream) -> Self {
        Self { container, stream, pending: VecDeque::new() }
    }
}

impl fmt::Debug for DockerLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DockerLog").field("container", &self.container).finish_non_exhaustive()
    }
}

#[async_trait]
impl LogStream for DockerLog {
    async fn next(&mut self) -> Option<Result<LogLine, RuntimeError>> {
        loop {
            if let Some(line) = self.pending.pop_front() {
                return Some(Ok(line));
            }
            match self.stream.next().await? {
                Ok(message) => self.pending.extend(lines(message)),
                Err(error) if error.is_not_found() => {
                    let what = format!("container {}", self.container);
                    return Some(Err(RuntimeError::NotFound { what }));
                }
                Err(error) => {
                    let action = format!("reading the log of {}", self.container);
                    return Some(Err(error.into_runtime(action)));
                }
            }
        }
    }
}

/// Returns the engine's options for ours.
pub(crate) fn request(options: &LogOptions) -> LogsOptions {
    let since = options.since.map_or(0, |since| since.as_seconds().max(0));
    LogsOptions {
        follow: options.follow,
        stdout: true,
        stderr: true,
        since: i32::try_from(since).unwrap_or(i32::MAX),
        until: 0,
        timestamps: true,
        tail: options.tail_lines.map_or_else(|| "all".to_owned(), |lines| lines.to_string()),
    }
}

/// Splits a message of the engine's (`time text`; it cuts long lines itself, and gives each piece a time) into lines.
fn lines(message: LogOutput) -> Vec<LogLine> {
    let (stream, mut rest, piece_bytes_max) = match message {
        LogOutput::StdErr { message } => (LogSource::Stderr, message, usize::MAX),
        LogOutput::StdOut { message } | LogOutput::StdIn { message } => {
            (LogSource::Stdout, message, usize::MAX)
        }
        // What was printed at a terminal comes without frames: the pieces of a line follow each other.
        LogOutput::Console { message } => (LogSource::Stdout, message, ENGINE_PIECE_BYTES),
    };
    let mut lines = Vec::new();
    while !rest.is_empty() {
        let (time, mut text) = split_time(&rest);
        rest = text.split_off(text.len().min(piece_bytes_max));
        while !text.is_empty() {
            let piece = text.split_to(text.len().min(LOG_LINE_BYTES_MAX));
            lines.push(LogLine { time: time.clone(), stream, text: piece });
        }
    }
    lines
}

fn split_time(bytes: &Bytes) -> (String, Bytes) {
    let space = bytes.iter().position(|byte| *byte == b' ');
    let time = space.and_then(|at| std::str::from_utf8(&bytes[..at]).ok());
    match (space, time) {
        (Some(at), Some(time)) if time.parse::<jiff::Timestamp>().is_ok() => {
            (time.to_owned(), bytes.slice(at + 1..))
        }
        (Some(_) | None, Some(_) | None) => (String::new(), bytes.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stdout(text: impl Into<Bytes>) -> Vec<LogLine> {
        lines(LogOutput::StdOut { message: text.into() })
    }

    #[test]
    fn a_message_is_a_time_and_a_text() {
        let lines = stdout("2026-11-24T10:00:00.123456789Z  two spaces \n");
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].time, "2026-11-24T10:00:00.123456789Z");
        assert_eq!(lines[0].text, " two spaces \n");
        assert_eq!(stdout("2026-11-24T10:00:00Z \n")[0].text, "\n");
    }

    #[test]
    fn a_message_without_a_time_is_kept_whole() {
        for text in ["no time", "word", "\u{ff} x"] {
            let lines = stdout(text);
            assert_eq!((lines[0].time.as_str(), &lines[0].text[..]), ("", text.as_bytes()));
        }
    }

    #[test]
    fn a_long_message_comes_in_pieces_that_add_up() {
        let text = "x".repeat(LOG_LINE_BYTES_MAX * 2 + 1);
        let lines = stdout(format!("2026-11-24T10:00:00Z {text}"));
        let lengths: Vec<_> = lines.iter().map(|line| line.text.len()).collect();
        assert_eq!(lengths, [LOG_LINE_BYTES_MAX, LOG_LINE_BYTES_MAX, 1]);
    }

    #[test]
    fn the_pieces_of_a_line_at_a_terminal_each_have_their_time() {
        let piece = "x".repeat(ENGINE_PIECE_BYTES);
        let message = format!(
            "2026-11-24T10:00:00Z {piece}2026-11-24T10:00:01Z {piece}2026-11-24T10:00:02Z y\r\n"
        );
        let found = lines(LogOutput::Console { message: message.into() });
        let texts: Vec<_> = found.iter().map(|line| line.text.clone()).collect();
        assert_eq!(texts, [piece.as_bytes(), piece.as_bytes(), b"y\r\n"]);
        assert_eq!(found[2].time, "2026-11-24T10:00:02Z");
    }
}

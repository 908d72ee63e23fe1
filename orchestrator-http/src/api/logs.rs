//! `/log`: what a container printed, as plain text, while it prints it.

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};
use orchestrator_core::model::{Key, Time};
use orchestrator_core::runtime::{LogLine, LogOptions, LogStream};

use super::Api;
use super::permit::Permit;
use crate::body::{self, Body, BrokenOff};
use crate::query::Query;
use crate::status::Failure;
use crate::stopping::Stopping;

impl Api {
    /// Answers with a container's log.
    pub(super) async fn logs(
        &self,
        pod: &Key,
        query: &Query,
        permit: Permit,
    ) -> Result<Response<Body>, Failure> {
        let options = LogOptions {
            follow: query.flag("follow").unwrap_or(false),
            tail_lines: at_least(query, "tailLines", 0)?,
            since: since(query, self.now())?,
        };
        let limit = at_least(query, "limitBytes", 1)?;
        let previous = query.flag("previous").unwrap_or(false);
        let container = query.text("container");
        let lines = self.inner.cluster.logs(pod, container, previous, &options).await?;
        let log = Log {
            lines,
            timestamps: query.flag("timestamps").unwrap_or(false),
            at_line_start: true,
            left: limit.unwrap_or(usize::MAX),
            permit,
            stopping: self.inner.stopping.clone(),
        };
        let pieces = stream::unfold(log, |mut log| async move {
            let piece = log.next_piece().await.transpose()?;
            Some((piece, log))
        });
        let mut response = Response::new(body::stream_or_break(pieces));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        Ok(response)
    }
}

fn at_least(query: &Query, name: &str, least: i64) -> Result<Option<usize>, Failure> {
    match query.number(name)? {
        Some(number) if number < least => {
            let message = format!("{name}: {number} must be greater than or equal to {least}");
            Err(Failure::bad_request(message))
        }
        Some(number) => Ok(Some(usize::try_from(number).unwrap_or(usize::MAX))),
        None => Ok(None),
    }
}

fn since(query: &Query, now: Time) -> Result<Option<Time>, Failure> {
    match (at_least(query, "sinceSeconds", 1)?, query.text("sinceTime")) {
        (Some(_), Some(_)) => {
            Err(Failure::bad_request("at most one of sinceTime or sinceSeconds may be specified"))
        }
        (Some(seconds), None) => {
            let now = now.as_seconds();
            let seconds = i64::try_from(seconds).unwrap_or(now);
            Ok(Some(Time::from_seconds(now.saturating_sub(seconds).max(0))))
        }
        (None, Some(text)) => text
            .parse()
            .map(Some)
            .map_err(|error| Failure::bad_request(format!("sinceTime: {error}"))),
        (None, None) => Ok(None),
    }
}

struct Log {
    lines: Box<dyn LogStream>,
    timestamps: bool,
    at_line_start: bool,
    /// How many more bytes the client wants.
    left: usize,
    permit: Permit,
    stopping: Stopping,
}

impl Log {
    /// Waits for more of the log; `None` at its end, an error when there may be more that cannot be had.
    async fn next_piece(&mut self) -> Result<Option<Bytes>, BrokenOff> {
        if self.left == 0 {
            return Ok(None);
        }
        let line = tokio::select! {
            biased;
            () = self.stopping.wait() => {
                return Err(BrokenOff("the server stops".to_owned()));
            }
            () = self.permit.withdrawn() => {
                self.left = 0;
                return Err(BrokenOff(self.permit.refusal().message));
            }
            line = self.lines.next() => line,
        };
        match line {
            Some(Ok(line)) => {
                let mut piece = self.print(&line);
                piece.truncate(self.left);
                self.left -= piece.len();
                Ok(Some(piece))
            }
            Some(Err(error)) => {
                tracing::debug!(%error, "a log broke off");
                self.left = 0;
                Err(BrokenOff(format!("the log broke off: {error}")))
            }
            None => Ok(None),
        }
    }

    fn print(&mut self, line: &LogLine) -> Bytes {
        let begins = std::mem::replace(&mut self.at_line_start, line.text.ends_with(b"\n"));
        if !self.timestamps || !begins {
            return line.text.clone();
        }
        let mut text = BytesMut::with_capacity(line.time.len() + 1 + line.text.len());
        text.put_slice(line.time.as_bytes());
        text.put_u8(b' ');
        text.put_slice(&line.text);
        text.freeze()
    }
}

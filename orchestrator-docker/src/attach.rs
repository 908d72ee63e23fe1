//! Attaching to a container's own program.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bollard::models::ContainerInspectResponse;
use bytes::Bytes;
use orchestrator_core::runtime::{
    AttachOptions, RuntimeError, Session, SessionEvent, SessionInput, SessionOutput,
    StandardStreams,
};
use tokio::io::AsyncWriteExt;

use crate::engine::{InputSink, OutputStream};
use crate::error::EngineError;
use crate::inner::Inner;
use crate::session::{printed, write};

/// What ends the input of a program at a terminal, at the beginning of a line: the letter EOT.
const END_OF_INPUT: &[u8] = b"\x04";

/// Attaches a client to the container with the id `container`; `label` names it in errors.
pub(crate) async fn open(
    inner: &Arc<Inner>,
    (container, label): (&str, &str),
    options: AttachOptions,
) -> Result<Session, RuntimeError> {
    let not_running = || RuntimeError::NotFound { what: format!("running container {label}") };
    let fail = |error: EngineError| match error {
        error if error.is_not_found() || error.is_conflict() => not_running(),
        error => error.into_runtime(format!("attaching to {label}")),
    };
    let found = inner.engine.inspect(container).await.map_err(fail)?;
    if !is_running(&found) {
        return Err(not_running());
    }
    let stdio = stdio(&found);
    let gives = options.stdin && stdio.stdin;
    let (stream, sink) = inner.engine.attach(container, gives).await.map_err(fail)?;
    // The engine attaches to one that has just ended as well, and waits for it to be started again.
    if !is_running(&inner.engine.inspect(container).await.map_err(fail)?) {
        return Err(not_running());
    }
    let input = Input {
        inner: Arc::clone(inner),
        container: container.to_owned(),
        stdio,
        sink: gives.then_some(sink),
        at_line_start: true,
    };
    let output = Output { container: container.to_owned(), stream: Some(stream) };
    Ok(Session { input: Box::new(input), output: Box::new(output) })
}

fn is_running(found: &ContainerInspectResponse) -> bool {
    found.state.as_ref().and_then(|state| state.running).unwrap_or(false)
}

fn stdio(found: &ContainerInspectResponse) -> StandardStreams {
    let Some(config) = &found.config else { return StandardStreams::default() };
    StandardStreams {
        stdin: config.open_stdin.unwrap_or(false),
        stdin_once: config.stdin_once.unwrap_or(false),
        terminal: config.tty.unwrap_or(false),
    }
}

struct Input {
    inner: Arc<Inner>,
    container: String,
    stdio: StandardStreams,
    /// `None` when nothing is sent, or nothing more.
    sink: Option<InputSink>,
    at_line_start: bool,
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Input").field("container", &self.container).finish_non_exhaustive()
    }
}

#[async_trait]
impl SessionInput for Input {
    async fn write(&mut self, bytes: Bytes) -> Result<(), RuntimeError> {
        if let (Some(sink), Some(last)) = (&mut self.sink, bytes.last()) {
            self.at_line_start = *last == b'\n';
            write(sink, &bytes).await;
        }
        Ok(())
    }

    async fn close(&mut self) -> Result<(), RuntimeError> {
        let Some(sink) = &mut self.sink else { return Ok(()) };
        if self.stdio.stdin_once && self.stdio.terminal {
            // The first ends a line that was begun. The engine itself would only let go of the client.
            let times = if self.at_line_start { 1 } else { 2 };
            write(sink, &END_OF_INPUT.repeat(times)).await;
        } else {
            let _ = sink.shutdown().await;
            self.sink = None;
        }
        Ok(())
    }

    async fn resize(&mut self, columns: u16, rows: u16) -> Result<(), RuntimeError> {
        if !self.stdio.terminal {
            return Ok(());
        }
        let resized = self.inner.engine.resize(&self.container, columns, rows).await;
        resized.map_err(|error| error.into_runtime("telling a program its terminal's size"))
    }
}

struct Output {
    container: String,
    stream: Option<OutputStream>,
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").field("container", &self.container).finish_non_exhaustive()
    }
}

#[async_trait]
impl SessionOutput for Output {
    async fn next(&mut self) -> Option<Result<SessionEvent, RuntimeError>> {
        let event = printed(self.stream.as_mut()?).await;
        if !matches!(event, Some(Ok(_))) {
            self.stream = None;
        }
        event
            .map(|event| event.map_err(|error| error.into_runtime("reading what a program prints")))
    }
}

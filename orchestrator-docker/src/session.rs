//! Sessions: programs run in a container for somebody at the other end.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bollard::container::LogOutput;
use bytes::Bytes;
use futures_util::StreamExt;
use orchestrator_core::runtime::{
    RuntimeError, Session, SessionEvent, SessionInput, SessionOptions, SessionOutput,
};
use tokio::io::AsyncWriteExt;

use crate::engine::{InputSink, OutputStream};
use crate::error::EngineError;
use crate::exec;
use crate::inner::Inner;

/// Starts a program in the container with the id `container`; `label` names it in errors.
pub(crate) async fn open(
    inner: &Arc<Inner>,
    (container, label): (&str, &str),
    options: &SessionOptions,
) -> Result<Session, RuntimeError> {
    if options.command.is_empty() {
        return Err(RuntimeError::Invalid { message: "a program to run is missing".to_owned() });
    }
    let fail = |error: EngineError| match error {
        error if error.is_not_found() || error.is_conflict() => {
            RuntimeError::NotFound { what: format!("running container {label}") }
        }
        EngineError::Status { code: 400, message } => RuntimeError::Invalid { message },
        error => error.into_runtime(format!("running {:?} in {label}", options.command[0])),
    };
    let run = inner.engine.create_exec(container, options).await.map_err(fail)?;
    let (output, input) = inner.engine.start_exec(&run, options.terminal).await.map_err(fail)?;
    let run = Arc::new(Run { inner: Arc::clone(inner), container: container.to_owned(), id: run });
    let input = Input { run: Arc::clone(&run), sink: input };
    let output = Output { run, stream: Some(output), has_ended: false };
    Ok(Session { input: Box::new(input), output: Box::new(output) })
}

/// A run of a program, as the engine knows it.
struct Run {
    inner: Arc<Inner>,
    container: String,
    id: String,
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run").field("id", &self.id).finish_non_exhaustive()
    }
}

struct Input {
    run: Arc<Run>,
    sink: InputSink,
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Input").field("run", &self.run).finish_non_exhaustive()
    }
}

#[async_trait]
impl SessionInput for Input {
    async fn write(&mut self, bytes: Bytes) -> Result<(), RuntimeError> {
        write(&mut self.sink, &bytes).await;
        Ok(())
    }

    async fn close(&mut self) -> Result<(), RuntimeError> {
        let _ = self.sink.shutdown().await;
        Ok(())
    }

    async fn resize(&mut self, columns: u16, rows: u16) -> Result<(), RuntimeError> {
        let resized = self.run.inner.engine.resize_exec(&self.run.id, columns, rows).await;
        resized.map_err(|error| error.into_runtime("telling a program its terminal's size"))
    }
}

struct Output {
    run: Arc<Run>,
    stream: Option<OutputStream>,
    has_ended: bool,
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").field("run", &self.run).finish_non_exhaustive()
    }
}

#[async_trait]
impl SessionOutput for Output {
    async fn next(&mut self) -> Option<Result<SessionEvent, RuntimeError>> {
        let fail = |error: EngineError| error.into_runtime("reading what a program prints");
        while let Some(stream) = &mut self.stream {
            match printed(stream).await {
                Some(Ok(event)) => return Some(Ok(event)),
                Some(Err(error)) => {
                    self.stream = None;
                    self.has_ended = true;
                    return Some(Err(fail(error)));
                }
                None => self.stream = None,
            }
        }
        if self.has_ended {
            return None;
        }
        let code = exec::exit_code(&self.run.inner.engine, &self.run.id).await;
        self.has_ended = true;
        Some(code.map(SessionEvent::Exited).map_err(fail))
    }
}

/// Waits for what a program prints next; `None` at the end. Cancel-safe.
pub(crate) async fn printed(
    stream: &mut OutputStream,
) -> Option<Result<SessionEvent, EngineError>> {
    loop {
        match stream.next().await? {
            Ok(LogOutput::StdErr { message }) => return Some(Ok(SessionEvent::Stderr(message))),
            Ok(LogOutput::StdOut { message } | LogOutput::Console { message }) => {
                return Some(Ok(SessionEvent::Stdout(message)));
            }
            Ok(LogOutput::StdIn { .. }) => {}
            Err(error) => return Some(Err(error)),
        }
    }
}

/// Hands bytes to a program. One that is gone shows at the other end.
pub(crate) async fn write(sink: &mut InputSink, bytes: &[u8]) {
    if sink.write_all(bytes).await.is_ok() {
        let _ = sink.flush().await;
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        // Nobody is at the other end any more.
        let run = Arc::clone(&self.run);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                exec::end(&run.inner.engine, &run.container, &run.id).await;
            });
        }
    }
}

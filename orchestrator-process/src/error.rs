//! Shorthands for making a `RuntimeError`.

use std::io;

use orchestrator_core::runtime::RuntimeError;
use orchestrator_core::store::BoxError;

pub(crate) type Result<T> = std::result::Result<T, RuntimeError>;

pub(crate) fn backend(action: impl Into<String>, source: impl Into<BoxError>) -> RuntimeError {
    RuntimeError::Backend { action: action.into(), source: source.into() }
}

pub(crate) fn invalid(message: impl Into<String>) -> RuntimeError {
    RuntimeError::Invalid { message: message.into() }
}

pub(crate) fn not_found(what: impl Into<String>) -> RuntimeError {
    RuntimeError::NotFound { what: what.into() }
}

/// Turns the absence of a file into `None`.
pub(crate) fn if_present<T>(outcome: io::Result<T>) -> io::Result<Option<T>> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Runs what blocks on files or processes on a thread for that.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => Err(backend("run a blocking step", error)),
    }
}

//! `EngineError`: what a call of the engine came to, told apart by what the verbs do next.

use std::time::Duration;

use bollard::errors::Error;
use orchestrator_core::runtime::RuntimeError;

/// Why a call of the engine failed.
#[derive(Debug)]
pub(crate) enum EngineError {
    /// The engine said no.
    Status {
        /// The HTTP status code.
        code: u16,
        /// The engine's explanation.
        message: String,
    },
    /// The engine did not answer in time.
    TimedOut(Duration),
    /// The answer could not be understood, or the call could not be made.
    Unexpected(Error),
    /// There is no connection.
    Unreachable(Error),
}

impl std::fmt::Display for EngineError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status { code, message } => {
                write!(f, "the engine answered {code}: {}", message.trim_end())
            }
            Self::TimedOut(limit) => {
                write!(f, "the engine did not answer within {} s", limit.as_secs_f64())
            }
            Self::Unexpected(error) | Self::Unreachable(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for EngineError {}

impl From<Error> for EngineError {
    fn from(error: Error) -> Self {
        match error {
            Error::DockerResponseServerError { status_code, message } => {
                Self::Status { code: status_code, message }
            }
            Error::DockerStreamError { error } => Self::Status { code: 500, message: error },
            Error::HyperLegacyError { .. }
            | Error::HyperResponseError { .. }
            | Error::IOError { .. }
            | Error::RequestTimeoutError
            | Error::SocketNotFoundError(_) => Self::Unreachable(error),
            other => Self::Unexpected(other),
        }
    }
}

impl EngineError {
    /// Whether what was asked for is not there.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Status { code: 404, .. })
    }

    /// Whether the state of things forbids it: a name in use, a container that does not run, a removal under way.
    pub(crate) fn is_conflict(&self) -> bool {
        matches!(self, Self::Status { code: 409, .. })
    }

    /// The engine's explanation; empty when it gave none.
    pub(crate) fn message(&self) -> &str {
        match self {
            Self::Status { message, .. } => message.trim_end(),
            Self::TimedOut(_) | Self::Unexpected(_) | Self::Unreachable(_) => "",
        }
    }

    /// Turns what no verb knows better into the contract's error: a refused request can never work, all else may later.
    pub(crate) fn into_runtime(self, action: impl Into<String>) -> RuntimeError {
        match self {
            Self::Status { code: 400, ref message } => {
                RuntimeError::Invalid { message: message.trim_end().to_owned() }
            }
            Self::TimedOut(_) | Self::Unreachable(_) => RuntimeError::Unreachable(Box::new(self)),
            Self::Status { .. } | Self::Unexpected(_) => {
                RuntimeError::Backend { action: action.into(), source: Box::new(self) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: u16) -> EngineError {
        EngineError::Status { code, message: "because\n".to_owned() }
    }

    #[test]
    fn the_variant_says_what_to_do_next() {
        assert!(matches!(status(400).into_runtime("x"), RuntimeError::Invalid { .. }));
        assert!(matches!(status(500).into_runtime("x"), RuntimeError::Backend { .. }));
        let hung = EngineError::TimedOut(Duration::from_secs(1));
        assert!(matches!(hung.into_runtime("x"), RuntimeError::Unreachable(_)));
        let gone = EngineError::from(Error::SocketNotFoundError("/x".to_owned()));
        assert!(matches!(gone.into_runtime("x"), RuntimeError::Unreachable(_)));
    }

    #[test]
    fn an_error_tells_the_engines_reason() {
        assert_eq!(status(500).to_string(), "the engine answered 500: because");
    }
}

//! `Failure`: what a call that failed has done, and what to do next. Pure.

use std::error::Error;

use orchestrator_core::store::{BoxError, StoreError};
use tonic::{Code, ConnectError, Status};

/// How etcd's own errors begin; others come from the transport.
const OWN: &str = "etcdserver: ";
const NO_LEADER: &str = "etcdserver: no leader";
const NO_SPACE: &str = "etcdserver: mvcc: database space exceeded";
const OLD_LOGIN: &str = "etcdserver: revision of auth store is old";

/// Why a call has no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Nothing was done: this member cannot serve now, or does not know the login; ask another, with a new login.
    Elsewhere(At),
    /// etcd is full. The fate is decided and can be read, but this answer does not tell it: the commit that filled etcd was done.
    Full(At),
    /// Nothing was done, for history up to some revision is gone, or the revision has not been reached.
    OutOfRange(At),
    /// Nothing was done, and asking again is refused again.
    Refused(At),
    /// It was done, but the answer is larger than we take.
    TooLarge(At),
    /// Nobody knows whether it was done.
    Unknown(At),
}

/// An error with the endpoint that gave it.
#[derive(Debug, thiserror::Error)]
#[error("etcd at {endpoint} gives no good answer")]
pub(crate) struct At {
    endpoint: String,
    #[source]
    source: BoxError,
}

impl At {
    pub(crate) fn new(endpoint: &str, source: impl Into<BoxError>) -> Self {
        Self { endpoint: endpoint.to_owned(), source: source.into() }
    }
}

impl Failure {
    /// Says what etcd's, or the transport's, status means.
    pub(crate) fn of_status(endpoint: &str, status: Status) -> Self {
        let kind = kind(&status);
        kind(At::new(endpoint, status))
    }

    /// Says of a failure before the call proper that nothing was done.
    pub(crate) fn nothing_done(self) -> Self {
        match self {
            Self::Unknown(at) | Self::TooLarge(at) => Self::Elsewhere(at),
            Self::Elsewhere(_) | Self::Full(_) | Self::OutOfRange(_) | Self::Refused(_) => self,
        }
    }

    /// The error itself.
    pub(crate) fn into_error(self) -> At {
        match self {
            Self::Elsewhere(at)
            | Self::Full(at)
            | Self::OutOfRange(at)
            | Self::Refused(at)
            | Self::TooLarge(at)
            | Self::Unknown(at) => at,
        }
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        Self::Backend(failure.into_error().into())
    }
}

fn kind(status: &Status) -> fn(At) -> Failure {
    let message = status.message();
    if !message.starts_with(OWN) {
        return match status.code() {
            Code::OutOfRange => Failure::TooLarge,
            _ if was_lost_before(status) => Failure::Elsewhere,
            _ => Failure::Unknown,
        };
    }
    match status.code() {
        Code::Unauthenticated => Failure::Elsewhere,
        Code::Unavailable if message == NO_LEADER => Failure::Elsewhere,
        Code::InvalidArgument if message == OLD_LOGIN => Failure::Elsewhere,
        Code::ResourceExhausted if message == NO_SPACE => Failure::Full,
        Code::FailedPrecondition
        | Code::InvalidArgument
        | Code::PermissionDenied
        | Code::ResourceExhausted => Failure::Refused,
        Code::OutOfRange => Failure::OutOfRange,
        _ => Failure::Unknown,
    }
}

/// Whether there was no connection any more on which the call could have been made.
fn was_lost_before(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        if error.is::<ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_etcd_says_it_has_not_done_counts_as_not_done() {
        let cases = [
            (Code::Unavailable, "etcdserver: no leader", "Elsewhere"),
            (Code::Unauthenticated, "etcdserver: invalid auth token", "Elsewhere"),
            (Code::InvalidArgument, "etcdserver: revision of auth store is old", "Elsewhere"),
            (Code::InvalidArgument, "etcdserver: request is too large", "Refused"),
            (Code::PermissionDenied, "etcdserver: permission denied", "Refused"),
            (Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded", "Full"),
            (Code::ResourceExhausted, "etcdserver: too many requests", "Refused"),
            (Code::ResourceExhausted, "h2 protocol error: enhance your calm", "Unknown"),
            (
                Code::OutOfRange,
                "etcdserver: mvcc: required revision has been compacted",
                "OutOfRange",
            ),
            (Code::OutOfRange, "Error, decoded message length too large", "TooLarge"),
            (Code::Unavailable, "etcdserver: request timed out", "Unknown"),
            (Code::Unavailable, "etcdserver: leader changed", "Unknown"),
            (Code::Unavailable, "transport is closing", "Unknown"),
            (Code::Unauthenticated, "a proxy in between", "Unknown"),
            (Code::DeadlineExceeded, "context deadline exceeded", "Unknown"),
            (Code::Internal, "etcdserver: a new thing", "Unknown"),
        ];
        for (code, message, wanted) in cases {
            let failure = Failure::of_status("a:1", Status::new(code, message));
            assert!(format!("{failure:?}").starts_with(wanted), "{message}: {failure:?}");
        }
    }

    #[test]
    fn a_call_without_a_connection_has_done_nothing() {
        let status = Status::from_error(Box::new(ConnectError("gone".into())));
        let failure = Failure::of_status("a:1", status);
        assert!(matches!(failure, Failure::Elsewhere(_)), "{failure:?}");
    }
}

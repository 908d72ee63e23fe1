//! `Rejection`: why a request is refused, in terms that translate into a Kubernetes Status.

use crate::model::{FieldError, Key};

/// Why a request is refused; nothing was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// There is such an object already.
    #[error("{} {:?} already exists", key.kind.resource(), key.name)]
    AlreadyExists {
        /// The object.
        key: Key,
    },
    /// The request is malformed.
    #[error("{message}")]
    BadRequest {
        /// How.
        message: String,
    },
    /// A precondition does not hold; look again.
    #[error("Operation cannot be fulfilled on {} {:?}: {reason}", key.kind.resource(), key.name)]
    Conflict {
        /// The object.
        key: Key,
        /// Which precondition.
        reason: String,
    },
    /// The caller may not do that.
    #[error("{message}")]
    Forbidden {
        /// Why not.
        message: String,
    },
    /// Fields of the object are wrong.
    #[error("{} {:?} is invalid: {}", qualified(key), key.name, list(errors))]
    Invalid {
        /// The object.
        key: Key,
        /// What is wrong, at least one entry.
        errors: Vec<FieldError>,
    },
    /// There is no such object.
    #[error("{} {:?} not found", key.kind.resource(), key.name)]
    NotFound {
        /// The object.
        key: Key,
    },
    /// The control plane cannot do it now; try again.
    #[error("{message}")]
    Unavailable {
        /// Why not.
        message: String,
    },
}

fn qualified(key: &Key) -> String {
    match key.kind.group() {
        "" => key.kind.name().to_owned(),
        group => format!("{}.{group}", key.kind.name()),
    }
}

fn list(errors: &[FieldError]) -> String {
    let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
    match texts.as_slice() {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    }
}

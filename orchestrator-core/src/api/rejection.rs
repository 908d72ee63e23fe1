//! `Rejection`: why a request is refused, in terms that translate into a Kubernetes Status.

use crate::model::{FieldError, Key};
use crate::ownership::ApplyConflict;
use crate::world::World;

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
    /// Others own what a server-side apply would change.
    #[error("Apply failed with {}", conflicts_in_words(conflicts))]
    ApplyConflict {
        /// The object.
        key: Key,
        /// Who owns what, at least one entry.
        conflicts: Vec<ApplyConflict>,
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
    /// A disruption budget does not allow an eviction now; try again.
    #[error("Cannot evict pod as it would violate the pod's disruption budget.")]
    DisruptionBudget {
        /// What the budget needs.
        cause: String,
        /// When to try again, in seconds from now; 0 for when pods have changed.
        retry_after_seconds: u64,
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
    /// The object is there and cannot be read.
    #[error(
        "{} {:?} cannot be read: {reason}; restore a backup, or delete it and make it anew",
        key.kind.resource(),
        key.name
    )]
    Unreadable {
        /// The object.
        key: Key,
        /// Why.
        reason: String,
    },
    /// Objects of this kind have no such patch: nothing says how their lists merge.
    #[error(
        "the body of the request was in an unknown format - {} takes: application/json-patch+json, \
         application/merge-patch+json, application/apply-patch+yaml",
        key.kind.resource()
    )]
    UnsupportedPatch {
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

impl Rejection {
    /// Says of an object that a world does not show that there is none, or that it cannot be read.
    pub fn absent(world: &World, key: &Key) -> Self {
        match world.unreadable(key) {
            Some(found) => Self::Unreadable { key: key.clone(), reason: found.reason.to_owned() },
            None => Self::NotFound { key: key.clone() },
        }
    }
}

/// Words conflicts as Kubernetes does: one on a line, several by manager.
fn conflicts_in_words(conflicts: &[ApplyConflict]) -> String {
    if let [one] = conflicts {
        return format!("1 conflict: conflict with {}: {}", one.manager, one.field);
    }
    let mut text = format!("{} conflicts: ", conflicts.len());
    let mut manager = "";
    for conflict in conflicts {
        if conflict.manager != manager {
            if !manager.is_empty() {
                text.push('\n');
            }
            manager = &conflict.manager;
            text.push_str(&format!("conflicts with {manager}:"));
        }
        text.push_str(&format!("\n- {}", conflict.field));
    }
    text
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

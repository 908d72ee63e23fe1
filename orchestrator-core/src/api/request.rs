//! `Request`: everything a caller may ask to have written, as data.

use serde_json::Value;

use crate::model::{Key, Kind, Object, Part, Revision, Uid};
use crate::world::Proposal;

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Somebody who may do everything.
    Admin {
        /// Their name, for the record.
        name: String,
    },
    /// A node's agent: it may only report on itself and on its own pods (S40).
    Node {
        /// The node's name.
        name: String,
    },
    /// Somebody who may do what their roles permit. Made by [`Caller::user`] and [`Caller::service_account`].
    User {
        /// Their name.
        name: String,
        /// The groups they are of.
        groups: Vec<String>,
    },
}

/// What to do with fields that Kubernetes does not know. (Fields it knows and we do not implement are kept
/// and answered with a warning in every case.)
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// Drop them silently.
    Ignore,
    /// Refuse the request.
    #[default]
    Strict,
    /// Drop them with a warning each.
    Warn,
}

/// How a write is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// Whether to go through every step but write nothing.
    pub dry_run: bool,
    /// Who writes, for the record of who owns which fields; the caller's name if it is empty.
    pub manager: String,
    /// What to do with unknown fields.
    pub validation: FieldValidation,
}

/// What must be true of an object for a request to go ahead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Preconditions {
    /// Its `resourceVersion`.
    pub revision: Option<Revision>,
    /// Its uid.
    pub uid: Option<Uid>,
}

/// What happens to the dependents of a deleted object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cascade {
    /// They go afterwards.
    #[default]
    Background,
    /// They go first.
    Foreground,
    /// They stay.
    Orphan,
}

/// How an object is to be deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// What happens to dependents.
    pub cascade: Cascade,
    /// Whether to go through every step but write nothing.
    pub dry_run: bool,
    /// Seconds of grace for a pod; its own by default. 0 from anybody but a node forces it out of the record at once.
    pub grace_seconds: Option<i64>,
    /// Whether the object is one of all those that one request deletes: a right of its own.
    pub of_collection: bool,
    /// What must be true of it.
    pub preconditions: Preconditions,
}

/// A change to an existing object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Patch {
    /// A three-way apply of a whole manifest: what the last applied one had and this one lacks goes; creates the
    /// object if it is absent.
    Apply(Value),
    /// A server-side apply: the writer owns what the manifest names, and what it named before and does not name now goes.
    /// Creates the object if it is absent.
    ApplyServerSide {
        /// The manifest, which may be a part of an object.
        manifest: Value,
        /// Whether to take over what others own.
        force: bool,
    },
    /// An RFC 6902 JSON patch: a list of operations.
    Json(Value),
    /// An RFC 7386 merge patch.
    Merge(Value),
    /// Kubernetes' strategic merge patch: lists merge by the keys of their elements, and directives such as `$patch` say more.
    Strategic(Value),
}

/// Something a caller wants written. Objects come as JSON, so that unknown fields can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Binds a pod to a node; goes through the engine like every bind.
    Bind {
        /// The pod.
        pod: Key,
        /// The node's name.
        node: String,
    },
    /// Records a new object.
    Create {
        /// Its kind.
        kind: Kind,
        /// The namespace asked for; must agree with the object's, which may be empty. Empty for cluster-scoped kinds.
        namespace: String,
        /// The object.
        object: Value,
        /// How.
        options: WriteOptions,
    },
    /// Deletes an object.
    Delete {
        /// The object.
        key: Key,
        /// How.
        options: DeleteOptions,
    },
    /// Deletes a pod if the disruption budget it is under allows it.
    Evict {
        /// The pod.
        pod: Key,
        /// How.
        options: DeleteOptions,
    },
    /// Changes an object.
    Patch {
        /// The object.
        key: Key,
        /// Which part may change.
        part: Part,
        /// The change.
        patch: Patch,
        /// What must be true of it.
        preconditions: Preconditions,
        /// How.
        options: WriteOptions,
    },
    /// Sets the number of replicas of a deployment or replica set.
    Scale {
        /// The object.
        key: Key,
        /// How many.
        replicas: i32,
        /// What must be true of it.
        preconditions: Preconditions,
        /// How.
        options: WriteOptions,
    },
    /// Replaces a part of an object. A `resourceVersion` in the object is a precondition.
    Update {
        /// The object's key.
        key: Key,
        /// Which part is replaced; the other is ignored.
        part: Part,
        /// The object.
        object: Value,
        /// How.
        options: WriteOptions,
    },
}

/// What a request comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    /// What to write; nothing when the request changes nothing, or is a dry run.
    pub proposal: Option<Proposal>,
    /// The object to answer with, as it will be (its revision is filled in after the commit). For a deletion that
    /// is done at once: the object as it last was.
    pub reply: Object,
    /// Whether the object will be gone.
    pub deleted: bool,
    /// Whether the object is new.
    pub created: bool,
    /// What to tell the caller besides.
    pub warnings: Vec<String>,
}

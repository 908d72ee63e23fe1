//! The trait `NodeLink`: everything an agent may ask of the control plane, acting as its node.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;

use super::network::NetworkAt;
use crate::model::{Key, Node, Pod, PodStatus, Revision, Uid};
use crate::store::BoxError;
use crate::world::{EventNote, NodeUsage};

/// The pods of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Assignments {
    /// Every pod bound to the node, at one revision. Only this proves that a pod is gone (S19).
    Complete {
        /// Identifies the history the revisions belong to; another epoch means: start over.
        epoch: u64,
        /// The revision of the snapshot.
        revision: Revision,
        /// The pods, in key order.
        pods: Vec<Arc<Pod>>,
    },
    /// What changed since the revision asked for; or, where that is not known or none was asked for, the pods that can be read while
    /// others cannot, which proves nothing of those that are not named.
    Changes {
        /// The new revision.
        revision: Revision,
        /// Pods that are new or changed.
        changed: Vec<Arc<Pod>>,
        /// Pods that are gone.
        removed: Vec<(Key, Uid)>,
    },
}

/// What became of a status an agent wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusOutcome {
    /// The pod is gone or another one has its name; forget it.
    Gone,
    /// Recorded, or it was the same already.
    Recorded,
}

/// What went wrong on a link.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// This node may not do that, or does not exist any more.
    #[error("refused: {message}")]
    Refused {
        /// Why.
        message: String,
    },
    /// The control plane does not answer; try again later.
    #[error("control plane is unreachable")]
    Unreachable(#[source] BoxError),
}

/// What an agent may do. Every call is idempotent; the link retries nothing itself.
#[async_trait]
pub trait NodeLink: Debug + Send + Sync + 'static {
    /// Records the node (its labels, capacity, addresses, versions, conditions), or brings the record up to date.
    /// Labels, taints and `unschedulable` that others set are kept.
    async fn register(&self, node: Node) -> Result<(), LinkError>;

    /// Returns the node's pods: with `None` a complete snapshot at once; with a revision, waits until there is
    /// something newer and returns the difference, or a complete snapshot when that is not known. While there are pods that cannot
    /// be read, those that can come as changes in its place. Cancel-safe.
    async fn assignments(&self, after: Option<Revision>) -> Result<Assignments, LinkError>;

    /// Writes the status of a pod of this node.
    async fn write_status(
        &self,
        key: &Key,
        uid: Uid,
        status: PodStatus,
    ) -> Result<StatusOutcome, LinkError>;

    /// Confirms that nothing of a pod whose deletion was asked for is left; the pod's object goes.
    async fn confirm_deleted(&self, key: &Key, uid: Uid) -> Result<(), LinkError>;

    /// Tells people something about a pod of this node or the node itself.
    async fn event(&self, note: EventNote) -> Result<(), LinkError>;

    /// Returns what the node must know of the network between pods: with `None` at once; with a revision, waits until it
    /// may differ from what it was then. Cancel-safe.
    async fn network(&self, after: Option<Revision>) -> Result<NetworkAt, LinkError>;

    /// Says that the node is alive, and what it uses if that was measured. Refused when the node is to be registered (anew).
    async fn report(&self, usage: Option<NodeUsage>) -> Result<(), LinkError>;
}

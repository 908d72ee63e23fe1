//! What the runtime shows and nobody wants: pods that are gone from the control plane, and finished pods
//! beyond the number whose logs are kept.
//!
//! Kills only on proof (S19): a pod is gone when a complete list of the node's pods, not older than any
//! heard before, does not name it. A list that would end many pods at once, or comes from another history,
//! must be confirmed by a second one.

use std::collections::{BTreeMap, BTreeSet};

use super::plan::{RuntimeOp, StopReason};
use crate::model::{Revision, Time, Uid};
use crate::runtime::{ContainerKey, ContainerRunState, SandboxKey, SandboxObservation};

/// Milliseconds from TERM to KILL for containers of pods that are gone; their own grace is not known any more.
pub const ORPHAN_GRACE_MS: u64 = 10_000;
/// A list that ends more than half of the running pods needs a second one if that is more pods than this.
pub const MASS_KILL_MIN: usize = 2;
/// The most finished pods of a node whose sandboxes (and logs) are kept until the pods are deleted.
pub const FINISHED_SANDBOXES_MAX: usize = 50;

/// A complete list of the pods of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompleteList {
    /// The history its revision belongs to.
    pub epoch: u64,
    /// The revision it was made at.
    pub revision: Revision,
    /// Every pod bound to the node.
    pub pods: BTreeSet<Uid>,
}

/// Remembers which lists were heard, and decides what they prove.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OrphanGuard {
    newest: Option<(u64, Revision)>,
    /// Pods missing from lists that were not enough to end them.
    suspects: BTreeSet<Uid>,
}

impl OrphanGuard {
    /// Takes in a complete list, and returns which of the observed pods it proves to be gone.
    pub fn gone(&mut self, observed: &[SandboxObservation], list: &CompleteList) -> BTreeSet<Uid> {
        let known = self.newest;
        if known.is_some_and(|(epoch, newest)| epoch == list.epoch && list.revision < newest) {
            return BTreeSet::new();
        }
        self.newest = Some((list.epoch, list.revision));
        let missing: BTreeSet<Uid> = observed
            .iter()
            .map(|sandbox| sandbox.key.pod)
            .filter(|pod| !list.pods.contains(pod))
            .collect();
        let running: BTreeSet<Uid> = observed
            .iter()
            .filter(|sandbox| sandbox.containers.iter().any(is_running))
            .map(|sandbox| sandbox.key.pod)
            .collect();
        let ended = running.intersection(&missing).count();
        let many = ended > MASS_KILL_MIN && ended * 2 > running.len();
        let new_history = known.is_some_and(|(epoch, _)| epoch != list.epoch);
        let suspects = std::mem::replace(&mut self.suspects, missing.clone());
        if many || new_history {
            return missing.intersection(&suspects).copied().collect();
        }
        missing
    }

    /// Whether a second list is needed to decide about pods that are missing from the last one.
    pub fn wants_another_list(&self, observed: &[SandboxObservation]) -> bool {
        observed.iter().any(|sandbox| self.suspects.contains(&sandbox.key.pod))
    }
}

/// Returns the verbs that end a pod nobody wants.
pub fn removal(observed: &[&SandboxObservation]) -> Vec<RuntimeOp> {
    let running = observed.iter().flat_map(|sandbox| &sandbox.containers);
    let running = running.filter(|container| is_running(container));
    let containers: Vec<ContainerKey> = running.map(|container| container.key.clone()).collect();
    let mut ops = Vec::new();
    if !containers.is_empty() {
        let reason = StopReason::Deleted;
        ops.push(RuntimeOp::Stop { containers, grace_ms: ORPHAN_GRACE_MS, reason });
    }
    ops.extend(observed.iter().map(|sandbox| RuntimeOp::RemoveSandbox(sandbox.key.clone())));
    ops
}

/// Returns the sandboxes of finished pods to remove so that at most `max` of them are kept: those that ended first.
pub fn surplus_finished(
    observed: &[SandboxObservation],
    finished: &BTreeSet<Uid>,
    max: usize,
) -> Vec<SandboxKey> {
    let mut by_pod: BTreeMap<Uid, Option<Time>> = BTreeMap::new();
    let kept = observed.iter().filter(|sandbox| finished.contains(&sandbox.key.pod));
    for sandbox in kept.clone() {
        let ends = sandbox.containers.iter().filter_map(|container| match &container.state {
            ContainerRunState::Exited(exit) => exit.finished_at,
            ContainerRunState::Created | ContainerRunState::Running { .. } => None,
        });
        let end = by_pod.entry(sandbox.key.pod).or_default();
        *end = ends.max().max(*end);
    }
    let mut order: Vec<(Option<Time>, Uid)> =
        by_pod.into_iter().map(|(pod, end)| (end, pod)).collect();
    order.sort_unstable();
    let surplus = order.len().saturating_sub(max);
    let surplus: BTreeSet<Uid> = order.into_iter().take(surplus).map(|(_, pod)| pod).collect();
    kept.filter(|sandbox| surplus.contains(&sandbox.key.pod))
        .map(|sandbox| sandbox.key.clone())
        .collect()
}

fn is_running(container: &crate::runtime::ContainerObservation) -> bool {
    matches!(container.state, ContainerRunState::Running { .. })
}

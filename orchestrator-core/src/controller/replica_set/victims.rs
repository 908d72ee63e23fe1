//! Which pods go first when there are too many: Kubernetes' order, made total so that it is deterministic.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::slots::slot_of;
use crate::controller::ownership::children;
use crate::model::{Pod, PodPhase, ReplicaSet, Time};
use crate::world::{Stored, World};

/// The annotation with which people price a pod's deletion; the cheapest goes first, 0 by default.
const COST_ANNOTATION: &str = "controller.kubernetes.io/pod-deletion-cost";

/// A place in the order; the smallest goes first.
type Rank =
    (bool, u8, bool, i32, Reverse<u32>, Reverse<Time>, Reverse<i32>, Reverse<Time>, Reverse<u32>);

/// Sorts pods so that those to delete first come first: without a node, pending, not ready, cheap, doubled up on
/// their node, lately ready, often restarted, young; then by slot (the highest first) and name.
pub(super) fn sort_victims_first(world: &World, set: &ReplicaSet, pods: &mut [(&Stored, &Pod)]) {
    let crowd = pods_per_node(world, set);
    pods.sort_by_cached_key(|(_, pod)| {
        let on_node = crowd.get(pod.node_name.as_str()).copied().unwrap_or(0);
        (rank(pod, on_node), pod.metadata.name.clone())
    });
}

fn rank(pod: &Pod, on_node: u32) -> Rank {
    let phase = match pod.status.phase {
        PodPhase::Pending => 0,
        PodPhase::Unknown => 1,
        PodPhase::Running | PodPhase::Succeeded | PodPhase::Failed => 2,
    };
    let ready = pod.is_ready();
    let cost = pod.metadata.annotations.get(COST_ANNOTATION).and_then(|cost| cost.parse().ok());
    let ready_since = pod.status.conditions.iter().find(|condition| condition.kind == "Ready");
    let ready_since = ready_since.filter(|_| ready).and_then(|found| found.last_transition_time);
    let restarts = pod.status.container_statuses.iter().map(|status| status.restart_count).max();
    (
        pod.is_bound(),
        phase,
        ready,
        cost.unwrap_or(0),
        Reverse(on_node),
        Reverse(ready_since.unwrap_or_default()),
        Reverse(restarts.unwrap_or(0)),
        Reverse(pod.metadata.creation_timestamp.unwrap_or_default()),
        Reverse(slot_of(pod).unwrap_or(u32::MAX)),
    )
}

/// Counts active pods on each node, of this set and of those with the same owner: an old and a new pod of one
/// deployment crowd a node as much as two new ones.
fn pods_per_node<'w>(world: &'w World, set: &'w ReplicaSet) -> BTreeMap<&'w str, u32> {
    let mut crowd = BTreeMap::new();
    let mut count = |set: &'w ReplicaSet| {
        for (_, pod) in children::<Pod>(world, &set.metadata) {
            if pod.is_active() && pod.is_bound() {
                *crowd.entry(pod.node_name.as_str()).or_insert(0) += 1;
            }
        }
    };
    match set.metadata.controller().and_then(|owner| world.by_uid(owner.uid)) {
        Some(owner) => {
            children::<ReplicaSet>(world, owner.object.meta()).for_each(|(_, set)| count(set));
        }
        None => count(set),
    }
    crowd
}

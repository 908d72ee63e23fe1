//! The status of a replica set: counts, and why pods cannot be made.

use crate::controller::pod_counts::PodCounts;
use crate::controller::{Decision, TimerReason};
use crate::model::{Condition, ConditionStatus, ReplicaSet, Timestamp, set_condition};
use crate::world::{Proposal, Stored};

/// Proposes the set's status if it changed, and asks to be run when a ready pod will be available.
pub(super) fn put_status(
    decision: &mut Decision,
    stored: &Stored,
    set: &ReplicaSet,
    counts: PodCounts,
    failure: Option<String>,
    now: Timestamp,
) {
    if let Some(at) = counts.next_available {
        decision.recheck(at, TimerReason::Progress);
    }
    let mut status = set.status.clone();
    status.available_replicas = counts.available;
    status.fully_labeled_replicas = counts.fully_labeled;
    status.observed_generation = set.metadata.generation;
    status.ready_replicas = counts.ready;
    status.replicas = counts.replicas;
    status.terminating_replicas = counts.terminating;
    match failure {
        None => status.conditions.retain(|condition| condition.kind != "ReplicaFailure"),
        Some(message) => {
            let condition = Condition {
                kind: "ReplicaFailure".to_owned(),
                status: ConditionStatus::True,
                reason: "FailedCreate".to_owned(),
                message,
                ..Condition::default()
            };
            set_condition(&mut status.conditions, condition, now.to_time());
        }
    }
    if status != set.status {
        decision.propose(Proposal::put_status(stored, ReplicaSet { status, ..set.clone() }));
    }
}

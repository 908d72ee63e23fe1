//! Evict: deletes a pod if the disruption budget it is under allows it.

use super::delete::delete;
use super::{Context, DeleteOptions, Effect, Rejection, bad_request, find};
use crate::model::{Key, Pod, PodDisruptionBudget, PodPhase, Resource, UnhealthyPodEvictionPolicy};
use crate::world::{Proposal, Stored};

/// When to try again if a budget's controller has not looked at it yet, in seconds, as in Kubernetes.
const UNOBSERVED_RETRY_SECONDS: u64 = 10;

pub(super) fn evict(
    context: &Context<'_>,
    key: &Key,
    options: &DeleteOptions,
) -> Result<Effect, Rejection> {
    // Deleting checks who asks and what must be true.
    let mut effect = delete(context, key, options)?;
    let Some(pod) = Pod::from_object(&find(context.world, key)?.object) else {
        return Err(bad_request(format!("{} cannot be evicted", key.kind.resource())));
    };
    if let Some(taken) = take(context, pod)? {
        effect.proposal = effect.proposal.map(|proposal| proposal.and(taken));
    }
    Ok(effect)
}

/// Proposes to take one disruption from the budget that a pod is under; `None` when there is none to ask.
fn take(context: &Context<'_>, pod: &Pod) -> Result<Option<Proposal>, Rejection> {
    let needs_no_leave =
        pod.metadata.is_deleting() || pod.is_finished() || pod.status.phase == PodPhase::Pending;
    if needs_no_leave {
        return Ok(None);
    }
    let budgets: Vec<(&Stored, &PodDisruptionBudget)> = context
        .world
        .list(PodDisruptionBudget::KIND, Some(&pod.metadata.namespace))
        .filter_map(|(_, stored)| {
            Some((stored, &**PodDisruptionBudget::from_object(&stored.object)?))
        })
        .filter(|(_, budget)| budget.spec.selects(pod))
        .collect();
    let (stored, budget) = match budgets.as_slice() {
        [] => return Ok(None),
        [one] => *one,
        [first, second, ..] => {
            return Err(bad_request(format!(
                "pod {:?} is under more than one disruption budget ({:?}, {:?}), which evictions do not support: make \
                 their selectors exclude each other",
                pod.metadata.name, first.1.metadata.name, second.1.metadata.name
            )));
        }
    };
    let (name, status) = (&budget.metadata.name, &budget.status);
    if !pod.is_ready() {
        let is_met = status.current_healthy >= status.desired_healthy && status.desired_healthy > 0;
        match budget.spec.unhealthy_pod_eviction_policy.unwrap_or_default() {
            UnhealthyPodEvictionPolicy::AlwaysAllow => return Ok(None),
            UnhealthyPodEvictionPolicy::IfHealthyBudget if is_met => return Ok(None),
            UnhealthyPodEvictionPolicy::IfHealthyBudget => {}
        }
    }
    if status.observed_generation < budget.metadata.generation {
        return Err(Rejection::DisruptionBudget {
            cause: format!("The disruption budget {name} is still being processed by the server."),
            retry_after_seconds: UNOBSERVED_RETRY_SECONDS,
        });
    }
    if status.disruptions_allowed <= 0 {
        return Err(Rejection::DisruptionBudget {
            cause: format!(
                "The disruption budget {name} needs {} healthy pods and has {} currently",
                status.desired_healthy, status.current_healthy
            ),
            retry_after_seconds: 0,
        });
    }
    let mut taken = budget.clone();
    taken.status.disruptions_allowed -= 1;
    // Its spec may not change meanwhile either.
    Ok(Some(Proposal::put_status(stored, taken).guarded_by_main(stored)))
}

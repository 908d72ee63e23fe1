//! `feasible`: the one judge of fit, for the scheduler, the commit gate and the agent.

use std::sync::Arc;

use super::demand::identity;
use super::reason::Reason;
use super::view::ClusterView;
use crate::model::{Node, Pod};

/// Judges whether a pod can be on a node. What the pod itself holds there does not count against it.
///
/// # Errors
/// Every reason that stands in the way, at least one.
pub fn feasible(pod: &Pod, node: &str, view: &ClusterView) -> Result<(), Vec<Reason>> {
    match view.node(node) {
        Some(found) => found.fits(pod),
        None => Err(vec![Reason::NoSuchNode { node: node.to_owned() }]),
    }
}

/// Judges whether a new pod can be placed on a node that runs `others`, as [`feasible`] does.
///
/// # Errors
/// Every reason that stands in the way, at least one.
pub fn feasible_on_node<'p>(
    pod: &Pod,
    node: &Node,
    others: impl Iterator<Item = &'p Pod>,
) -> Result<(), Vec<Reason>> {
    let mut view = ClusterView::default();
    view.put_node(&Arc::new(node.clone()));
    let name = node.metadata.name.as_str();
    for other in others.filter(|other| !other.is_finished() && identity(other) != identity(pod)) {
        view.assume(other, name);
    }
    feasible(pod, name, &view)
}

/// Judges whether a node's agent takes up a pod that is bound to it, beside the `others` it has taken up already.
///
/// As [`feasible_on_node`], without what keeps only new placements away: readiness, cordon and taints other
/// than `NoExecute`.
///
/// # Errors
/// Every reason to refuse it, at least one.
pub fn admissible_on_node<'p>(
    pod: &Pod,
    node: &Node,
    others: impl Iterator<Item = &'p Pod>,
) -> Result<(), Vec<Reason>> {
    let Err(mut reasons) = feasible_on_node(pod, node, others) else { return Ok(()) };
    reasons.retain(Reason::bars_bound_pods);
    if reasons.is_empty() { Ok(()) } else { Err(reasons) }
}

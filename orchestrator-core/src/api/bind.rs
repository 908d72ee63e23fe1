//! Bind: gives a pod its node, once. Whether the pod fits is the engine's to judge, which commits every bind.

use std::sync::Arc;

use super::authorise::{Action, Verb, authorise, may_try};
use super::{Context, Effect, Rejection, find};
use crate::model::{
    Condition, ConditionStatus, Key, Object, Pod, Resource, Timestamp, set_condition,
};
use crate::world::{Proposal, Stored, World};

pub(super) fn bind(context: &Context<'_>, key: &Key, node: &str) -> Result<Effect, Rejection> {
    may_try(context.caller, Verb::Bind, key)?;
    let stored = find(context.world, key)?;
    authorise(context, Action::Bind { pod: &stored.object })?;
    let (proposal, reply) = bound(context.world, key, node, context.now)?;
    let proposal = Some(proposal);
    Ok(Effect { proposal, reply, deleted: false, created: false, warnings: Vec::new() })
}

/// Proposes to bind a pod to a node: the node's name and the condition `PodScheduled` in one transaction, guarded by
/// every part of the node.
///
/// # Errors
/// [`Rejection::NotFound`] when pod or node is absent; [`Rejection::Conflict`] when the pod has a node already, is
/// being deleted, or has run to its end.
pub fn bind_proposal(
    world: &World,
    pod: &Key,
    node: &str,
    now: Timestamp,
) -> Result<Proposal, Rejection> {
    bound(world, pod, node, now).map(|(proposal, _)| proposal)
}

fn bound(
    world: &World,
    key: &Key,
    node: &str,
    now: Timestamp,
) -> Result<(Proposal, Object), Rejection> {
    let stored = find(world, key)?;
    let Some(pod) = Pod::from_object(&stored.object) else {
        return Err(Rejection::NotFound { key: key.clone() });
    };
    let host = find(world, &Key::node(node))?;
    let conflict = |reason| Err(Rejection::Conflict { key: key.clone(), reason });
    if pod.is_bound() {
        return conflict(format!("the pod is already assigned to node {:?}", pod.node_name));
    }
    if pod.metadata.is_deleting() {
        return conflict("the pod is being deleted".to_owned());
    }
    if pod.is_finished() {
        return conflict(format!("the pod has run to its end ({:?})", pod.status.phase));
    }
    Ok(place(stored, pod, host, node, now))
}

fn place(
    stored: &Stored,
    pod: &Pod,
    host: &Stored,
    node: &str,
    now: Timestamp,
) -> (Proposal, Object) {
    let mut placed = pod.clone();
    node.clone_into(&mut placed.node_name);
    let scheduled = Condition {
        kind: "PodScheduled".to_owned(),
        status: ConditionStatus::True,
        ..Condition::default()
    };
    set_condition(&mut placed.status.conditions, scheduled, now.to_time());
    let placed = Object::Pod(Arc::new(placed));
    let proposal = Proposal::put_main(stored, placed.clone())
        .and(Proposal::put_status(stored, placed.clone()))
        .guarded_by(host);
    (proposal, placed)
}

//! `TaintEviction`: pods leave nodes whose taints they do not put up with.
//!
//! Depends on `model` and `world`. What must hold: when most nodes seem to be lost, the fault is taken to be ours,
//! and nobody is evicted for it (S31).

use std::collections::BTreeSet;

use super::node_health::is_unready;
use super::{Change, Controller, DECISION_PROPOSALS_MAX, Decision, TimerReason};
use crate::model::{
    EventType, Key, Kind, Node, Object, Pod, Resource, TAINT_NOT_READY, TAINT_UNREACHABLE, Taint,
    TaintEffect, Timestamp,
};
use crate::world::{EventNote, World, graceful_delete};

/// How long pods that do not say stay on a node that is not ready or does not answer, in seconds: long enough for an agent to be
/// started again, short enough that they are elsewhere within five seconds of a machine's death. (Kubernetes waits 300 s; its
/// `tolerationSeconds` says so of a pod here too.)
pub const DEFAULT_TOLERATION_SECONDS: i64 = 2;
/// The share of nodes that must be unready for evictions to stop, in percent.
pub const DISRUPTION_PERCENT: usize = 55;
/// How often a halt of evictions is looked at again, in milliseconds.
pub const DISRUPTION_RECHECK_MS: i64 = 10_000;

/// Evicts pods that do not tolerate a `NoExecute` taint of their node, when their time there is over.
#[derive(Clone, Copy, Debug, Default)]
pub struct TaintEviction;

impl Controller for TaintEviction {
    fn name(&self) -> &'static str {
        "taint-eviction"
    }

    fn interest(&self, change: &Change, keys: &mut BTreeSet<Key>) {
        let Change::Object(change) = change else { return };
        let node = |side: &Option<Object>| side.as_ref().and_then(Node::from_object).cloned();
        if change.key.kind == Kind::Node {
            let (before, after) = (node(&change.before), node(&change.after));
            let taints = |node: Option<&Node>| node.map(|node| node.spec.taints.clone());
            let tainted = after.as_ref().is_some_and(|node| !node.spec.taints.is_empty());
            if tainted && taints(before.as_deref()) != taints(after.as_deref()) {
                keys.insert(change.key.clone());
            }
        }
        let pod = |side: &Option<Object>| side.as_ref().and_then(Pod::from_object).cloned();
        if let Some(after) = pod(&change.after).filter(|pod| pod.is_bound()) {
            let before = pod(&change.before);
            let same = before.is_some_and(|before| {
                before.node_name == after.node_name
                    && before.spec.tolerations == after.spec.tolerations
            });
            if !same {
                keys.insert(Key::node(&after.node_name));
            }
        }
    }

    fn reconcile(&self, key: &Key, world: &World, now: Timestamp) -> Decision {
        let mut decision = Decision::nothing();
        let Some(node) = world.at::<Node>(key) else { return decision };
        let taints: Vec<_> = node
            .spec
            .taints
            .iter()
            .filter(|taint| taint.effect == TaintEffect::NoExecute)
            .collect();
        if taints.is_empty() {
            return decision;
        }
        let halted = is_disrupted(world);
        let again = now.plus_millis(DISRUPTION_RECHECK_MS);
        for pod in world.pods_on(&key.name).filter(|pod| pod.is_active()) {
            let at = taints.iter().filter_map(|taint| {
                let (at, taint) = leaves_at(pod, taint)?;
                // While evictions are halted, their time has not come.
                Some((if halted && is_ours(taint) { at.max(again) } else { at }, taint))
            });
            let Some((at, taint)) = at.min_by_key(|(at, _)| *at) else { continue };
            if now < at {
                decision.recheck(at, TimerReason::Periodic);
            } else if decision.proposals.len() < DECISION_PROPOSALS_MAX {
                let deletion = world.get(&pod.key());
                decision.proposals.extend(deletion.and_then(|pod| graceful_delete(pod, None, now)));
                decision.events.push(EventNote {
                    about: pod.key(),
                    uid: pod.metadata.uid,
                    kind: EventType::Normal,
                    reason: "TaintManagerEviction".to_owned(),
                    message: format!("deleted for the taint {} of its node", taint.key),
                });
            }
        }
        decision
    }
}

/// Whether the taint says that the node seems to be lost.
fn is_ours(taint: &Taint) -> bool {
    [TAINT_UNREACHABLE, TAINT_NOT_READY].contains(&taint.key.as_str())
}

/// When a pod has to leave for a taint; `None` if it may stay.
fn leaves_at<'t>(pod: &Pod, taint: &'t Taint) -> Option<(Timestamp, &'t Taint)> {
    // A taint without a time gets one from the node controller; pods wait for that.
    let since = taint.time_added?.to_timestamp();
    let tolerated: Vec<_> =
        pod.spec.tolerations.iter().filter(|toleration| toleration.tolerates(taint)).collect();
    let seconds = if tolerated.is_empty() {
        if is_ours(taint) { DEFAULT_TOLERATION_SECONDS } else { 0 }
    } else {
        tolerated.iter().filter_map(|toleration| toleration.toleration_seconds).min()?.max(0)
    };
    Some((since.plus_millis(seconds.saturating_mul(1000)), taint))
}

/// Whether so many nodes seem to be lost that evicting would do more harm than good.
fn is_disrupted(world: &World) -> bool {
    let nodes: Vec<_> = world.all::<Node>(None).collect();
    let unready = nodes.iter().filter(|node| is_unready(node)).count();
    unready == nodes.len() || (unready > 1 && unready * 100 >= nodes.len() * DISRUPTION_PERCENT)
}

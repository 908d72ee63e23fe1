//! `NamespaceController`: empties a namespace that is being deleted, and lets it go when it is empty.
//!
//! Depends on `model` and `world`. What must hold: a namespace goes only when nothing is left in it. Whoever
//! creates in a namespace guards its main record, so that nothing slips in while the last finalizer is taken off.

use std::collections::BTreeSet;

use super::{Change, Controller, DECISION_PROPOSALS_MAX, Decision};
use crate::model::{
    Condition, ConditionStatus, Key, Kind, NAMESPACE_FINALIZER, Namespace, NamespacePhase,
    Resource, Timestamp, set_condition,
};
use crate::world::{Proposal, Stored, World, graceful_delete, is_held};

/// Keeps the phase of namespaces, and deletes them with everything in them.
#[derive(Clone, Copy, Debug, Default)]
pub struct NamespaceController;

impl Controller for NamespaceController {
    fn name(&self) -> &'static str {
        "namespace"
    }

    fn interest(&self, change: &Change, keys: &mut BTreeSet<Key>) {
        let Change::Object(change) = change else { return };
        if change.key.kind == Kind::Namespace {
            keys.insert(change.key.clone());
        } else if change.before.is_none() || change.after.is_none() {
            // What came must go, and what went may have been the last.
            if change.key.kind.is_namespaced() {
                keys.insert(Key::cluster(Kind::Namespace, &change.key.namespace));
            }
        }
    }

    fn reconcile(&self, key: &Key, world: &World, now: Timestamp) -> Decision {
        let mut decision = Decision::nothing();
        let Some(stored) = world.get(key) else { return decision };
        let Some(namespace) = Namespace::from_object(&stored.object) else { return decision };
        if namespace.metadata.is_deleting() {
            empty(&mut decision, stored, namespace, world, now);
        } else if !namespace.spec.finalizers.iter().any(|name| name == NAMESPACE_FINALIZER) {
            // Without it, a deletion would leave everything in it behind.
            let mut namespace = Namespace::clone(namespace);
            namespace.spec.finalizers.push(NAMESPACE_FINALIZER.to_owned());
            decision.propose(Proposal::put_main(stored, namespace));
        } else if namespace.status.phase != Some(NamespacePhase::Active) {
            let mut namespace = Namespace::clone(namespace);
            namespace.status.phase = Some(NamespacePhase::Active);
            decision.propose(Proposal::put_status(stored, namespace));
        }
        decision
    }
}

fn empty(
    decision: &mut Decision,
    stored: &Stored,
    namespace: &Namespace,
    world: &World,
    now: Timestamp,
) {
    let name = namespace.metadata.name.as_str();
    let mut remaining = BTreeSet::new();
    for kind in Kind::ALL.into_iter().filter(|kind| kind.is_namespaced()) {
        for (_, found) in world.list(kind, Some(name)) {
            remaining.insert(kind.resource());
            if decision.proposals.len() < DECISION_PROPOSALS_MAX - 1 {
                decision.proposals.extend(graceful_delete(found, None, now));
            }
        }
    }
    let unreadable = world.quarantined().any(|(record, _)| {
        let record = record.trim_end_matches("#status");
        record.parse::<Key>().is_ok_and(|key| &*key.namespace == name)
    });
    if remaining.is_empty() && !unreadable {
        let mut released = namespace.clone();
        released.spec.finalizers.retain(|finalizer| finalizer != NAMESPACE_FINALIZER);
        if !is_held(&released.clone().into()) {
            decision.propose(Proposal::delete(stored));
            return;
        }
        if released != *namespace {
            decision.propose(Proposal::put_main(stored, released));
        }
    }
    let mut status = namespace.status.clone();
    status.phase = Some(NamespacePhase::Terminating);
    let message = match remaining.len() {
        0 => String::new(),
        _ => format!("still there: {}", remaining.into_iter().collect::<Vec<_>>().join(", ")),
    };
    let condition = Condition {
        kind: "NamespaceContentRemaining".to_owned(),
        status: ConditionStatus::from(!message.is_empty()),
        reason: if message.is_empty() { "ContentRemoved" } else { "SomeResourcesRemain" }
            .to_owned(),
        message,
        ..Condition::default()
    };
    set_condition(&mut status.conditions, condition, now.to_time());
    if status != namespace.status {
        decision.propose(Proposal::put_status(stored, Namespace { status, ..namespace.clone() }));
    }
}

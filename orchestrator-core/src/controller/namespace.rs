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
    let kinds = Kind::ALL.into_iter().chain(world.custom_kinds_kept());
    for kind in kinds.filter(|kind| kind.is_namespaced()) {
        for (_, found) in world.list(kind, Some(name)) {
            remaining.insert(kind.resource());
            if decision.proposals.len() < DECISION_PROPOSALS_MAX - 1 {
                decision.proposals.extend(graceful_delete(found, None, now));
            }
        }
    }
    let unreadable = world.quarantined_keys().any(|key| &*key.namespace == name);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ConfigMap, ObjectMeta, Pod};
    use crate::testkit::sandbox::Sandbox;

    fn sandbox() -> Sandbox {
        let mut sandbox = Sandbox::new(vec![Box::new(NamespaceController)]);
        for name in ["default", "old"] {
            let metadata = ObjectMeta::named("", name);
            sandbox.put(Namespace { metadata, ..Namespace::default() });
        }
        sandbox.settle().expect("settled");
        sandbox
    }

    fn delete(sandbox: &mut Sandbox) {
        let key = Key::cluster(Kind::Namespace, "old");
        let stored = sandbox.world().get(&key).expect("there").clone();
        let deletion = graceful_delete(&stored, None, sandbox.now).expect("a change");
        sandbox.commit(&deletion).expect("no conflict");
        sandbox.settle().expect("settled");
    }

    fn old(sandbox: &Sandbox) -> Option<Namespace> {
        sandbox.world().find::<Namespace>("", "old").map(|found| Namespace::clone(found))
    }

    fn config_map(namespace: &str) -> ConfigMap {
        ConfigMap { metadata: ObjectMeta::named(namespace, "settings"), ..ConfigMap::default() }
    }

    #[test]
    fn a_namespace_is_active_and_held() {
        let namespace = old(&sandbox()).expect("there");
        assert_eq!(namespace.status.phase, Some(NamespacePhase::Active));
        assert_eq!(namespace.spec.finalizers, [NAMESPACE_FINALIZER]);
    }

    #[test]
    fn an_empty_namespace_goes_at_once() {
        let mut sandbox = sandbox();
        delete(&mut sandbox);
        assert_eq!(old(&sandbox), None);
    }

    #[test]
    fn a_namespace_goes_after_the_last_thing_in_it_and_nothing_else_does() {
        let mut sandbox = sandbox();
        sandbox.put(config_map("old"));
        sandbox.put(config_map("default"));
        let mut pod = Pod::new("web", "nginx");
        pod.metadata.namespace = "old".to_owned();
        pod.node_name = "n1".to_owned();
        sandbox.put(pod.clone());
        delete(&mut sandbox);
        let namespace = old(&sandbox).expect("the pod is still being stopped");
        assert_eq!(namespace.status.phase, Some(NamespacePhase::Terminating));
        assert_eq!(namespace.status.conditions[0].message, "still there: pods");
        sandbox.remove(&pod.key());
        sandbox.settle().expect("settled");
        assert_eq!(old(&sandbox), None);
        assert!(sandbox.world().get(&config_map("default").key()).is_some());
    }

    #[test]
    fn what_slips_into_a_namespace_that_is_going_goes_too() {
        let mut sandbox = sandbox();
        sandbox.put(config_map("old"));
        sandbox.change(&config_map("old").key(), |map: &mut ConfigMap| {
            map.metadata.finalizers = vec!["example.org/backup".to_owned()];
        });
        delete(&mut sandbox);
        let mut late = config_map("old");
        late.metadata.name = "late".to_owned();
        sandbox.put(late.clone());
        sandbox.settle().expect("settled");
        assert!(sandbox.world().get(&late.key()).is_none());
        assert!(old(&sandbox).is_some(), "the backup is not made yet");
    }
}

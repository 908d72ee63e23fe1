//! `PodCollector`: pods whose node is gone, and finished pods that pile up on a node.
//!
//! Depends on `model` and `world`. Deleting a Node object says that its machine is gone for good: only then is a
//! pod removed without its agent's word. A node that merely does not answer keeps its pods.

use std::collections::BTreeSet;

use super::{Change, Controller, DECISION_PROPOSALS_MAX, Decision};
use crate::model::{Key, Kind, Object, Pod, Resource, Timestamp};
use crate::world::{World, graceful_delete};

/// The most finished pods a node keeps; the oldest go first.
pub const FINISHED_PODS_MAX: usize = 100;

/// Removes pods nobody else can.
#[derive(Clone, Copy, Debug, Default)]
pub struct PodCollector;

impl Controller for PodCollector {
    fn name(&self) -> &'static str {
        "pod-collector"
    }

    fn interest(&self, change: &Change, keys: &mut BTreeSet<Key>) {
        let Change::Object(change) = change else { return };
        if change.key.kind == Kind::Node && change.after.is_none() {
            keys.insert(change.key.clone());
        }
        let pod = |side: &Option<Object>| side.as_ref().and_then(Pod::from_object).cloned();
        let (before, Some(after)) = (pod(&change.before), pod(&change.after)) else { return };
        let new = before.is_none_or(|before| {
            before.node_name != after.node_name || before.is_finished() != after.is_finished()
        });
        if after.is_bound() && new {
            keys.insert(Key::node(&after.node_name));
        }
    }

    fn reconcile(&self, key: &Key, world: &World, now: Timestamp) -> Decision {
        let mut decision = Decision::nothing();
        if key.kind != Kind::Node {
            return decision;
        }
        let is_gone = world.get(key).is_none() && !world.is_quarantined(key);
        let mut pods: Vec<_> = world
            .pods_on(&key.name)
            .filter(|pod| is_gone || (pod.is_finished() && !pod.metadata.is_deleting()))
            .collect();
        if !is_gone {
            pods.sort_by_key(|pod| (pod.metadata.creation_timestamp, pod.key()));
            pods.truncate(pods.len().saturating_sub(FINISHED_PODS_MAX));
        }
        for stored in pods.into_iter().filter_map(|pod| world.get(&pod.key())) {
            if decision.proposals.len() < DECISION_PROPOSALS_MAX {
                decision.proposals.extend(graceful_delete(stored, Some(0), now));
            }
        }
        decision
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Node, ObjectMeta, PodPhase};
    use crate::store::RecordKey;
    use crate::testkit::sandbox::Sandbox;

    fn sandbox() -> Sandbox {
        let mut sandbox = Sandbox::new(vec![Box::new(PodCollector)]);
        for name in ["n1", "n2"] {
            sandbox.put(Node { metadata: ObjectMeta::named("", name), ..Node::default() });
            sandbox.put(Pod { node_name: name.to_owned(), ..Pod::new(name, "nginx") });
        }
        sandbox.put(Pod::new("pending", "nginx"));
        sandbox.settle().expect("settled");
        sandbox
    }

    fn names(sandbox: &Sandbox) -> Vec<String> {
        sandbox.world().all::<Pod>(None).map(|pod| pod.metadata.name.clone()).collect()
    }

    #[test]
    fn a_deleted_node_takes_its_pods_with_it() {
        let mut sandbox = sandbox();
        assert_eq!(names(&sandbox), ["n1", "n2", "pending"]);
        sandbox.remove(&Key::node("n1"));
        sandbox.settle().expect("settled");
        assert_eq!(names(&sandbox), ["n2", "pending"]);
    }

    #[test]
    fn a_node_whose_record_cannot_be_read_keeps_its_pods() {
        let mut sandbox = Sandbox::new(vec![Box::new(PodCollector)]);
        sandbox.put_raw(RecordKey::main(Key::node("n1")), "{ torn".into());
        sandbox.put(Pod { node_name: "n1".to_owned(), ..Pod::new("web", "nginx") });
        sandbox.settle().expect("settled");
        assert_eq!(names(&sandbox), ["web"]);
    }

    #[test]
    fn finished_pods_do_not_pile_up() {
        let mut sandbox = sandbox();
        for number in 0..FINISHED_PODS_MAX + 3 {
            let mut pod = Pod::new(&format!("job-{number:03}"), "nginx");
            pod.node_name = "n1".to_owned();
            pod.status.phase = PodPhase::Succeeded;
            pod.metadata.creation_timestamp = Some(sandbox.now.to_time());
            sandbox.put(pod);
        }
        sandbox.settle().expect("settled");
        let names = names(&sandbox);
        assert_eq!(names.len(), FINISHED_PODS_MAX + 3);
        assert_eq!(names[0], "job-003");
    }
}

//! A cluster of machines with Docker engines under faults, by the numbers of the fault catalogue.
//!
//! A scenario makes a fault, waits for what must come of it, and takes the fault back; whether anything was doubled, lost, orphaned
//! or ended needlessly meanwhile the oracle judges at its end.

mod death;
mod engine;
mod herd;
mod identity;
mod network;
mod oracle;
mod pod_network;

use std::collections::BTreeMap;

use orchestrator_tests::cluster::Running;

/// The pods of most scenarios, on three nodes.
const REPLICAS: i32 = 6;

/// Whether all pods run, and none on a node.
fn all_but_on(node: &str, pods: &BTreeMap<String, Running>) -> bool {
    pods.len() == REPLICAS as usize && pods.values().all(|pod| pod.node != node)
}

/// The pods that are not on a node.
fn elsewhere(node: &str, pods: &BTreeMap<String, Running>) -> BTreeMap<String, Running> {
    pods.clone().into_iter().filter(|(_, pod)| pod.node != node).collect()
}

/// Asserts that each of some pods is still what it was.
fn assert_untouched(before: &BTreeMap<String, Running>, after: &BTreeMap<String, Running>) {
    for (name, pod) in before {
        assert_eq!(after.get(name), Some(pod), "{name} had no reason to change");
    }
}

//! Properties of a scheduler, tested on generated clusters: however it scores, it never over-commits a node.

use std::collections::BTreeMap;
use std::error::Error;

use orchestrator_core::model::Pod;
use orchestrator_core::scheduler::{CustomScore, Demand, FilterScore, NodeRef, Scheduler};
use orchestrator_core::testkit::strategies::{Scenario, scenario};
use proptest::prelude::{TestCaseError, any, prop_assert, prop_assert_eq};
use proptest::test_runner::{Config, TestRunner};

/// A score as wild as scores get: a number drawn from the names.
#[derive(Clone, Copy, Debug)]
struct Whim(u64);

impl CustomScore for Whim {
    fn name(&self) -> &str {
        "whim"
    }

    fn score(&self, pod: &Pod, node: NodeRef<'_>) -> i64 {
        let bytes = pod.metadata.name.bytes().chain(node.name().bytes());
        let mixed =
            bytes.fold(self.0, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        (mixed >> 40) as i64
    }
}

/// Places every pending pod in turn, and adds up by hand what the nodes that got one have to give.
fn nodes_are_never_over_committed(case: &Scenario, seed: u64) -> Result<(), TestCaseError> {
    let scheduler = FilterScore::empty("whimsical").score(Whim(seed), 1);
    let mut view = case.view();
    let mut placed: BTreeMap<String, Vec<&Pod>> = BTreeMap::new();
    for pod in &case.pending {
        if let Ok(placement) = scheduler.place(pod, &view) {
            // Pods may be born on a node that is too small for them; none may come to it then.
            view.assume(pod, &placement.node);
            placed.entry(placement.node).or_default().push(pod);
        }
    }
    for (name, pods) in placed {
        let node = case.nodes.iter().find(|node| node.metadata.name == name);
        let node = node.ok_or_else(|| TestCaseError::fail(format!("there is no node {name}")))?;
        prop_assert!(node.is_ready(), "{name} is not ready");
        let born = case.bound.iter().filter(|pod| pod.node_name == name);
        let all: Vec<Demand> = born.chain(pods.iter().copied()).map(Demand::of).collect();
        let has = |resource: &str| node.status.allocatable.get(resource).copied();
        // A resource that no placed pod asks for may be over-committed by the pods born there.
        if pods.iter().any(|pod| Demand::of(pod).cpu_milli() > 0) {
            let taken: i64 = all.iter().map(Demand::cpu_milli).sum();
            let has = has("cpu").unwrap_or_default().milli();
            prop_assert!(taken <= has, "{name}: {taken}m of {has}m CPU are taken");
        }
        if pods.iter().any(|pod| Demand::of(pod).memory_bytes() > 0) {
            let taken: i64 = all.iter().map(Demand::memory_bytes).sum();
            let has = has("memory").unwrap_or_default().units_ceil();
            prop_assert!(taken <= has, "{name}: {taken} of {has} bytes of memory are taken");
        }
        if let Some(limit) = has("pods") {
            prop_assert!(all.len() as i64 <= limit.units_ceil(), "{name} has {} pods", all.len());
        }
    }
    Ok(())
}

/// The whole of a decision can be explained, and the explanation agrees with it.
fn explanations_tell_the_truth(case: &Scenario, seed: u64) -> Result<(), TestCaseError> {
    let scheduler = FilterScore::empty("whimsical").score(Whim(seed), 1);
    let view = case.view();
    for pod in &case.pending {
        let chosen = scheduler.place(pod, &view).ok().map(|placement| placement.node);
        prop_assert_eq!(scheduler.explain(pod, &view).chosen, chosen);
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let config = Config { failure_persistence: None, ..Config::default() };
    let cases = config.cases;
    let mut runner = TestRunner::new(config);
    // Up to eight nodes with pods on them, and some twenty pods that wait. A failing case is made as small as possible.
    let clusters = (scenario(0..9), any::<u64>());
    runner.run(&clusters, |(case, seed)| nodes_are_never_over_committed(&case, seed))?;
    println!("{cases} clusters: no node was over-committed");
    runner.run(&clusters, |(case, seed)| explanations_tell_the_truth(&case, seed))?;
    println!("{cases} clusters: every explanation agreed with the decision");
    Ok(())
}

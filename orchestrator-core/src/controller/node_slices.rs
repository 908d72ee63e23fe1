//! `NodeSlices`: each node gets a slice of the cluster's range of pod addresses.
//!
//! Depends on `model` and `world`. A slice is given once and stays as long as the node; with the node it is free again. It is
//! the one after the highest in use, and only past the end of the range a free one further down: an address is so used
//! again as late as possible (S16).

use std::collections::BTreeSet;

use super::{Change, Controller, DECISION_PROPOSALS_MAX, Decision};
use crate::model::{
    Cidr, ClusterNetwork, ConfigMap, EventType, Key, Kind, Node, Resource, SLICE_PREFIX, Timestamp,
};
use crate::world::{EventNote, Proposal, World};

/// Writes `spec.podCIDR` of nodes that have none.
#[derive(Clone, Copy, Debug, Default)]
pub struct NodeSlices;

impl Controller for NodeSlices {
    fn name(&self) -> &'static str {
        "node-slices"
    }

    fn interest(&self, change: &Change, keys: &mut BTreeSet<Key>) {
        let Change::Object(change) = change else { return };
        if change.key.kind == Kind::Node || change.key == ClusterNetwork::key() {
            // One key for all: two decisions at a time would give one slice twice.
            keys.insert(ClusterNetwork::key());
        }
    }

    fn reconcile(&self, key: &Key, world: &World, _now: Timestamp) -> Decision {
        let mut decision = Decision::nothing();
        let Some(map) = world.at::<ConfigMap>(key).filter(|_| *key == ClusterNetwork::key()) else {
            return decision;
        };
        let range = match ClusterNetwork::read(map) {
            Ok(Some(network)) => network.range,
            Ok(None) => return decision,
            Err(error) => {
                decision.events.push(EventNote {
                    about: key.clone(),
                    uid: map.metadata.uid,
                    kind: EventType::Warning,
                    reason: "InvalidClusterNetwork".to_owned(),
                    message: error.to_string(),
                });
                return decision;
            }
        };
        let mut free = Free::of(world, range);
        for (_, stored) in world.list(Kind::Node, None) {
            let Some(node) = Node::from_object(&stored.object) else { continue };
            if !node.spec.pod_cidr.is_empty() || node.metadata.is_deleting() {
                continue;
            }
            if decision.proposals.len() == DECISION_PROPOSALS_MAX {
                break;
            }
            match free.next() {
                Some(slice) => {
                    let mut node = Node::clone(node);
                    node.spec.pod_cidr = slice.to_string();
                    node.spec.pod_cidrs = vec![slice.to_string()];
                    node.metadata.generation = node.metadata.generation.saturating_add(1);
                    decision.propose(Proposal::put_main(stored, node));
                }
                None => decision.events.push(EventNote {
                    about: stored.object.key(),
                    uid: node.metadata.uid,
                    kind: EventType::Warning,
                    reason: "CIDRNotAvailable".to_owned(),
                    message: format!(
                        "all {} slices of {range} are in use; its pods are not reached from other nodes",
                        range.slices(SLICE_PREFIX)
                    ),
                }),
            }
        }
        decision
    }
}

/// The slices that nobody has, in the order in which they are given.
struct Free {
    range: Cidr,
    /// Places of slices that are taken or overlap with what is.
    taken: BTreeSet<u32>,
    /// After which place to look first.
    after: Option<u32>,
}

impl Free {
    fn of(world: &World, range: Cidr) -> Self {
        let all = range.slices(SLICE_PREFIX);
        let given = world
            .all::<Node>(None)
            .flat_map(|node| [&node.spec.pod_cidr].into_iter().chain(&node.spec.pod_cidrs));
        let mut taken = BTreeSet::new();
        for cidr in given.filter_map(|text| text.parse::<Cidr>().ok()) {
            if cidr.covers(range) {
                taken.extend(0..all);
            } else if range.overlaps(cidr) {
                let offset = |bits: u32| (bits - range.first().to_bits()) >> (32 - SLICE_PREFIX);
                let first = cidr.first().to_bits();
                let last = first | !cidr.mask().to_bits();
                taken.extend(offset(first)..=offset(last));
            }
        }
        let after = taken.last().copied();
        Self { range, taken, after }
    }

    fn next(&mut self) -> Option<Cidr> {
        let all = self.range.slices(SLICE_PREFIX);
        let from = self.after.map_or(0, |after| after.saturating_add(1));
        let place =
            (from..all).chain(0..from.min(all)).find(|place| !self.taken.contains(place))?;
        self.taken.insert(place);
        self.after = Some(place);
        self.range.slice(SLICE_PREFIX, place)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert, proptest};
    use proptest::test_runner::Config;

    use super::*;
    use crate::model::ObjectMeta;
    use crate::testkit::sandbox::Sandbox;

    fn sandbox(range: &str) -> Sandbox {
        let mut sandbox = Sandbox::new(vec![Box::new(NodeSlices)]);
        let range = range.parse().expect("a range");
        sandbox.put(ClusterNetwork { encrypted: false, range }.to_config_map());
        sandbox
    }

    fn node(name: &str) -> Node {
        Node { metadata: ObjectMeta::named("", name), ..Node::default() }
    }

    fn slices(sandbox: &Sandbox) -> Vec<String> {
        let nodes = sandbox.world().all::<Node>(None);
        nodes.map(|node| node.spec.pod_cidr.clone()).collect()
    }

    #[test]
    fn nodes_get_slices_of_their_own_and_keep_them() {
        let mut sandbox = sandbox("10.64.0.0/10");
        ["a", "b", "c"].iter().for_each(|name| sandbox.put(node(name)));
        sandbox.settle().expect("settled");
        let given = slices(&sandbox);
        assert_eq!(given, ["10.64.0.0/24", "10.64.1.0/24", "10.64.2.0/24"]);
        sandbox.remove(&Key::node("b"));
        sandbox.put(node("d"));
        sandbox.settle().expect("settled");
        assert_eq!(slices(&sandbox), ["10.64.0.0/24", "10.64.2.0/24", "10.64.3.0/24"]);
    }

    #[test]
    fn a_range_that_is_used_up_is_told_and_a_removed_node_makes_room() {
        let mut sandbox = sandbox("10.9.0.0/23");
        ["a", "b", "c"].iter().for_each(|name| sandbox.put(node(name)));
        sandbox.settle().expect("settled");
        assert_eq!(slices(&sandbox), ["10.9.0.0/24", "10.9.1.0/24", ""]);
        let decision = NodeSlices.reconcile(&ClusterNetwork::key(), sandbox.world(), sandbox.now);
        let [note] = decision.events.as_slice() else { panic!("{decision:?}") };
        assert_eq!((&*note.reason, &*note.about.name), ("CIDRNotAvailable", "c"));
        assert!(note.message.contains("all 2 slices of 10.9.0.0/23"), "{}", note.message);
        sandbox.remove(&Key::node("a"));
        sandbox.settle().expect("settled");
        assert_eq!(slices(&sandbox), ["10.9.1.0/24", "10.9.0.0/24"]);
    }

    #[test]
    fn without_the_setting_nothing_is_given() {
        let mut sandbox = Sandbox::new(vec![Box::new(NodeSlices)]);
        sandbox.put(node("a"));
        sandbox.settle().expect("settled");
        assert_eq!((sandbox.commits, slices(&sandbox)), (0, vec![String::new()]));
        sandbox.put(ClusterNetwork::none());
        sandbox.settle().expect("settled");
        assert_eq!((sandbox.commits, slices(&sandbox)), (0, vec![String::new()]));
    }

    proptest! {
        #![proptest_config(Config { cases: 128, failure_persistence: None, ..Config::default() })]

        /// Nodes come and go, some with slices that an administrator gave them.
        #[test]
        fn s16_slices_of_nodes_never_overlap(
            steps in proptest::collection::vec((0..12_u8, 0..4_u8), 1..40),
        ) {
            let mut sandbox = sandbox("10.9.0.0/21");
            for (number, what) in steps {
                let name = format!("n{number}");
                match what {
                    0 => sandbox.remove(&Key::node(&name)),
                    1 if sandbox.world().node(&name).is_none() => {
                        let mut node = node(&name);
                        let own = format!("10.9.{}.0/24", number % 8);
                        let is_free = slices(&sandbox).iter().all(|slice| *slice != own);
                        node.spec.pod_cidr = if is_free { own } else { String::new() };
                        sandbox.put(node);
                    }
                    _ if sandbox.world().node(&name).is_none() => sandbox.put(node(&name)),
                    _ => {}
                }
                sandbox.settle().expect("settled");
                let cidrs: Vec<Cidr> =
                    slices(&sandbox).iter().filter_map(|slice| slice.parse().ok()).collect();
                for (index, one) in cidrs.iter().enumerate() {
                    prop_assert!(cidrs[..index].iter().all(|two| !one.overlaps(*two)), "{cidrs:?}");
                }
                let nodes = sandbox.world().all::<Node>(None).count();
                prop_assert!(cidrs.len() == nodes.min(8), "{cidrs:?} of {nodes}");
            }
        }
    }
}

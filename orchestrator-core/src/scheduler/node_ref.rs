//! `NodeRef`: one node of a view, as schedulers see it.

use std::sync::Arc;

use super::columns::Extended;
use super::demand::Demand;
use super::question::Question;
use super::reason::Reason;
use super::view::ClusterView;
use crate::model::{Node, Pod};

/// Amounts of the resources that every node has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Thousandths of a CPU.
    pub cpu_milli: i64,
    /// Bytes of memory.
    pub memory_bytes: i64,
    /// Pods.
    pub pods: i64,
}

/// One node of a [`ClusterView`].
#[derive(Clone, Copy, Debug)]
pub struct NodeRef<'v> {
    view: &'v ClusterView,
    slot: usize,
}

impl<'v> NodeRef<'v> {
    pub(super) const fn new(view: &'v ClusterView, slot: usize) -> Self {
        Self { view, slot }
    }

    pub(super) const fn slot(&self) -> usize {
        self.slot
    }

    /// The node's name.
    pub fn name(&self) -> &'v str {
        &self.view.fixed.names[self.slot]
    }

    /// The node.
    pub fn node(&self) -> &'v Arc<Node> {
        &self.view.fixed.nodes[self.slot]
    }

    /// What pods may use.
    pub fn allocatable(&self) -> Amounts {
        let fixed = &self.view.fixed;
        Amounts {
            cpu_milli: fixed.cpu_milli[self.slot],
            memory_bytes: fixed.memory_bytes[self.slot],
            pods: fixed.pods[self.slot],
        }
    }

    /// What is left; below zero where pods born with the node's name took more than there is.
    pub fn free(&self) -> Amounts {
        let left = &self.view.left;
        Amounts {
            cpu_milli: left.cpu_milli[self.slot],
            memory_bytes: left.memory_bytes[self.slot],
            pods: left.pods[self.slot],
        }
    }

    /// What pods take.
    pub fn used(&self) -> Amounts {
        let (all, free) = (self.allocatable(), self.free());
        Amounts {
            cpu_milli: all.cpu_milli.saturating_sub(free.cpu_milli),
            memory_bytes: all.memory_bytes.saturating_sub(free.memory_bytes),
            pods: all.pods.saturating_sub(free.pods),
        }
    }

    /// What pods may use of another resource, in whole units.
    pub fn allocatable_of(&self, resource: &str) -> i64 {
        let column = self.view.extended.get(resource);
        column.map_or(0, |it| Extended::at(&it.allocatable, self.slot))
    }

    /// What pods take of another resource, in whole units.
    pub fn used_of(&self, resource: &str) -> i64 {
        let column = self.view.extended.get(resource);
        column.map_or(0, |it| Extended::at(&it.used, self.slot))
    }

    /// How many replicas of this pod (pods of its controller, else with its labels) the node has.
    pub fn replicas_of(&self, pod: &Pod) -> u32 {
        Question::at(&Demand::of(pod), pod, self.view, self.slot).replicas(self.slot)
    }

    /// Whether CPU, memory and the number of pods leave room. A quick look; only [`NodeRef::fits`] judges.
    pub fn has_room_for(&self, demand: &Demand) -> bool {
        let free = self.free();
        let leaves = |free: i64, needed: i64| needed == 0 || needed <= free;
        leaves(free.cpu_milli, demand.cpu_milli)
            && leaves(free.memory_bytes, demand.memory_bytes)
            && free.pods >= 1
    }

    /// Every reason why the pod cannot be here; none if it can. A pod does not stand in its own way.
    ///
    /// # Errors
    /// The reasons.
    pub fn fits(&self, pod: &Pod) -> Result<(), Vec<Reason>> {
        if self.view.node_of(pod) == Some(self.name()) {
            let without = self.view.without(pod);
            return reasons(pod, &without, self.slot);
        }
        reasons(pod, self.view, self.slot)
    }
}

fn reasons(pod: &Pod, view: &ClusterView, slot: usize) -> Result<(), Vec<Reason>> {
    let demand = Demand::of(pod);
    let reasons = Question::at(&demand, pod, view, slot).reasons(slot);
    if reasons.is_empty() { Ok(()) } else { Err(reasons) }
}

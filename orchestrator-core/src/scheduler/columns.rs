//! The columns of a `ClusterView`: struct of arrays over slots, a slot per node.
//!
//! A node keeps its slot while it exists. Nothing outside depends on slot numbers: order is by name (`rank`).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::demand::Demand;
use crate::model::{Node, Quantity, TAINT_UNSCHEDULABLE, Taint, TaintEffect};

/// Slots come in blocks of this many, so that loops over a block have a fixed length.
pub(super) const BLOCK: usize = 64;
/// How many pods a node may have that does not say (Kubernetes' value).
pub const PODS_PER_NODE_DEFAULT: i64 = 110;

/// The slot holds a node.
pub(super) const LIVE: u8 = 1;
/// The node is ready.
pub(super) const READY: u8 = 1 << 1;
/// The node is neither cordoned nor tainted: its access is that of everybody.
pub(super) const OPEN: u8 = 1 << 2;

/// What nodes are: changes with nodes only.
#[derive(Clone, Debug, Default)]
pub(super) struct Fixed {
    pub(super) slots: BTreeMap<Arc<str>, u32>,
    pub(super) names: Vec<Arc<str>>,
    pub(super) nodes: Vec<Arc<Node>>,
    /// The place of the slot's node in name order.
    pub(super) rank: Vec<u32>,
    pub(super) flags: Vec<u8>,
    /// Who may come: an index into `accesses`. Few differ, so that a pod is held against each once.
    pub(super) access: Vec<u32>,
    pub(super) accesses: Vec<Access>,
    pub(super) cpu_milli: Vec<i64>,
    pub(super) memory_bytes: Vec<i64>,
    pub(super) pods: Vec<i64>,
    pub(super) cpu_inverse: Vec<f64>,
    pub(super) memory_inverse: Vec<f64>,
    /// Slots by label name and value, ascending.
    pub(super) labels: BTreeMap<String, BTreeMap<String, Vec<u32>>>,
    vacant: Vec<u32>,
}

/// What keeps pods away from nodes, or asks them to stay away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Access {
    pub(super) cordoned: bool,
    /// Without the times at which they were added.
    pub(super) taints: Vec<Taint>,
    /// How many nodes have it.
    nodes: u32,
}

/// What is left on nodes: changes with each bind.
///
/// A value that hits the end of `i64` is recounted when something is given back.
#[derive(Clone, Debug, Default)]
pub(super) struct Left {
    pub(super) cpu_milli: Vec<i64>,
    pub(super) memory_bytes: Vec<i64>,
    pub(super) pods: Vec<i64>,
    /// What scoring counts as used: silent containers take a little.
    cpu_scored: Vec<i64>,
    memory_scored: Vec<i64>,
    /// The same as parts of what there is, always made from the whole sums.
    pub(super) cpu_part: Vec<f64>,
    pub(super) memory_part: Vec<f64>,
}

/// One resource beyond cpu, memory and pods.
#[derive(Clone, Debug, Default)]
pub(super) struct Extended {
    pub(super) allocatable: Vec<i64>,
    pub(super) used: Vec<i64>,
}

impl Fixed {
    /// Gives a node a slot (its old one if it has one) and fills the slot. Returns whether it is new.
    pub(super) fn put(&mut self, node: &Arc<Node>) -> (usize, bool) {
        let name = node.metadata.name.as_str();
        if let Some(slot) = self.slots.get(name) {
            let slot = *slot as usize;
            self.unindex_labels(slot);
            self.leave_access(slot);
            self.fill(slot, node);
            return (slot, false);
        }
        let name: Arc<str> = name.into();
        let last = self.slots.last_key_value().is_none_or(|(last, _)| **last < *name);
        if self.vacant.is_empty() {
            self.grow();
        }
        let number = self.vacant.pop().expect("growing makes room");
        let slot = number as usize;
        self.names[slot] = Arc::clone(&name);
        self.slots.insert(name, number);
        self.fill(slot, node);
        if last {
            self.rank[slot] = self.slots.len() as u32 - 1;
        } else {
            self.rerank();
        }
        (slot, true)
    }

    /// Frees a node's slot.
    pub(super) fn remove(&mut self, name: &str) -> Option<usize> {
        let number = self.slots.remove(name)?;
        let slot = number as usize;
        self.unindex_labels(slot);
        self.leave_access(slot);
        self.flags[slot] = 0;
        self.nodes[slot] = Arc::default();
        (self.cpu_milli[slot], self.memory_bytes[slot], self.pods[slot]) = (0, 0, 0);
        self.vacant.push(number);
        self.rerank();
        Some(slot)
    }

    /// Adds a block of vacant slots.
    fn grow(&mut self) {
        let before = self.names.len();
        let slots = before + BLOCK;
        self.names.resize(slots, Arc::from(""));
        self.nodes.resize(slots, Arc::default());
        self.rank.resize(slots, 0);
        self.flags.resize(slots, 0);
        self.access.resize(slots, 0);
        self.cpu_milli.resize(slots, 0);
        self.memory_bytes.resize(slots, 0);
        self.pods.resize(slots, 0);
        self.cpu_inverse.resize(slots, 1.0);
        self.memory_inverse.resize(slots, 1.0);
        let number = |slot| u32::try_from(slot).expect("a cluster has fewer than 2^32 nodes");
        self.vacant.extend((before..slots).rev().map(number));
    }

    fn rerank(&mut self) {
        for (place, slot) in self.slots.values().enumerate() {
            self.rank[*slot as usize] = place as u32;
        }
    }

    fn fill(&mut self, slot: usize, node: &Arc<Node>) {
        self.nodes[slot] = Arc::clone(node);
        self.access[slot] = self.enter_access(node);
        self.flags[slot] = flags(node);
        self.cpu_milli[slot] = amount(node, "cpu").map_or(0, at_most_allocatable(Quantity::milli));
        self.memory_bytes[slot] = amount(node, "memory").map_or(0, whole_units);
        self.pods[slot] = amount(node, "pods").map_or(PODS_PER_NODE_DEFAULT, whole_units);
        self.cpu_inverse[slot] = inverse(self.cpu_milli[slot]);
        self.memory_inverse[slot] = inverse(self.memory_bytes[slot]);
        for (label, value) in &node.metadata.labels {
            let values = self.labels.entry(label.clone()).or_default();
            let slots = values.entry(value.clone()).or_default();
            if let Err(place) = slots.binary_search(&(slot as u32)) {
                slots.insert(place, slot as u32);
            }
        }
    }

    fn enter_access(&mut self, node: &Node) -> u32 {
        let taints = node.spec.taints.iter();
        let taints = taints.map(|taint| Taint { time_added: None, ..taint.clone() }).collect();
        let wanted = Access { cordoned: node.spec.unschedulable, taints, nodes: 1 };
        let alike = |it: &Access| it.cordoned == wanted.cordoned && it.taints == wanted.taints;
        let unused = |it: &Access| it.nodes == 0;
        let at = match self.accesses.iter().position(|it| it.nodes > 0 && alike(it)) {
            Some(at) => {
                self.accesses[at].nodes += 1;
                at
            }
            None => match self.accesses.iter().position(unused) {
                Some(at) => {
                    self.accesses[at] = wanted;
                    at
                }
                None => {
                    self.accesses.push(wanted);
                    self.accesses.len() - 1
                }
            },
        };
        at as u32
    }

    fn leave_access(&mut self, slot: usize) {
        self.accesses[self.access[slot] as usize].nodes -= 1;
    }

    fn unindex_labels(&mut self, slot: usize) {
        let node = Arc::clone(&self.nodes[slot]);
        for (label, value) in &node.metadata.labels {
            let Some(values) = self.labels.get_mut(label) else { continue };
            let Some(slots) = values.get_mut(value) else { continue };
            if let Ok(place) = slots.binary_search(&(slot as u32)) {
                slots.remove(place);
            }
            if slots.is_empty() {
                values.remove(value);
            }
            if values.is_empty() {
                self.labels.remove(label);
            }
        }
    }
}

impl Left {
    pub(super) fn grow_to(&mut self, slots: usize) {
        let whole =
            [&mut self.cpu_milli, &mut self.memory_bytes, &mut self.pods, &mut self.cpu_scored];
        whole.into_iter().for_each(|column| column.resize(slots, 0));
        self.memory_scored.resize(slots, 0);
        self.cpu_part.resize(slots, 0.0);
        self.memory_part.resize(slots, 0.0);
    }

    /// Takes a demand from a slot.
    pub(super) fn take(&mut self, slot: usize, demand: &Demand, fixed: &Fixed) {
        let take = |left: &mut i64, amount: i64| *left = left.saturating_sub(amount);
        take(&mut self.cpu_milli[slot], demand.cpu_milli);
        take(&mut self.memory_bytes[slot], demand.memory_bytes);
        take(&mut self.pods[slot], 1);
        let add = |used: &mut i64, amount: i64| *used = used.saturating_add(amount);
        add(&mut self.cpu_scored[slot], demand.scored_cpu_milli);
        add(&mut self.memory_scored[slot], demand.scored_memory_bytes);
        self.set_parts(slot, fixed);
    }

    /// Gives a demand back. Returns whether the sums are exact; if not, the slot must be recounted.
    pub(super) fn give_back(&mut self, slot: usize, demand: &Demand, fixed: &Fixed) -> bool {
        if self.is_saturated(slot) {
            return false;
        }
        self.cpu_milli[slot] += demand.cpu_milli;
        self.memory_bytes[slot] += demand.memory_bytes;
        self.pods[slot] += 1;
        self.cpu_scored[slot] -= demand.scored_cpu_milli;
        self.memory_scored[slot] -= demand.scored_memory_bytes;
        self.set_parts(slot, fixed);
        true
    }

    /// Computes the parts from the sums; also needed when the node's size changes.
    pub(super) fn set_parts(&mut self, slot: usize, fixed: &Fixed) {
        self.cpu_part[slot] = self.cpu_scored[slot] as f64 * fixed.cpu_inverse[slot];
        self.memory_part[slot] = self.memory_scored[slot] as f64 * fixed.memory_inverse[slot];
    }

    pub(super) fn is_saturated(&self, slot: usize) -> bool {
        self.cpu_milli[slot] == i64::MIN
            || self.memory_bytes[slot] == i64::MIN
            || self.cpu_scored[slot] == i64::MAX
            || self.memory_scored[slot] == i64::MAX
    }

    /// Makes the slot that of a node without pods.
    pub(super) fn reset(&mut self, slot: usize, fixed: &Fixed) {
        self.cpu_milli[slot] = fixed.cpu_milli[slot];
        self.memory_bytes[slot] = fixed.memory_bytes[slot];
        self.pods[slot] = fixed.pods[slot];
        (self.cpu_scored[slot], self.memory_scored[slot]) = (0, 0);
        self.set_parts(slot, fixed);
    }
}

impl Extended {
    pub(super) fn at(column: &[i64], slot: usize) -> i64 {
        column.get(slot).copied().unwrap_or(0)
    }

    pub(super) fn cell(column: &mut Vec<i64>, slot: usize) -> &mut i64 {
        if column.len() <= slot {
            column.resize(slot + 1, 0);
        }
        &mut column[slot]
    }

    pub(super) fn free(&self, slot: usize) -> i64 {
        Self::at(&self.allocatable, slot).saturating_sub(Self::at(&self.used, slot))
    }
}

/// Names and amounts of a node's resources beyond cpu, memory and pods.
pub(super) fn extended_of(node: &Node) -> impl Iterator<Item = (&str, i64)> {
    let status = &node.status;
    let implied =
        status.capacity.iter().filter(|(name, _)| !status.allocatable.contains_key(*name));
    status
        .allocatable
        .iter()
        .chain(implied)
        .filter(|(name, _)| !matches!(name.as_str(), "cpu" | "memory" | "pods"))
        .map(|(name, quantity)| (name.as_str(), whole_units(*quantity)))
}

impl Access {
    /// Whether the taint keeps pods away that do not tolerate it, beyond what the cordon does.
    pub(super) fn is_hard(&self, taint: &Taint) -> bool {
        let cordon = self.cordoned && taint.key == TAINT_UNSCHEDULABLE;
        match taint.effect {
            TaintEffect::NoExecute | TaintEffect::NoSchedule => !cordon,
            TaintEffect::PreferNoSchedule => false,
        }
    }

    /// Whether the taint only asks pods to go elsewhere.
    pub(super) fn is_soft(taint: &Taint) -> bool {
        matches!(taint.effect, TaintEffect::PreferNoSchedule)
    }
}

fn flags(node: &Node) -> u8 {
    let flag = |holds: bool, bit: u8| if holds { bit } else { 0 };
    let open = !node.spec.unschedulable && node.spec.taints.is_empty();
    LIVE | flag(node.is_ready(), READY) | flag(open, OPEN)
}

fn amount(node: &Node, resource: &str) -> Option<Quantity> {
    let status = &node.status;
    status.allocatable.get(resource).or_else(|| status.capacity.get(resource)).copied()
}

/// Whole units, rounded down, so that a node never promises more than it has.
fn whole_units(quantity: Quantity) -> i64 {
    let round_down =
        |quantity: Quantity| quantity.units_ceil().saturating_sub(i64::from(!quantity.is_whole()));
    at_most_allocatable(round_down)(quantity)
}

/// Keeps an allocatable amount below the end of `i64`, where endless requests end, and not below zero.
fn at_most_allocatable(convert: impl Fn(Quantity) -> i64) -> impl Fn(Quantity) -> i64 {
    move |quantity| convert(quantity).clamp(0, i64::MAX - 1)
}

fn inverse(amount: i64) -> f64 {
    1.0 / amount.max(1) as f64
}

//! `Question`: one pod asked of the columns; the one judge of fit and of the local scores.
//!
//! The scan over all nodes, the commit gate, the agent and `explain` all run [`Question::judge`]; they differ
//! only in what they do with a failure.

use std::collections::BTreeMap;

use super::columns::{
    Extended, Fixed, LIVE, Left, NO_HARD_TAINT, NO_SOFT_TAINT, READY, SCHEDULABLE, is_hard, is_soft,
};
use super::demand::{Demand, addresses_clash};
use super::placement::Unfit;
use super::reason::{Reason, ReasonKind};
use super::view::ClusterView;
use crate::model::{Pod, Quantity, TAINT_UNSCHEDULABLE, Taint, TaintEffect, Toleration};

/// What becomes of a failed check.
trait Verdict {
    /// Takes a failure; returns whether to go on checking.
    fn fail(&mut self, kind: impl FnOnce() -> ReasonKind, reason: impl FnOnce() -> Reason) -> bool;
}

/// One pod, prepared to be asked of any slot of a view.
#[derive(Debug)]
pub(super) struct Question<'v> {
    view: &'v ClusterView,
    fixed: &'v Fixed,
    left: &'v Left,
    pod: &'v Pod,
    demand: &'v Demand,
    /// What must be left; the end of the range where the pod asks for nothing, so that it always holds.
    cpu_needed: i64,
    memory_needed: i64,
    extended: Vec<(&'v str, i64, Option<&'v Extended>)>,
    /// Flags that make a look at the node itself needless.
    clear: u8,
    /// Slots with the labels the pod selects; `None` when it selects none.
    selected: Option<Bits>,
    /// Slots where a port of the pod is taken; `None` when it wants none.
    blocked: Option<Bits>,
    /// Replicas of the pod by slot, ascending.
    pub(super) replicas: &'v [(u32, u32)],
}

impl<'v> Question<'v> {
    /// Prepares a pod for the slots of a view.
    pub(super) fn new(demand: &'v Demand, pod: &'v Pod, view: &'v ClusterView) -> Self {
        match view.only {
            Some(slot) => Self::at(demand, pod, view, slot as usize),
            None => Self::within(demand, pod, view, None),
        }
    }

    /// Prepares a pod for one slot.
    pub(super) fn at(demand: &'v Demand, pod: &'v Pod, view: &'v ClusterView, slot: usize) -> Self {
        Self::within(demand, pod, view, Some(slot as u32))
    }

    fn within(demand: &'v Demand, pod: &'v Pod, view: &'v ClusterView, only: Option<u32>) -> Self {
        let needed = |amount: i64| if amount > 0 { amount } else { i64::MIN };
        let find = |(name, amount): &'v (String, i64)| {
            (name.as_str(), *amount, view.extended.get(name.as_str()))
        };
        let tolerations = &pod.spec.tolerations;
        let bears_cordon = !tolerations.is_empty() && tolerates(tolerations, &cordon_taint());
        Self {
            view,
            fixed: &view.fixed,
            left: &view.left,
            pod,
            demand,
            cpu_needed: needed(demand.cpu_milli),
            memory_needed: needed(demand.memory_bytes),
            extended: demand.extended.iter().map(find).collect(),
            clear: READY | NO_HARD_TAINT | if bears_cordon { 0 } else { SCHEDULABLE },
            selected: selected(pod, &view.fixed, only),
            blocked: blocked(demand, view),
            replicas: replicas(demand, view),
        }
    }

    /// The slots to look at: all, one, or none.
    pub(super) fn slots(&self) -> std::ops::Range<usize> {
        if self.pod.is_bound() {
            return match self.view.slot(&self.pod.node_name) {
                Some(slot) => slot..slot + 1,
                None => 0..0,
            };
        }
        match self.view.only {
            Some(slot) => slot as usize..slot as usize + 1,
            None => 0..self.fixed.flags.len(),
        }
    }

    /// Whether the pod can be on the slot.
    pub(super) fn fits(&self, slot: usize) -> bool {
        let mut fits = true;
        self.judge(slot, &mut fits);
        fits
    }

    /// Every reason why the pod cannot be on the slot.
    pub(super) fn reasons(&self, slot: usize) -> Vec<Reason> {
        let mut reasons = Vec::new();
        self.judge(slot, &mut reasons);
        reasons
    }

    /// Counts the reasons on every node of the view.
    pub(super) fn unfit(&self) -> Unfit {
        let mut unfit = Unfit { nodes: self.view.len(), ..Unfit::default() };
        let mut of_node = Vec::new();
        for slot in self.view.fixed.slots.values() {
            if self.view.only.is_some_and(|only| only != *slot) {
                continue;
            }
            of_node.clear();
            self.judge(
                *slot as usize,
                &mut Counter { counts: &mut unfit.counts, of_node: &mut of_node },
            );
        }
        if unfit.nodes == 0 && self.pod.is_bound() {
            unfit.counts.insert(ReasonKind::NoSuchNode(self.pod.node_name.clone()), 1);
        }
        unfit
    }

    /// How many replicas of the pod are on the slot.
    pub(super) fn replicas(&self, slot: usize) -> u32 {
        let found = self.replicas.binary_search_by_key(&(slot as u32), |(slot, _)| *slot);
        found.map_or(0, |place| self.replicas[place].1)
    }

    /// Parts of CPU and memory (0 to 1) that scoring would count as used with the pod on the slot.
    pub(super) fn use_with_pod(&self, slot: usize) -> (f64, f64) {
        let (fixed, left) = (self.fixed, self.left);
        let cpu = left.cpu_scored[slot].saturating_add(self.demand.scored_cpu_milli);
        let memory = left.memory_scored[slot].saturating_add(self.demand.scored_memory_bytes);
        let cpu = (cpu as f64 * fixed.cpu_inverse[slot]).min(1.0);
        let memory = (memory as f64 * fixed.memory_inverse[slot]).min(1.0);
        (cpu, memory)
    }

    /// How many taints of the slot's node ask the pod to go elsewhere.
    pub(super) fn soft_taints(&self, slot: usize) -> u32 {
        if self.fixed.flags[slot] & NO_SOFT_TAINT != 0 {
            return 0;
        }
        let taints = self.fixed.nodes[slot].spec.taints.iter();
        let bothers = |taint: &&Taint| is_soft(taint) && !self.tolerates(taint);
        taints.filter(bothers).count().try_into().unwrap_or(u32::MAX)
    }

    /// Whether the first slot comes before the second in name order.
    pub(super) fn is_before(&self, first: usize, second: usize) -> bool {
        self.fixed.rank[first] < self.fixed.rank[second]
    }

    /// The place of the slot's node in name order.
    pub(super) fn rank(&self, slot: usize) -> u32 {
        self.fixed.rank[slot]
    }

    /// The judge of fit: every check, cheap ones first.
    #[inline(always)]
    fn judge(&self, slot: usize, verdict: &mut impl Verdict) {
        let (fixed, left) = (self.fixed, self.left);
        let flags = fixed.flags[slot];
        if flags & LIVE == 0 {
            verdict.fail(
                || ReasonKind::NoSuchNode(String::new()),
                || Reason::NoSuchNode { node: String::new() },
            );
            return;
        }
        let cpu = left.cpu_milli[slot];
        if cpu < self.cpu_needed
            && !verdict.fail(
                || ReasonKind::Insufficient("cpu".to_owned()),
                || insufficient("cpu", Quantity::from_milli, self.cpu_needed, cpu),
            )
        {
            return;
        }
        let memory = left.memory_bytes[slot];
        if memory < self.memory_needed
            && !verdict.fail(
                || ReasonKind::Insufficient("memory".to_owned()),
                || insufficient("memory", Quantity::from_bytes, self.memory_needed, memory),
            )
        {
            return;
        }
        if left.pods[slot] < 1
            && !verdict
                .fail(|| ReasonKind::PodLimit, || Reason::PodLimit { limit: fixed.pods[slot] })
        {
            return;
        }
        for (name, needed, column) in &self.extended {
            let free = column.map_or(0, |column| column.free(slot));
            if free < *needed
                && !verdict.fail(
                    || ReasonKind::Insufficient((*name).to_owned()),
                    || insufficient(name, Quantity::from_units, *needed, free),
                )
            {
                return;
            }
        }
        if flags & self.clear != self.clear && !self.judge_node(slot, flags, verdict) {
            return;
        }
        if self.selected.as_ref().is_some_and(|selected| !selected.has(slot))
            && !self.judge_labels(slot, verdict)
        {
            return;
        }
        if self.blocked.as_ref().is_some_and(|blocked| blocked.has(slot))
            && !self.judge_ports(slot, verdict)
        {
            return;
        }
        if self.pod.is_bound() && *self.pod.node_name != *fixed.names[slot] {
            let wanted = || Reason::OtherNode { wanted: self.pod.node_name.clone() };
            verdict.fail(|| ReasonKind::OtherNode, wanted);
        }
    }

    /// Checks readiness, cordon and taints. Returns whether to go on.
    #[inline(never)]
    fn judge_node(&self, slot: usize, flags: u8, verdict: &mut impl Verdict) -> bool {
        let missing = !flags & self.clear;
        if missing & READY != 0 && !verdict.fail(|| ReasonKind::NotReady, || Reason::NotReady) {
            return false;
        }
        if missing & SCHEDULABLE != 0
            && !verdict.fail(|| ReasonKind::Unschedulable, || Reason::Unschedulable)
        {
            return false;
        }
        if missing & NO_HARD_TAINT == 0 {
            return true;
        }
        let node = &self.fixed.nodes[slot];
        let hard = node.spec.taints.iter().filter(|taint| is_hard(taint, node));
        hard.filter(|taint| !self.tolerates(taint)).all(|taint| {
            verdict.fail(
                || ReasonKind::UntoleratedTaint(taint.key.clone(), taint.value.clone()),
                || Reason::UntoleratedTaint { taint: taint.clone() },
            )
        })
    }

    /// Says which labels are missing.
    #[inline(never)]
    fn judge_labels(&self, slot: usize, verdict: &mut impl Verdict) -> bool {
        let labels = &self.fixed.nodes[slot].metadata.labels;
        let selector = self.pod.spec.node_selector.iter();
        let mut missing = selector.filter(|(label, wanted)| labels.get(*label) != Some(wanted));
        missing.all(|(label, wanted)| {
            verdict.fail(
                || ReasonKind::NodeSelectorMismatch,
                || Reason::NodeSelectorMismatch {
                    label: label.clone(),
                    wanted: wanted.clone(),
                    found: labels.get(label).cloned(),
                },
            )
        })
    }

    /// Says which ports are taken.
    #[inline(never)]
    fn judge_ports(&self, slot: usize, verdict: &mut impl Verdict) -> bool {
        let mut taken = self.demand.ports.iter().filter(|port| {
            let users = self.view.ports.get(&(port.port, port.protocol));
            users.is_some_and(|users| {
                users.iter().any(|user| {
                    user.slot as usize == slot && addresses_clash(&user.host_ip, &port.host_ip)
                })
            })
        });
        taken.all(|port| {
            verdict.fail(
                || ReasonKind::HostPortTaken,
                || Reason::HostPortTaken {
                    port: port.port,
                    protocol: port.protocol,
                    host_ip: port.host_ip.clone(),
                },
            )
        })
    }

    fn tolerates(&self, taint: &Taint) -> bool {
        tolerates(&self.pod.spec.tolerations, taint)
    }
}

/// Stops at the first failure.
impl Verdict for bool {
    #[inline(always)]
    fn fail(&mut self, _: impl FnOnce() -> ReasonKind, _: impl FnOnce() -> Reason) -> bool {
        *self = false;
        false
    }
}

/// Collects every failure.
impl Verdict for Vec<Reason> {
    fn fail(&mut self, _: impl FnOnce() -> ReasonKind, reason: impl FnOnce() -> Reason) -> bool {
        self.push(reason());
        true
    }
}

/// Counts a node once under each kind of failure.
struct Counter<'a> {
    counts: &'a mut BTreeMap<ReasonKind, usize>,
    of_node: &'a mut Vec<ReasonKind>,
}

impl Verdict for Counter<'_> {
    fn fail(&mut self, kind: impl FnOnce() -> ReasonKind, _: impl FnOnce() -> Reason) -> bool {
        let kind = kind();
        if !self.of_node.contains(&kind) {
            match self.counts.get_mut(&kind) {
                Some(count) => *count += 1,
                None => {
                    self.counts.insert(kind.clone(), 1);
                }
            }
            self.of_node.push(kind);
        }
        true
    }
}

/// A set of slots.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Bits(Vec<u64>);

impl Bits {
    fn new(slots: usize) -> Self {
        Self(vec![0; slots.div_ceil(64)])
    }

    fn set(&mut self, slot: u32) {
        self.0[slot as usize / 64] |= 1 << (slot % 64);
    }

    #[inline(always)]
    fn has(&self, slot: usize) -> bool {
        self.0[slot / 64] >> (slot % 64) & 1 != 0
    }

    fn and(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(mine, other)| *mine &= other);
    }
}

fn selected(pod: &Pod, fixed: &Fixed, only: Option<u32>) -> Option<Bits> {
    let mut all: Option<Bits> = None;
    for (label, value) in &pod.spec.node_selector {
        let with_label = fixed.labels.get(label).and_then(|values| values.get(value));
        let with_label = with_label.map_or(&[][..], Vec::as_slice);
        let mut bits = Bits::new(fixed.flags.len());
        match only {
            Some(slot) if with_label.binary_search(&slot).is_ok() => bits.set(slot),
            Some(_) => {}
            None => with_label.iter().for_each(|slot| bits.set(*slot)),
        }
        match &mut all {
            Some(all) => all.and(&bits),
            None => all = Some(bits),
        }
    }
    all
}

fn blocked(demand: &Demand, view: &ClusterView) -> Option<Bits> {
    let mut bits: Option<Bits> = None;
    for port in &demand.ports {
        let Some(users) = view.ports.get(&(port.port, port.protocol)) else { continue };
        let clashing = users.iter().filter(|user| addresses_clash(&user.host_ip, &port.host_ip));
        let bits = bits.get_or_insert_with(|| Bits::new(view.fixed.flags.len()));
        clashing.for_each(|user| bits.set(user.slot));
    }
    bits
}

fn replicas<'v>(demand: &Demand, view: &'v ClusterView) -> &'v [(u32, u32)] {
    let counts = demand.group.and_then(|group| view.groups.get(&group));
    counts.map_or(&[], |counts| counts.as_slice())
}

fn insufficient(
    resource: &str,
    quantity: impl Fn(i64) -> Quantity,
    requested: i64,
    free: i64,
) -> Reason {
    let (requested, free) = (quantity(requested), quantity(free));
    Reason::Insufficient { resource: resource.to_owned(), requested, free }
}

/// The taint that a cordon stands for: who tolerates it may be placed on a cordoned node.
fn cordon_taint() -> Taint {
    Taint {
        effect: TaintEffect::NoSchedule,
        key: TAINT_UNSCHEDULABLE.to_owned(),
        ..Taint::default()
    }
}

fn tolerates(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations.iter().any(|toleration| toleration.tolerates(taint))
}

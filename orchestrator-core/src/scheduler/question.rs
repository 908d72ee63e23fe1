//! `Question`: one pod asked of the columns; the one judge of fit and of the local scores.
//!
//! The scan over all nodes, the commit gate, the agent and `explain` all run [`Question::judge`]; they differ
//! only in what they do with a failure.

use super::bits::{Bits, blocked, selected};
use super::columns::{Access, BLOCK, Extended, Fixed, LIVE, OPEN, READY};
use super::demand::{Demand, addresses_clash};
use super::placement::Unfit;
use super::reason::{Reason, ReasonKind};
use super::verdict::{Cause, Fits, Reasons, Tally, Verdict};
use super::view::ClusterView;
use crate::model::{Pod, Quantity, TAINT_UNSCHEDULABLE, Taint, TaintEffect};

/// Flags of a node that takes every pod it has room for.
const CLEAR: u8 = LIVE | READY | OPEN;

/// One pod, prepared to be asked of any slot of a view.
#[derive(Debug)]
pub(super) struct Question<'v> {
    view: &'v ClusterView,
    fixed: &'v Fixed,
    pod: &'v Pod,
    demand: &'v Demand,
    columns: Slices<'v>,
    /// What must be left; the end of the range where the pod asks for nothing, so that it always holds.
    cpu_needed: i64,
    memory_needed: i64,
    /// What scoring counts for the pod.
    cpu_scored: f64,
    memory_scored: f64,
    extended: Vec<(&'v str, i64, Option<&'v Extended>)>,
    /// What the pod makes of each access.
    welcomes: Vec<Welcome>,
    /// Slots with the labels the pod selects; `None` when it selects none.
    selected: Option<Bits>,
    /// Slots where a port of the pod is taken; `None` when it wants none.
    blocked: Option<Bits>,
    /// Whether some check beyond the columns applies at all.
    has_extras: bool,
    /// Whether one applies that only [`Question::fits`] can tell.
    has_rare: bool,
    /// Replicas of the pod by slot, ascending.
    pub(super) replicas: &'v [(u32, u32)],
}

/// The columns as slices of one length.
#[derive(Clone, Copy, Debug)]
struct Slices<'v> {
    flags: &'v [u8],
    access: &'v [u32],
    rank: &'v [u32],
    cpu_left: &'v [i64],
    memory_left: &'v [i64],
    pods_left: &'v [i64],
    cpu_part: &'v [f64],
    memory_part: &'v [f64],
    cpu_inverse: &'v [f64],
    memory_inverse: &'v [f64],
}

/// What a pod makes of an access.
#[derive(Clone, Copy, Debug)]
struct Welcome {
    /// Nothing keeps it away.
    may_come: bool,
    /// How many taints ask it to go elsewhere.
    soft_taints: u32,
}

impl<'v> Slices<'v> {
    fn new(view: &'v ClusterView) -> Self {
        let (fixed, left) = (&*view.fixed, &*view.left);
        let slots = fixed.flags.len();
        Self {
            flags: &fixed.flags[..slots],
            access: &fixed.access[..slots],
            rank: &fixed.rank[..slots],
            cpu_left: &left.cpu_milli[..slots],
            memory_left: &left.memory_bytes[..slots],
            pods_left: &left.pods[..slots],
            cpu_part: &left.cpu_part[..slots],
            memory_part: &left.memory_part[..slots],
            cpu_inverse: &fixed.cpu_inverse[..slots],
            memory_inverse: &fixed.memory_inverse[..slots],
        }
    }
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
        let extended: Vec<_> = demand.extended.iter().map(find).collect();
        let (selected, blocked) = (selected(pod, &view.fixed, only), blocked(demand, view));
        let has_rare = pod.is_bound() || !extended.is_empty();
        let has_extras = has_rare || selected.is_some() || blocked.is_some();
        Self {
            view,
            fixed: &view.fixed,
            pod,
            demand,
            columns: Slices::new(view),
            cpu_needed: needed(demand.cpu_milli),
            memory_needed: needed(demand.memory_bytes),
            cpu_scored: demand.scored_cpu_milli as f64,
            memory_scored: demand.scored_memory_bytes as f64,
            extended,
            welcomes: view.fixed.accesses.iter().map(|it| welcome(pod, it)).collect(),
            selected,
            blocked,
            has_extras,
            has_rare,
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
        let mut fits = Fits(true);
        self.judge(slot, &mut fits);
        fits.0
    }

    /// Every reason why the pod cannot be on the slot.
    pub(super) fn reasons(&self, slot: usize) -> Vec<Reason> {
        let mut reasons = Reasons::default();
        self.judge(slot, &mut reasons);
        reasons.0
    }

    /// Counts the reasons on every node of the view.
    pub(super) fn unfit(&self) -> Unfit {
        let mut tally = Tally::default();
        let all = self.columns.flags.iter().enumerate();
        let nodes = all.filter(|(slot, flags)| {
            **flags & LIVE != 0 && self.view.only.is_none_or(|only| only as usize == *slot)
        });
        for (slot, _) in nodes {
            tally.begin_node();
            self.judge(slot, &mut tally);
        }
        let mut unfit = tally.into_unfit();
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
        let columns = &self.columns;
        let cpu = self.cpu_scored * columns.cpu_inverse[slot] + columns.cpu_part[slot];
        let memory = self.memory_scored * columns.memory_inverse[slot] + columns.memory_part[slot];
        (at_most_one(cpu), at_most_one(memory))
    }

    /// As [`Question::use_with_pod`], of a block.
    #[inline(always)]
    pub(super) fn use_in_block(
        &self,
        block: usize,
        cpu: &mut [f64; BLOCK],
        memory: &mut [f64; BLOCK],
    ) {
        let columns = &self.columns;
        let (part, inverse) = (nth(columns.cpu_part, block), nth(columns.cpu_inverse, block));
        for at in 0..BLOCK {
            cpu[at] = at_most_one(self.cpu_scored * inverse[at] + part[at]);
        }
        let (part, inverse) = (nth(columns.memory_part, block), nth(columns.memory_inverse, block));
        for at in 0..BLOCK {
            memory[at] = at_most_one(self.memory_scored * inverse[at] + part[at]);
        }
    }

    /// Where in a block the pod fits: numbers below zero where it does not. Returns whether it fits somewhere.
    ///
    /// What CPU, memory, pods, labels and ports leave is asked of [`Question::fits`] unless it cannot fail.
    #[inline(always)]
    pub(super) fn fits_in_block(&self, block: usize, lack: &mut [i64; BLOCK]) -> bool {
        let word =
            |bits: &Option<Bits>, none: u64| bits.as_ref().map_or(none, |it| it.block(block));
        let allowed = word(&self.selected, u64::MAX) & !word(&self.blocked, 0);
        if allowed == 0 {
            return false;
        }
        self.room_in_block(block, lack);
        if allowed != u64::MAX {
            for (at, lack) in lack.iter_mut().enumerate() {
                // All ones where not allowed.
                *lack |= (allowed >> at & 1) as i64 - 1;
            }
        }
        let flags = nth(self.columns.flags, block);
        let clear = flags.iter().fold(u8::MAX, |all, flags| all & flags) & CLEAR == CLEAR;
        if !clear || self.has_rare {
            for (at, lack) in lack.iter_mut().enumerate() {
                let is_clear = flags[at] & CLEAR == CLEAR && !self.has_rare;
                if *lack >= 0 && !is_clear && !self.fits(block * BLOCK + at) {
                    *lack = -1;
                }
            }
        }
        lack.iter().fold(-1, |all, lack| all & lack) >= 0
    }

    /// Where in a block there is room for the pod: numbers below zero where there is not.
    ///
    /// Signs instead of comparisons, which plain x86-64 cannot do on vectors of `i64`.
    #[inline(always)]
    fn room_in_block(&self, block: usize, lack: &mut [i64; BLOCK]) {
        let cpu = nth(self.columns.cpu_left, block);
        let memory = nth(self.columns.memory_left, block);
        let pods = nth(self.columns.pods_left, block);
        let asked = |amount: i64| if amount > 0 { -1 } else { 0 };
        let (cpu_asked, memory_asked) = (asked(self.cpu_needed), asked(self.memory_needed));
        // What is left cannot overflow the difference unless it is below zero itself.
        let short = |left: i64, needed: i64| left.wrapping_sub(needed) | left;
        for at in 0..BLOCK {
            lack[at] = (short(cpu[at], self.cpu_needed) & cpu_asked)
                | (short(memory[at], self.memory_needed) & memory_asked)
                | pods[at].wrapping_sub(1);
        }
    }

    /// Whether no node of the block has taints.
    #[inline(always)]
    pub(super) fn is_open_block(&self, block: usize) -> bool {
        let flags = nth(self.columns.flags, block).iter();
        flags.fold(u8::MAX, |all, flags| all & (flags | !OPEN)) & OPEN != 0
    }

    /// How many taints of the slot's node ask the pod to go elsewhere.
    #[inline(always)]
    pub(super) fn soft_taints(&self, slot: usize) -> u32 {
        if self.columns.flags[slot] & OPEN != 0 {
            return 0;
        }
        self.welcomes[self.columns.access[slot] as usize].soft_taints
    }

    /// The place of the slot's node in name order.
    #[inline(always)]
    pub(super) fn rank(&self, slot: usize) -> u32 {
        self.columns.rank[slot]
    }

    /// The judge of fit: every check, cheap ones first.
    #[inline(always)]
    fn judge(&self, slot: usize, verdict: &mut impl Verdict<'v>) {
        let columns = &self.columns;
        let flags = columns.flags[slot];
        if flags & LIVE == 0 {
            verdict.fail(Cause::NotANode, || Reason::NoSuchNode { node: String::new() });
            return;
        }
        let cpu = columns.cpu_left[slot];
        if cpu < self.cpu_needed
            && !verdict.fail(Cause::Insufficient("cpu"), || {
                insufficient("cpu", Quantity::from_milli, self.cpu_needed, cpu)
            })
        {
            return;
        }
        let memory = columns.memory_left[slot];
        if memory < self.memory_needed
            && !verdict.fail(Cause::Insufficient("memory"), || {
                insufficient("memory", Quantity::from_bytes, self.memory_needed, memory)
            })
        {
            return;
        }
        if columns.pods_left[slot] < 1
            && !verdict.fail(Cause::PodLimit, || Reason::PodLimit { limit: self.fixed.pods[slot] })
        {
            return;
        }
        if flags & (READY | OPEN) != READY | OPEN && !self.judge_node(slot, flags, verdict) {
            return;
        }
        if self.has_extras {
            self.judge_extras(slot, verdict);
        }
    }

    /// Checks what few pods ask for: other resources, labels, ports, a node by name.
    fn judge_extras(&self, slot: usize, verdict: &mut impl Verdict<'v>) {
        for (name, needed, column) in &self.extended {
            let free = column.map_or(0, |column| column.free(slot));
            if free < *needed
                && !verdict.fail(Cause::Insufficient(name), || {
                    insufficient(name, Quantity::from_units, *needed, free)
                })
            {
                return;
            }
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
        if self.pod.is_bound() && *self.pod.node_name != *self.fixed.names[slot] {
            let wanted = || Reason::OtherNode { wanted: self.pod.node_name.clone() };
            verdict.fail(Cause::OtherNode, wanted);
        }
    }

    /// Checks readiness, cordon and taints. Returns whether to go on.
    fn judge_node(&self, slot: usize, flags: u8, verdict: &mut impl Verdict<'v>) -> bool {
        if flags & READY == 0 && !verdict.fail(Cause::NotReady, || Reason::NotReady) {
            return false;
        }
        let access = self.columns.access[slot] as usize;
        if self.welcomes[access].may_come {
            return true;
        }
        if !verdict.wants_details() {
            return false;
        }
        let access = &self.fixed.accesses[access];
        if access.cordoned
            && !tolerates(self.pod, &cordon_taint())
            && !verdict.fail(Cause::Unschedulable, || Reason::Unschedulable)
        {
            return false;
        }
        let hard = access.taints.iter().filter(|taint| access.is_hard(taint));
        hard.filter(|taint| !tolerates(self.pod, taint)).all(|taint| {
            verdict.fail(Cause::UntoleratedTaint(&taint.key, &taint.value), || {
                Reason::UntoleratedTaint { taint: taint.clone() }
            })
        })
    }

    /// Says which labels are missing.
    fn judge_labels(&self, slot: usize, verdict: &mut impl Verdict<'v>) -> bool {
        if !verdict.wants_details() {
            return false;
        }
        let labels = &self.fixed.nodes[slot].metadata.labels;
        let selector = self.pod.spec.node_selector.iter();
        let mut missing = selector.filter(|(label, wanted)| labels.get(*label) != Some(wanted));
        missing.all(|(label, wanted)| {
            verdict.fail(Cause::NodeSelectorMismatch, || Reason::NodeSelectorMismatch {
                label: label.clone(),
                wanted: wanted.clone(),
                found: labels.get(label).cloned(),
            })
        })
    }

    /// Says which ports are taken.
    fn judge_ports(&self, slot: usize, verdict: &mut impl Verdict<'v>) -> bool {
        if !verdict.wants_details() {
            return false;
        }
        let mut taken = self.demand.ports.iter().filter(|port| {
            let users = self.view.ports.get(&(port.port, port.protocol));
            let users = users.map_or(&[][..], |users| users.as_slice());
            let from = users.partition_point(|user| (user.slot as usize) < slot);
            let here = users[from..].iter().take_while(|user| user.slot as usize == slot);
            here.into_iter().any(|user| addresses_clash(&user.host_ip, &port.host_ip))
        });
        taken.all(|port| {
            verdict.fail(Cause::HostPortTaken, || Reason::HostPortTaken {
                port: port.port,
                protocol: port.protocol,
                host_ip: port.host_ip.clone(),
            })
        })
    }
}

fn replicas<'v>(demand: &Demand, view: &'v ClusterView) -> &'v [(u32, u32)] {
    let counts = demand.group.and_then(|group| view.groups.get(&group));
    counts.map_or(&[], |counts| counts.as_slice())
}

/// A block of a column; columns are whole blocks long.
#[inline(always)]
fn nth<T>(column: &[T], block: usize) -> &[T; BLOCK] {
    &column.as_chunks::<BLOCK>().0[block]
}

#[inline(always)]
fn at_most_one(part: f64) -> f64 {
    if part < 1.0 { part } else { 1.0 }
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

fn tolerates(pod: &Pod, taint: &Taint) -> bool {
    pod.spec.tolerations.iter().any(|toleration| toleration.tolerates(taint))
}

fn welcome(pod: &Pod, access: &Access) -> Welcome {
    let cordoned = access.cordoned && !tolerates(pod, &cordon_taint());
    let bothers = |taint: &Taint| !tolerates(pod, taint);
    let mut hard = access.taints.iter().filter(|taint| access.is_hard(taint));
    let soft = access.taints.iter().filter(|taint| Access::is_soft(taint));
    Welcome {
        may_come: !cordoned && !hard.any(bothers),
        soft_taints: soft.filter(|taint| bothers(taint)).count().try_into().unwrap_or(u32::MAX),
    }
}

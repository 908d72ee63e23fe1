//! `Bits`: sets of slots, which labels and ports select.

use super::columns::Fixed;
use super::demand::{Demand, addresses_clash};
use super::view::ClusterView;
use crate::model::Pod;

/// A set of slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    fn new(slots: usize) -> Self {
        Self(vec![0; slots.div_ceil(64)])
    }

    fn set(&mut self, slot: u32) {
        self.0[slot as usize / 64] |= 1 << (slot % 64);
    }

    pub(super) fn has(&self, slot: usize) -> bool {
        self.0[slot / 64] >> (slot % 64) & 1 != 0
    }

    fn and(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(mine, other)| *mine &= other);
    }

    /// A block of the set, a bit per slot.
    pub(super) fn block(&self, block: usize) -> u64 {
        self.0[block]
    }
}

/// The slots with every label that the pod selects; `None` when it selects none.
pub(super) fn selected(pod: &Pod, fixed: &Fixed, only: Option<u32>) -> Option<Bits> {
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

/// The slots where a port of the pod is taken; `None` when it wants none that anybody has.
pub(super) fn blocked(demand: &Demand, view: &ClusterView) -> Option<Bits> {
    let mut bits: Option<Bits> = None;
    for port in &demand.ports {
        let Some(users) = view.ports.get(&(port.port, port.protocol)) else { continue };
        let clashing = users.iter().filter(|user| addresses_clash(&user.host_ip, &port.host_ip));
        let bits = bits.get_or_insert_with(|| Bits::new(view.fixed.flags.len()));
        clashing.for_each(|user| bits.set(user.slot));
    }
    bits
}

//! The accounts of a `ClusterView`: what each pod holds on which node, charged and given back.

use std::sync::Arc;

use super::columns::{Extended, extended_of};
use super::demand::{Demand, HostPort, identity};
use super::view::ClusterView;
use crate::model::{Node, Pod, Uid};

/// A port in use on a slot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PortUse {
    pub(super) slot: u32,
    pub(super) host_ip: String,
}

/// What a pod holds, and where.
#[derive(Clone, Debug)]
pub(super) struct Holding {
    pub(super) demand: Arc<Demand>,
    pub(super) node: Arc<str>,
    pub(super) slot: Option<u32>,
    /// The bind is in flight: the store has not shown it yet.
    pub(super) assumed: bool,
}

impl ClusterView {
    pub(super) fn assume_demand(&mut self, uid: Uid, demand: &Arc<Demand>, node: &str) {
        match self.pods.get(&uid) {
            Some(known) if !known.assumed || *known.node == *node => {}
            Some(_) | None => self.hold(uid, demand, node, true),
        }
    }

    pub(super) fn put_node(&mut self, node: &Arc<Node>) {
        let fixed = Arc::make_mut(&mut self.fixed);
        let before = fixed.slots.get(node.metadata.name.as_str()).map(|slot| *slot as usize);
        let before =
            before.map(|slot| (fixed.cpu_milli[slot], fixed.memory_bytes[slot], fixed.pods[slot]));
        let (slot, _) = fixed.put(node);
        let left = Arc::make_mut(&mut self.left);
        left.grow_to(fixed.names.len());
        let add = |left: &mut i64, more: i64| *left = left.saturating_add(more);
        if let Some((cpu_milli, memory_bytes, pods)) = before.filter(|_| !left.is_saturated(slot)) {
            add(&mut left.cpu_milli[slot], fixed.cpu_milli[slot] - cpu_milli);
            add(&mut left.memory_bytes[slot], fixed.memory_bytes[slot] - memory_bytes);
            add(&mut left.pods[slot], fixed.pods[slot] - pods);
            left.set_parts(slot, fixed);
        } else if before.is_some() {
            self.recount(slot);
        } else {
            left.reset(slot, fixed);
        }
        self.put_extended(slot, node);
        if before.is_none() {
            self.house(slot, &node.metadata.name);
        }
    }

    pub(super) fn put_pod(&mut self, pod: &Pod) {
        let uid = identity(pod);
        if pod.is_finished() {
            self.release(uid);
        } else if pod.is_bound() {
            self.hold(uid, &Arc::new(Demand::of(pod)), &pod.node_name, false);
        }
    }

    /// Counts nothing of a pod any more.
    pub(super) fn release(&mut self, uid: Uid) {
        let Some(holding) = self.pods.get(&uid).cloned() else { return };
        self.pods.remove_mut(&uid);
        match holding.slot {
            Some(slot) => self.discharge(slot, &holding.demand),
            None => {
                let Some(uids) = self.homeless.get(&holding.node) else { return };
                let uids = uids.remove(&uid);
                if uids.is_empty() {
                    self.homeless.remove_mut(&holding.node);
                } else {
                    self.homeless.insert_mut(holding.node, uids);
                }
            }
        }
    }

    fn put_extended(&mut self, slot: usize, node: &Node) {
        let mut stale = self.extended.values().any(|it| Extended::at(&it.allocatable, slot) != 0);
        stale |= extended_of(node).next().is_some();
        if !stale {
            return;
        }
        let extended = Arc::make_mut(&mut self.extended);
        for resource in extended.values_mut() {
            *Extended::cell(&mut resource.allocatable, slot) = 0;
        }
        for (name, amount) in extended_of(node) {
            let resource = extended.entry(name.to_owned()).or_default();
            *Extended::cell(&mut resource.allocatable, slot) = amount;
        }
    }

    pub(super) fn remove_node(&mut self, name: &str) {
        let Some(slot) = Arc::make_mut(&mut self.fixed).remove(name) else { return };
        let slot_number = slot as u32;
        let there = self.pods.iter().filter(|(_, holding)| holding.slot == Some(slot_number));
        let there: Vec<_> = there.map(|(uid, holding)| (*uid, holding.clone())).collect();
        for (uid, holding) in there {
            self.release(uid);
            self.shelve(uid, holding);
        }
        self.put_extended(slot, &Node::default());
        Arc::make_mut(&mut self.left).reset(slot, &self.fixed);
    }

    /// Keeps a pod whose node does not exist, for when it does.
    fn shelve(&mut self, uid: Uid, holding: Holding) {
        let uids = self.homeless.get(&holding.node).cloned().unwrap_or_default();
        self.homeless.insert_mut(Arc::clone(&holding.node), uids.insert(uid));
        self.pods.insert_mut(uid, Holding { slot: None, ..holding });
    }

    /// Counts the pods that waited for a new node.
    fn house(&mut self, slot: usize, name: &str) {
        let Some(uids) = self.homeless.get(name).cloned() else { return };
        self.homeless.remove_mut(name);
        for uid in &uids {
            let Some(holding) = self.pods.get(uid).cloned() else { continue };
            self.charge(slot as u32, &holding.demand);
            self.pods.insert_mut(*uid, Holding { slot: Some(slot as u32), ..holding });
        }
    }

    fn hold(&mut self, uid: Uid, demand: &Arc<Demand>, node: &str, assumed: bool) {
        if let Some(known) = self.pods.get(&uid) {
            if *known.node == *node && known.demand == *demand {
                if known.assumed != assumed {
                    let holding = Holding { assumed, ..known.clone() };
                    self.pods.insert_mut(uid, holding);
                }
                return;
            }
            self.release(uid);
        }
        let found = self.fixed.slots.get_key_value(node);
        let (name, slot) = match found {
            Some((name, slot)) => (Arc::clone(name), Some(*slot)),
            None => (node.into(), None),
        };
        let holding = Holding { demand: Arc::clone(demand), node: name, slot, assumed };
        match slot {
            Some(slot) => {
                self.charge(slot, demand);
                self.pods.insert_mut(uid, holding);
            }
            None => self.shelve(uid, holding),
        }
    }

    fn charge(&mut self, slot: u32, demand: &Demand) {
        Arc::make_mut(&mut self.left).take(slot as usize, demand, &self.fixed);
        self.charge_extended(slot as usize, demand);
        for HostPort { port, protocol, host_ip } in &demand.ports {
            let port = (*port, *protocol);
            if self.ports.get(&port).is_none() {
                self.ports.insert_mut(port, Arc::default());
            }
            let Some(users) = self.ports.get_mut(&port) else { continue };
            let user = PortUse { slot, host_ip: host_ip.clone() };
            let place = users.partition_point(|other| *other < user);
            Arc::make_mut(users).insert(place, user);
        }
        if let Some(group) = demand.group {
            self.count_replica(group, slot, 1);
        }
    }

    fn charge_extended(&mut self, slot: usize, demand: &Demand) {
        for (name, amount) in &demand.extended {
            let extended = Arc::make_mut(&mut self.extended);
            let resource = extended.entry(name.clone()).or_default();
            let used = Extended::cell(&mut resource.used, slot);
            *used = used.saturating_add(*amount);
        }
    }

    fn discharge(&mut self, slot: u32, demand: &Demand) {
        let saturated = demand.extended.iter().any(|(name, _)| {
            let used = self.extended.get(name).map(|it| Extended::at(&it.used, slot as usize));
            used == Some(i64::MAX)
        });
        for HostPort { port, protocol, host_ip } in &demand.ports {
            let Some(users) = self.ports.get_mut(&(*port, *protocol)) else { continue };
            let user = PortUse { slot, host_ip: host_ip.clone() };
            if let Ok(place) = users.binary_search(&user) {
                Arc::make_mut(users).remove(place);
            }
            if users.is_empty() {
                self.ports.remove_mut(&(*port, *protocol));
            }
        }
        if let Some(group) = demand.group {
            self.count_replica(group, slot, -1);
        }
        if saturated || !Arc::make_mut(&mut self.left).give_back(slot as usize, demand, &self.fixed)
        {
            self.recount(slot as usize);
            return;
        }
        for (name, amount) in &demand.extended {
            let extended = Arc::make_mut(&mut self.extended);
            let Some(resource) = extended.get_mut(name) else { continue };
            *Extended::cell(&mut resource.used, slot as usize) -= amount;
        }
    }

    fn count_replica(&mut self, group: u128, slot: u32, change: i32) {
        if self.groups.get(&group).is_none() {
            self.groups.insert_mut(group, Arc::default());
        }
        let Some(counts) = self.groups.get_mut(&group) else { return };
        let counts = Arc::make_mut(counts);
        let place = counts.binary_search_by_key(&slot, |(slot, _)| *slot);
        let place = place.unwrap_or_else(|place| {
            counts.insert(place, (slot, 0));
            place
        });
        counts[place].1 = counts[place].1.saturating_add_signed(change);
        if counts[place].1 == 0 {
            counts.remove(place);
        }
        if counts.is_empty() {
            self.groups.remove_mut(&group);
        }
    }

    /// Sums up a slot anew from its pods: what was at the end of the range cannot be subtracted from.
    fn recount(&mut self, slot: usize) {
        let there = self.pods.values().filter(|holding| holding.slot == Some(slot as u32));
        let there: Vec<_> = there.map(|holding| Arc::clone(&holding.demand)).collect();
        Arc::make_mut(&mut self.left).reset(slot, &self.fixed);
        for resource in Arc::make_mut(&mut self.extended).values_mut() {
            *Extended::cell(&mut resource.used, slot) = 0;
        }
        for demand in there {
            Arc::make_mut(&mut self.left).take(slot, &demand, &self.fixed);
            self.charge_extended(slot, &demand);
        }
    }
}

//! `ClusterView`: nodes and what pods take of them, in columns, kept incrementally by the engine.
//!
//! Everything shared is behind an `Arc` or in a persistent map, so that a clone costs a few counters and a
//! [`Trial`](super::Trial) copies only what it touches.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use rpds::{RedBlackTreeMapSync, RedBlackTreeSetSync};

use super::columns::{Extended, Fixed, Left, extended_of};
use super::demand::{Demand, HostPort, identity};
use super::node_ref::NodeRef;
use crate::model::{Node, Object, Pod, Protocol, Uid};
use crate::world::{ObjectChange, World};

/// The nodes of a cluster and what is taken of them: Σ requests of the pods bound to each that have not finished,
/// those being deleted included until they are gone (S12), binds in flight included at once.
///
/// Cloning is cheap.
#[derive(Clone, Default)]
pub struct ClusterView {
    pub(super) fixed: Arc<Fixed>,
    pub(super) left: Arc<Left>,
    pub(super) extended: Arc<BTreeMap<String, Extended>>,
    /// Slots with a pod on the port, ascending, one entry per pod.
    pub(super) ports: RedBlackTreeMapSync<(i32, Protocol), Arc<Vec<PortUse>>>,
    /// How many pods of a group (replicas of each other) each slot has, ascending by slot.
    pub(super) groups: RedBlackTreeMapSync<u128, Arc<Vec<(u32, u32)>>>,
    pods: RedBlackTreeMapSync<Uid, Holding>,
    /// Pods bound to nodes that do not exist (any more, or yet).
    homeless: RedBlackTreeMapSync<Arc<str>, RedBlackTreeSetSync<Uid>>,
    /// The one node to look at, if not all.
    pub(super) only: Option<u32>,
}

/// A port in use on a slot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PortUse {
    pub(super) slot: u32,
    pub(super) host_ip: String,
}

/// What a pod holds, and where.
#[derive(Clone, Debug)]
struct Holding {
    demand: Arc<Demand>,
    node: Arc<str>,
    slot: Option<u32>,
    /// The bind is in flight: the store has not shown it yet.
    assumed: bool,
}

impl ClusterView {
    /// Builds the view of these nodes and pods.
    pub fn of(nodes: impl IntoIterator<Item = Node>, pods: impl IntoIterator<Item = Pod>) -> Self {
        let mut view = Self::default();
        nodes.into_iter().for_each(|node| view.put_node(&Arc::new(node)));
        pods.into_iter().for_each(|pod| view.put_pod(&pod));
        view
    }

    /// Builds the view of a world.
    pub fn from_world(world: &World) -> Self {
        let mut view = Self::default();
        world.all::<Node>(None).for_each(|node| view.put_node(node));
        world.all::<Pod>(None).for_each(|pod| view.put_pod(pod));
        view
    }

    /// Takes in a change of an object; those of kinds other than node and pod change nothing.
    pub fn apply(&mut self, change: &ObjectChange) {
        match change.latest() {
            Object::Node(node) => match &change.after {
                Some(_) => self.put_node(node),
                None => self.remove_node(&node.metadata.name),
            },
            Object::Pod(pod) => {
                if let Some(Object::Pod(before)) = &change.before {
                    if change.after.is_some() && holds_alike(before, pod) {
                        return;
                    }
                    if change.after.is_none() || before.metadata.uid != pod.metadata.uid {
                        self.release(identity(before));
                    }
                }
                if change.after.is_some() {
                    self.put_pod(pod);
                }
            }
            Object::ConfigMap(_)
            | Object::Deployment(_)
            | Object::Event(_)
            | Object::Namespace(_)
            | Object::ReplicaSet(_)
            | Object::Secret(_)
            | Object::Service(_) => {}
        }
    }

    /// Counts a pod on a node at once, before the store shows its bind. Repeating it changes nothing; the bound
    /// pod replaces it when it arrives.
    pub fn assume(&mut self, pod: &Pod, node: &str) {
        self.assume_demand(identity(pod), &Arc::new(Demand::of(pod)), node);
    }

    /// Takes back an assumption, because the bind failed. A bind that the store has shown stays.
    pub fn forget(&mut self, uid: Uid) {
        if self.pods.get(&uid).is_some_and(|holding| holding.assumed) {
            self.release(uid);
        }
    }

    /// The node on which a pod is counted, bound or assumed.
    pub fn node_of(&self, pod: &Pod) -> Option<&str> {
        self.pods.get(&identity(pod)).map(|holding| &*holding.node)
    }

    /// Whether a pod is counted because of [`ClusterView::assume`] only.
    pub fn is_assumed(&self, uid: Uid) -> bool {
        self.pods.get(&uid).is_some_and(|holding| holding.assumed)
    }

    /// The nodes in name order.
    pub fn nodes(&self) -> impl Iterator<Item = NodeRef<'_>> {
        let all = self.fixed.slots.values();
        all.filter(|slot| self.only.is_none_or(|only| only == **slot))
            .map(|slot| NodeRef::new(self, *slot as usize))
    }

    /// A node by name.
    pub fn node(&self, name: &str) -> Option<NodeRef<'_>> {
        self.slot(name).map(|slot| NodeRef::new(self, slot))
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        match self.only {
            Some(slot) => usize::from(self.fixed.flags[slot as usize] != 0),
            None => self.fixed.slots.len(),
        }
    }

    /// Whether there are no nodes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The view in which this pod is nowhere.
    #[must_use]
    pub fn without(&self, pod: &Pod) -> Self {
        let mut view = self.clone();
        view.release(identity(pod));
        view
    }

    /// The view in which this is the only node; empty if there is no such node.
    #[must_use]
    pub fn only(&self, node: &str) -> Self {
        match self.slot(node) {
            Some(slot) => Self { only: Some(slot as u32), ..self.clone() },
            None => Self::default(),
        }
    }

    pub(super) fn slot(&self, name: &str) -> Option<usize> {
        let slot = *self.fixed.slots.get(name)?;
        self.only.is_none_or(|only| only == slot).then_some(slot as usize)
    }

    pub(super) fn holds(&self, uid: Uid) -> bool {
        self.pods.contains_key(&uid)
    }

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

    fn remove_node(&mut self, name: &str) {
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

impl fmt::Debug for ClusterView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterView")
            .field("nodes", &self.len())
            .field("pods", &self.pods.size())
            .field("homeless", &self.homeless.size())
            .finish_non_exhaustive()
    }
}

/// Whether a change of a pod leaves what it holds as it is; most changes are of status.
fn holds_alike(before: &Pod, after: &Pod) -> bool {
    before.metadata.uid == after.metadata.uid
        && before.node_name == after.node_name
        && before.is_finished() == after.is_finished()
        && (Arc::ptr_eq(&before.spec, &after.spec) || before.spec == after.spec)
        && before.metadata.labels == after.metadata.labels
        && before.metadata.owner_references == after.metadata.owner_references
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        Container, Key, Kind, NodeCondition, ObjectMeta, PodPhase, Quantity, Resource, Revision,
    };
    use crate::scheduler::Amounts;

    fn node(name: &str, cpu: i64) -> Node {
        let mut node = Node { metadata: ObjectMeta::named("", name), ..Node::default() };
        node.status.allocatable.insert("cpu".to_owned(), Quantity::from_units(cpu));
        node.status.allocatable.insert("memory".to_owned(), Quantity::from_bytes(1 << 30));
        node.status.allocatable.insert("example.com/gpu".to_owned(), Quantity::from_units(2));
        node.status.conditions = vec![NodeCondition {
            kind: "Ready".to_owned(),
            status: true.into(),
            ..Default::default()
        }];
        node
    }

    fn pod(name: &str, node: &str, cpu_milli: i64) -> Pod {
        let mut container = Container::new("c", "i").requests(cpu_milli, 1 << 20);
        let gpu = ("example.com/gpu".to_owned(), Quantity::from_units(1));
        container.resources.requests.extend([gpu]);
        Pod { node_name: node.to_owned(), ..Pod::of(name, vec![container]) }
    }

    fn change<T: Resource>(before: Option<&T>, after: Option<&T>) -> ObjectChange {
        let object = |it: Option<&T>| it.map(|it| it.clone().into_object());
        let named = before.or(after).expect("a side");
        let key = Key::new(T::KIND, &named.meta().namespace, &named.meta().name);
        assert!(matches!(T::KIND, Kind::Node | Kind::Pod));
        ObjectChange { key, revision: Revision(1), before: object(before), after: object(after) }
    }

    fn used(view: &ClusterView, node: &str) -> (i64, i64, i64) {
        let node = view.node(node).expect("the node");
        (node.used().cpu_milli, node.used().pods, node.used_of("example.com/gpu"))
    }

    #[test]
    fn a_pod_counts_from_its_bind_until_it_is_gone_or_finished() {
        let mut view = ClusterView::of([node("n", 4)], []);
        let pending = pod("p", "", 500);
        let bound = pod("p", "n", 500);
        view.apply(&change(None, Some(&pending)));
        assert_eq!(used(&view, "n"), (0, 0, 0));
        view.apply(&change(Some(&pending), Some(&bound)));
        assert_eq!(used(&view, "n"), (500, 1, 1));
        let mut deleting = bound.clone();
        deleting.metadata.deletion_timestamp = Some(crate::model::Time::from_seconds(1));
        view.apply(&change(Some(&bound), Some(&deleting)));
        assert_eq!(used(&view, "n"), (500, 1, 1), "until it is gone");
        view.apply(&change(Some(&deleting), None));
        assert_eq!(used(&view, "n"), (0, 0, 0));
        let mut finished = bound.clone();
        view.apply(&change(None, Some(&bound)));
        finished.status.phase = PodPhase::Succeeded;
        view.apply(&change(Some(&bound), Some(&finished)));
        assert_eq!(used(&view, "n"), (0, 0, 0));
    }

    #[test]
    fn a_bind_in_flight_counts_once_and_is_replaced_by_the_bound_pod() {
        let mut view = ClusterView::of([node("a", 4), node("b", 4)], []);
        let pending = pod("p", "", 500);
        view.assume(&pending, "a");
        view.assume(&pending, "a");
        assert_eq!(used(&view, "a"), (500, 1, 1));
        view.assume(&pending, "b");
        assert_eq!((used(&view, "a").1, used(&view, "b").1), (0, 1), "the newest assumption holds");
        let bound = pod("p", "a", 500);
        view.apply(&change(Some(&pending), Some(&bound)));
        assert_eq!((used(&view, "a").1, used(&view, "b").1), (1, 0));
        view.forget(identity(&bound));
        assert_eq!(used(&view, "a").1, 1, "what the store has shown stays");
        view.assume(&bound, "b");
        assert_eq!(used(&view, "b").1, 0);
    }

    #[test]
    fn a_failed_bind_is_forgotten() {
        let mut view = ClusterView::of([node("a", 4)], []);
        let pending = pod("p", "", 500);
        view.assume(&pending, "a");
        assert_eq!(view.node_of(&pending), Some("a"));
        view.forget(identity(&pending));
        assert_eq!((used(&view, "a"), view.node_of(&pending)), ((0, 0, 0), None));
    }

    #[test]
    fn a_pod_deleted_while_its_bind_is_in_flight_frees_its_place() {
        let mut view = ClusterView::of([node("a", 4)], []);
        let pending = pod("p", "", 500);
        view.assume(&pending, "a");
        view.apply(&change(Some(&pending), None));
        assert_eq!(used(&view, "a"), (0, 0, 0));
    }

    #[test]
    fn pods_of_a_lost_node_count_again_when_it_returns() {
        let mut view = ClusterView::of([], [pod("early", "n", 100)]);
        view.put_node(&Arc::new(node("n", 4)));
        assert_eq!(used(&view, "n"), (100, 1, 1));
        view.apply(&change(Some(&node("n", 4)), None));
        assert!(view.is_empty() && view.node("n").is_none());
        view.apply(&change(Some(&pod("early", "n", 100)), None));
        view.put_pod(&pod("late", "n", 300));
        view.put_node(&Arc::new(node("m", 4)));
        view.put_node(&Arc::new(node("n", 2)));
        assert_eq!(used(&view, "n"), (300, 1, 1));
        assert_eq!(used(&view, "m"), (0, 0, 0), "a slot used again starts empty");
    }

    #[test]
    fn a_node_that_shrinks_keeps_what_its_pods_take() {
        let mut view = ClusterView::of([node("n", 4)], [pod("p", "n", 3000)]);
        view.apply(&change(Some(&node("n", 4)), Some(&node("n", 1))));
        let found = view.node("n").expect("the node");
        assert_eq!((found.used().cpu_milli, found.free().cpu_milli), (3000, -2000));
        assert_eq!(found.allocatable_of("example.com/gpu"), 2);
    }

    #[test]
    fn endless_requests_come_and_go_without_a_trace() {
        let mut view = ClusterView::of([node("n", 4)], [pod("p", "n", 100)]);
        let before = used(&view, "n");
        let mut endless = pod("e", "n", 0);
        let requests = [("cpu", "9E"), ("memory", "90E"), ("example.com/gpu", "90E")];
        let requests = requests.map(|(name, text)| (name.to_owned(), text.parse().expect("valid")));
        let spec = Arc::make_mut(&mut endless.spec);
        spec.containers[0].resources.requests = requests.into();
        let twice = Pod { metadata: ObjectMeta::named("default", "f"), ..endless.clone() };
        view.put_pod(&endless);
        view.put_pod(&twice);
        assert!(view.node("n").expect("the node").free().cpu_milli < 0);
        view.release(identity(&endless));
        view.release(identity(&twice));
        assert_eq!(used(&view, "n"), before);
    }

    #[test]
    fn nodes_come_in_name_order_and_one_can_be_looked_at_alone() {
        let view = ClusterView::of(["b", "c", "a"].map(|name| node(name, 4)), []);
        assert_eq!(view.nodes().map(|node| node.name()).collect::<Vec<_>>(), ["a", "b", "c"]);
        let alone = view.only("c");
        assert_eq!(alone.nodes().map(|node| node.name()).collect::<Vec<_>>(), ["c"]);
        assert_eq!((alone.len(), view.only("x").len(), alone.node("a").is_none()), (1, 0, true));
    }

    #[test]
    fn a_node_that_says_nothing_has_no_cpu_and_a_hundred_and_ten_pods() {
        let silent = Node { metadata: ObjectMeta::named("", "n"), ..Node::default() };
        let view = ClusterView::of([silent], []);
        let amounts = view.node("n").expect("the node").allocatable();
        assert_eq!(amounts, Amounts { pods: 110, ..Amounts::default() });
    }
}

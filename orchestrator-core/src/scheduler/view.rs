//! `ClusterView`: nodes and what pods take of them, in columns, kept incrementally by the engine.
//!
//! Everything shared is behind an `Arc` or in a persistent map, so that a clone costs a few counters and a
//! [`Trial`](super::Trial) copies only what it touches.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use rpds::{RedBlackTreeMapSync, RedBlackTreeSetSync};

use super::accounts::{Holding, PortUse};
use super::columns::{Extended, Fixed, Left};
use super::demand::{Demand, identity};
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
    pub(super) pods: RedBlackTreeMapSync<Uid, Holding>,
    /// Pods bound to nodes that do not exist (any more, or yet).
    pub(super) homeless: RedBlackTreeMapSync<Arc<str>, RedBlackTreeSetSync<Uid>>,
    /// The one node to look at, if not all.
    pub(super) only: Option<u32>,
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
            Object::ClusterRole(_)
            | Object::ClusterRoleBinding(_)
            | Object::ConfigMap(_)
            | Object::Custom(_)
            | Object::CustomResourceDefinition(_)
            | Object::Deployment(_)
            | Object::Event(_)
            | Object::Lease(_)
            | Object::Namespace(_)
            | Object::PodDisruptionBudget(_)
            | Object::ReplicaSet(_)
            | Object::Role(_)
            | Object::RoleBinding(_)
            | Object::Secret(_)
            | Object::Service(_)
            | Object::ServiceAccount(_) => {}
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

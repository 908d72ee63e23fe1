//! `Trial`: a scratch view on which a batch is tried out; `PodGroup`: pods that are equal to a scheduler.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::demand::{Demand, identity};
use super::placement::{Placement, Unfit};
use super::view::ClusterView;
use crate::hash::Fnv128;
use crate::model::{Pod, Uid};

/// Pods between which a scheduler need not tell: equal but for their names. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodGroup {
    pods: Vec<Arc<Pod>>,
}

impl PodGroup {
    /// Groups pods. Groups come in the order of their first pods, and pods of a group in the order given.
    pub fn group(pods: impl IntoIterator<Item = Arc<Pod>>) -> Vec<Self> {
        let mut groups: Vec<Self> = Vec::new();
        let mut by_hash: BTreeMap<u128, Vec<usize>> = BTreeMap::new();
        for pod in pods {
            let candidates = by_hash.entry(likeness(&pod)).or_default();
            let known = candidates.iter().find(|at| alike(groups[**at].first(), &pod));
            match known {
                Some(at) => groups[*at].pods.push(pod),
                None => {
                    candidates.push(groups.len());
                    groups.push(Self { pods: vec![pod] });
                }
            }
        }
        groups
    }

    /// The pods, in order.
    pub fn pods(&self) -> &[Arc<Pod>] {
        &self.pods
    }

    /// The first pod; it stands for all.
    pub fn first(&self) -> &Arc<Pod> {
        self.pods.first().expect("a group is made with a pod")
    }
}

/// A scratch view: placements are taken in at once, evictions can be tried, and all of it undone.
#[derive(Clone, Debug)]
pub struct Trial {
    view: ClusterView,
    outcomes: Vec<(Arc<Pod>, Result<Placement, Unfit>)>,
}

/// A state of a [`Trial`] to return to.
#[derive(Clone, Debug)]
pub struct Mark {
    view: ClusterView,
    outcomes: usize,
}

impl Trial {
    /// Starts from a view (a cheap clone of the engine's).
    pub const fn new(view: ClusterView) -> Self {
        Self { view, outcomes: Vec::new() }
    }

    /// The cluster as tried so far.
    pub const fn view(&self) -> &ClusterView {
        &self.view
    }

    /// Takes in where a pod should run.
    pub fn place(&mut self, pod: &Arc<Pod>, placement: Placement) {
        self.place_demand(pod, &Arc::new(Demand::of(pod)), placement);
    }

    /// Takes in that a pod can run nowhere.
    pub fn refuse(&mut self, pod: &Arc<Pod>, unfit: Unfit) {
        self.outcomes.push((Arc::clone(pod), Err(unfit)));
    }

    /// Tries what would be if a pod were gone. It becomes no outcome.
    pub fn evict(&mut self, pod: &Pod) {
        self.view.release(identity(pod));
    }

    /// Remembers this state.
    pub fn mark(&self) -> Mark {
        Mark { view: self.view.clone(), outcomes: self.outcomes.len() }
    }

    /// Returns to a state remembered earlier of this trial.
    pub fn undo_to(&mut self, mark: Mark) {
        self.view = mark.view;
        self.outcomes.truncate(mark.outcomes);
    }

    /// What was decided so far, in order.
    pub fn outcomes(&self) -> &[(Arc<Pod>, Result<Placement, Unfit>)] {
        &self.outcomes
    }

    /// Ends the trial with what was decided, in order.
    pub fn into_outcomes(self) -> Vec<(Arc<Pod>, Result<Placement, Unfit>)> {
        self.outcomes
    }

    pub(super) fn place_demand(
        &mut self,
        pod: &Arc<Pod>,
        demand: &Arc<Demand>,
        placement: Placement,
    ) {
        self.view.assume_demand(identity(pod), demand, &placement.node);
        self.outcomes.push((Arc::clone(pod), Ok(placement)));
    }

    pub(super) fn holds(&self, uid: Uid) -> bool {
        self.view.holds(uid)
    }
}

fn alike(a: &Pod, b: &Pod) -> bool {
    let owner =
        |pod: &Pod| pod.metadata.controller().map(|owner| (owner.kind.clone(), owner.name.clone()));
    (Arc::ptr_eq(&a.spec, &b.spec) || a.spec == b.spec)
        && a.metadata.namespace == b.metadata.namespace
        && a.metadata.labels == b.metadata.labels
        && a.node_name == b.node_name
        && owner(a) == owner(b)
}

/// A hash that pods of a group share.
fn likeness(pod: &Pod) -> u128 {
    let mut hash = Fnv128::new();
    hash.write(pod.metadata.namespace.as_bytes());
    hash.write(pod.node_name.as_bytes());
    if let Some(owner) = pod.metadata.controller() {
        hash.write(owner.kind.as_bytes());
        hash.write(owner.name.as_bytes());
    }
    for (name, value) in &pod.metadata.labels {
        hash.write(name.as_bytes());
        hash.write(value.as_bytes());
    }
    hash.finish()
}

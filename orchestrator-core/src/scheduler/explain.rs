//! `Explanation`: why a pod is where it is, or would be, or why it is nowhere; as data.

use serde::{Deserialize, Serialize};

use super::Scheduler;
use super::demand::Demand;
use super::reason::{Filter, Reason};
use super::view::ClusterView;
use crate::model::{Pod, ResourceMap};

/// What a scheduler thinks of every node for one pod. A bound pod is judged as if it were not bound.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct Explanation {
    /// The node that the scheduler would choose now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chosen: Option<String>,
    /// Why the pod can run nowhere, in one sentence; empty if it can.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The node on which the pod is now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Every node in name order.
    pub nodes: Vec<NodeVerdict>,
    /// The pod's name.
    pub pod: String,
    /// What the pod requests.
    pub requests: ResourceMap,
    /// The scheduler's name.
    pub scheduler: String,
}

/// What a scheduler thinks of one node for one pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct NodeVerdict {
    /// Every check that fails.
    pub failures: Vec<Failure>,
    /// Whether the pod fits: no check fails.
    pub fits: bool,
    /// The node.
    pub node: String,
    /// Every score, also where the pod does not fit. Empty when the scheduler does not tell them apart.
    pub scores: Vec<ScoreLine>,
    /// The weighted sum of the scores.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<i64>,
}

/// A check that fails on a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Failure {
    /// Which check.
    pub filter: Filter,
    /// Why, with its numbers, for people.
    pub message: String,
    /// Why, for programs.
    pub reason: Reason,
}

/// One score of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ScoreLine {
    /// Which score.
    pub name: String,
    /// The score, from 0 to [`SCORE_MAX`](super::SCORE_MAX).
    pub score: i64,
    /// How much it weighs.
    pub weight: i64,
}

impl ScoreLine {
    /// Makes a line.
    pub fn new(name: &str, weight: i64, score: i64) -> Self {
        Self { name: name.to_owned(), score, weight }
    }

    /// The score times its weight.
    pub const fn weighted(&self) -> i64 {
        self.score.saturating_mul(self.weight)
    }
}

impl Explanation {
    /// Starts the explanation of a pod, without nodes.
    pub fn new(scheduler: &str, pod: &Pod) -> Self {
        Self {
            namespace: pod.metadata.namespace.clone(),
            node: pod.is_bound().then(|| pod.node_name.clone()),
            pod: pod.metadata.name.clone(),
            requests: Demand::of(pod).to_resources(),
            scheduler: scheduler.to_owned(),
            ..Self::default()
        }
    }

    /// Adds a node with every reason that stands in the way, and its scores.
    pub fn add(
        &mut self,
        node: &str,
        reasons: Vec<Reason>,
        scores: Vec<ScoreLine>,
        total: Option<i64>,
    ) {
        let failure =
            |reason: Reason| Failure { filter: reason.filter(), message: reason.detail(), reason };
        self.nodes.push(NodeVerdict {
            fits: reasons.is_empty(),
            failures: reasons.into_iter().map(failure).collect(),
            node: node.to_owned(),
            scores,
            total,
        });
    }

    /// What is said of a node.
    pub fn of(&self, node: &str) -> Option<&NodeVerdict> {
        self.nodes.iter().find(|verdict| verdict.node == node)
    }
}

/// Explains any scheduler: asks it for each node alone.
pub(super) fn by_asking<S: Scheduler + ?Sized>(
    scheduler: &S,
    pod: &Pod,
    view: &ClusterView,
) -> Explanation {
    let (pod, view, mut explanation) = begin(scheduler, pod, view);
    for node in view.nodes() {
        let mut reasons = node.fits(&pod).err().unwrap_or_default();
        let mut total = None;
        match scheduler.place(&pod, &view.only(node.name())) {
            Ok(placement) => total = Some(placement.score),
            Err(unfit) if reasons.is_empty() => reasons.push(Reason::Refused {
                by: scheduler.name().to_owned(),
                message: unfit.to_string(),
            }),
            Err(_) => {}
        }
        explanation.add(node.name(), reasons, Vec::new(), total);
    }
    explanation
}

/// Frees the pod of its node, and asks where it would go.
pub(super) fn begin<S: Scheduler + ?Sized>(
    scheduler: &S,
    pod: &Pod,
    view: &ClusterView,
) -> (Pod, ClusterView, Explanation) {
    let mut explanation = Explanation::new(scheduler.name(), pod);
    if explanation.node.is_none() {
        explanation.node = view.node_of(pod).map(str::to_owned);
    }
    let view = view.without(pod);
    let pod = Pod { node_name: String::new(), ..pod.clone() };
    match scheduler.place(&pod, &view) {
        Ok(placement) => explanation.chosen = Some(placement.node),
        Err(unfit) => explanation.message = unfit.to_string(),
    }
    (pod, view, explanation)
}

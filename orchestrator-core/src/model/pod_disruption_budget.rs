//! `PodDisruptionBudget`: how many pods of an application may be evicted at a time.

use serde::{Deserialize, Serialize};

use super::deployment::CountOrPercent;
use super::meta::{Condition, ObjectMeta};
use super::pod::Pod;
use super::replica_set::is_zero_i64;
use super::residual::{Residual, keep_residual};
use super::selector::LabelSelector;

/// Limits evictions of the pods it selects. Only evictions heed it: deletions and failures do not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "camelCase", default)]
pub struct PodDisruptionBudget {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// What is wanted.
    pub spec: PodDisruptionBudgetSpec,
    /// What is.
    pub status: PodDisruptionBudgetStatus,
    /// What was sent and is not modelled.
    #[serde(skip)]
    pub residual: Residual,
}

/// What is wanted of a pod disruption budget.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "camelCase", default)]
pub struct PodDisruptionBudgetSpec {
    /// How many of the pods may be missing after an eviction (percentages round up). Excludes `minAvailable`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<CountOrPercent>,
    /// How many of the pods must be healthy after an eviction (percentages round up). Excludes `maxUnavailable`; with
    /// neither, no pod may be evicted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_available: Option<CountOrPercent>,
    /// Which pods count; an empty selector selects all of the namespace, and none at all selects nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
    /// Whether a running pod that is not ready may always be evicted (`AlwaysAllow`), or only while enough others are
    /// healthy (`IfHealthyBudget`, the default).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unhealthy_pod_eviction_policy: Option<UnhealthyPodEvictionPolicy>,
    /// What was sent and is not modelled.
    #[serde(skip)]
    pub residual: Residual,
}

impl PodDisruptionBudgetSpec {
    /// Whether it concerns a pod of the budget's namespace.
    pub fn selects(&self, pod: &Pod) -> bool {
        self.selector.as_ref().is_some_and(|selector| selector.matches(&pod.metadata.labels))
    }
}

/// Whether pods that are not ready may be evicted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum UnhealthyPodEvictionPolicy {
    /// Always.
    AlwaysAllow,
    /// Only while enough others are healthy.
    #[default]
    IfHealthyBudget,
}

/// The state of a pod disruption budget.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "camelCase", default)]
pub struct PodDisruptionBudgetStatus {
    /// `DisruptionAllowed`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Healthy pods.
    pub current_healthy: i32,
    /// How many must be healthy.
    pub desired_healthy: i32,
    /// How many more pods may be evicted now.
    pub disruptions_allowed: i32,
    /// How many pods there should be.
    pub expected_pods: i32,
    /// The generation this status speaks of.
    #[serde(skip_serializing_if = "is_zero_i64")]
    pub observed_generation: i64,
    /// What was sent and is not modelled.
    #[serde(skip)]
    pub residual: Residual,
}

keep_residual!(PodDisruptionBudget, PodDisruptionBudgetSpec, PodDisruptionBudgetStatus);

//! `ReplicaSet`: keeps a number of equal pods.

use serde::{Deserialize, Serialize};

use super::meta::{Condition, ObjectMeta};
use super::pod::PodTemplate;
use super::residual::{Residual, keep_residual};
use super::selector::LabelSelector;

/// Keeps `spec.replicas` pods of one template.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "camelCase", default)]
pub struct ReplicaSet {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// What is wanted.
    pub spec: ReplicaSetSpec,
    /// What is.
    pub status: ReplicaSetStatus,
    /// What was sent and is not modelled.
    #[serde(skip)]
    pub residual: Residual,
}

/// What is wanted of a replica set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "camelCase", default)]
pub struct ReplicaSetSpec {
    /// Seconds a pod must be ready to count as available; 0 by default.
    #[serde(skip_serializing_if = "is_zero")]
    pub min_ready_seconds: i32,
    /// How many pods; 1 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Which pods count.
    pub selector: LabelSelector,
    /// How new pods are made.
    pub template: PodTemplate,
    /// What was sent and is not modelled.
    #[serde(skip)]
    pub residual: Residual,
}

/// The state of a replica set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "camelCase", default)]
pub struct ReplicaSetStatus {
    /// Pods ready for at least `minReadySeconds`.
    #[serde(skip_serializing_if = "is_zero")]
    pub available_replicas: i32,
    /// Conditions, such as `ReplicaFailure`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Pods whose labels match the template's.
    #[serde(skip_serializing_if = "is_zero")]
    pub fully_labeled_replicas: i32,
    /// The generation this status speaks of.
    #[serde(skip_serializing_if = "is_zero_i64")]
    pub observed_generation: i64,
    /// Ready pods.
    #[serde(skip_serializing_if = "is_zero")]
    pub ready_replicas: i32,
    /// Pods that are not finished and not being deleted.
    pub replicas: i32,
    /// Pods being deleted that are not gone yet.
    #[serde(skip_serializing_if = "is_zero")]
    pub terminating_replicas: i32,
    /// What was sent and is not modelled.
    #[serde(skip)]
    pub residual: Residual,
}

keep_residual!(ReplicaSet, ReplicaSetSpec, ReplicaSetStatus);

pub(super) fn is_zero(number: &i32) -> bool {
    *number == 0
}

pub(super) fn is_zero_i64(number: &i64) -> bool {
    *number == 0
}

//! `Deployment`: rolls a set of equal pods from one template to the next.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::meta::{Condition, ObjectMeta, is_false};
use super::pod::PodTemplate;
use super::replica_set::{is_zero, is_zero_i64};
use super::residual::{Residual, keep_residual};
use super::selector::LabelSelector;

/// The annotation that numbers a deployment's replica sets, as kubectl reads it.
pub const REVISION_ANNOTATION: &str = "deployment.kubernetes.io/revision";
/// The label that tells the pods of a deployment's replica sets apart.
pub const TEMPLATE_HASH_LABEL: &str = "pod-template-hash";

/// Keeps `spec.replicas` pods of the newest template, replacing older ones within bounds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "camelCase", default)]
pub struct Deployment {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// What is wanted.
    pub spec: DeploymentSpec,
    /// What is.
    pub status: DeploymentStatus,
    /// What was sent and is not modelled.
    #[serde(skip)]
    pub residual: Residual,
}

/// What is wanted of a deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "camelCase", default)]
pub struct DeploymentSpec {
    /// Seconds a pod must be ready to count as available; 0 by default.
    #[serde(skip_serializing_if = "is_zero")]
    pub min_ready_seconds: i32,
    /// Whether rolling is on hold.
    #[serde(skip_serializing_if = "is_false")]
    pub paused: bool,
    /// Seconds without progress after which `Progressing` turns False; 600 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress_deadline_seconds: Option<i32>,
    /// How many pods; 1 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// How many old replica sets are kept for rolling back; 10 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision_history_limit: Option<i32>,
    /// Which pods count. Immutable.
    pub selector: LabelSelector,
    /// How old pods are replaced.
    pub strategy: DeploymentStrategy,
    /// How new pods are made.
    pub template: PodTemplate,
    /// What was sent and is not modelled.
    #[serde(skip)]
    pub residual: Residual,
}

/// The state of a deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "camelCase", default)]
pub struct DeploymentStatus {
    /// Pods ready for at least `minReadySeconds`.
    #[serde(skip_serializing_if = "is_zero")]
    pub available_replicas: i32,
    /// `Available`, `Progressing` and `ReplicaFailure`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// The generation this status speaks of.
    #[serde(skip_serializing_if = "is_zero_i64")]
    pub observed_generation: i64,
    /// Ready pods.
    #[serde(skip_serializing_if = "is_zero")]
    pub ready_replicas: i32,
    /// Pods that are not finished and not being deleted.
    #[serde(skip_serializing_if = "is_zero")]
    pub replicas: i32,
    /// Pods being deleted that are not gone yet.
    #[serde(skip_serializing_if = "is_zero")]
    pub terminating_replicas: i32,
    /// Pods still missing.
    #[serde(skip_serializing_if = "is_zero")]
    pub unavailable_replicas: i32,
    /// Pods of the newest template.
    #[serde(skip_serializing_if = "is_zero")]
    pub updated_replicas: i32,
    /// What was sent and is not modelled.
    #[serde(skip)]
    pub residual: Residual,
}

keep_residual!(Deployment, DeploymentSpec, DeploymentStatus);

/// How a deployment replaces old pods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeploymentStrategy {
    /// Bounds of a rolling update; absent with `Recreate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rolling_update: Option<RollingUpdate>,
    /// Which way.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<StrategyType>,
}

/// The ways of replacing old pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum StrategyType {
    /// All old pods go before new ones come.
    Recreate,
    /// New ones come and old ones go within bounds.
    #[default]
    RollingUpdate,
}

/// Bounds of a rolling update; both 25% by default, and not both 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RollingUpdate {
    /// How many pods above the wanted number there may be (percentages round up).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_surge: Option<CountOrPercent>,
    /// How many of the wanted pods may be missing (percentages round down).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<CountOrPercent>,
}

/// A number of pods, or a percentage of the wanted number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CountOrPercent {
    /// A number.
    Count(i32),
    /// A percentage, such as `25%`.
    Percent(i32),
}

impl CountOrPercent {
    /// Returns the number for a total, percentages rounded up.
    pub fn of_ceil(self, total: i32) -> i32 {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => scaled(total, percent, 99),
        }
    }

    /// Returns the number for a total, percentages rounded down.
    pub fn of_floor(self, total: i32) -> i32 {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => scaled(total, percent, 0),
        }
    }
}

fn scaled(total: i32, percent: i32, round: i64) -> i32 {
    let scaled = (i64::from(total) * i64::from(percent) + round) / 100;
    i32::try_from(scaled).unwrap_or(i32::MAX)
}

impl fmt::Display for CountOrPercent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl FromStr for CountOrPercent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let percent = text.strip_suffix('%').and_then(|number| number.parse().ok());
        percent
            .map(Self::Percent)
            .ok_or_else(|| format!("{text:?} is neither a number nor a percentage such as \"25%\""))
    }
}

impl Serialize for CountOrPercent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Count(count) => serializer.serialize_i32(*count),
            Self::Percent(_) => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for CountOrPercent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match super::container::PortOrName::deserialize(deserializer)? {
            super::container::PortOrName::Port(count) => Ok(Self::Count(count)),
            super::container::PortOrName::Name(text) => {
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    }
}

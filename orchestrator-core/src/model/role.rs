//! `Role` and `ClusterRole`: named sets of rights.

use serde::{Deserialize, Serialize};

use super::meta::ObjectMeta;
use super::residual::{Residual, keep_residual};
use super::selector::LabelSelector;

/// Rights within one namespace, given to somebody by a [`RoleBinding`](super::RoleBinding).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "camelCase", default)]
pub struct Role {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// The rights; they add up.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<PolicyRule>,
    /// What was sent and is not modelled.
    #[serde(skip)]
    pub residual: Residual,
}

/// Rights in every namespace and beyond, or, bound by a [`RoleBinding`](super::RoleBinding), in its namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "camelCase", default)]
pub struct ClusterRole {
    /// Whose rules this role consists of; then `rules` is written by a controller.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aggregation_rule: Option<AggregationRule>,
    /// Metadata.
    pub metadata: ObjectMeta,
    /// The rights; they add up.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<PolicyRule>,
    /// What was sent and is not modelled.
    #[serde(skip)]
    pub residual: Residual,
}

keep_residual!(Role, ClusterRole);

/// Rights: these verbs on these resources, or on these paths.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyRule {
    /// API groups of the resources: `""` is the core group, `*` is every one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub api_groups: Vec<String>,
    /// Paths of what is no resource, such as `/metrics`; a `*` at the end stands for any rest.
    #[serde(rename = "nonResourceURLs", skip_serializing_if = "Vec::is_empty")]
    pub non_resource_urls: Vec<String>,
    /// The names of the objects; any when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resource_names: Vec<String>,
    /// Resources in the plural, such as `pods`, `pods/log` or `*/scale`; `*` is every one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    /// What may be done, such as `get`; `*` is everything.
    pub verbs: Vec<String>,
}

/// Selects the cluster roles that another one consists of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AggregationRule {
    /// A cluster role that one of these selects is part of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cluster_role_selectors: Vec<LabelSelector>,
}

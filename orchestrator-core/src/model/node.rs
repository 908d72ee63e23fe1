//! `Node`: a machine that runs pods.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::meta::{ConditionStatus, ObjectMeta, is_false};
use super::pod::ResourceMap;
use super::residual::{Residual, keep_residual};
use super::time::Time;

/// The taint of a node that does not answer.
pub const TAINT_UNREACHABLE: &str = "node.kubernetes.io/unreachable";
/// The taint of a node that says it is not ready.
pub const TAINT_NOT_READY: &str = "node.kubernetes.io/not-ready";
/// The taint of a cordoned node.
pub const TAINT_UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// The label with a node's own name.
pub const LABEL_HOSTNAME: &str = "kubernetes.io/hostname";

/// A machine that runs pods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "camelCase", default)]
pub struct Node {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// What is wanted.
    pub spec: NodeSpec,
    /// What is.
    pub status: NodeStatus,
    /// What was sent and is not modelled.
    #[serde(skip)]
    pub residual: Residual,
}

/// What is wanted of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "camelCase", default)]
pub struct NodeSpec {
    /// The addresses of the node's pods: its slice of the cluster's range. Never changes once it is there.
    #[serde(rename = "podCIDR", skip_serializing_if = "String::is_empty")]
    pub pod_cidr: String,
    /// The same as a list, of which it is the first.
    #[serde(rename = "podCIDRs", skip_serializing_if = "Vec::is_empty")]
    pub pod_cidrs: Vec<String>,
    /// Marks that keep pods away unless they tolerate them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub taints: Vec<Taint>,
    /// Whether new pods stay away (cordon).
    #[serde(skip_serializing_if = "is_false")]
    pub unschedulable: bool,
    /// What was sent and is not modelled.
    #[serde(skip)]
    pub residual: Residual,
}

/// The state of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "camelCase", default)]
pub struct NodeStatus {
    /// Addresses by which the node is reached.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<NodeAddress>,
    /// What pods may use: capacity less reservations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub allocatable: ResourceMap,
    /// What the machine has.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub capacity: ResourceMap,
    /// Conditions; `Ready` decides whether pods are placed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<NodeCondition>,
    /// Versions and identities of the machine.
    pub node_info: NodeSystemInfo,
    /// What was sent and is not modelled.
    #[serde(skip)]
    pub residual: Residual,
}

keep_residual!(Node, NodeSpec, NodeStatus);

/// One aspect of a node's state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeCondition {
    /// When the node last spoke of it. Written with changes only, since heartbeats are signals.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_heartbeat_time: Option<Time>,
    /// When `status` last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<Time>,
    /// An explanation for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// A word for programs.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// Which aspect, such as `Ready`.
    #[serde(rename = "type")]
    pub kind: String,
}

/// An address of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeAddress {
    /// The address.
    pub address: String,
    /// `Hostname`, `InternalIP` or `ExternalIP`.
    #[serde(rename = "type")]
    pub kind: String,
}

/// Versions and identities of a machine; every field is always emitted, as clients require it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeSystemInfo {
    /// The processor architecture, such as `amd64`.
    pub architecture: String,
    /// Changes with each boot.
    #[serde(rename = "bootID")]
    pub boot_id: String,
    /// The runtime and its version, such as `docker://20.10.24`.
    pub container_runtime_version: String,
    /// The kernel release.
    pub kernel_version: String,
    /// The service proxy's version; empty, there is none.
    pub kube_proxy_version: String,
    /// The agent's version.
    pub kubelet_version: String,
    /// Identifies the machine.
    #[serde(rename = "machineID")]
    pub machine_id: String,
    /// Such as `linux`.
    pub operating_system: String,
    /// Such as `Debian GNU/Linux 12 (bookworm)`.
    pub os_image: String,
    /// Identifies the hardware.
    #[serde(rename = "systemUUID")]
    pub system_uuid: String,
}

/// A mark that keeps pods away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Taint {
    /// How strongly.
    pub effect: TaintEffect,
    /// The mark's name.
    pub key: String,
    /// When it was added.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_added: Option<Time>,
    /// The mark's value.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub value: String,
}

/// How strongly a taint keeps pods away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TaintEffect {
    /// New pods stay away and running ones leave.
    NoExecute,
    /// New pods stay away.
    #[default]
    NoSchedule,
    /// New pods go elsewhere if they can.
    PreferNoSchedule,
}

impl Node {
    /// Whether nothing is heard of the node, so that nobody knows how it is.
    pub fn is_missed(&self) -> bool {
        let mut conditions = self.status.conditions.iter();
        conditions.any(|it| it.kind == "Ready" && it.status == ConditionStatus::Unknown)
    }

    /// Whether the node says, and nobody disputes, that it is ready.
    pub fn is_ready(&self) -> bool {
        self.status
            .conditions
            .iter()
            .any(|condition| condition.kind == "Ready" && condition.status == ConditionStatus::True)
    }
}

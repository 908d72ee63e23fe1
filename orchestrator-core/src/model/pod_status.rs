//! `PodStatus`: what an agent reports of a pod.

use serde::{Deserialize, Serialize};

use super::meta::Condition;
use super::residual::{Residual, keep_residual};
use super::time::Time;

/// The state of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "camelCase", default)]
pub struct PodStatus {
    /// `PodScheduled`, `Initialized`, `ContainersReady`, `Ready`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// One entry per container, in the spec's order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub container_statuses: Vec<ContainerStatus>,
    /// The node's address.
    #[serde(rename = "hostIP", skip_serializing_if = "String::is_empty")]
    pub host_ip: String,
    /// An explanation for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The sum of the containers' states. Monotone (S21).
    pub phase: PodPhase,
    /// The pod's address; empty until it has one.
    #[serde(rename = "podIP", skip_serializing_if = "String::is_empty")]
    pub pod_ip: String,
    /// All of the pod's addresses, `podIP` first.
    #[serde(rename = "podIPs", skip_serializing_if = "Vec::is_empty")]
    pub pod_ips: Vec<PodIp>,
    /// `Guaranteed`, `Burstable` or `BestEffort`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub qos_class: String,
    /// A word for programs, such as `Evicted`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// When the agent took the pod up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// What was sent and is not modelled.
    #[serde(skip)]
    pub residual: Residual,
}

keep_residual!(PodStatus);

/// An address of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PodIp {
    /// The address.
    pub ip: String,
}

/// The sum of a pod's containers' states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PodPhase {
    /// Not all containers have started.
    #[default]
    Pending,
    /// Bound, and at least one container runs or will start again.
    Running,
    /// Every container ended well and none will start again.
    Succeeded,
    /// Every container ended, at least one badly, and none will start again.
    Failed,
    /// The node does not answer.
    Unknown,
}

impl PodPhase {
    /// Whether the phase never changes again.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}

/// The state of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerStatus {
    /// The runtime's id, such as `docker://4c01…`.
    #[serde(rename = "containerID", skip_serializing_if = "String::is_empty")]
    pub container_id: String,
    /// The image the container was made from.
    pub image: String,
    /// That image's id.
    #[serde(rename = "imageID")]
    pub image_id: String,
    /// How the previous run ended.
    pub last_state: ContainerState,
    /// The container's name.
    pub name: String,
    /// Whether its readiness probe passes (or it runs and has none).
    pub ready: bool,
    /// How often it was started again.
    pub restart_count: i32,
    /// Whether it has started.
    pub started: bool,
    /// What it does now.
    pub state: ContainerState,
}

/// What a container does: at most one field is set; none means waiting.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerState {
    /// It runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running: Option<StateRunning>,
    /// It ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terminated: Option<StateTerminated>,
    /// It is to start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting: Option<StateWaiting>,
}

/// It runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StateRunning {
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
}

/// It ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StateTerminated {
    /// The runtime's id of the ended run.
    #[serde(rename = "containerID", skip_serializing_if = "String::is_empty")]
    pub container_id: String,
    /// The exit code; 128 + the signal's number when a signal ended it.
    pub exit_code: i32,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// An explanation for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// `Completed`, `Error`, `OOMKilled`, ….
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// When it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
}

/// It is to start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StateWaiting {
    /// An explanation for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// `ContainerCreating`, `ImagePullBackOff`, `CrashLoopBackOff`, ….
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

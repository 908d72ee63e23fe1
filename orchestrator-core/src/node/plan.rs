//! `plan`: from a pod, what the runtime shows and what is remembered, to verbs, checks and a status.
//!
//! Total and deterministic. It never asks for a second run of a container while one goes on (S17), and
//! stops something only for a reason given in [`StopReason`].

use super::memory::PodMemory;
use super::planner::Planner;
use super::probe::ProbeDue;
use crate::model::{Pod, PodStatus, Timestamp};
use crate::runtime::{
    ContainerKey, ContainerSpec, SandboxKey, SandboxObservation, SandboxSpec, Scope,
};
use crate::world::EventNote;

/// How long a failed pull is shown as `ErrImagePull` before it becomes `ImagePullBackOff`, in milliseconds.
pub const PULL_ERROR_SHOWN_MS: i64 = 2_000;

/// What a plan needs to know of the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeContext {
    /// Whose pods these are.
    pub scope: Scope,
    /// The node's address.
    pub host_ip: String,
    /// Whether the runtime makes containers from images.
    pub uses_images: bool,
}

/// Why a node cannot take a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// A word for programs, such as `OutOfcpu`.
    pub reason: String,
    /// An explanation for people.
    pub message: String,
}

/// Everything a plan is made from.
#[derive(Debug)]
pub struct PodInput<'a> {
    /// The node.
    pub node: &'a NodeContext,
    /// The pod, bound to this node.
    pub pod: &'a Pod,
    /// What the runtime shows of this pod uid: all of it, listed after the last verb for it ended.
    pub observed: &'a [SandboxObservation],
    /// Whether the node can take the pod; asked only before anything of it ran.
    pub fits: Result<(), Refusal>,
    /// What is remembered.
    pub memory: &'a PodMemory,
    /// The time.
    pub now: Timestamp,
}

/// A verb for the runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuntimeOp {
    /// Makes a container.
    CreateContainer(Box<ContainerSpec>),
    /// Makes and starts a sandbox.
    CreateSandbox(SandboxSpec),
    /// Pulls an image for a run of a container.
    Pull {
        /// The container's name.
        container: String,
        /// The number of the run.
        attempt: u32,
        /// The image.
        image: String,
    },
    /// Removes an ended container.
    RemoveContainer(ContainerKey),
    /// Ends and removes a sandbox with all in it.
    RemoveSandbox(SandboxKey),
    /// Starts a container.
    StartContainer(ContainerKey),
    /// Stops containers, side by side.
    Stop {
        /// The containers.
        containers: Vec<ContainerKey>,
        /// Milliseconds from TERM to KILL.
        grace_ms: u64,
        /// Why.
        reason: StopReason,
    },
}

/// Why containers are stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StopReason {
    /// The pod wants another image.
    Changed,
    /// The pod is being deleted.
    Deleted,
    /// A newer run of the same container goes on.
    Double,
    /// The pod is finished.
    Finished,
    /// The liveness probe failed.
    Liveness,
}

/// What to do next about a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodPlan {
    /// Verbs, in order. When one fails the rest are dropped, and a new plan is made.
    pub ops: Vec<RuntimeOp>,
    /// Checks that are due.
    pub probes: Vec<ProbeDue>,
    /// The status to record.
    pub status: PodStatus,
    /// What to remember.
    pub memory: PodMemory,
    /// When to plan again even if nothing is heard.
    pub recheck_at: Option<Timestamp>,
    /// What to tell people.
    pub events: Vec<EventNote>,
    /// Whether the pod's deletion was asked for and nothing of it is left: confirm it.
    pub deleted: bool,
}

/// Decides what to do next about a pod.
pub fn plan(input: &PodInput<'_>) -> PodPlan {
    let mut planner = Planner::new(input);
    if input.pod.metadata.is_deleting() {
        planner.delete();
    } else if planner.recorded.phase.is_final() {
        planner.rest();
    } else if let (Err(refusal), true) = (&input.fits, planner.is_new()) {
        planner.refuse(refusal);
    } else {
        planner.run();
    }
    planner.plan.memory.status = Some(planner.plan.status.clone());
    planner.plan
}

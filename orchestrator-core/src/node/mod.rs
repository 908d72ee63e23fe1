//! The agent's brain: what to do next about each pod of a node.
//!
//! Pure: from the pod, what the runtime shows and what is remembered, [`plan`] gives runtime verbs and a
//! status. Depends on `model` and `runtime`; the shell that executes verbs is `driver::agent`.

mod backoff;
mod checks;
mod cleanup;
mod image;
mod kernel_network;
mod lifecycle;
mod link;
mod memory;
mod network;
mod orphans;
mod plan;
mod planner;
mod plumbing;
mod probe;
mod restart;
mod spec;
mod status;
mod streams;

pub use backoff::{
    RESTART_BACKOFF_FIRST_MS, RESTART_BACKOFF_MAX_MS, RESTART_BACKOFF_RESET_MS,
    VERB_RETRY_FIRST_MS, VERB_RETRY_MAX_MS, doubled, restart_delay_ms, spread, verb_retry_ms,
};
pub use image::pull_policy;
pub use kernel_network::{
    Bridge, KernelNetwork, Mac, NextHop, POD_MTU, VXLAN_PORT, Vxlan, VxlanEnd, WIREGUARD_MTU,
    WIREGUARD_PORT, WireGuard, WireGuardEnd,
};
pub use link::{Assignments, LinkError, NodeLink, StatusOutcome};
pub use memory::{FAILURE_MESSAGE_BYTES_MAX, OpFailure, PodMemory};
pub use network::{
    NetworkAt, NetworkPeer, NodeNetwork, cluster_network, concerns_network, node_network,
};
pub use orphans::{
    CompleteList, FINISHED_SANDBOXES_MAX, MASS_KILL_MIN, ORPHAN_GRACE_MS, OrphanGuard,
    orphan_removal, surplus_finished,
};
pub use plan::{
    NodeContext, PULL_ERROR_SHOWN_MS, PodInput, PodPlan, Refusal, RuntimeOp, StopReason, plan,
};
pub use plumbing::{Plumbing, PlumbingError, PodWire, allot};
pub use probe::{ProbeCheck, ProbeDue, ProbeKind, ProbeResult, READINESS_EAGER_FIRST_MS};
pub use spec::{container_spec, sandbox_spec};
pub use status::qos_class;
pub use streams::NodeStreams;

//! The shell around the engine: the only tokio, the only clock.
//!
//! `control` owns the engine and talks to the store, `agent` runs a node, `cluster` wires both and is what
//! embedders hold. No decision is made here.

mod agent;
mod awake;
mod builder;
mod candidate;
mod clock;
mod cluster;
mod control;
mod history;
mod local_link;
mod network;
mod nodes;
mod set_up;
mod standing;
mod streams;
mod submit;
#[cfg(test)]
mod tests;
mod transfer;

pub use agent::{Agent, AgentConfig, AgentHandle, Keep, Machine, PODS_MAX};
pub use builder::{ClusterBuilder, StartError};
pub use clock::{Clock, SystemClock};
pub use cluster::{Cluster, ClusterStats};
pub use history::{CHANGES_BYTES_MAX, CHANGES_KEPT_MAX, Changes, Compacted};
pub use network::{Connection, HostNetwork, PodNetwork};
pub use nodes::ConnectedNode;
pub use standing::Leader;
pub use transfer::{Dumper, Filler, TransferError};

//! The network between pods, applied to the Linux kernel of a node.
//!
//! What is wanted is decided in `orchestrator-core` ([`KernelNetwork`](orchestrator_core::node::KernelNetwork)); this crate brings the
//! kernel there over netlink, as often as it is asked to, and touches nothing that it has not made: devices by their
//! names, routes by their protocol number, firewall rules by a mark in them. It depends on the core alone and starts no
//! other program.

mod encrypted;
mod error;
mod in_use;
mod link;
mod nft;
mod pod_network;
mod privilege;
mod route;
mod rules;
mod vxlan;
mod wire;

pub use encrypted::{InvalidNodeKey, NodeKey};
pub use error::NetError;
pub use in_use::ranges_in_use;
pub use pod_network::PodNetwork;
pub use privilege::{Privilege, privilege, wire_privilege};
pub use wire::PodWires;

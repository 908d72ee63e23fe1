//! Encrypted traffic between nodes: WireGuard in this process, on a device that the kernel routes pods' packets to.
//!
//! The device lives as long as the process: without it there is no route to other nodes' pods, and the packet filter lets nothing of
//! theirs pass in clear.

mod key;
mod peer;
mod wireguard;

pub use key::{InvalidNodeKey, NodeKey};
pub(crate) use wireguard::WireGuard;

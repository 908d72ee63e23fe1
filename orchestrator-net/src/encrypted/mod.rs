//! Encrypted traffic between nodes: WireGuard, on a device that the kernel routes pods' packets to.
//!
//! It runs in the kernel or, where that has none, in this process. The kernel's device outlives the process; that of the process
//! goes with it. Without a device there is no route to other nodes' pods, and the packet filter lets nothing of theirs pass in
//! clear.

mod generic_netlink;
mod in_kernel;
mod key;
mod peer;
mod settings;
mod user_space;
mod wireguard;

pub use key::{InvalidNodeKey, NodeKey};
pub(crate) use wireguard::WireGuard;

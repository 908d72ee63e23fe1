//! Pods' wires: each pod has a pair of devices, one end in its own network namespace, the other on the node's bridge, behind
//! a guard that lets nothing pass that does not come from the pod's own address.

mod namespace;
mod pod_wires;
mod rules;

pub use pod_wires::PodWires;
pub(crate) use pod_wires::remove;

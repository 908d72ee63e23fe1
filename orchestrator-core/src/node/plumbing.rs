//! How a pod is tied to its node's network: the trait `Plumbing`, and which address a pod is given.
//!
//! What is to be tied is a pure function of what the runtime shows; the kernel's side is `orchestrator-net`'s.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::net::Ipv4Addr;

use async_trait::async_trait;

use super::kernel_network::{KernelNetwork, Mac, mac};
use crate::model::{Cidr, Protocol};
use crate::runtime::PortMapping;
use crate::store::BoxError;

/// What ties a pod to the network of its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodWire {
    /// The pod's address, of the node's slice.
    pub address: Ipv4Addr,
    /// Ports of the node that lead to the pod.
    pub ports: Vec<PortMapping>,
}

impl PodWire {
    /// The pod's hardware address, which follows from its address: so no neighbour ever remembers another one.
    pub fn mac(&self) -> Mac {
        mac(self.address)
    }

    /// The first of its ports of the node that another pod has already.
    pub fn taken_by(&self, other: &Self) -> Option<&PortMapping> {
        let is_same = |one: &PortMapping, two: &PortMapping| {
            let everywhere = |port: &PortMapping| port.host_ip.is_none_or(|ip| ip.is_unspecified());
            let on_one_address = everywhere(one) || everywhere(two) || one.host_ip == two.host_ip;
            (one.host_port, one.protocol) == (two.host_port, two.protocol) && on_one_address
        };
        self.ports.iter().find(|one| other.ports.iter().any(|two| is_same(one, two)))
    }
}

impl KernelNetwork {
    /// The name of the node's end of a pod's wire. No two addresses of a slice have one name.
    pub fn wire(&self, address: Ipv4Addr) -> String {
        let host = u32::from(address) & !u32::from(self.slice.mask());
        format!("{}{host:03x}", self.wires())
    }

    /// With what the names of all of the node's ends of wires begin.
    pub fn wires(&self) -> String {
        format!("orcp{}", self.mark)
    }
}

/// Picks an address for a pod: the next one after the last that was given, so that one that was freed is not given
/// again soon; `None` when all are in use. The slice's own addresses (the first, the bridge's and the last) are nobody's.
pub fn allot(slice: Cidr, in_use: &BTreeSet<Ipv4Addr>, last: Option<Ipv4Addr>) -> Option<Ipv4Addr> {
    let size = u32::try_from(1_u64 << (32 - slice.prefix())).unwrap_or(u32::MAX);
    let usable = 2..size.saturating_sub(1);
    let given = last.filter(|last| slice.contains(*last));
    let given = given.map_or(1, |last| u32::from(last) - u32::from(slice.first()));
    let (after, before) =
        (given.saturating_add(1)..usable.end, usable.start..usable.end.min(given + 1));
    let hosts = after.filter(|host| usable.contains(host)).chain(before);
    hosts.filter_map(|host| slice.at(host)).find(|address| !in_use.contains(address))
}

/// Why a pod is not tied to its node's network; the variant says what the caller does next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlumbingError {
    /// Another pod has the address; take another one.
    #[error("another pod has the address {address}")]
    AddressTaken {
        /// The address.
        address: Ipv4Addr,
    },
    /// It failed; try again later.
    #[error("the network of the node cannot be changed")]
    Backend(#[source] BoxError),
    /// The process that held the pod's network is gone; look again.
    #[error("process {pid}, which held a pod's network, is gone")]
    PodGone {
        /// The process.
        pid: u32,
    },
    /// Somebody else has a port of the node; tell the user.
    #[error("port {port} of the node is taken")]
    PortTaken {
        /// The port.
        port: u16,
        /// Its protocol.
        protocol: Protocol,
    },
}

/// Ties pods to the network of their node. What is there is found again in the kernel, so another process can go on.
///
/// # Contract
/// - **PL1** What is tied already is repaired by [`Self::wire`], and otherwise left as it is.
/// - **PL2** No two pods have one address or one port of the node: the second is refused by [`PlumbingError::AddressTaken`] or
///   [`PlumbingError::PortTaken`], and the first goes on.
/// - **PL3** What is not there is taken away by [`Self::unwire`] without an error.
/// - **PL4** After [`Self::look`] nothing is left of pods that it was not told of, whoever tied them; those that it returns have no
///   wire, and all others have theirs.
/// - **PL5** A pod sends from its own address and hardware address alone.
///
/// # Example
/// ```
/// use orchestrator_core::node::{Plumbing, PlumbingError, PodWire};
///
/// /// Ties those again that others have cut off; `pid` says which process holds a pod's network.
/// async fn look_after(
///     plumbing: &dyn Plumbing,
///     pods: &[PodWire],
///     pid: impl Fn(&PodWire) -> u32,
/// ) -> Result<(), PlumbingError> {
///     for pod in plumbing.look(pods).await? {
///         plumbing.wire(&pod, pid(&pod)).await?;
///     }
///     Ok(())
/// }
/// ```
#[async_trait]
pub trait Plumbing: Debug + Send + Sync + 'static {
    /// Ties a pod, whose network namespace is that of a process. Done again it repairs, and changes nothing else.
    async fn wire(&self, pod: &PodWire, pid: u32) -> Result<(), PlumbingError>;

    /// Takes away what was made for a pod; succeeds when nothing is there.
    async fn unwire(&self, pod: &PodWire) -> Result<(), PlumbingError>;

    /// Sees to it that exactly these pods are tied: takes away what is of others, puts back what others have
    /// changed, and returns the pods that have to be tied anew by [`Self::wire`].
    async fn look(&self, pods: &[PodWire]) -> Result<Vec<PodWire>, PlumbingError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice() -> Cidr {
        "10.64.3.0/29".parse().expect("a range")
    }

    fn at(host: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 64, 3, host)
    }

    #[test]
    fn addresses_are_given_in_turn_and_never_one_in_use_nor_the_slices_own() {
        let mut in_use = BTreeSet::from([at(3)]);
        let mut last = None;
        for wanted in [2, 4, 5, 6] {
            last = allot(slice(), &in_use, last);
            assert_eq!(last, Some(at(wanted)));
            in_use.extend(last);
        }
        assert_eq!(allot(slice(), &in_use, last), None, "all are in use");
        in_use.remove(&at(4));
        assert_eq!(allot(slice(), &in_use, last), Some(at(4)));
    }

    #[test]
    fn an_address_that_was_freed_is_given_again_last() {
        let in_use = BTreeSet::new();
        let given: Vec<_> =
            std::iter::successors(Some(at(4)), |last| allot(slice(), &in_use, Some(*last)))
                .take(6)
                .collect();
        assert_eq!(given, [4, 5, 6, 2, 3, 4].map(at));
        assert_eq!(allot(slice(), &in_use, Some(Ipv4Addr::new(10, 9, 9, 9))), Some(at(2)));
    }

    #[test]
    fn two_pods_cannot_have_one_port_of_the_node() {
        let port = |ip: Option<&str>, host_port, protocol| PortMapping {
            host_ip: ip.map(|ip| ip.parse().expect("an address")),
            host_port,
            container_port: 80,
            protocol,
        };
        let wire = |port| PodWire { address: at(2), ports: vec![port] };
        let one = wire(port(None, 8080, Protocol::Tcp));
        let cases = [
            (port(None, 8080, Protocol::Tcp), true),
            (port(Some("192.0.2.1"), 8080, Protocol::Tcp), true),
            (port(Some("0.0.0.0"), 8080, Protocol::Tcp), true),
            (port(None, 8080, Protocol::Udp), false),
            (port(None, 8081, Protocol::Tcp), false),
        ];
        for (other, is_taken) in cases {
            assert_eq!(one.taken_by(&wire(other.clone())).is_some(), is_taken, "{other:?}");
        }
        let (here, there) = (
            wire(port(Some("192.0.2.1"), 1, Protocol::Tcp)),
            wire(port(Some("192.0.2.2"), 1, Protocol::Tcp)),
        );
        assert_eq!(here.taken_by(&there), None);
        let everywhere = wire(port(Some("0.0.0.0"), 1, Protocol::Tcp));
        assert!(everywhere.taken_by(&here).is_some() && here.taken_by(&everywhere).is_some());
    }
}

//! What the kernel of a node is to be told so that its pods and those of other nodes reach each other: a pure function of what
//! the node must know and of which nodes are on one link with it.
//!
//! Nodes on one link get plain routes; all others are reached through one VXLAN device, whose neighbours and forwarding
//! entries are all written down, so that nothing is flooded, learnt or asked for. When traffic is to be encrypted there is one way
//! for all, a WireGuard wireguard, and no other.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::network::{NetworkPeer, NodeNetwork};
use crate::hash::Fnv128;
use crate::model::Cidr;
use crate::runtime::Scope;

/// The port on which nodes take VXLAN; IANA's.
pub const VXLAN_PORT: u16 = 4789;
/// The size of packets that fit through the VXLAN device of a common network.
pub const POD_MTU: u32 = 1450;
/// The port on which nodes take what is encrypted; WireGuard's usual one.
pub const WIREGUARD_PORT: u16 = 51820;
/// The size of packets that fit through the wireguard.
pub const WIREGUARD_MTU: u32 = 1420;

/// What the kernel is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelNetwork {
    /// The bridge that pods are on.
    pub bridge: Bridge,
    /// All addresses of pods.
    pub range: Cidr,
    /// The addresses of the node's own pods.
    pub slice: Cidr,
    /// How slices of other nodes are reached.
    pub routes: BTreeMap<Cidr, NextHop>,
    /// The device to nodes that are not on one link with this one; `None` when there are none.
    pub vxlan: Option<Vxlan>,
    /// The only way to other nodes when traffic is encrypted.
    pub wireguard: Option<WireGuard>,
    /// A word that marks what is made for this node, and nobody else.
    pub mark: String,
}

/// A bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bridge {
    /// Its name.
    pub name: String,
    /// Its own address, by which pods leave.
    pub address: Ipv4Addr,
    /// Its hardware address, which stays the same when it is made anew.
    pub mac: Mac,
    /// The size of its packets.
    pub mtu: u32,
}

/// How a slice is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NextHop {
    /// Through the node, which is on one link with this one.
    Direct(Ipv4Addr),
    /// Through the wireguard, which knows the node.
    WireGuard,
    /// Through the VXLAN device, to the other end of this address.
    Vxlan(Ipv4Addr),
}

/// A VXLAN device and all it knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vxlan {
    /// Its name.
    pub name: String,
    /// Which of the networks on the port.
    pub id: u32,
    /// The node's own address.
    pub local: Ipv4Addr,
    /// The address of this end among the pods' addresses.
    pub address: Ipv4Addr,
    /// The hardware address of this end.
    pub mac: Mac,
    /// The other ends.
    pub ends: BTreeMap<Ipv4Addr, VxlanEnd>,
}

/// WireGuard to all other nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireGuard {
    /// The name of its device.
    pub name: String,
    /// The node's own address.
    pub local: Ipv4Addr,
    /// The other ends, by the addresses of their pods.
    pub ends: BTreeMap<Cidr, WireGuardEnd>,
}

/// The other end of a wireguard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireGuardEnd {
    /// Its node's address.
    pub node: Ipv4Addr,
    /// Its public key, as the node tells it.
    pub key: String,
}

/// The other end of a VXLAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VxlanEnd {
    /// Its hardware address.
    pub mac: Mac,
    /// Its node's address.
    pub node: Ipv4Addr,
}

/// A hardware address.
pub type Mac = [u8; 6];

impl KernelNetwork {
    /// The name of the device of WireGuard, whether it is wanted or not.
    pub fn wireguard_name(&self) -> String {
        wireguard_name(&self.mark)
    }
}

impl NodeNetwork {
    /// What the kernel is to be told; `is_direct` says which addresses are on one link with this node.
    ///
    /// When traffic is to be encrypted there is no way to other nodes but the wireguard, and none to those that have told no key.
    pub fn kernel(&self, scope: &Scope, is_direct: impl Fn(Ipv4Addr) -> bool) -> KernelNetwork {
        let mark = mark(&[&scope.cluster, &scope.node]);
        let mut routes = BTreeMap::new();
        let (mut ends, mut keyed_ends) = (BTreeMap::new(), BTreeMap::new());
        let is_elsewhere = |peer: &&NetworkPeer| peer.address != self.address;
        for peer in self.peers.iter().filter(is_elsewhere) {
            if self.encrypted {
                let Some(key) = peer.key.clone() else { continue };
                keyed_ends.insert(peer.slice, WireGuardEnd { node: peer.address, key });
                routes.insert(peer.slice, NextHop::WireGuard);
            } else if is_direct(peer.address) {
                routes.insert(peer.slice, NextHop::Direct(peer.address));
            } else {
                let end = peer.slice.first();
                ends.insert(end, VxlanEnd { mac: mac(end), node: peer.address });
                routes.insert(peer.slice, NextHop::Vxlan(end));
            }
        }
        let own = self.slice.first();
        let gateway = self.slice.at(1).unwrap_or(own);
        KernelNetwork {
            bridge: Bridge {
                name: format!("orcb{mark}"),
                address: gateway,
                mac: mac(gateway),
                mtu: if self.encrypted { WIREGUARD_MTU } else { POD_MTU },
            },
            range: self.range,
            slice: self.slice,
            routes,
            vxlan: (!ends.is_empty()).then(|| Vxlan {
                name: format!("orcv{mark}"),
                id: vxlan_id(&scope.cluster),
                local: self.address,
                address: own,
                mac: mac(own),
                ends,
            }),
            wireguard: self.encrypted.then(|| WireGuard {
                name: wireguard_name(&mark),
                local: self.address,
                ends: keyed_ends,
            }),
            mark,
        }
    }
}

fn wireguard_name(mark: &str) -> String {
    format!("orcw{mark}")
}

/// Eight characters that a kernel takes in names.
fn mark(parts: &[&str]) -> String {
    let hash = hash(parts);
    format!("{:08x}", hash & 0xffff_ffff)
}

/// Which VXLAN is a cluster's: 24 bits, and not 0.
fn vxlan_id(cluster: &str) -> u32 {
    u32::try_from(hash(&["vxlan", cluster]) & 0x00ff_ffff).unwrap_or(0).max(1)
}

fn hash(parts: &[&str]) -> u128 {
    let mut hash = Fnv128::new();
    parts.iter().for_each(|part| hash.write(part.as_bytes()));
    let all = hash.finish();
    all ^ (all >> 64)
}

/// The hardware address of what has an address: locally administered, and known without asking.
pub(super) fn mac(end: Ipv4Addr) -> Mac {
    let [a, b, c, d] = end.octets();
    [0x0a, 0x58, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network() -> NodeNetwork {
        let peer = |node: &str, address: [u8; 4], slice: &str| NetworkPeer {
            address: address.into(),
            key: None,
            node: node.to_owned(),
            slice: slice.parse().expect("a range"),
        };
        NodeNetwork {
            address: Ipv4Addr::new(192, 0, 2, 1),
            encrypted: false,
            peers: vec![
                peer("near", [192, 0, 2, 2], "10.64.1.0/24"),
                peer("far", [198, 51, 100, 3], "10.64.2.0/24"),
                peer("here", [192, 0, 2, 1], "10.64.3.0/24"),
            ],
            range: "10.64.0.0/10".parse().expect("a range"),
            slice: "10.64.0.0/24".parse().expect("a range"),
        }
    }

    fn scope(node: &str) -> Scope {
        Scope { cluster: "c1".to_owned(), node: node.to_owned() }
    }

    fn is_near(address: Ipv4Addr) -> bool {
        address.octets()[..3] == [192, 0, 2]
    }

    #[test]
    fn near_nodes_get_routes_far_ones_the_vxlan_and_those_on_this_machine_nothing() {
        let kernel = network().kernel(&scope("n1"), is_near);
        let (near, far) = (Ipv4Addr::new(192, 0, 2, 2), Ipv4Addr::new(10, 64, 2, 0));
        let routes: Vec<_> = kernel.routes.iter().map(|(to, hop)| (to.to_string(), *hop)).collect();
        let wanted =
            [("10.64.1.0/24", NextHop::Direct(near)), ("10.64.2.0/24", NextHop::Vxlan(far))];
        assert_eq!(routes, wanted.map(|(to, hop)| (to.to_owned(), hop)));
        let vxlan = kernel.vxlan.expect("a far node");
        assert_eq!(vxlan.ends.keys().collect::<Vec<_>>(), [&far]);
        assert_eq!(vxlan.ends[&far].node, Ipv4Addr::new(198, 51, 100, 3));
        assert_eq!(kernel.bridge.address, Ipv4Addr::new(10, 64, 0, 1));
        assert!(network().kernel(&scope("n1"), |_| true).vxlan.is_none());
    }

    #[test]
    fn both_ends_agree_and_names_fit_and_are_the_nodes_own() {
        let here = network().kernel(&scope("n1"), is_near);
        let mut other = network();
        (other.address, other.slice) = (Ipv4Addr::new(198, 51, 100, 3), other.peers[1].slice);
        let there = other.kernel(&scope("far"), |_| false);
        let (ours, theirs) = (here.vxlan.clone().expect("one"), there.vxlan.expect("one"));
        assert_eq!(ours.id, theirs.id);
        assert_eq!(ours.ends[&theirs.address].mac, theirs.mac);
        assert_ne!(here.bridge.name, there.bridge.name);
        let pods = [2, 254].map(|host| here.wire(here.slice.at(host).expect("of the slice")));
        assert_ne!(pods[0], pods[1]);
        assert!([&here.bridge.name, &ours.name, &pods[0]].iter().all(|name| name.len() <= 15));
    }

    #[test]
    fn when_traffic_is_to_be_encrypted_no_other_way_than_wireguard_is_left() {
        let mut network = NodeNetwork { encrypted: true, ..network() };
        network.peers[1].key = Some("its key".to_owned());
        let kernel = network.kernel(&scope("n1"), is_near);
        let far = network.peers[1].slice;
        assert_eq!(
            kernel.routes,
            BTreeMap::from([(far, NextHop::WireGuard)]),
            "of the one with a key"
        );
        assert!(kernel.vxlan.is_none());
        let wireguard = kernel.wireguard.expect("one");
        assert_eq!(wireguard.ends.keys().collect::<Vec<_>>(), [&far]);
        assert_eq!(wireguard.ends[&far].key, "its key");
    }
}

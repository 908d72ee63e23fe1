//! What a node must know of the network between pods: a pure function of the world.
//!
//! Of other nodes it holds name, slice, address and public key, and nothing else. Nodes without a slice or an IPv4
//! address are left out until they have one.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::model::Object;
use crate::model::{Cidr, ClusterNetwork, ConfigMap, NETWORK_KEY_ANNOTATION, Node, Revision};
use crate::world::{ObjectChange, World};

/// The longest public key of a node that is passed on; a WireGuard key has 44 characters.
const KEY_BYTES_MAX: usize = 64;

/// What a node must know to carry its pods' traffic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeNetwork {
    /// The node's own address.
    pub address: Ipv4Addr,
    /// Whether traffic between nodes is encrypted, and never sent otherwise.
    pub encrypted: bool,
    /// The other nodes, by name.
    pub peers: Vec<NetworkPeer>,
    /// All addresses of pods.
    pub range: Cidr,
    /// The addresses of the node's own pods.
    pub slice: Cidr,
}

/// Another node, as far as traffic to its pods goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkPeer {
    /// Where it is reached.
    pub address: Ipv4Addr,
    /// By which key, when traffic is encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Its name.
    pub node: String,
    /// The addresses of its pods.
    pub slice: Cidr,
}

/// A node's network at a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkAt {
    /// The revision of the world it follows from.
    pub revision: Revision,
    /// What the node must know; `None` when it has no network (any more, or yet).
    pub network: Option<NodeNetwork>,
    /// Whether the cluster has a network, so that a node without one may get it any moment.
    pub is_expected: bool,
}

impl NetworkAt {
    /// What a world says of a node's network.
    pub fn of(world: &World, node: &str) -> Self {
        Self {
            revision: world.revision(),
            network: node_network(world, node),
            is_expected: cluster_network(world).is_some(),
        }
    }
}

/// The setting of the cluster's network; `None` when there is none that can be used.
pub fn cluster_network(world: &World) -> Option<ClusterNetwork> {
    ClusterNetwork::read(world.at::<ConfigMap>(&ClusterNetwork::key())?).ok().flatten()
}

/// What a node must know; `None` when the cluster has no network between pods, or the node no slice of it yet.
pub fn node_network(world: &World, name: &str) -> Option<NodeNetwork> {
    let ClusterNetwork { encrypted, range } = cluster_network(world)?;
    let own = peer(world.find::<Node>("", name)?)?;
    let is_sound = |peer: &NetworkPeer| range.covers(peer.slice) && !peer.slice.overlaps(own.slice);
    if !range.covers(own.slice) {
        return None;
    }
    let others = world.all::<Node>(None).filter(|node| node.metadata.name != name);
    let mut peers: Vec<_> = others.filter_map(|node| peer(node)).filter(is_sound).collect();
    peers.sort_by(|one, two| one.node.cmp(&two.node));
    Some(NodeNetwork { address: own.address, encrypted, peers, range, slice: own.slice })
}

/// Whether a change may make a difference to what some node must know.
pub fn concerns_network(change: &ObjectChange) -> bool {
    let known = |object: &Option<Object>| match object {
        Some(Object::Node(node)) => peer(node),
        Some(_) | None => None,
    };
    change.key == ClusterNetwork::key() || known(&change.before) != known(&change.after)
}

fn peer(node: &Node) -> Option<NetworkPeer> {
    let addresses = node.status.addresses.iter().filter(|address| address.kind == "InternalIP");
    let address = addresses.filter_map(|address| address.address.parse().ok()).next()?;
    let key = node.metadata.annotations.get(NETWORK_KEY_ANNOTATION);
    Some(NetworkPeer {
        address,
        key: key.filter(|key| key.len() <= KEY_BYTES_MAX).cloned(),
        node: node.metadata.name.clone(),
        slice: node.spec.pod_cidr.parse().ok()?,
    })
}

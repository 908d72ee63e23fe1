//! `PodNetwork`: brings the kernel to what is wanted, and back to nothing.

use std::net::Ipv4Addr;

use orchestrator_core::node::{KernelNetwork, NodeNetwork};
use orchestrator_core::runtime::Scope;
use rtnetlink::Handle;
use tokio::task::JoinHandle;

use crate::error::NetError;
use crate::link::{self, Address, Links};
use crate::{in_use, nft, route, rules, vxlan};

/// The network of a node's pods in the kernel. Dropping it changes nothing there.
#[derive(Debug)]
pub struct PodNetwork {
    handle: Handle,
    connection: JoinHandle<()>,
    scope: Scope,
}

impl PodNetwork {
    /// Opens the kernel's network as this thread sees it.
    ///
    /// # Errors
    /// When the kernel has no netlink.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn open(scope: Scope) -> Result<Self, NetError> {
        let (connection, handle, _) =
            rtnetlink::new_connection().map_err(NetError::io("opening netlink"))?;
        Ok(Self { handle, connection: tokio::spawn(connection), scope })
    }

    /// Brings the kernel to what a node must know, and returns what was wanted. Done again it repairs what somebody else has
    /// changed, and changes nothing else.
    ///
    /// # Errors
    /// What the kernel refused first; what was done before that stays, and the next time goes on from there.
    pub async fn apply(&self, network: &NodeNetwork) -> Result<KernelNetwork, NetError> {
        let handle = &self.handle;
        let links = Links::read(handle).await?;
        let addresses = link::addresses(handle).await?;
        let own = network.kernel(&self.scope, |_| false);
        let is_own = |index: u32| links.name(index).is_some_and(|name| name.ends_with(&own.mark));
        let foreign: Vec<_> = addresses.iter().filter(|it| !is_own(it.interface)).collect();
        let on_link: Vec<_> = foreign
            .iter()
            .map(|it| in_use::range_of(it))
            .filter(|cidr| (8..32).contains(&cidr.prefix()))
            .collect();
        let is_direct = |peer: Ipv4Addr| on_link.iter().any(|cidr| cidr.contains(peer));
        let wanted = network.kernel(&self.scope, is_direct);
        // Nodes of other clusters may be here; but nobody else can have this node's slice, nor any other device the range.
        let is_in_the_way = |it: &&&Address| {
            wanted.slice.contains(it.address)
                || (in_use::is_others(&links, it.interface)
                    && wanted.range.overlaps(in_use::range_of(it)))
        };
        if let Some(other) = foreign.iter().find(is_in_the_way) {
            let interface = links.name(other.interface).unwrap_or("?").to_owned();
            let (network, range) = (in_use::range_of(other), wanted.range);
            return Err(NetError::Overlap { interface, network, range });
        }
        route::forward_packets()?;
        let bridge = link::bridge(handle, &links, &addresses, &wanted).await?;
        let device = vxlan::apply(handle, &links, &addresses, &wanted).await?;
        route::apply(handle, &wanted, bridge, device).await?;
        let rules = wanted.clone();
        blocking("changing the firewall", move || {
            nft::replace(&rules::table(&rules))?;
            nft::admit(&rules::admission(&rules))
        })
        .await?;
        Ok(wanted)
    }

    /// Removes everything that was made for this node. Done again it changes nothing.
    ///
    /// # Errors
    /// What the kernel refused first.
    pub async fn remove(&self, network: &NodeNetwork) -> Result<(), NetError> {
        let wanted = network.kernel(&self.scope, |_| false);
        route::remove(&self.handle, wanted.range).await?;
        let links = Links::read(&self.handle).await?;
        for name in [&wanted.bridge.name, &vxlan::name(&wanted)] {
            link::remove(&self.handle, &links, name).await?;
        }
        blocking("removing firewall rules", move || {
            nft::remove(&rules::table(&wanted))?;
            nft::dismiss(&rules::admission(&wanted))
        })
        .await
    }
}

impl Drop for PodNetwork {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// Does what waits for the kernel without holding up others. The thread is in the network namespace of the one that asks: threads
/// of a runtime all are in the one it was made in.
async fn blocking(
    action: &'static str,
    work: impl FnOnce() -> std::io::Result<()> + Send + 'static,
) -> Result<(), NetError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome.map_err(NetError::io(action)),
        Err(error) => Err(NetError::io(action)(std::io::Error::other(error))),
    }
}

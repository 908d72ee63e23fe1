//! `PodNetwork`: brings the kernel to what is wanted, and back to nothing.

use std::net::Ipv4Addr;

use orchestrator_core::node::{KernelNetwork, NodeNetwork};
use orchestrator_core::runtime::Scope;
use rtnetlink::Handle;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use crate::encrypted::{NodeKey, WireGuard};
use crate::error::NetError;
use crate::link::{self, Address, Links};
use crate::route::Devices;
use crate::{in_use, nft, route, rules, vxlan, wire};

/// The network of a node's pods in the kernel. Dropping it changes nothing there.
#[derive(Debug)]
pub struct PodNetwork {
    handle: Handle,
    connection: JoinHandle<()>,
    scope: Scope,
    key: Option<NodeKey>,
    wireguard: Mutex<WireGuard>,
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
        let (connection, wireguard) = (tokio::spawn(connection), Mutex::default());
        Ok(Self { handle, connection, scope, key: None, wireguard })
    }

    /// As [`Self::open`], for a node that others know by a key, so that it can take part in an encrypted network.
    ///
    /// # Errors
    /// As [`Self::open`].
    ///
    /// # Panics
    /// As [`Self::open`].
    pub fn open_with_key(scope: Scope, key: NodeKey) -> Result<Self, NetError> {
        let mut own = Self::open(scope)?;
        own.key = Some(key);
        Ok(own)
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
        link::bridge(handle, &links, &addresses, &wanted).await?;
        // Before there is a way: what is not to pass in clear never does.
        let rules = wanted.clone();
        blocking("changing the firewall", move || {
            nft::replace(&rules::table(&rules))?;
            nft::admit(&rules::admission(&rules))
        })
        .await?;
        let vxlan = vxlan::apply(handle, &links, &addresses, &wanted).await?;
        let wireguard = self.wireguard(&wanted).await;
        let devices = Devices { vxlan, wireguard: *wireguard.as_ref().unwrap_or(&None) };
        route::apply(handle, &wanted, devices).await?;
        wireguard.map(|_| wanted)
    }

    /// Asks the kernel, for each other node, whether it sends what is for that one's pods to WireGuard; does nothing when traffic is not to be
    /// encrypted. It proves that routes and rules, also those of others, lead there now. It does not prove that the other end answers.
    ///
    /// # Errors
    /// [`NetError::Astray`] when one would be sent another way; and what the kernel refuses to tell.
    pub async fn check_encrypted(&self, kernel: &KernelNetwork) -> Result<(), NetError> {
        let Some(wireguard) = &kernel.wireguard else { return Ok(()) };
        let links = Links::read(&self.handle).await?;
        route::check(&self.handle, &links, kernel, &wireguard.name).await
    }

    /// The number of the node's bridge; another one when somebody has removed it and [`Self::apply`] has made it again.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub async fn bridge(&self, kernel: &KernelNetwork) -> Result<Option<u32>, NetError> {
        let links = Links::read(&self.handle).await?;
        Ok(links.find(&kernel.bridge.name).map(|device| device.index))
    }

    /// Puts pods on a bridge, by the numbers of their devices; those that are on one stay there.
    ///
    /// # Errors
    /// What the kernel refused first.
    pub async fn attach(&self, bridge: u32, devices: &[u32]) -> Result<(), NetError> {
        let links = Links::read(&self.handle).await?;
        link::attach(&self.handle, &links, bridge, devices).await
    }

    /// Sees to it that WireGuard is there and knows the other ends, or is gone when none is wanted; returns its device's number.
    async fn wireguard(&self, wanted: &KernelNetwork) -> Result<Option<u32>, NetError> {
        let mut wireguard = self.wireguard.lock().await;
        match &wanted.wireguard {
            Some(it) => wireguard.apply(&self.handle, it, self.key.as_ref()).await.map(Some),
            None => wireguard.remove(&self.handle, &wanted.wireguard_name()).await.map(|()| None),
        }
    }

    /// Removes everything that was made for this node. Done again it changes nothing.
    ///
    /// # Errors
    /// What the kernel refused first.
    pub async fn remove(&self, network: &NodeNetwork) -> Result<(), NetError> {
        let wanted = network.kernel(&self.scope, |_| false);
        self.wireguard.lock().await.remove(&self.handle, &wanted.wireguard_name()).await?;
        route::remove(&self.handle, wanted.range).await?;
        let links = Links::read(&self.handle).await?;
        wire::remove(&self.handle, &links, &wanted).await?;
        for name in [&wanted.bridge.name, &vxlan::name(&wanted)] {
            link::remove(&self.handle, &links, name).await?;
        }
        blocking("removing firewall rules", move || {
            let table = rules::table(&wanted);
            nft::remove((table.family, &table.name))?;
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
pub(crate) async fn blocking<T: Send + 'static>(
    action: &'static str,
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, NetError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome.map_err(NetError::io(action)),
        Err(error) => Err(NetError::io(action)(std::io::Error::other(error))),
    }
}

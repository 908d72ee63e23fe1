//! `PodWires`: ties pods to their node's bridge, and leads ports of the node to them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::AsRawFd as _;

use async_trait::async_trait;
use netlink_packet_route::link::{InfoBridgePort, InfoData, InfoKind, InfoVeth, LinkMessage};
use nix::errno::Errno;
use orchestrator_core::model::Protocol;
use orchestrator_core::node::{KernelNetwork, Plumbing, PlumbingError, PodWire};
use orchestrator_core::runtime::{PortMapping, Scope};
use rtnetlink::{Handle, LinkBridgePort, LinkMessageBuilder, LinkUnspec, LinkVeth};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use super::namespace::{self, INSIDE, backend};
use super::rules;
use crate::error::{NetError, is_errno};
use crate::link::{self, Device, Links};
use crate::nft;
use crate::pod_network::blocking;

/// The wires of a node's pods in the kernel. Dropping it changes nothing there.
#[derive(Debug)]
pub struct PodWires {
    handle: Handle,
    connection: JoinHandle<()>,
    /// Held while something is changed.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What pods are tied to.
    network: Option<KernelNetwork>,
    /// The pods that are tied.
    pods: BTreeMap<Ipv4Addr, PodWire>,
}

impl PodWires {
    /// Opens the kernel's network as this thread sees it. Pods can be tied once it is known to what: [`Self::tie_to`].
    ///
    /// # Errors
    /// When the kernel has no netlink, or lacks something of what guards and ports need.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn open(scope: &Scope) -> Result<Self, NetError> {
        let sample = sample(scope);
        blocking("trying the firewall rules of pods' wires", move || {
            sample.iter().try_for_each(nft::try_out)
        })
        .await?;
        let (connection, handle, _) =
            rtnetlink::new_connection().map_err(NetError::io("opening netlink"))?;
        Ok(Self { handle, connection: tokio::spawn(connection), state: Mutex::default() })
    }

    /// Says to which network pods are tied, which is there.
    pub async fn tie_to(&self, network: &KernelNetwork) {
        self.state.lock().await.network = Some(network.clone());
    }

    async fn tie(
        &self,
        network: &KernelNetwork,
        pod: &PodWire,
        pid: u32,
    ) -> Result<(), PlumbingError> {
        let namespace = namespace::of(pid)?;
        let (name, handle) = (network.wire(pod.address), &self.handle);
        let links = Links::read(handle).await.map_err(backend)?;
        let bridge = self.bridge(&links, network)?;
        let device = match links.find(&name) {
            Some(device) => device.clone(),
            None => {
                let inside = LinkMessageBuilder::<LinkUnspec>::default()
                    .name(INSIDE)
                    .address(pod.mac().to_vec())
                    .mtu(network.bridge.mtu)
                    .setns_by_fd(namespace.as_raw_fd())
                    .build();
                link::made(handle, pair(&name, network.bridge.mtu, inside), &name)
                    .await
                    .map_err(backend)?
            }
        };
        let guard = rules::guard(network, [pod]);
        blocking("guarding a pod's wire", move || nft::ensure_chains(&guard).map(drop))
            .await
            .map_err(backend)?;
        self.put_on(bridge, network, (pod, &device)).await.map_err(backend)?;
        namespace::set_up(namespace, device.index, pod, network).await
    }

    fn bridge(&self, links: &Links, network: &KernelNetwork) -> Result<u32, PlumbingError> {
        let name = &network.bridge.name;
        let missing = || NetError::io(format!("looking for bridge {name}"));
        let bridge = links.find(name).map(|bridge| bridge.index);
        bridge.ok_or_else(|| backend(missing()(io::ErrorKind::NotFound.into())))
    }

    /// Puts the node's end of a pod's wire on the bridge, if it is not there.
    async fn put_on(
        &self,
        bridge: u32,
        network: &KernelNetwork,
        (pod, device): (&PodWire, &Device),
    ) -> Result<(), NetError> {
        let (mtu, links) = (network.bridge.mtu, self.handle.link());
        let name = || network.wire(pod.address);
        if !(device.is_up && device.bridge == Some(bridge) && device.mtu == mtu) {
            let message = LinkUnspec::new_with_index(device.index).controller(bridge).mtu(mtu).up();
            let outcome = links.change(message.build()).execute().await;
            let action = format!("putting {} on the bridge of pods", name());
            outcome.map_err(NetError::netlink(action))?;
        }
        // A pod that calls a port of the node's that is its own is called back through its own wire.
        if !pod.ports.is_empty() && !device.sends_back {
            let message = LinkBridgePort::new(device.index)
                .append_info_data(InfoBridgePort::HairpinMode(true));
            let outcome = links.change(message.build()).execute().await;
            let action = format!("having the bridge of pods send back through {}", name());
            outcome.map_err(NetError::netlink(action))?;
        }
        Ok(())
    }

    /// Leads ports of the node to pods, or ends that.
    async fn lead_ports(
        &self,
        network: &KernelNetwork,
        pods: &BTreeMap<Ipv4Addr, PodWire>,
    ) -> Result<(), PlumbingError> {
        let table = rules::ports(network, pods);
        let setting = format!("/proc/sys/net/ipv4/conf/{}/route_localnet", network.bridge.name);
        let lead = move || {
            let is_wanted = !table.chains.is_empty();
            // Never without the rule that keeps others from these addresses.
            if !is_wanted {
                set(&setting, "0")?;
            }
            nft::replace(&table)?;
            if is_wanted { set(&setting, "1") } else { Ok(()) }
        };
        blocking("leading ports of the node to pods", lead).await.map_err(backend)
    }
}

#[async_trait]
impl Plumbing for PodWires {
    async fn wire(&self, pod: &PodWire, pid: u32) -> Result<(), PlumbingError> {
        let mut state = self.state.lock().await;
        let network = state.network.clone().ok_or_else(unknown)?;
        if state.pods.get(&pod.address) != Some(pod) {
            let others = state.pods.values().filter(|other| other.address != pod.address);
            let taken = others.filter_map(|other| pod.taken_by(other)).next().cloned();
            let taken = match taken {
                None => in_use(pod.ports.clone()).await.map_err(backend)?,
                taken => taken,
            };
            if let Some(PortMapping { host_port: port, protocol, .. }) = taken {
                return Err(PlumbingError::PortTaken { port, protocol });
            }
        }
        self.tie(&network, pod, pid).await?;
        state.pods.insert(pod.address, pod.clone());
        self.lead_ports(&network, &state.pods).await
    }

    async fn unwire(&self, pod: &PodWire) -> Result<(), PlumbingError> {
        let mut state = self.state.lock().await;
        let Some(network) = state.network.clone() else { return Ok(()) };
        state.pods.remove(&pod.address);
        self.lead_ports(&network, &state.pods).await?;
        let name = network.wire(pod.address);
        let links = Links::read(&self.handle).await.map_err(backend)?;
        link::remove(&self.handle, &links, &name).await.map_err(backend)?;
        remove_guards(&network, [name].into(), &state).await.map_err(backend)
    }

    async fn look(&self, pods: &[PodWire]) -> Result<Vec<PodWire>, PlumbingError> {
        let mut state = self.state.lock().await;
        let network = state.network.clone().ok_or_else(unknown)?;
        state.pods = pods.iter().map(|pod| (pod.address, pod.clone())).collect();
        let links = Links::read(&self.handle).await.map_err(backend)?;
        let bridge = self.bridge(&links, &network)?;
        let wanted: BTreeSet<_> = pods.iter().map(|pod| network.wire(pod.address)).collect();
        for name in links.names().filter(|name| is_stray(name, &network, &wanted)) {
            link::remove(&self.handle, &links, name).await.map_err(backend)?;
        }
        let (there, missing): (Vec<_>, Vec<_>) = pods.iter().cloned().partition(|pod| {
            let device = links.find(&network.wire(pod.address));
            device.is_some_and(|device| device.mtu == network.bridge.mtu)
        });
        let guard = rules::guard(&network, &there);
        let strays = blocking("guarding pods' wires", move || nft::ensure_chains(&guard));
        let strays = strays.await.map_err(backend)?;
        remove_guards(&network, strays, &state).await.map_err(backend)?;
        for pod in &there {
            let Some(device) = links.find(&network.wire(pod.address)) else { continue };
            match self.put_on(bridge, &network, (pod, device)).await {
                // It went with its pod.
                Err(NetError::Netlink { source, .. }) if is_errno(&source, Errno::ENODEV) => {}
                outcome => outcome.map_err(backend)?,
            }
        }
        self.lead_ports(&network, &state.pods).await?;
        Ok(missing)
    }
}

impl Drop for PodWires {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// Removes all wires of a node and what belongs to them.
pub(crate) async fn remove(
    handle: &Handle,
    links: &Links,
    network: &KernelNetwork,
) -> Result<(), NetError> {
    for name in links.names().filter(|name| is_stray(name, network, &BTreeSet::new())) {
        link::remove(handle, links, name).await?;
    }
    let (guards, ports) = (rules::guards(network), rules::ports(network, &BTreeMap::new()));
    blocking("removing the firewall rules of pods' wires", move || {
        nft::remove((guards.0, &guards.1))?;
        nft::replace(&ports)
    })
    .await
}

/// Removes guards, and their table with the last.
async fn remove_guards(
    network: &KernelNetwork,
    chains: BTreeSet<String>,
    state: &State,
) -> Result<(), NetError> {
    if chains.is_empty() {
        return Ok(());
    }
    let (family, table) = rules::guards(network);
    let are_left = !state.pods.is_empty();
    let remove = move || match are_left {
        true => nft::remove_chains((family, &table), &chains),
        false => nft::remove((family, &table)),
    };
    blocking("removing the guards of pods' wires", remove).await
}

fn is_stray(name: &str, network: &KernelNetwork, wanted: &BTreeSet<String>) -> bool {
    name.starts_with(&network.wires()) && !wanted.contains(name)
}

/// A pair of devices, the other one of which is told by a message.
fn pair(name: &str, mtu: u32, other: LinkMessage) -> LinkMessage {
    LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
        .name(name)
        .mtu(mtu)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(other)))
        .build()
}

/// The first of these ports at which another program of the machine listens.
async fn in_use(ports: Vec<PortMapping>) -> Result<Option<PortMapping>, NetError> {
    let is_in_use = |port: &PortMapping| {
        let at = (port.host_ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), port.host_port);
        let taken = match port.protocol {
            Protocol::Sctp => return false,
            Protocol::Tcp => TcpListener::bind(at).err(),
            Protocol::Udp => UdpSocket::bind(at).err(),
        };
        taken.is_some_and(|error| error.kind() == io::ErrorKind::AddrInUse)
    };
    blocking("looking whether ports are free", move || Ok(ports.into_iter().find(is_in_use))).await
}

fn set(setting: &str, value: &str) -> io::Result<()> {
    if std::fs::read_to_string(setting)?.trim() == value {
        return Ok(());
    }
    std::fs::write(setting, value)
}

fn unknown() -> PlumbingError {
    let error = io::Error::other("it is not known yet to what pods are tied");
    backend(NetError::io("tying a pod to the network")(error))
}

/// Tables with every kind of rule that wires need.
fn sample(scope: &Scope) -> [nft::Table; 2] {
    let slice = orchestrator_core::model::Cidr::around(Ipv4Addr::new(10, 64, 0, 0), 24);
    let network = orchestrator_core::node::NodeNetwork {
        address: slice.first(),
        encrypted: false,
        peers: Vec::new(),
        range: slice,
        slice,
    };
    let network = network.kernel(scope, |_| false);
    let port =
        PortMapping { host_ip: None, host_port: 1, container_port: 1, protocol: Protocol::Tcp };
    let pod = PodWire { address: slice.first(), ports: vec![port] };
    let mut guard = rules::guard(&network, [&pod]);
    for chain in &mut guard.chains {
        chain.hook = nft::Hook::FromDevice("lo".to_owned());
    }
    let mut ports = rules::ports(&network, &BTreeMap::from([(pod.address, pod)]));
    guard.name.push_str("-sample");
    ports.name.push_str("-sample");
    [guard, ports]
}

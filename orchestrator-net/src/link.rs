//! Devices and their addresses.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use futures_util::TryStreamExt as _;
use netlink_packet_route::address::AddressAttribute;
use netlink_packet_route::link::{
    InfoBridgePort, InfoKind, InfoPortData, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use nix::errno::Errno;
use orchestrator_core::node::KernelNetwork;
use rtnetlink::{Handle, LinkBridge, LinkUnspec};

use crate::error::{NetError, is_errno};

/// The devices of the machine, as read at a moment.
#[derive(Debug, Default)]
pub(crate) struct Links(BTreeMap<String, Device>);

/// A device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Device {
    pub index: u32,
    pub kind: Option<InfoKind>,
    pub is_up: bool,
    /// The bridge that it is on.
    pub bridge: Option<u32>,
    pub mtu: u32,
    /// The number of the other one of a pair, as counted where that is.
    pub other_end: Option<u32>,
    /// Whether its bridge may send a packet back through it.
    pub sends_back: bool,
}

/// An IPv4 address of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub interface: u32,
    pub address: Ipv4Addr,
    pub prefix: u8,
}

impl Links {
    pub(crate) async fn read(handle: &Handle) -> Result<Self, NetError> {
        let messages: Vec<LinkMessage> = handle
            .link()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(NetError::netlink("listing interfaces"))?;
        Ok(Self(messages.iter().filter_map(device).collect()))
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Device> {
        self.0.get(name)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub(crate) fn name(&self, index: u32) -> Option<&str> {
        self.0.iter().find(|(_, device)| device.index == index).map(|(name, _)| name.as_str())
    }
}

fn device(message: &LinkMessage) -> Option<(String, Device)> {
    let mut name = None;
    let (mut kind, mut bridge, mut mtu, mut other_end) = (None, None, 0, None);
    let mut sends_back = false;
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = Some(text.clone()),
            LinkAttribute::Controller(number) => bridge = Some(*number).filter(|it| *it != 0),
            LinkAttribute::Mtu(size) => mtu = *size,
            LinkAttribute::Link(number) => other_end = Some(*number),
            LinkAttribute::LinkInfo(infos) => {
                kind = infos.iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind.clone()),
                    _ => None,
                });
                sends_back = infos.iter().any(does_send_back);
            }
            _ => {}
        }
    }
    let is_up = message.header.flags.contains(LinkFlags::Up);
    Some((
        name?,
        Device { index: message.header.index, kind, is_up, bridge, mtu, other_end, sends_back },
    ))
}

fn does_send_back(info: &LinkInfo) -> bool {
    let LinkInfo::PortData(InfoPortData::BridgePort(port)) = info else { return false };
    port.contains(&InfoBridgePort::HairpinMode(true))
}

/// Lists the IPv4 addresses of all devices.
pub(crate) async fn addresses(handle: &Handle) -> Result<Vec<Address>, NetError> {
    let messages: Vec<_> = handle
        .address()
        .get()
        .execute()
        .try_collect()
        .await
        .map_err(NetError::netlink("listing addresses"))?;
    let addresses = messages.iter().filter_map(|message| {
        let local = message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Local(IpAddr::V4(address)) => Some(*address),
            _ => None,
        });
        let (interface, prefix) = (message.header.index, message.header.prefix_len);
        Some(Address { interface, address: local?, prefix })
    });
    Ok(addresses.collect())
}

/// Sees to it that the bridge is there, up and has its address.
pub(crate) async fn bridge(
    handle: &Handle,
    links: &Links,
    addresses: &[Address],
    wanted: &KernelNetwork,
) -> Result<(), NetError> {
    let bridge = &wanted.bridge;
    let device = match links.find(&bridge.name) {
        Some(device) if device.kind == Some(InfoKind::Bridge) => device.clone(),
        Some(_) => {
            return Err(NetError::Foreign { name: bridge.name.clone(), wanted: "bridge" });
        }
        None => {
            tracing::info!(bridge = bridge.name, address = %bridge.address, "making the bridge of the node's pods");
            let message = LinkBridge::new(&bridge.name).address(bridge.mac.to_vec()).build();
            made(handle, message, &bridge.name).await?
        }
    };
    // Said of one that is there: said when it is made, it would be forgotten with the first device that leaves it.
    if device.mtu != bridge.mtu {
        let message = LinkUnspec::new_with_index(device.index).mtu(bridge.mtu).build();
        let outcome = handle.link().change(message).execute().await;
        outcome
            .map_err(NetError::netlink(format!("setting the size of {}'s packets", bridge.name)))?;
    }
    up(handle, &device, &bridge.name).await?;
    only_address(handle, addresses, device.index, (bridge.address, wanted.slice.prefix())).await
}

/// Puts devices of pods on a bridge, of those by these numbers that are on none.
pub(crate) async fn attach(
    handle: &Handle,
    links: &Links,
    bridge: u32,
    devices: &[u32],
) -> Result<(), NetError> {
    for device in links.0.values().filter(|it| devices.contains(&it.index)) {
        if device.kind != Some(InfoKind::Veth) || device.bridge.is_some() {
            continue;
        }
        let message = LinkUnspec::new_with_index(device.index).controller(bridge).build();
        let action = format!("putting device {} on the bridge", device.index);
        handle.link().change(message).execute().await.map_err(NetError::netlink(action))?;
    }
    Ok(())
}

/// Makes a device and looks at it.
pub(crate) async fn made(
    handle: &Handle,
    message: LinkMessage,
    name: &str,
) -> Result<Device, NetError> {
    let outcome = handle.link().add(message).execute().await;
    match outcome {
        // Somebody who does the same was faster.
        Err(error)
            if is_errno(&error, Errno::EEXIST)
                && Links::read(handle).await?.find(name).is_some() => {}
        outcome => outcome.map_err(NetError::netlink(format!("making interface {name}")))?,
    }
    let gone = || std::io::Error::from(std::io::ErrorKind::NotFound);
    let links = Links::read(handle).await?;
    let device = links.find(name).cloned();
    device.ok_or_else(|| NetError::io(format!("looking at interface {name}"))(gone()))
}

pub(crate) async fn up(handle: &Handle, device: &Device, name: &str) -> Result<(), NetError> {
    if device.is_up {
        return Ok(());
    }
    let message = LinkUnspec::new_with_index(device.index).up().build();
    let outcome = handle.link().change(message).execute().await;
    outcome.map_err(NetError::netlink(format!("setting interface {name} up")))
}

/// Gives a device this address and takes any other of IPv4 away.
pub(crate) async fn only_address(
    handle: &Handle,
    addresses: &[Address],
    index: u32,
    (address, prefix): (Ipv4Addr, u8),
) -> Result<(), NetError> {
    let wanted = Address { interface: index, address, prefix };
    let found: Vec<_> = addresses.iter().filter(|it| it.interface == index).collect();
    for other in found.iter().filter(|it| ***it != wanted) {
        let mut message = netlink_packet_route::address::AddressMessage::default();
        message.header.family = netlink_packet_route::AddressFamily::Inet;
        message.header.index = index;
        message.header.prefix_len = other.prefix;
        message.attributes.push(AddressAttribute::Local(IpAddr::V4(other.address)));
        let outcome = handle.address().del(message).execute().await;
        outcome.map_err(NetError::netlink(format!("taking address {} away", other.address)))?;
    }
    if found.contains(&&wanted) {
        return Ok(());
    }
    let outcome =
        handle.address().add(index, IpAddr::V4(address), prefix).replace().execute().await;
    outcome.map_err(NetError::netlink(format!("giving address {address}/{prefix}")))
}

/// Removes a device if it is there.
pub(crate) async fn remove(handle: &Handle, links: &Links, name: &str) -> Result<(), NetError> {
    let Some(device) = links.find(name) else { return Ok(()) };
    match handle.link().del(device.index).execute().await {
        Err(error) if is_errno(&error, Errno::ENODEV) => Ok(()),
        outcome => outcome.map_err(NetError::netlink(format!("removing interface {name}"))),
    }
}

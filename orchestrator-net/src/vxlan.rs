//! The VXLAN device to nodes that are not on one link with this one, and all that it knows.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use futures_util::TryStreamExt as _;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::link::InfoKind;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use nix::errno::Errno;
use orchestrator_core::node::{KernelNetwork, Mac, VXLAN_PORT, Vxlan};
use rtnetlink::{Handle, LinkVxlan};

use crate::error::{NetError, is_errno};
use crate::link::{self, Address, Links};

/// The device's name, whether it is wanted or not.
pub(crate) fn name(wanted: &KernelNetwork) -> String {
    format!("orcv{}", wanted.mark)
}

/// Sees to it that the device is there and knows the other ends, or is gone when there are none; returns its index.
pub(crate) async fn apply(
    handle: &Handle,
    links: &Links,
    addresses: &[Address],
    wanted: &KernelNetwork,
) -> Result<Option<u32>, NetError> {
    let Some(vxlan) = &wanted.vxlan else {
        link::remove(handle, links, &name(wanted)).await?;
        return Ok(None);
    };
    let device = match links.find(&vxlan.name) {
        Some(device) if device.kind == Some(InfoKind::Vxlan) => device.clone(),
        Some(_) => return Err(NetError::Foreign { name: vxlan.name.clone(), wanted: "VXLAN" }),
        None => {
            tracing::info!(device = vxlan.name, id = vxlan.id, "making the VXLAN to other nodes");
            let message = LinkVxlan::new(&vxlan.name, vxlan.id)
                .port(VXLAN_PORT)
                .local(vxlan.local)
                .learning(false)
                .address(vxlan.mac.to_vec())
                .mtu(wanted.bridge.mtu)
                .build();
            link::made(handle, message, &vxlan.name).await?
        }
    };
    link::up(handle, &device, &vxlan.name).await?;
    link::only_address(handle, addresses, device.index, (vxlan.address, 32)).await?;
    neighbours(handle, device.index, vxlan).await?;
    forwarding(handle, device.index, vxlan).await?;
    Ok(Some(device.index))
}

/// Which hardware address each other end has.
async fn neighbours(handle: &Handle, device: u32, vxlan: &Vxlan) -> Result<(), NetError> {
    let mut there: BTreeMap<Ipv4Addr, (Option<Mac>, NeighbourMessage)> = BTreeMap::new();
    for message in listed(handle, AddressFamily::Inet, device).await? {
        let (to, mac) = facts(&message);
        if let Some(to) = to {
            there.insert(to, (mac, message));
        }
    }
    for (end, (_, message)) in &there {
        let is_permanent = message.header.state == NeighbourState::Permanent;
        if !vxlan.ends.contains_key(end) && is_permanent {
            forget(handle, message.clone()).await?;
        }
    }
    for (address, end) in &vxlan.ends {
        let is_right = there.get(address).is_some_and(|(mac, message)| {
            *mac == Some(end.mac) && message.header.state == NeighbourState::Permanent
        });
        if is_right {
            continue;
        }
        let adding = handle.neighbours().add(device, IpAddr::V4(*address));
        let adding = adding.link_layer_address(&end.mac).state(NeighbourState::Permanent).replace();
        let action = format!("writing down the other end {address}");
        adding.execute().await.map_err(NetError::netlink(action))?;
    }
    Ok(())
}

/// To which node what is meant for a hardware address goes.
async fn forwarding(handle: &Handle, device: u32, vxlan: &Vxlan) -> Result<(), NetError> {
    let wanted: BTreeMap<Mac, Ipv4Addr> =
        vxlan.ends.values().map(|end| (end.mac, end.node)).collect();
    let mut right = Vec::new();
    for message in listed(handle, AddressFamily::Bridge, device).await? {
        let (node, mac) = facts(&message);
        let Some(mac) = mac else { continue };
        if node.is_some() && wanted.get(&mac).copied() == node {
            right.push(mac);
        } else {
            forget(handle, message).await?;
        }
    }
    for (mac, node) in wanted.iter().filter(|(mac, _)| !right.contains(mac)) {
        let adding = handle.neighbours().add_bridge(device, mac);
        let adding = adding.destination(IpAddr::V4(*node)).flags(NeighbourFlags::Own).replace();
        let action = format!("writing down the node {node} of another end");
        adding.execute().await.map_err(NetError::netlink(action))?;
    }
    Ok(())
}

async fn listed(
    handle: &Handle,
    family: AddressFamily,
    device: u32,
) -> Result<Vec<NeighbourMessage>, NetError> {
    let all = handle.neighbours().get().set_address_family(family).execute();
    let all: Vec<_> = all.try_collect().await.map_err(NetError::netlink("listing other ends"))?;
    Ok(all.into_iter().filter(|message| message.header.ifindex == device).collect())
}

fn facts(message: &NeighbourMessage) -> (Option<Ipv4Addr>, Option<Mac>) {
    let (mut to, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(it)) => to = Some(*it),
            NeighbourAttribute::LinkLayerAddress(bytes) => {
                mac = Mac::try_from(bytes.as_slice()).ok();
            }
            _ => {}
        }
    }
    (to, mac)
}

async fn forget(handle: &Handle, message: NeighbourMessage) -> Result<(), NetError> {
    match handle.neighbours().del(message).execute().await {
        Err(error) if is_errno(&error, Errno::ENOENT) => Ok(()),
        outcome => outcome.map_err(NetError::netlink("forgetting another end")),
    }
}

//! Routes to the slices of other nodes, known as ours by their protocol number.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use futures_util::TryStreamExt as _;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope,
};
use nix::errno::Errno;
use orchestrator_core::model::Cidr;
use orchestrator_core::node::{KernelNetwork, NextHop};
use rtnetlink::{Handle, RouteMessageBuilder};

use crate::error::{NetError, is_errno};
use crate::link::Links;

/// Marks our routes; of the numbers that nobody has been given.
pub(crate) const PROTOCOL: RouteProtocol = RouteProtocol::Other(0x6f);
/// Where the first pod of a slice is: after the bridge.
const POD: u32 = 2;
pub(crate) const IP_FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";

/// How a slice is reached, as the kernel has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Way {
    gateway: Option<Ipv4Addr>,
    device: Option<u32>,
    source: Option<Ipv4Addr>,
}

/// The devices that lead to other nodes, by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Devices {
    pub vxlan: Option<u32>,
    pub wireguard: Option<u32>,
}

impl Devices {
    const fn of(self, hop: NextHop) -> Option<u32> {
        match hop {
            NextHop::Direct(_) => None,
            NextHop::WireGuard => self.wireguard,
            NextHop::Vxlan(_) => self.vxlan,
        }
    }

    fn has(self, device: Option<u32>) -> bool {
        device.is_some() && [self.vxlan, self.wireguard].contains(&device)
    }
}

/// Lets the kernel pass packets on between devices.
pub(crate) fn forward_packets() -> Result<(), NetError> {
    let failed = || NetError::io(format!("setting {IP_FORWARD} to 1"));
    let now = std::fs::read_to_string(IP_FORWARD).map_err(failed())?;
    if now.trim() == "1" {
        return Ok(());
    }
    std::fs::write(IP_FORWARD, "1").map_err(failed())
}

/// Makes missing routes, replaces wrong ones, and removes those of ours that are not wanted (any more).
pub(crate) async fn apply(
    handle: &Handle,
    wanted: &KernelNetwork,
    devices: Devices,
) -> Result<(), NetError> {
    let there = ours(handle, wanted.range).await?;
    let source = wanted.bridge.address;
    for (to, (way, message)) in &there {
        let hop = wanted.routes.get(to);
        if !hop.is_some_and(|hop| is_right(way, *hop, devices, source)) {
            forget(handle, *to, message.clone()).await?;
        }
    }
    for (to, hop) in &wanted.routes {
        if there.get(to).is_some_and(|(way, _)| is_right(way, *hop, devices, source)) {
            continue;
        }
        let message = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(to.first(), to.prefix())
            .protocol(PROTOCOL)
            .pref_source(source);
        let message = match (hop, devices.of(*hop)) {
            (NextHop::Direct(node), _) => message.gateway(*node),
            (NextHop::WireGuard, Some(device)) => {
                message.output_interface(device).scope(RouteScope::Link)
            }
            (NextHop::Vxlan(end), Some(device)) => {
                message.gateway(*end).output_interface(device).onlink()
            }
            (NextHop::WireGuard | NextHop::Vxlan(_), None) => continue,
        };
        let outcome = handle.route().add(message.build()).replace().execute().await;
        outcome.map_err(NetError::netlink(format!("making the route to {to}")))?;
    }
    Ok(())
}

/// Asks the kernel where it would send what is for pods of other nodes, and takes no answer but the one device. Others' rules and routes
/// have a say in that, and only the kernel knows them all.
pub(crate) async fn check(
    handle: &Handle,
    links: &Links,
    wanted: &KernelNetwork,
    device: &str,
) -> Result<(), NetError> {
    for slice in wanted.routes.keys() {
        let pod = slice.at(POD).unwrap_or(slice.first());
        let question = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(pod, 32)
            .source_prefix(wanted.bridge.address, 32)
            .build();
        let answers = handle.route().get(question).execute();
        let answers: Vec<RouteMessage> = answers
            .try_collect()
            .await
            .map_err(NetError::netlink(format!("asking for the route to {pod}")))?;
        let interface = answers.iter().flat_map(|it| &it.attributes).find_map(|it| match it {
            RouteAttribute::Oif(index) => links.name(*index),
            _ => None,
        });
        if interface != Some(device) {
            let interface = interface.unwrap_or("?").to_owned();
            return Err(NetError::Astray { pod, interface });
        }
    }
    Ok(())
}

/// Removes all of our routes into a range.
pub(crate) async fn remove(handle: &Handle, range: Cidr) -> Result<(), NetError> {
    for (to, (_, message)) in ours(handle, range).await? {
        forget(handle, to, message).await?;
    }
    Ok(())
}

fn is_right(way: &Way, hop: NextHop, devices: Devices, source: Ipv4Addr) -> bool {
    let (gateway, is_device) = match hop {
        NextHop::Direct(node) => (Some(node), !devices.has(way.device)),
        NextHop::WireGuard => {
            (None, devices.wireguard.is_some() && way.device == devices.wireguard)
        }
        NextHop::Vxlan(end) => (Some(end), devices.vxlan.is_some() && way.device == devices.vxlan),
    };
    way.gateway == gateway && is_device && way.source == Some(source)
}

async fn forget(handle: &Handle, to: Cidr, message: RouteMessage) -> Result<(), NetError> {
    match handle.route().del(message).execute().await {
        Err(error) if is_errno(&error, Errno::ESRCH) => Ok(()),
        outcome => outcome.map_err(NetError::netlink(format!("removing the route to {to}"))),
    }
}

/// Our routes into a range.
async fn ours(
    handle: &Handle,
    range: Cidr,
) -> Result<BTreeMap<Cidr, (Way, RouteMessage)>, NetError> {
    let all = handle.route().get(RouteMessageBuilder::<Ipv4Addr>::new().build()).execute();
    let all: Vec<RouteMessage> =
        all.try_collect().await.map_err(NetError::netlink("listing routes"))?;
    let mut ours = BTreeMap::new();
    for message in all {
        if message.header.protocol != PROTOCOL {
            continue;
        }
        let mut way = Way { gateway: None, device: None, source: None };
        let mut to = None;
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(RouteAddress::Inet(first)) => {
                    to = Some(Cidr::around(*first, message.header.destination_prefix_length));
                }
                RouteAttribute::Gateway(RouteAddress::Inet(node)) => way.gateway = Some(*node),
                RouteAttribute::Oif(device) => way.device = Some(*device),
                RouteAttribute::PrefSource(RouteAddress::Inet(it)) => way.source = Some(*it),
                _ => {}
            }
        }
        if let Some(to) = to.filter(|to| range.covers(*to)) {
            ours.insert(to, (way, message));
        }
    }
    Ok(ours)
}

//! Which addresses a machine uses for something else.

use futures_util::TryStreamExt as _;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use orchestrator_core::model::Cidr;
use rtnetlink::{Handle, RouteMessageBuilder};

use crate::error::NetError;
use crate::link::{self, Address, Links};
use crate::route;

/// The beginnings of the names of devices that are made for pods of any node.
const OURS: [&str; 3] = ["orcb", "orcv", "orcw"];
/// Ranges larger than this say where everything else goes, and not where something is.
const PREFIX_MIN: u8 = 8;

/// Lists the ranges of addresses to which this machine has a way of its own, other than to pods. Needs no rights.
///
/// # Errors
/// When the kernel does not tell.
///
/// # Panics
/// Outside a tokio runtime.
pub async fn ranges_in_use() -> Result<Vec<Cidr>, NetError> {
    let (connection, handle, _) =
        rtnetlink::new_connection().map_err(NetError::io("opening netlink"))?;
    let connection = tokio::spawn(connection);
    let found = of_machine(&handle).await;
    connection.abort();
    found
}

async fn of_machine(handle: &Handle) -> Result<Vec<Cidr>, NetError> {
    let links = Links::read(handle).await?;
    let addresses = link::addresses(handle).await?;
    let mut ranges: Vec<_> =
        addresses.iter().filter(|it| is_others(&links, it.interface)).map(range_of).collect();
    let routes = handle.route().get(RouteMessageBuilder::<std::net::Ipv4Addr>::new().build());
    let routes: Vec<RouteMessage> =
        routes.execute().try_collect().await.map_err(NetError::netlink("listing routes"))?;
    ranges.extend(routes.iter().filter_map(|route| destination(&links, route)));
    ranges.retain(|range| range.prefix() >= PREFIX_MIN);
    ranges.sort();
    ranges.dedup();
    Ok(ranges)
}

/// The range that an address of a device is in.
pub(crate) const fn range_of(address: &Address) -> Cidr {
    Cidr::around(address.address, address.prefix)
}

/// Whether a device is none that was made for pods.
pub(crate) fn is_others(links: &Links, interface: u32) -> bool {
    let name = links.name(interface).unwrap_or_default();
    !OURS.iter().any(|ours| name.starts_with(ours))
}

fn destination(links: &Links, message: &RouteMessage) -> Option<Cidr> {
    let mut range = None;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(first)) => {
                range = Some(Cidr::around(*first, message.header.destination_prefix_length));
            }
            RouteAttribute::Oif(device) if !is_others(links, *device) => return None,
            _ => {}
        }
    }
    range.filter(|_| message.header.protocol != route::PROTOCOL)
}

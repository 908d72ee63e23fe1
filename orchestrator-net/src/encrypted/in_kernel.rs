//! WireGuard in the kernel: its device, made and kept as wanted.

use std::io;

use netlink_packet_route::link::InfoKind;
use nix::errno::Errno;
use orchestrator_core::node::{WIREGUARD_MTU, WIREGUARD_PORT, WireGuard as Wanted};
use rtnetlink::{Handle, LinkUnspec, LinkWireguard};

use super::generic_netlink::GenericNetlink;
use super::key::NodeKey;
use super::settings::Settings;
use crate::error::{NetError, is_errno};
use crate::link::{Device, Links};

/// Makes the device; `None` when this kernel has no WireGuard.
pub(super) async fn make(handle: &Handle, name: &str) -> Result<Option<Device>, NetError> {
    let message = LinkWireguard::new(name).mtu(WIREGUARD_MTU).build();
    match handle.link().add(message).execute().await {
        // Its answer to a kind of device that it does not know, and cannot load either.
        Err(error) if is_errno(&error, Errno::EOPNOTSUPP) => return Ok(None),
        outcome => {
            outcome.map_err(NetError::netlink(format!("making the WireGuard device {name}")))?
        }
    }
    let links = Links::read(handle).await?;
    let gone =
        || NetError::io(format!("looking at interface {name}"))(io::ErrorKind::NotFound.into());
    links.find(name).cloned().map(Some).ok_or_else(gone)
}

/// Whether a device is the kernel's WireGuard.
pub(super) fn is_one(device: &Device) -> bool {
    device.kind == Some(InfoKind::Wireguard)
}

/// Sets the device to what is wanted, and up.
pub(super) async fn set(
    handle: &Handle,
    device: &Device,
    wanted: &Wanted,
    own: &NodeKey,
) -> Result<(), NetError> {
    let failed = NetError::io(format!("setting the WireGuard device {}", wanted.name));
    let (settings, index, own) = (Settings::wanted(own, &wanted.ends).0, device.index, own.clone());
    let work = move || -> io::Result<()> {
        let netlink = GenericNetlink::open()?;
        let found = Settings::found(&netlink.read(index)?);
        found.changes(&settings, &own).into_iter().try_for_each(|it| netlink.write(index, it))
    };
    let outcome = tokio::task::spawn_blocking(work).await.map_err(io::Error::other);
    outcome.and_then(|outcome| outcome).map_err(failed)?;
    if device.is_up {
        return Ok(());
    }
    // Its port is taken when it is set up.
    let message = LinkUnspec::new_with_index(index).up().build();
    let outcome = handle.link().change(message).execute().await;
    outcome.map_err(NetError::netlink(format!(
        "setting the WireGuard device {} up, which listens on UDP port {WIREGUARD_PORT}",
        wanted.name
    )))
}

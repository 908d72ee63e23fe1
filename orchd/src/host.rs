//! This machine: what it is called, and by which address others reach it.

use anyhow::{Context as _, anyhow};

/// The machine's host name, in lower case.
pub fn host_name() -> anyhow::Result<String> {
    let name = nix::unistd::gethostname().context("the machine has no host name")?;
    let name = name.into_string().map_err(|name| anyhow!("the host name {name:?} is no UTF-8"))?;
    Ok(name.to_ascii_lowercase())
}

/// The address of this machine from which a host and port are reached.
pub fn address_towards(authority: &str) -> Option<std::net::IpAddr> {
    // Nothing is sent: the kernel only says which way it would go.
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect(authority).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

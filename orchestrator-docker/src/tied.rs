//! `Tied`: a sandbox that is tied to the network by us, and the same in its labels. Pure.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use orchestrator_core::model::{Cidr, Protocol};
use orchestrator_core::node::PodWire;
use orchestrator_core::runtime::{PortMapping, RuntimeError};

use crate::translate::{
    LABEL_POD_CIDR, LABEL_POD_FILES, LABEL_POD_IP, LABEL_POD_PORTS, Labels, protocol,
};

/// How a sandbox is tied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tied {
    pub(crate) wire: PodWire,
    /// The addresses that its own is of.
    pub(crate) slice: Cidr,
    /// Where the files are that its containers must have.
    pub(crate) files: PathBuf,
}

impl Tied {
    /// What is written to its sandbox, so that another process finds it again.
    pub(crate) fn labels(&self) -> Labels {
        [
            (LABEL_POD_CIDR, self.slice.to_string()),
            (LABEL_POD_FILES, self.files.display().to_string()),
            (LABEL_POD_IP, self.wire.address.to_string()),
            (LABEL_POD_PORTS, ports_text(&self.wire.ports)),
        ]
        .map(|(label, value)| (label.to_owned(), value))
        .into()
    }

    /// Reads it again; `None` for a sandbox whose network is the engine's.
    pub(crate) fn read(labels: &Labels) -> Option<Self> {
        let text = |label: &str| labels.get(label).map(String::as_str);
        Some(Self {
            wire: PodWire {
                address: text(LABEL_POD_IP)?.parse().ok()?,
                ports: ports(text(LABEL_POD_PORTS)?)?,
            },
            slice: text(LABEL_POD_CIDR)?.parse().ok()?,
            files: text(LABEL_POD_FILES)?.into(),
        })
    }
}

/// Refuses ports of addresses that lead to no pod.
pub(crate) fn check(ports: &[PortMapping]) -> Result<(), RuntimeError> {
    let of_ipv6 = |port: &&PortMapping| port.host_ip.is_some_and(|ip| ip.is_ipv6());
    let Some(PortMapping { host_ip: Some(ip), host_port, .. }) = ports.iter().find(of_ipv6) else {
        return Ok(());
    };
    Err(RuntimeError::Invalid {
        message: format!(
            "hostIP {ip} of hostPort {host_port} must be an IPv4 address, or left out for all of the node's"
        ),
    })
}

/// Such as `tcp::8080:80 udp:192.0.2.1:53:53`.
fn ports_text(ports: &[PortMapping]) -> String {
    let mut text = String::new();
    for port in ports {
        let separator = if text.is_empty() { "" } else { " " };
        let (name, ip) = (protocol(port.protocol), port.host_ip);
        let ip = ip.map(|ip| ip.to_string()).unwrap_or_default();
        // Writing to a text cannot fail.
        let _ = write!(text, "{separator}{name}:{ip}:{}:{}", port.host_port, port.container_port);
    }
    text
}

fn ports(text: &str) -> Option<Vec<PortMapping>> {
    text.split_ascii_whitespace().map(port).collect()
}

fn port(text: &str) -> Option<PortMapping> {
    let mut parts = text.split(':');
    let name = parts.next()?;
    let protocol = [Protocol::Sctp, Protocol::Tcp, Protocol::Udp]
        .into_iter()
        .find(|it| protocol(*it) == name)?;
    let host_ip = match parts.next()? {
        "" => None,
        ip => Some(IpAddr::V4(ip.parse::<Ipv4Addr>().ok()?)),
    };
    let (host_port, container_port) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    parts.next().is_none().then_some(PortMapping { host_ip, host_port, container_port, protocol })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tied() -> Tied {
        let port = |host_ip: Option<&str>, host_port, protocol| PortMapping {
            host_ip: host_ip.map(|ip| ip.parse().expect("an address")),
            host_port,
            container_port: 80,
            protocol,
        };
        Tied {
            wire: PodWire {
                address: Ipv4Addr::new(10, 64, 0, 7),
                ports: vec![
                    port(None, 8080, Protocol::Tcp),
                    port(Some("192.0.2.1"), 53, Protocol::Udp),
                ],
            },
            slice: "10.64.0.0/24".parse().expect("a range"),
            files: "/var/lib/orchd-agent/pods/1".into(),
        }
    }

    #[test]
    fn what_is_written_to_labels_is_read_again() {
        let mut without_ports = tied();
        without_ports.wire.ports.clear();
        for tied in [tied(), without_ports] {
            assert_eq!(Tied::read(&tied.labels()), Some(tied));
        }
    }

    #[test]
    fn labels_that_others_have_changed_are_not_believed() {
        assert_eq!(Tied::read(&Labels::new()), None);
        for (label, value) in [
            (LABEL_POD_IP, "10.64.0.256"),
            (LABEL_POD_PORTS, "tcp::70000:80"),
            (LABEL_POD_PORTS, "tcp::80"),
            (LABEL_POD_CIDR, "10.64.0.1/24"),
        ] {
            let mut labels = tied().labels();
            labels.insert(label.to_owned(), value.to_owned());
            assert_eq!(Tied::read(&labels), None, "{label} {value}");
        }
    }

    #[test]
    fn a_port_of_an_address_of_ipv6_is_refused_by_name() {
        let mut ports = tied().wire.ports;
        assert!(check(&ports).is_ok());
        ports[1].host_ip = Some("::1".parse().expect("an address"));
        let error = check(&ports).expect_err("refused").to_string();
        assert!(error.starts_with("hostIP ::1 of hostPort 53 must be an IPv4 address"), "{error}");
    }
}

//! The firewall rules that pods' wires need. Pure.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use orchestrator_core::model::Cidr;
use orchestrator_core::node::{KernelNetwork, PodWire};
use orchestrator_core::runtime::PortMapping;

use crate::nft::{Chain, Family, Hook, Match, Rule, Table, Verdict};
use crate::rules::chain;

/// Addresses that mean the machine itself and nobody else.
const LOOPBACK: Cidr = Cidr::around(Ipv4Addr::LOCALHOST, 8);

/// The name of the table with the guards.
pub(super) fn guards(network: &KernelNetwork) -> (Family, String) {
    (Family::Device, format!("orchestrator-{}-guard", network.mark))
}

/// A table with the guards of pods: a chain for each, at the node's end of its wire.
pub(super) fn guard<'a>(
    network: &KernelNetwork,
    pods: impl IntoIterator<Item = &'a PodWire>,
) -> Table {
    let (family, name) = guards(network);
    let chains = pods.into_iter().map(|pod| guarded(&network.wire(pod.address), pod));
    Table { family, name, chains: chains.collect() }
}

/// Drops what does not come from the pod's own addresses.
fn guarded(device: &str, pod: &PodWire) -> Chain {
    let dropped = |one| Rule { matches: vec![one], verdict: Verdict::Drop };
    let rules = vec![
        dropped(Match::FromOtherMac(pod.mac())),
        dropped(Match::FromOther(pod.address)),
        dropped(Match::AskedByOther(pod.address)),
        dropped(Match::NotIpv4),
    ];
    chain(device, Hook::FromDevice(device.to_owned()), rules)
}

/// The table that leads ports of the node to pods; without chains when no pod has any.
pub(super) fn ports(network: &KernelNetwork, pods: &BTreeMap<Ipv4Addr, PodWire>) -> Table {
    let (family, name) = (Family::Ipv4, format!("orchestrator-{}-ports", network.mark));
    let ways = pods.values().flat_map(|pod| pod.ports.iter().filter_map(|port| way(pod, port)));
    let ways: Vec<_> = ways.collect();
    if ways.is_empty() {
        return Table { family, name, chains: Vec::new() };
    }
    let bridge = &network.bridge.name;
    let rule = |matches, verdict| Rule { matches, verdict };
    let out = || Match::Out(bridge.clone());
    // Answers must come back through the node, which knows what it has redirected.
    let back = vec![
        rule(vec![Match::From(LOOPBACK), out()], Verdict::Masquerade),
        rule(vec![Match::From(network.slice), out(), Match::Redirected], Verdict::Masquerade),
    ];
    // The kernel is told to take these addresses from the bridge, for such answers alone.
    let closed = rule(vec![Match::In(bridge.clone()), Match::To(LOOPBACK)], Verdict::Drop);
    let chains = vec![
        chain("loopback", Hook::ArrivingFirst, vec![closed]),
        chain("ports", Hook::Meant, ways.clone()),
        chain("ports-own", Hook::MeantByUs, ways),
        chain("ports-back", Hook::LeavingFirst, back),
    ];
    Table { family, name, chains }
}

/// From a port of the node to that of the pod; `None` for ports of addresses that are none of IPv4.
fn way(pod: &PodWire, port: &PortMapping) -> Option<Rule> {
    let to = match port.host_ip {
        None => Match::ToMachine,
        Some(IpAddr::V4(address)) if address.is_unspecified() => Match::ToMachine,
        Some(IpAddr::V4(address)) => Match::To(Cidr::around(address, 32)),
        Some(IpAddr::V6(_)) => return None,
    };
    let matches = vec![to, Match::ToPort(port.protocol, port.host_port)];
    Some(Rule { matches, verdict: Verdict::Redirect(pod.address, port.container_port) })
}

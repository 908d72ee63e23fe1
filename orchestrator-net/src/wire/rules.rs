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

#[cfg(test)]
mod tests {
    use orchestrator_core::model::Protocol;

    use super::*;
    use crate::nft::packet::Packet;
    use crate::rules::tests::network;

    const DROPPED: Option<Verdict> = Some(Verdict::Drop);

    fn pod(address: &str, ports: &[(Option<&str>, u16)]) -> PodWire {
        let port = |&(ip, host_port): &(Option<&str>, u16)| PortMapping {
            host_ip: ip.map(|ip| ip.parse().expect("an address")),
            host_port,
            container_port: 80,
            protocol: Protocol::Tcp,
        };
        let ports = ports.iter().map(port).collect();
        PodWire { address: address.parse().expect("an address"), ports }
    }

    fn ports_of(pods: &[PodWire]) -> Table {
        ports(&network(false), &pods.iter().map(|pod| (pod.address, pod.clone())).collect())
    }

    #[test]
    fn a_pod_sends_from_its_own_addresses_and_no_others() {
        let (network, pod) = (network(false), pod("10.64.1.5", &[]));
        let (other, table) = (self::pod("10.64.1.6", &[]), guard(&network, [&pod]));
        let out_of = |packet: Packet, wire: &PodWire| {
            packet.at(&Hook::FromDevice(network.wire(wire.address)), &table)
        };
        let sent = |from: &str, from_mac| {
            let packet = Packet { from_mac, ..Packet::new(from, "10.64.1.1") };
            out_of(packet, &pod)
        };
        assert_eq!(sent("10.64.1.5", pod.mac()), None);
        assert_eq!(sent("10.64.1.6", pod.mac()), DROPPED, "another pod's address");
        assert_eq!(sent("192.0.2.1", pod.mac()), DROPPED, "the node's address");
        assert_eq!(sent("10.64.1.5", other.mac()), DROPPED, "another pod's hardware address");
        let rules: Vec<_> = table.chains.iter().flat_map(|chain| &chain.rules).collect();
        for what in [Match::AskedByOther(pod.address), Match::NotIpv4] {
            let rule = Rule { matches: vec![what], verdict: Verdict::Drop };
            assert!(rules.contains(&&rule), "{rule}");
        }
    }

    #[test]
    fn a_port_of_the_node_leads_to_its_pod_and_to_no_other_port_or_address() {
        let pods = [
            pod("10.64.1.5", &[(None, 8080)]),
            pod("10.64.1.6", &[(Some("192.0.2.1"), 9090), (Some("0.0.0.0"), 53)]),
        ];
        let table = ports_of(&pods);
        let meant = |to: &str, port, is_to_machine| {
            let packet = Packet::new("198.51.100.1", to);
            let packet = Packet { port: (Protocol::Tcp, port), is_to_machine, ..packet };
            let found = packet.at(&Hook::Meant, &table);
            assert_eq!(packet.at(&Hook::MeantByUs, &table), found, "the node itself is no other");
            found
        };
        let to = |pod: &PodWire| Some(Verdict::Redirect(pod.address, 80));
        assert_eq!(meant("192.0.2.1", 8080, true), to(&pods[0]));
        assert_eq!(meant("192.0.2.99", 8080, false), None, "another machine's port");
        assert_eq!(meant("192.0.2.1", 8081, true), None);
        assert_eq!(meant("192.0.2.1", 9090, true), to(&pods[1]));
        assert_eq!(meant("192.0.2.7", 9090, true), None, "another address of the node");
        assert_eq!(meant("192.0.2.7", 53, true), to(&pods[1]));
        let packet = Packet::new("198.51.100.1", "192.0.2.1");
        let udp = Packet { port: (Protocol::Udp, 8080), is_to_machine: true, ..packet };
        assert_eq!(udp.at(&Hook::Meant, &table), None);
    }

    #[test]
    fn answers_of_ports_come_back_through_the_node_and_its_loopback_is_closed_to_pods() {
        let bridge: &'static str = network(false).bridge.name.leak();
        let table = ports_of(&[pod("10.64.1.5", &[(None, 8080)])]);
        let back = |from: &str, is_redirected| {
            let packet = Packet::new(from, "10.64.1.5");
            let packet = Packet { output: bridge, is_redirected, ..packet };
            packet.at(&Hook::LeavingFirst, &table)
        };
        assert_eq!(back("127.0.0.1", true), Some(Verdict::Masquerade));
        assert_eq!(back("10.64.1.6", true), Some(Verdict::Masquerade), "from a pod of the node");
        assert_eq!(back("10.64.1.6", false), None, "pods see each other's own addresses");
        assert_eq!(back("198.51.100.1", true), None, "and those of who is outside");
        let arriving = |input| {
            let packet = Packet { input, ..Packet::new("10.64.1.5", "127.0.0.1") };
            packet.at(&Hook::ArrivingFirst, &table)
        };
        assert_eq!(arriving(bridge), DROPPED);
        assert_eq!(arriving("lo"), None);
        assert!(ports_of(&[pod("10.64.1.5", &[])]).chains.is_empty(), "nothing without ports");
    }
}

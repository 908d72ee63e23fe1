//! Pods' wires: tied, guarded, repaired, and taken away.

use std::net::{IpAddr, Ipv4Addr};
use std::process::{Child, Command, Stdio};

use orchestrator_core::model::Protocol;
use orchestrator_core::node::{NodeNetwork, PlumbingError, PodWire};
use orchestrator_core::runtime::PortMapping;

use crate::machine::{Machine, network};

const NODE: (&str, &str) = ("192.0.2.1", "10.64.0.0/24");
const WEB: u16 = 8080;

/// A node with a neighbour that is no node.
fn node() -> (Machine, Machine, NodeNetwork) {
    let (node, other) = (Machine::new(), Machine::new());
    node.join("eth0", "192.0.2.1/24", &other, "192.0.2.9/24");
    (node, other, network(NODE, &[]))
}

/// Has a node drop what it does not know, as a container engine does.
fn firewall(node: &Machine) {
    for rule in ["-P FORWARD DROP", "-N DOCKER-USER", "-I FORWARD -j DOCKER-USER"] {
        node.sh(&format!("iptables {rule}")).expect("iptables");
    }
}

/// A pod, not tied yet.
fn pod(host: u8, ports: &[PortMapping]) -> (Machine, PodWire) {
    let pod = Machine::new();
    pod.ip("link set lo down");
    (pod, PodWire { address: Ipv4Addr::new(10, 64, 0, host), ports: ports.to_vec() })
}

fn port(host_ip: Option<&str>, host_port: u16) -> PortMapping {
    let host_ip = host_ip.map(|ip| IpAddr::V4(ip.parse().expect("an address")));
    PortMapping { host_ip, host_port, container_port: WEB, protocol: Protocol::Tcp }
}

/// Serves a word at the port of pods.
fn serve(pod: &Machine) -> Killed {
    Killed(pod.run(move || {
        let mut command = Command::new("busybox");
        command.args(["nc", "-ll", "-p", &WEB.to_string(), "-e", "echo", "HTTP"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().expect("busybox")
    }))
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether the word is served at an address; the server may not be there yet.
fn is_served(from: &Machine, address: &str, port: u16) -> bool {
    (0..20).any(|_| {
        let told = from.sh(&format!("busybox nc -w 2 {address} {port}"));
        told.is_ok_and(|told| told.contains("HTTP")) || {
            std::thread::sleep(std::time::Duration::from_millis(20));
            false
        }
    })
}

#[test]
fn a_tied_pod_reaches_its_node_other_pods_and_the_outside_by_its_own_address_and_that_again_changes_nothing()
 {
    let (node, other, network) = node();
    firewall(&node);
    let ((one, first), (two, second)) = (pod(2, &[]), pod(3, &[]));
    let pods = [(first.clone(), one.tid), (second.clone(), two.tid)];
    node.wire("a", &network, &pods).expect("tied");
    for address in [Ipv4Addr::new(10, 64, 0, 1), second.address, Ipv4Addr::LOCALHOST] {
        assert!(one.reaches(address), "{address}: {:?}", node.state());
    }
    assert!(one.reaches(Ipv4Addr::new(192, 0, 2, 9)), "what leaves has the node's address");
    assert!(node.reaches(first.address), "the node reaches it too");
    let large = one.sh(&format!("busybox ping -c 1 -W 3 -s 1422 {}", second.address));
    assert!(large.is_ok(), "a full packet passes whole: {large:?}");
    let (before, inside) = (node.state(), one.state());
    node.wire("a", &network, &pods).expect("tied again");
    assert_eq!(node.state(), before);
    assert_eq!(one.state(), inside);
    let (from, to) = (first.address, Ipv4Addr::new(10, 64, 0, 1));
    other.ip("route add 10.64.0.0/24 via 192.0.2.1");
    assert!(other.reaches(to) && !other.reaches(from), "nobody outside is let in");
}

#[test]
fn f45_wires_that_others_have_harmed_are_put_back() {
    let (node, _other, network) = node();
    let ((one, first), (two, second)) = (pod(2, &[port(None, 80)]), pod(3, &[]));
    let pods = [(first.clone(), one.tid), (second.clone(), two.tid)];
    node.wire("a", &network, &pods).expect("tied");
    // In which order the pods' guards are does not matter.
    let state = || {
        let mut lines = node.state();
        lines.sort();
        lines
    };
    let before = state();
    let wires = node.ip("-o link show type veth");
    let wire = wires.split([' ', '@']).find(|word| word.ends_with("002")).expect("the first pod's");
    let bridges = node.ip("-o link show type bridge");
    let bridge = bridges.split([' ', ':']).find(|word| word.starts_with("orcb")).expect("one");
    for harm in [
        format!("ip link set {wire} nomaster"),
        format!("ip link set {wire} down"),
        format!("ip link set {wire} mtu 1300"),
        format!("ip link del {wire}"),
        format!("ip link del {bridge}"),
        "nft flush ruleset".to_owned(),
        format!("nft flush chain netdev orchestrator-{}-guard {wire}", &bridge[4..]),
    ] {
        node.sh(&harm).expect("done");
        assert_ne!(state(), before, "{harm} is a harm");
        node.wire("a", &network, &pods).expect("tied again");
        assert_eq!(state(), before, "after {harm}");
        assert!(one.reaches(second.address), "after {harm}");
    }
}

#[test]
fn a_pod_sends_nothing_but_from_its_own_addresses() {
    let (node, _other, network) = node();
    let ((one, first), (two, second), (three, third)) = (pod(2, &[]), pod(3, &[]), pod(4, &[]));
    let pods = [(first.clone(), one.tid), (second.clone(), two.tid), (third.clone(), three.tid)];
    node.wire("a", &network, &pods).expect("tied");
    assert!(one.reaches(second.address));
    // All that could hide it from the victim is taken away: it is told who has the address.
    let victim = &two;
    let seen = |what: &str| {
        victim.sh("nft flush ruleset").expect("done");
        for line in [
            "add table netdev seen".to_owned(),
            "add chain netdev seen in { type filter hook ingress device eth0 priority 0 ; }"
                .to_owned(),
            format!("add rule netdev seen in {what} counter"),
        ] {
            victim.sh(&format!("nft {line}")).expect("counting");
        }
    };
    let counted = || {
        let told = victim.sh("nft list ruleset").expect("told");
        let packets = told.split("packets ").nth(1).and_then(|it| it.split(' ').next());
        packets.and_then(|it| it.parse::<u32>().ok()).expect("a number")
    };
    seen(&format!("ip saddr {}", first.address));
    assert!(one.reaches(second.address));
    assert_ne!(counted(), 0, "what is counted is seen");

    one.ip(&format!("address add {}/24 dev eth0", third.address));
    seen(&format!("ip saddr {}", third.address));
    let forged = one.sh(&format!("busybox ping -c 2 -W 1 -I {} {}", third.address, second.address));
    assert!(forged.is_err(), "{forged:?}");
    assert_eq!(counted(), 0, "of another pod's address");

    seen(&format!("arp saddr ip {}", third.address));
    let _ = one
        .sh(&format!("busybox arping -c 2 -w 2 -U -I eth0 -s {} {}", third.address, third.address));
    assert_eq!(counted(), 0, "that another pod's address is here");

    let [a, b, c, d, e, f] = third.mac();
    let theirs = format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}");
    one.ip(&format!("link set eth0 address {theirs}"));
    seen(&format!("ether saddr {theirs}"));
    assert!(!one.reaches(second.address));
    assert_eq!(counted(), 0, "of another pod's hardware address");
    assert!(three.reaches(second.address), "and the other pod is not harmed");
}

#[test]
fn ports_of_the_node_lead_to_the_pod_from_everywhere() {
    let (node, other, network) = node();
    firewall(&node);
    let ports = [port(None, 80), port(Some("192.0.2.1"), 81), port(Some("127.0.0.1"), 82)];
    let ((one, first), (two, second)) = (pod(2, &ports), pod(3, &[]));
    let pods = [(first, one.tid), (second, two.tid)];
    node.wire("a", &network, &pods).expect("tied");
    let _serving = serve(&one);
    for (from, who) in [(&node, "the node"), (&other, "outside"), (&two, "a pod"), (&one, "itself")]
    {
        assert!(is_served(from, "192.0.2.1", 80), "{who}\n{:?}", node.state());
        assert!(is_served(from, "192.0.2.1", 81), "{who}");
    }
    assert!(is_served(&node, "127.0.0.1", 80) && is_served(&node, "127.0.0.1", 82));
    assert!(node.sh("busybox nc -w 1 127.0.0.1 81").is_err());

    // Without ports nothing of it is left.
    let pods = pods.map(|(pod, tid)| (PodWire { ports: Vec::new(), ..pod }, tid));
    node.wire("a", &network, &pods).expect("tied");
    assert!(!node.state().iter().any(|line| line.contains("-ports")), "{:?}", node.state());
}

#[test]
fn a_port_or_an_address_that_another_has_is_refused_and_the_other_keeps_it() {
    let (node, _other, network) = node();
    let ((one, first), (two, second)) = (pod(2, &[port(None, 80)]), pod(2, &[]));
    node.wire("a", &network, &[(first.clone(), one.tid)]).expect("tied");
    let refused = node.wire_new("a", &network, &first, (second, two.tid));
    assert!(matches!(refused, Err(PlumbingError::AddressTaken { .. })), "{refused:?}");
    assert!(node.reaches(first.address));

    let (three, third) = pod(3, &[port(None, 80)]);
    let refused = node.wire_new("a", &network, &first, (third, three.tid));
    assert!(matches!(refused, Err(PlumbingError::PortTaken { port: 80, .. })), "{refused:?}");
    let _listening = node.run(|| std::net::TcpListener::bind("0.0.0.0:81").expect("free"));
    let (four, fourth) = pod(4, &[port(None, 81)]);
    let refused = node.wire_new("a", &network, &first, (fourth, four.tid));
    assert!(matches!(refused, Err(PlumbingError::PortTaken { port: 81, .. })), "{refused:?}");
}

#[test]
fn l12_of_pods_that_are_gone_nothing_is_left_and_of_the_node_neither() {
    let (node, _other, network) = node();
    let bare = node.state();
    node.wire("a", &network, &[]).expect("applied");
    let before = node.state();
    let (one, first) = pod(2, &[port(None, 80)]);
    node.wire("a", &network, &[(first.clone(), one.tid)]).expect("tied");
    assert_ne!(node.state(), before);
    node.unwire("a", &network, &first).expect("untied");
    assert_eq!(node.state(), before);

    node.wire("a", &network, &[(first.clone(), one.tid)]).expect("tied");
    drop(one);
    node.wire("a", &network, &[]).expect("looked");
    assert_eq!(node.state(), before, "of one that went by itself");

    let (two, _) = pod(2, &[]);
    node.wire("a", &network, &[(first, two.tid)]).expect("tied");
    node.remove("a", &network).expect("removed");
    assert_eq!(node.state(), bare);
}

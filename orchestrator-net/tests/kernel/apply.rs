//! Applying, repairing and removing.

use orchestrator_core::node::NodeNetwork;

use crate::machine::{Machine, network};

const A: (&str, &str) = ("192.0.2.1", "10.64.0.0/24");
const B: (&str, &str) = ("192.0.2.2", "10.64.1.0/24");
const FAR: (&str, &str) = ("198.51.100.9", "10.64.1.0/24");

/// Two nodes on one link.
fn neighbours() -> [(Machine, NodeNetwork); 2] {
    let (a, b) = (Machine::new(), Machine::new());
    a.join("eth0", "192.0.2.1/24", &b, "192.0.2.2/24");
    let networks = [network(A, &[("b", B.0, B.1)]), network(B, &[("a", A.0, A.1)])];
    let [of_a, of_b] = networks;
    [(a, of_a), (b, of_b)]
}

/// Two nodes with a router between them that knows nothing of pods.
fn strangers() -> ([(Machine, NodeNetwork); 2], Machine) {
    let (a, b, router) = (Machine::new(), Machine::new(), Machine::new());
    a.join("eth0", "192.0.2.1/24", &router, "192.0.2.254/24");
    b.join("eth1", "198.51.100.9/24", &router, "198.51.100.254/24");
    router.sh("sysctl -qw net.ipv4.ip_forward=1").expect("a router");
    a.ip("route add default via 192.0.2.254");
    b.ip("route add default via 198.51.100.254");
    let networks = [network(A, &[("b", FAR.0, FAR.1)]), network(FAR, &[("a", A.0, A.1)])];
    let [of_a, of_b] = networks;
    ([(a, of_a), (b, of_b)], router)
}

fn apply_both(nodes: &[(Machine, NodeNetwork); 2]) {
    for ((machine, network), name) in nodes.iter().zip(["a", "b"]) {
        machine.apply(name, network).expect("applied");
    }
}

#[test]
fn pods_on_one_link_reach_each_other_by_plain_routes_with_their_own_addresses() {
    let nodes = neighbours();
    apply_both(&nodes);
    let [(a, of_a), (b, of_b)] = &nodes;
    let ((one, _), (_two, two_address)) = (a.pod(of_a, 2), b.pod(of_b, 2));
    assert!(one.reaches(two_address), "{:?}\n{:?}", a.state(), b.state());
    assert!(a.reaches(two_address), "the node itself reaches it too");
    assert!(a.ip("-o link show type vxlan").is_empty());
    assert!(a.ip("route show 10.64.1.0/24").contains("via 192.0.2.2"));
}

#[test]
fn pods_behind_a_router_reach_each_other_through_a_vxlan() {
    let (nodes, _router) = strangers();
    apply_both(&nodes);
    let [(a, of_a), (b, of_b)] = &nodes;
    let ((one, _), (_two, two_address)) = (a.pod(of_a, 2), b.pod(of_b, 2));
    assert!(one.reaches(two_address), "{:?}\n{:?}", a.state(), b.state());
    assert!(a.reaches(two_address), "the node itself reaches it too");
    let large = one.sh(&format!("busybox ping -c 1 -W 3 -s 1422 {two_address}"));
    assert!(large.is_ok(), "a full packet passes whole: {large:?}");
}

#[test]
fn applying_again_changes_nothing_and_removing_leaves_nothing() {
    let (nodes, _router) = strangers();
    let [(a, of_a), _] = &nodes;
    let before = a.state();
    a.apply("a", of_a).expect("applied");
    let applied = a.state();
    assert_ne!(before, applied);
    a.apply("a", of_a).expect("applied again");
    assert_eq!(a.state(), applied);
    a.remove("a", of_a).expect("removed");
    assert_eq!(a.state(), before);
    a.remove("a", of_a).expect("removed again");
}

#[test]
fn f45_what_somebody_else_removes_is_put_back_and_what_is_theirs_stays() {
    let (nodes, _router) = strangers();
    let [(a, of_a), _] = &nodes;
    a.ip("route add 203.0.113.0/24 via 192.0.2.254");
    a.sh("nft add table ip theirs").expect("a table");
    a.apply("a", of_a).expect("applied");
    let applied = a.state();
    let device = |kind: &str| {
        let links = a.ip(&format!("-o link show type {kind}"));
        links.split(": ").nth(1).expect("a device").to_owned()
    };
    let (bridge, vxlan) = (device("bridge"), device("vxlan"));
    let table = applied
        .iter()
        .find_map(|line| line.split_whitespace().find(|it| it.starts_with("orchestrator-")));
    let table = table.expect("ours");
    for harm in [
        format!("ip link del {bridge}"),
        format!("ip link del {vxlan}"),
        format!("ip link set {vxlan} down"),
        format!("ip address flush dev {bridge}"),
        format!("ip route del {}", FAR.1),
        format!("ip neigh flush dev {vxlan} nud permanent"),
        format!("bridge fdb del 0a:58:0a:40:01:00 dev {vxlan}"),
        format!("nft delete table ip {table}"),
        format!("nft flush table ip {table}"),
        "sysctl -qw net.ipv4.ip_forward=0".to_owned(),
    ] {
        a.sh(&harm).unwrap_or_else(|error| panic!("{harm}: {error}"));
        a.apply("a", of_a).unwrap_or_else(|error| panic!("after {harm}: {error}"));
        assert_eq!(a.state(), applied, "after {harm}");
        let forward = a.sh("sysctl -n net.ipv4.ip_forward").expect("it is told");
        assert_eq!(forward.trim(), "1", "after {harm}");
    }
    for theirs in ["203.0.113.0/24 via", "table ip theirs"] {
        assert!(a.state().iter().any(|line| line.starts_with(theirs)), "{theirs}");
    }
}

#[test]
fn a_firewall_that_drops_what_it_does_not_know_lets_pods_through() {
    let nodes = neighbours();
    let [(a, of_a), (b, of_b)] = &nodes;
    for machine in [a, b] {
        machine.sh("iptables -P FORWARD DROP").expect("iptables");
        machine.sh("iptables -N DOCKER-USER").expect("iptables");
        machine.sh("iptables -A DOCKER-USER -j RETURN").expect("iptables");
        machine.sh("iptables -I FORWARD -j DOCKER-USER").expect("iptables");
    }
    apply_both(&nodes);
    let ((one, _), (_two, two_address)) = (a.pod(of_a, 2), b.pod(of_b, 2));
    assert!(one.reaches(two_address), "{:?}", a.state());
    let listed = a.sh("iptables -S DOCKER-USER").expect("iptables understands the rules");
    assert_eq!(listed.matches("-j ACCEPT").count(), 3, "{listed}");
    b.sh("iptables -F").expect("iptables");
    assert!(!one.reaches(two_address), "the rules were needed");
    b.sh("iptables -I FORWARD -j DOCKER-USER").expect("iptables");
    apply_both(&nodes);
    assert!(one.reaches(two_address), "put back");
    a.remove("a", of_a).expect("removed");
    let left = a.sh("iptables -S").expect("iptables");
    assert!(left.contains("-A DOCKER-USER -j RETURN") && !left.contains("ACCEPT\n-A"), "{left}");
    assert_eq!(left.matches("-j ACCEPT").count(), 0, "{left}");
}

#[test]
fn l12_a_hundred_nodes_that_come_and_go_leave_nothing() {
    let a = Machine::new();
    let other = Machine::new();
    a.join("eth0", "192.0.2.1/24", &other, "192.0.2.2/24");
    a.ip("route add default via 192.0.2.2");
    a.apply("a", &network(A, &[])).expect("applied");
    let before = a.state();
    for number in 0..100 {
        let slice = format!("10.64.{}.0/24", number + 1);
        let address = match number % 2 {
            0 => format!("192.0.2.{}", number + 10),
            _ => format!("198.51.100.{}", number + 10),
        };
        a.apply("a", &network(A, &[("b", &address, &slice)])).expect("applied");
        a.apply("a", &network(A, &[])).expect("applied");
    }
    assert_eq!(a.state(), before);
}

#[test]
fn a_slice_that_another_device_has_is_refused_and_nothing_is_made() {
    let a = Machine::new();
    let other = Machine::new();
    a.join("eth0", "10.64.0.77/24", &other, "10.64.0.78/24");
    let before = a.state();
    let error = a.apply("a", &network(A, &[])).expect_err("it overlaps");
    assert!(error.contains("eth0") && error.contains("10.64.0.0/24"), "{error}");
    assert_eq!(a.state(), before);
}

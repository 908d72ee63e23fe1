//! What holds of encrypted traffic between two nodes, wherever their WireGuards run: each of these is a test of its own here, with
//! what this machine's kernel has, and in a guest whose kernel has WireGuard.

use crate::machine::Machine;
use crate::node::{CANARY, Capture, Node};

/// Has pods talk in clear, so that it is seen that whoever reads along can read; then turns encryption on.
pub fn nothing_is_read_by_who_reads_along((mut a, mut b): (Node, Node), wire: &Machine) {
    for node in [&mut a, &mut b] {
        node.network.encrypted = false;
        node.begin();
    }
    let capture = Capture::of(wire);
    assert!(a.talks_with(&b));
    let (_, clear) = capture.seen();
    assert!(clear >= 2, "{CANARY:?} can be read");
    for node in [&mut a, &mut b] {
        node.network.encrypted = true;
        node.apply().expect("applied");
    }
    let capture = Capture::of(wire);
    assert!(
        a.talks_with(&b) && b.talks_with(&a),
        "{:?}\n{:?}",
        a.machine.state(),
        b.machine.state()
    );
    let (all, clear) = capture.seen();
    assert!(all > 0);
    assert_eq!(clear, 0, "of {all} packets");
    for node in [&mut a, &mut b] {
        node.network.encrypted = false;
        node.apply().expect("applied");
        assert_eq!(node.wireguards(), Vec::<&str>::new(), "it goes when it is not wanted any more");
    }
    assert!(a.talks_with(&b), "in clear again");
}

/// A node that is no more is neither sent to nor heard, and is when it is back.
pub fn a_node_that_leaves_is_cut_off_and_one_that_comes_is_not(
    (mut a, mut b): (Node, Node),
    wire: &Machine,
) {
    a.begin();
    b.begin();
    assert!(a.talks_with(&b));
    let peers = std::mem::take(&mut a.network.peers);
    a.apply().expect("applied");
    let capture = Capture::of(wire);
    assert!(a.is_cut_off_from(&b));
    assert_eq!(capture.seen().1, 0, "nothing passed in clear");
    a.network.peers = peers;
    a.apply().expect("applied");
    assert!(a.talks_with(&b));
}

/// A node with another key is the old one no longer: who knows only its old key does not reach it.
pub fn a_node_with_a_new_key_is_reached_by_who_knows_it(
    (mut a, mut b): (Node, Node),
    wire: &Machine,
) {
    a.begin();
    b.begin();
    assert!(a.talks_with(&b));
    b.end_agent();
    b.key = orchestrator_net::NodeKey::generate().expect("randomness");
    b.apply().expect("applied");
    let capture = Capture::of(wire);
    assert!(a.is_cut_off_from(&b));
    a.know(&b);
    a.apply().expect("applied");
    assert!(a.talks_with(&b));
    assert_eq!(capture.seen().1, 0, "nothing passed in clear");
}

/// F45: what somebody else removes or changes is put back, and nothing passes in clear meanwhile.
pub fn f45_what_somebody_removes_is_put_back((mut a, mut b): (Node, Node), wire: &Machine) {
    a.begin();
    b.begin();
    assert!(a.talks_with(&b));
    let applied = a.machine.state();
    let device = a.wireguard();
    let table = applied
        .iter()
        .find_map(|line| line.split_whitespace().find(|it| it.starts_with("orchestrator-")));
    let table = table.expect("ours").to_owned();
    let capture = Capture::of(wire);
    for harm in [
        format!("ip link del {device}"),
        format!("ip link set {device} down"),
        format!("ip route del {}", b.network.slice),
    ] {
        a.machine.sh(&harm).unwrap_or_else(|error| panic!("{harm}: {error}"));
        assert!(a.is_not_heard_by(&b), "{harm} is a harm");
        a.apply().unwrap_or_else(|error| panic!("after {harm}: {error}"));
        assert_eq!(a.machine.state(), applied, "after {harm}");
        assert!(a.talks_with(&b), "after {harm}");
    }
    a.machine.sh(&format!("nft delete table ip {table}")).expect("deleted");
    a.apply().expect("applied");
    assert_eq!(a.machine.state(), applied);
    assert!(a.talks_with(&b));
    assert_eq!(capture.seen().1, 0, "nothing passed in clear");
}

/// What others' routes lead away from WireGuard is told, and dropped, and passes again when they are gone.
pub fn what_would_go_another_way_is_told_and_dropped((mut a, mut b): (Node, Node), wire: &Machine) {
    a.begin();
    b.begin();
    assert!(a.talks_with(&b));
    let capture = Capture::of(wire);
    a.machine.ip("route add 10.64.1.0/25 via 192.0.2.2");
    let error = a.apply().expect_err("another way");
    assert!(error.contains("eth0") && error.contains("10.64.1.2"), "{error}");
    assert!(a.is_not_heard_by(&b));
    a.machine.ip("route del 10.64.1.0/25 via 192.0.2.2");
    a.apply().expect("applied");
    assert!(a.talks_with(&b));
    assert_eq!(capture.seen().1, 0, "nothing passed in clear");
}

/// L12: done again nothing is changed, and in the end nothing is left.
pub fn l12_nothing_is_left_and_nothing_is_done_twice(
    (mut a, mut b): (Node, Node),
    _wire: &Machine,
) {
    let before = a.machine.state();
    a.apply().expect("applied");
    let applied = a.machine.state();
    assert_ne!(applied, before);
    a.apply().expect("applied again");
    assert_eq!(a.machine.state(), applied);
    b.begin();
    for number in 0..20 {
        let slice = format!("10.65.{number}.0/24").parse().expect("a range");
        let mut other = a.network.peers[0].clone();
        other.key = Some(orchestrator_net::NodeKey::generate().expect("randomness").public_text());
        (other.slice, other.address) = (slice, [192, 0, 2, 100 + number].into());
        a.network.peers.push(other);
        a.apply().expect("one more");
        a.network.peers.pop();
        a.apply().expect("one less");
    }
    assert_eq!(a.machine.state(), applied);
    a.begin();
    assert!(a.talks_with(&b), "who stayed is reached all the same");
    a.remove();
    let left = a.machine.state();
    assert!(
        left.iter().all(|line| !line.contains("orcw") && !line.contains("10.64.1.")),
        "{left:#?}"
    );
    assert_eq!(a.wireguards(), Vec::<&str>::new());
}

/// Each of the above, as tests: of nodes as a function makes them.
#[macro_export]
macro_rules! encrypted_tests {
    ($run:path: $($name:ident)*) => {
        $(#[test]
        fn $name() {
            $run(|| {
                let (a, b, wire) = $crate::node::Node::two();
                $crate::encrypted::$name((a, b), &wire);
            });
        })*
    };
    ($run:path) => {
        $crate::encrypted_tests! { $run:
            nothing_is_read_by_who_reads_along
            what_would_go_another_way_is_told_and_dropped
            a_node_that_leaves_is_cut_off_and_one_that_comes_is_not
            a_node_with_a_new_key_is_reached_by_who_knows_it
            f45_what_somebody_removes_is_put_back
            l12_nothing_is_left_and_nothing_is_done_twice
        }
    };
}

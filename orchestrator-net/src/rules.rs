//! The firewall rules that pods' traffic needs. Pure.
//!
//! A table of our own turns what leaves the cluster into the node's own traffic. A second set lets pods' traffic between nodes pass
//! where somebody else (a container engine, mostly) drops what it does not know: a drop elsewhere cannot be undone by a table of
//! one's own.

use orchestrator_core::node::KernelNetwork;

use crate::nft::{Admission, Chain, Family, Hook, Match, Rule, Table, Verdict};

/// The table of a node.
pub(crate) fn table(wanted: &KernelNetwork) -> Table {
    let leaves = Rule {
        matches: vec![
            Match::From(wanted.slice),
            Match::NotTo(wanted.range),
            Match::NotOut(wanted.bridge.name.clone()),
        ],
        verdict: Verdict::Masquerade,
    };
    let mut chains = vec![chain("leaving", Hook::LeavingFirst, vec![leaves])];
    if wanted.wireguard.is_some() {
        chains.extend(nothing_in_clear(wanted));
    }
    Table { family: Family::Ipv4, name: format!("orchestrator-{}", wanted.mark), chains }
}

/// What is for pods leaves through WireGuard or stays on the machine, and comes no other way, whatever becomes of routes.
fn nothing_in_clear(wanted: &KernelNetwork) -> [Chain; 2] {
    let mut out = vec![Match::To(wanted.range)];
    out.extend(INSIDE.map(Match::NotOutAny));
    let mut arrived = vec![Match::From(wanted.range)];
    arrived.extend(INSIDE.map(Match::NotIn));
    let dropped = |matches| vec![Rule { matches, verdict: Verdict::Drop }];
    [
        chain("clear-out", Hook::Leaving, dropped(out)),
        chain("clear-in", Hook::Arriving, dropped(arrived)),
    ]
}

/// The beginnings of the names of devices that no other machine is behind in clear: bridges of nodes, WireGuard, loopback.
const INSIDE: [&str; 3] = ["orcb", "orcw", "lo"];

pub(crate) fn chain(name: &str, hook: Hook, rules: Vec<Rule>) -> Chain {
    Chain { name: name.to_owned(), hook, rules }
}

/// What must pass other people's chains: what pods send, what others' pods send them, and what answers them or is meant for their ports
/// of the node.
pub(crate) fn admission(wanted: &KernelNetwork) -> Admission {
    let (range, slice) = (wanted.range, wanted.slice);
    let pass = |matches| Rule { matches, verdict: Verdict::Accept };
    Admission {
        mark: format!("orchestrator {}", wanted.mark),
        rules: vec![
            pass(vec![Match::From(range), Match::To(slice)]),
            pass(vec![Match::From(slice)]),
            pass(vec![Match::To(slice), Match::Expected]),
        ],
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use orchestrator_core::node::{NetworkPeer, NodeNetwork};
    use orchestrator_core::runtime::Scope;

    use super::*;
    use crate::nft::packet::Packet;

    /// The network of a node with pods at 10.64.1.0/24, whose neighbour has 10.64.2.0/24.
    pub(crate) fn network(encrypted: bool) -> KernelNetwork {
        let scope = Scope { cluster: "c".to_owned(), node: "n1".to_owned() };
        let peer = NetworkPeer {
            address: "192.0.2.2".parse().expect("an address"),
            node: "n2".to_owned(),
            key: Some("key".to_owned()),
            slice: "10.64.2.0/24".parse().expect("a range"),
        };
        let network = NodeNetwork {
            address: "192.0.2.1".parse().expect("an address"),
            encrypted,
            peers: vec![peer],
            range: "10.64.0.0/10".parse().expect("a range"),
            slice: "10.64.1.0/24".parse().expect("a range"),
        };
        network.kernel(&scope, |_| true)
    }

    const DROPPED: Option<Verdict> = Some(Verdict::Drop);

    #[test]
    fn what_is_for_pods_leaves_through_wireguard_or_stays_on_the_machine() {
        let table = table(&network(true));
        let leaving = |to: &str, output| {
            let packet = Packet { output, ..Packet::new("10.64.1.5", to) };
            packet.at(&Hook::Leaving, &table)
        };
        for inside in ["orcb12345", "orcw12345", "lo"] {
            assert_eq!(leaving("10.64.2.5", inside), None, "{inside}");
        }
        for outside in ["eth0", "orcv12345", "docker0", "wg0", ""] {
            assert_eq!(leaving("10.64.2.5", outside), DROPPED, "{outside}");
            // Also of a slice that nobody has yet.
            assert_eq!(leaving("10.127.255.254", outside), DROPPED, "{outside}");
            assert_eq!(leaving("10.128.0.1", outside), None, "{outside}: it is for no pod");
        }
        // The machine's own packets for pods are no others.
        let own = Packet { output: "eth0", ..Packet::new("192.0.2.1", "10.64.2.5") };
        assert_eq!(own.at(&Hook::Leaving, &table), DROPPED);
    }

    #[test]
    fn what_comes_from_pods_comes_through_wireguard_or_from_this_machine() {
        let table = table(&network(true));
        let arriving = |from: &str, input| {
            let packet = Packet { input, ..Packet::new(from, "10.64.1.5") };
            packet.at(&Hook::Arriving, &table)
        };
        for inside in ["orcb12345", "orcw12345", "lo"] {
            assert_eq!(arriving("10.64.2.5", inside), None, "{inside}");
        }
        for outside in ["eth0", "orcv12345", "docker0", "wg0"] {
            assert_eq!(arriving("10.64.2.5", outside), DROPPED, "{outside}");
            assert_eq!(arriving("192.0.2.2", outside), None, "{outside}: it is from no pod");
        }
    }

    #[test]
    fn without_encryption_everything_passes() {
        let table = table(&network(false));
        let packet =
            Packet { input: "eth0", output: "eth0", ..Packet::new("10.64.1.5", "10.64.2.5") };
        assert_eq!(packet.at(&Hook::Leaving, &table), None);
        assert_eq!(packet.at(&Hook::Arriving, &table), None);
    }

    #[test]
    fn only_what_pods_send_out_of_the_range_goes_with_the_nodes_address() {
        for encrypted in [false, true] {
            let network = network(encrypted);
            let table = table(&network);
            let leaving = |from: &str, to: &str, output| {
                let packet = Packet { output, ..Packet::new(from, to) };
                packet.at(&Hook::LeavingFirst, &table)
            };
            let bridge: &'static str = network.bridge.name.clone().leak();
            assert_eq!(leaving("10.64.1.5", "198.51.100.1", "eth0"), Some(Verdict::Masquerade));
            assert_eq!(leaving("10.64.1.5", "10.64.2.5", "eth0"), None, "it is for a pod");
            assert_eq!(leaving("10.64.2.5", "198.51.100.1", "eth0"), None, "it is not ours");
            assert_eq!(leaving("10.64.1.5", "198.51.100.1", bridge), None, "it has not left");
        }
    }

    #[test]
    fn others_let_through_what_pods_send_and_what_is_meant_for_them_and_nothing_else() {
        let rules = admission(&network(false)).rules;
        let passes = |from: &str, to: &str, is_redirected| {
            let packet = Packet { is_redirected, ..Packet::new(from, to) };
            packet.by(&rules) == Some(Verdict::Accept)
        };
        assert!(passes("10.64.2.5", "10.64.1.5", false), "another node's pod calls");
        assert!(passes("10.64.1.5", "198.51.100.1", false), "a pod calls who is outside");
        assert!(passes("198.51.100.1", "10.64.1.5", true), "it is answered, or called by a port");
        assert!(!passes("198.51.100.1", "10.64.1.5", false), "who is outside calls a pod");
        assert!(!passes("198.51.100.1", "10.64.2.5", true), "the pod is another node's");
        assert!(!passes("10.64.2.5", "198.51.100.1", false), "it is not for this node");
    }
}

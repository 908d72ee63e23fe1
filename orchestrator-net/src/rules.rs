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

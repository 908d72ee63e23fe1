//! The firewall rules that pods' traffic needs. Pure.
//!
//! A table of our own turns what leaves the cluster into the node's own traffic. A second set lets pods' traffic between nodes pass
//! where somebody else (a container engine, mostly) drops what it does not know: a drop elsewhere cannot be undone by a table of
//! one's own.

use orchestrator_core::node::KernelNetwork;

use crate::nft::{Admission, Chain, Hook, Match, Rule, Table, Verdict};

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
    let mut chains = vec![Chain { name: "leaving", hook: Hook::LeavingFirst, rules: vec![leaves] }];
    if wanted.wireguard.is_some() {
        chains.extend(nothing_in_clear(wanted));
    }
    Table { name: format!("orchestrator-{}", wanted.mark), chains }
}

/// What is for pods leaves through WireGuard or stays on the machine, and comes no other way, whatever becomes of routes.
fn nothing_in_clear(wanted: &KernelNetwork) -> [Chain; 2] {
    let mut out = vec![Match::To(wanted.range)];
    out.extend(INSIDE.map(Match::NotOutAny));
    let mut arrived = vec![Match::From(wanted.range)];
    arrived.extend(INSIDE.map(Match::NotIn));
    let dropped = |matches| vec![Rule { matches, verdict: Verdict::Drop }];
    [
        Chain { name: "clear-out", hook: Hook::Leaving, rules: dropped(out) },
        Chain { name: "clear-in", hook: Hook::Arriving, rules: dropped(arrived) },
    ]
}

/// The beginnings of the names of devices that no other machine is behind in clear: bridges of nodes, WireGuard, loopback.
const INSIDE: [&str; 3] = ["orcb", "orcw", "lo"];

/// What must pass other people's chains.
pub(crate) fn admission(wanted: &KernelNetwork) -> Admission {
    let (range, slice) = (wanted.range, wanted.slice);
    let pass = |from, to| Rule {
        matches: vec![Match::From(from), Match::To(to)],
        verdict: Verdict::Accept,
    };
    Admission {
        mark: format!("orchestrator {}", wanted.mark),
        rules: vec![pass(range, slice), pass(slice, range)],
    }
}

//! The firewall rules that pods' traffic needs. Pure.
//!
//! A table of our own turns what leaves the cluster into the node's own traffic. A second set lets pods' traffic between nodes pass
//! where somebody else (a container engine, mostly) drops what it does not know: a drop elsewhere cannot be undone by a table of
//! one's own.

use orchestrator_core::node::KernelNetwork;

use crate::nft::{Admission, Match, Rule, Table, Verdict};

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
    Table { name: format!("orchestrator-{}", wanted.mark), leaving: vec![leaves] }
}

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

//! `Placement` and `Unfit`: a scheduler's two answers.

use std::collections::BTreeMap;
use std::fmt;

use super::reason::{Reason, ReasonKind};

/// The most kinds of reasons that the text of an [`Unfit`] names.
pub const UNFIT_PRINTED_MAX: usize = 16;

/// Where a pod should run.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Placement {
    /// The node's name.
    pub node: String,
    /// How good the scheduler finds it; comparable only between nodes for one pod.
    pub score: i64,
}

impl Placement {
    /// Says that a pod should run on this node.
    pub fn on(node: impl Into<String>) -> Self {
        Self { node: node.into(), score: 0 }
    }

    /// Sets how good the placement is.
    #[must_use]
    pub const fn scored(mut self, score: i64) -> Self {
        self.score = score;
        self
    }
}

/// Why a pod can run nowhere now: on how many nodes each kind of reason stands in the way.
///
/// A node counts once under each kind that applies to it. Prints as Kubernetes does:
/// `0/3 nodes are available: 2 Insufficient cpu, 1 node(s) were unschedulable.`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unfit {
    /// Nodes by kind of reason.
    pub counts: BTreeMap<ReasonKind, usize>,
    /// How many nodes there are.
    pub nodes: usize,
}

impl Unfit {
    /// Starts with no nodes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts a node with every reason that applies to it.
    pub fn count(&mut self, reasons: &[Reason]) {
        self.nodes += 1;
        for (place, reason) in reasons.iter().enumerate() {
            let kind = reason.kind();
            if reasons[..place].iter().all(|earlier| earlier.kind() != kind) {
                *self.counts.entry(kind).or_default() += 1;
            }
        }
    }
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nodes == 0 && self.counts.is_empty() {
            return f.write_str("no nodes available to schedule pods");
        }
        write!(f, "0/{} nodes are available", self.nodes)?;
        let mut by_count: Vec<_> = self.counts.iter().collect();
        by_count.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        for (place, (kind, count)) in by_count.iter().take(UNFIT_PRINTED_MAX).enumerate() {
            let separator = if place == 0 { ": " } else { ", " };
            write!(f, "{separator}{count} {kind}")?;
        }
        match by_count.len().saturating_sub(UNFIT_PRINTED_MAX) {
            0 => f.write_str("."),
            more => write!(f, ", and {more} more reasons."),
        }
    }
}

impl std::error::Error for Unfit {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Quantity, Taint};

    fn insufficient(resource: &str) -> Reason {
        let (requested, free) = (Quantity::from_milli(500), Quantity::from_milli(200));
        Reason::Insufficient { resource: resource.to_owned(), requested, free }
    }

    #[test]
    fn an_unfit_pod_reads_as_in_kubernetes() {
        let mut unfit = Unfit::new();
        unfit.count(&[Reason::Unschedulable]);
        unfit.count(&[insufficient("cpu"), insufficient("memory")]);
        unfit.count(&[insufficient("cpu")]);
        assert_eq!(
            unfit.to_string(),
            "0/3 nodes are available: 2 Insufficient cpu, 1 Insufficient memory, 1 node(s) were unschedulable."
        );
        assert_eq!(Unfit::new().to_string(), "no nodes available to schedule pods");
    }

    #[test]
    fn a_node_counts_once_under_a_kind() {
        let label = |label: &str| Reason::NodeSelectorMismatch {
            label: label.to_owned(),
            wanted: "x".to_owned(),
            found: None,
        };
        let mut unfit = Unfit::new();
        unfit.count(&[label("a"), label("b")]);
        assert_eq!(unfit.counts[&ReasonKind::NodeSelectorMismatch], 1);
    }

    #[test]
    fn the_text_stays_short_with_many_reasons() {
        let mut unfit = Unfit::new();
        for number in 0..1000 {
            let taint = Taint { key: format!("k{number}"), ..Taint::default() };
            unfit.count(&[Reason::UntoleratedTaint { taint }]);
        }
        let text = unfit.to_string();
        assert!(text.len() < 1000 && text.ends_with("and 984 more reasons."), "{text}");
    }
}

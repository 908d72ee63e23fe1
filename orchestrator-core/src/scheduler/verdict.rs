//! `Verdict`: what becomes of a failed check. Stop, collect reasons, or count kinds, with one judge for all.

use std::collections::BTreeMap;

use super::placement::Unfit;
use super::reason::{Reason, ReasonKind};

/// A [`ReasonKind`] that borrows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cause<'q> {
    HostPortTaken,
    Insufficient(&'q str),
    NodeSelectorMismatch,
    NotANode,
    NotReady,
    OtherNode,
    PodLimit,
    Unschedulable,
    UntoleratedTaint(&'q str, &'q str),
}

/// What becomes of a failed check.
pub(super) trait Verdict<'q> {
    /// Learns that some check fails; returns whether to find out which.
    fn wants_details(&mut self) -> bool;

    /// Takes a failure; returns whether to go on checking.
    fn fail(&mut self, cause: Cause<'q>, reason: impl FnOnce() -> Reason) -> bool;
}

/// Whether nothing failed; stops at the first failure.
#[derive(Debug)]
pub(super) struct Fits(pub(super) bool);

/// Every failure.
#[derive(Debug, Default)]
pub(super) struct Reasons(pub(super) Vec<Reason>);

/// On how many nodes each kind of check fails.
#[derive(Debug, Default)]
pub(super) struct Tally<'q> {
    /// How many nodes, and the last of them, so that a node counts once.
    counts: BTreeMap<Cause<'q>, (usize, usize)>,
    nodes: usize,
}

impl<'q> Verdict<'q> for Fits {
    #[inline(always)]
    fn wants_details(&mut self) -> bool {
        self.0 = false;
        false
    }

    #[inline(always)]
    fn fail(&mut self, _: Cause<'q>, _: impl FnOnce() -> Reason) -> bool {
        self.0 = false;
        false
    }
}

impl<'q> Verdict<'q> for Reasons {
    fn wants_details(&mut self) -> bool {
        true
    }

    fn fail(&mut self, _: Cause<'q>, reason: impl FnOnce() -> Reason) -> bool {
        self.0.push(reason());
        true
    }
}

impl<'q> Verdict<'q> for Tally<'q> {
    fn wants_details(&mut self) -> bool {
        true
    }

    fn fail(&mut self, cause: Cause<'q>, _: impl FnOnce() -> Reason) -> bool {
        let (count, last) = self.counts.entry(cause).or_default();
        if *last != self.nodes {
            (*count, *last) = (*count + 1, self.nodes);
        }
        true
    }
}

impl Tally<'_> {
    /// Goes on to the next node.
    pub(super) const fn begin_node(&mut self) {
        self.nodes += 1;
    }

    pub(super) fn into_unfit(self) -> Unfit {
        let counts = self.counts.into_iter().map(|(cause, (count, _))| (cause.into(), count));
        Unfit { counts: counts.collect(), nodes: self.nodes }
    }
}

impl From<Cause<'_>> for ReasonKind {
    fn from(cause: Cause<'_>) -> Self {
        match cause {
            Cause::HostPortTaken => Self::HostPortTaken,
            Cause::Insufficient(resource) => Self::Insufficient(resource.to_owned()),
            Cause::NodeSelectorMismatch => Self::NodeSelectorMismatch,
            Cause::NotANode => Self::NoSuchNode(String::new()),
            Cause::NotReady => Self::NotReady,
            Cause::OtherNode => Self::OtherNode,
            Cause::PodLimit => Self::PodLimit,
            Cause::Unschedulable => Self::Unschedulable,
            Cause::UntoleratedTaint(key, value) => {
                Self::UntoleratedTaint(key.to_owned(), value.to_owned())
            }
        }
    }
}

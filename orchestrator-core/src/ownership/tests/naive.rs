//! A naive model of server-side apply: an object as a flat map of leaves, each with its owners.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// Leaves by their paths. A step in brackets is an element of a list, which is a leaf of its own beside what is in it.
pub(super) type Leaves = BTreeMap<Vec<String>, Value>;

/// An object and who owns what of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Naive {
    pub(super) leaves: Leaves,
    owners: BTreeMap<Vec<String>, BTreeSet<String>>,
}

impl Naive {
    /// Applies, unless others own another value; says whether it did.
    pub(super) fn apply(&mut self, manager: &str, wanted: &Leaves, force: bool) -> bool {
        let applier = format!("apply {manager}");
        let clashes: Vec<_> = wanted
            .iter()
            .filter(|(leaf, value)| {
                let others = self
                    .owners
                    .get(*leaf)
                    .is_some_and(|owners| owners.iter().any(|owner| *owner != applier));
                others && self.leaves.get(*leaf) != Some(value)
            })
            .map(|(leaf, _)| leaf.clone())
            .collect();
        if !clashes.is_empty() && !force {
            return false;
        }
        for leaf in clashes {
            self.owners.insert(leaf, BTreeSet::new());
        }
        self.give_up(&applier, wanted);
        for (leaf, value) in wanted {
            self.leaves.insert(leaf.clone(), value.clone());
            self.owners.entry(leaf.clone()).or_default().insert(applier.clone());
        }
        true
    }

    /// Takes out what is wanted no more and nobody else owns. An element in which somebody owns something stays.
    fn give_up(&mut self, applier: &str, wanted: &Leaves) {
        let mut dropped = Vec::new();
        for (leaf, owners) in &mut self.owners {
            if !wanted.contains_key(leaf) && owners.remove(applier) && owners.is_empty() {
                dropped.push(leaf.clone());
            }
        }
        self.owners.retain(|_, owners| !owners.is_empty());
        for leaf in dropped {
            let is_within = |other: &Vec<String>| other.starts_with(&leaf);
            let is_wanted = wanted.keys().any(is_within);
            if !is_wanted && !self.owners.keys().any(is_within) {
                self.leaves.retain(|other, _| !other.starts_with(&leaf));
            }
        }
    }

    /// Replaces the whole; the writer owns what is new or changed.
    pub(super) fn update(&mut self, manager: &str, new: &Leaves) {
        for (leaf, value) in new {
            if self.leaves.get(leaf) != Some(value) {
                self.owners.insert(leaf.clone(), BTreeSet::from([format!("update {manager}")]));
            }
        }
        self.owners.retain(|leaf, _| new.contains_key(leaf));
        self.leaves.clone_from(new);
    }
}

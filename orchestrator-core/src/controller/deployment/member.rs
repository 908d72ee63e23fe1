//! `Member`: a replica set of a deployment, how its pods stand, and what is to change about it.

use std::cmp::Reverse;

use crate::controller::pod_counts::PodCounts;
use crate::model::{REVISION_ANNOTATION, ReplicaSet, Time, Timestamp};
use crate::world::{Stored, World};

/// The annotation that remembers how many pods the deployment wanted when the replica set was last sized.
const DESIRED_ANNOTATION: &str = "deployment.kubernetes.io/desired-replicas";
/// The annotation that remembers how many pods the deployment could have when the replica set was last sized.
const MAX_ANNOTATION: &str = "deployment.kubernetes.io/max-replicas";

/// A replica set of a deployment.
#[derive(Debug)]
pub(super) struct Member<'w> {
    pub stored: &'w Stored,
    /// The set as it is.
    pub set: &'w ReplicaSet,
    /// How its pods stand.
    pub counts: PodCounts,
    /// The set as it shall be, if it is to change.
    edit: Option<ReplicaSet>,
}

impl<'w> Member<'w> {
    pub(super) fn new(
        stored: &'w Stored,
        set: &'w ReplicaSet,
        min_ready_seconds: i32,
        world: &'w World,
        now: Timestamp,
    ) -> Self {
        let labels = &set.spec.template.metadata.labels;
        let counts = PodCounts::of(world, &set.metadata, labels, min_ready_seconds, now);
        Self { stored, set, counts, edit: None }
    }

    /// The set as it shall be.
    pub(super) fn latest(&self) -> &ReplicaSet {
        self.edit.as_ref().unwrap_or(self.set)
    }

    /// The set as it shall be, to change.
    pub(super) fn edit(&mut self) -> &mut ReplicaSet {
        self.edit.get_or_insert_with(|| self.set.clone())
    }

    /// The changed set with its new generation; `None` if nothing changed.
    pub(super) fn edited(&self) -> Option<ReplicaSet> {
        let mut set = self.edit.clone().filter(|edit| edit != self.set)?;
        if set.spec != self.set.spec {
            set.metadata.generation = set.metadata.generation.saturating_add(1);
        }
        Some(set)
    }

    /// How many pods it shall have.
    pub(super) fn wanted(&self) -> i32 {
        wanted(self.latest())
    }

    /// How many pods it has or may make without being asked again.
    pub(super) fn present(&self) -> i32 {
        self.counts.replicas.max(self.wanted())
    }

    /// How many available pods it will have when it has acted on what is wanted: it gives up the others first.
    ///
    /// Pods above the size it has now do not count even if it is to grow: their deletion may be on its way.
    pub(super) fn available(&self) -> i32 {
        self.counts.available.min(self.wanted()).min(wanted(self.set))
    }

    /// Pods being deleted or still there, not finished.
    pub(super) fn has_running_pods(&self) -> bool {
        self.counts.replicas > 0 || self.counts.terminating > 0
    }

    /// Whether the deployment may still size it.
    pub(super) fn is_editable(&self) -> bool {
        !self.set.metadata.is_deleting()
    }

    /// Sets the size, and what the deployment wanted and could have at that time.
    pub(super) fn resize(&mut self, replicas: i32, desired: i32, max: i32) {
        let set = self.edit();
        set.spec.replicas = Some(replicas);
        annotate(set, desired, max);
    }

    /// What the deployment wanted when the set was last sized.
    pub(super) fn desired(&self) -> Option<i32> {
        number(self.set, DESIRED_ANNOTATION)
    }

    /// How many pods the deployment could have when the set was last sized.
    pub(super) fn max(&self) -> Option<i32> {
        number(self.set, MAX_ANNOTATION)
    }

    pub(super) fn revision(&self) -> i64 {
        number(self.latest(), REVISION_ANNOTATION).unwrap_or(0)
    }

    /// Its age as an order: older ones are smaller.
    pub(super) fn age(&self) -> (Time, &'w str) {
        (self.set.metadata.creation_timestamp.unwrap_or_default(), &self.set.metadata.name)
    }

    /// Its size as an order: larger ones are smaller.
    pub(super) fn size(&self) -> Reverse<i32> {
        Reverse(self.wanted())
    }
}

/// Remembers in a replica set what its deployment wanted and could have.
pub(super) fn annotate(set: &mut ReplicaSet, desired: i32, max: i32) {
    let annotations = &mut set.metadata.annotations;
    annotations.insert(DESIRED_ANNOTATION.to_owned(), desired.to_string());
    annotations.insert(MAX_ANNOTATION.to_owned(), max.to_string());
}

/// Whether an annotation is this controller's own or of the deployment alone.
pub(super) fn is_private(annotation: &str) -> bool {
    annotation == crate::model::LAST_APPLIED_ANNOTATION
        || annotation == super::history::HISTORY_ANNOTATION
        || [REVISION_ANNOTATION, DESIRED_ANNOTATION, MAX_ANNOTATION].contains(&annotation)
}

fn wanted(set: &ReplicaSet) -> i32 {
    set.spec.replicas.unwrap_or(1).max(0)
}

fn number<T: std::str::FromStr>(set: &ReplicaSet, annotation: &str) -> Option<T> {
    set.metadata.annotations.get(annotation).and_then(|text| text.parse().ok())
}

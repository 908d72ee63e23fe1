//! Metadata that every object has: `ObjectMeta`, `OwnerReference`, conditions.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ids::{Key, Kind, Revision, Uid};
use super::managed_fields::ManagedFieldsEntry;
use super::residual::{Residual, keep_residual};
use super::time::Time;

/// Labels or annotations: ordered names and values.
pub type StringMap = BTreeMap<String, String>;

/// The annotation in which `apply` keeps the manifest it last applied (the one kubectl uses).
pub const LAST_APPLIED_ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// The finalizer that holds an owner until its blocking dependents are gone (foreground deletion).
pub const FOREGROUND_FINALIZER: &str = "foregroundDeletion";
/// The finalizer that holds an owner until its dependents have been released (orphan deletion).
pub const ORPHAN_FINALIZER: &str = "orphan";

/// Metadata of an object, as in Kubernetes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "camelCase", default)]
pub struct ObjectMeta {
    /// Free-form names and values, not used to select.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: StringMap,
    /// When the object was recorded. Set by the API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creation_timestamp: Option<Time>,
    /// Seconds of grace that a deletion in progress was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_grace_period_seconds: Option<i64>,
    /// When deletion was asked for (plus grace); never unset once set (S25).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_timestamp: Option<Time>,
    /// Names of duties that must be done before the object may go.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub finalizers: Vec<String>,
    /// A prefix from which the API makes a name when none is given.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub generate_name: String,
    /// Grows by one with each change of the spec, from 1.
    #[serde(skip_serializing_if = "is_zero")]
    pub generation: i64,
    /// Names and values that selectors match.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: StringMap,
    /// Who owns which fields, from the first server-side apply on. Set by the API.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub managed_fields: Vec<ManagedFieldsEntry>,
    /// The name, unique within kind and namespace.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The namespace; empty for cluster-scoped kinds.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Who owns this object; matched by uid.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub owner_references: Vec<OwnerReference>,
    /// The revision that last changed the object (the larger of its records'). Set by the store.
    #[serde(skip_serializing_if = "is_revision_zero")]
    pub resource_version: Revision,
    /// The identity of this life of the object. Set by the API.
    #[serde(skip_serializing_if = "Uid::is_nil")]
    pub uid: Uid,
    /// What was sent and is not modelled.
    #[serde(skip)]
    pub residual: Residual,
}

keep_residual!(ObjectMeta);

fn is_zero(number: &i64) -> bool {
    *number == 0
}

fn is_revision_zero(revision: &Revision) -> bool {
    *revision == Revision::ZERO
}

impl ObjectMeta {
    /// Makes the metadata of a namespaced object.
    pub fn named(namespace: &str, name: &str) -> Self {
        Self { name: name.to_owned(), namespace: namespace.to_owned(), ..Self::default() }
    }

    /// The owner that manages this object, if any (at most one has `controller: true`, S23).
    pub fn controller(&self) -> Option<&OwnerReference> {
        self.owner_references.iter().find(|owner| owner.controller)
    }

    /// Whether deletion was asked for.
    pub const fn is_deleting(&self) -> bool {
        self.deletion_timestamp.is_some()
    }

    /// Whether the named finalizer holds the object.
    pub fn has_finalizer(&self, name: &str) -> bool {
        self.finalizers.iter().any(|finalizer| finalizer == name)
    }
}

/// A link from a dependent to its owner; it matches by uid only (S24).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OwnerReference {
    /// The owner's apiVersion.
    pub api_version: String,
    /// Whether foreground deletion of the owner waits for this dependent.
    #[serde(skip_serializing_if = "is_false")]
    pub block_owner_deletion: bool,
    /// Whether the owner manages the dependent.
    #[serde(skip_serializing_if = "is_false")]
    pub controller: bool,
    /// The owner's kind.
    pub kind: String,
    /// The owner's name.
    pub name: String,
    /// The owner's uid.
    pub uid: Uid,
}

impl OwnerReference {
    /// The API group of the owner; empty for the core group, or when nothing is said of it.
    pub fn group(&self) -> &str {
        self.api_version.split_once('/').map_or("", |(group, _)| group)
    }

    /// Whether the owner is of a kind, in whatever version: that is anybody's to invent, and no part of what a kind is.
    pub fn is_of(&self, kind: Kind) -> bool {
        let is_left_out = self.api_version.is_empty() && kind.custom().is_none();
        kind.name() == self.kind && (is_left_out || kind.group() == self.group())
    }

    /// The key that this is a reference to, from an object of a namespace to one of a kind.
    pub fn key_in(&self, namespace: &str, kind: Kind) -> Key {
        Key::new(kind, namespace, &self.name)
    }

    /// Makes the reference of a managing owner.
    pub fn controller_of(kind: Kind, meta: &ObjectMeta) -> Self {
        Self {
            api_version: kind.api_version().to_owned(),
            block_owner_deletion: true,
            controller: true,
            kind: kind.name().to_owned(),
            name: meta.name.clone(),
            uid: meta.uid,
        }
    }
}

pub(super) fn is_false(flag: &bool) -> bool {
    !*flag
}

/// The value of a condition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ConditionStatus {
    /// The condition does not hold.
    False,
    /// The condition holds.
    True,
    /// Nobody can tell.
    #[default]
    Unknown,
}

impl From<bool> for ConditionStatus {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// One aspect of an object's state, with the reason for its value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Condition {
    /// When `status` last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<Time>,
    /// When the condition was last written (deployments).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_update_time: Option<Time>,
    /// An explanation for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The generation of the object the condition speaks of; 0 where it is not told.
    #[serde(skip_serializing_if = "is_zero")]
    pub observed_generation: i64,
    /// A word for programs, in CamelCase.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// Which aspect, in CamelCase.
    #[serde(rename = "type")]
    pub kind: String,
}

/// Sets a condition in an ordered list; keeps the transition time when the status does not change.
///
/// Returns whether the status changed.
pub fn set_condition(conditions: &mut Vec<Condition>, mut new: Condition, now: Time) -> bool {
    let old = conditions.iter_mut().find(|condition| condition.kind == new.kind);
    let changed = old.as_ref().is_none_or(|old| old.status != new.status);
    new.last_transition_time = match &old {
        Some(old) if !changed => old.last_transition_time,
        Some(_) | None => Some(now),
    };
    match old {
        Some(old) => *old = new,
        None => conditions.push(new),
    }
    changed
}

/// Returns the status of the condition of that type; `Unknown` when there is none.
pub fn condition_status(conditions: &[Condition], kind: &str) -> ConditionStatus {
    conditions
        .iter()
        .find(|condition| condition.kind == kind)
        .map_or(ConditionStatus::Unknown, |found| found.status)
}

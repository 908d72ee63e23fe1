//! The parts of an object: its status alone, its spec alone.

use std::sync::Arc;

use super::meta::ObjectMeta;
use super::{CustomObject, Kind, Object};

impl Object {
    /// Makes an object of a kind with nothing in it.
    pub fn empty(kind: Kind) -> Self {
        match kind {
            Kind::ClusterRole => Self::ClusterRole(Arc::default()),
            Kind::ClusterRoleBinding => Self::ClusterRoleBinding(Arc::default()),
            Kind::ConfigMap => Self::ConfigMap(Arc::default()),
            Kind::Custom(kind) => Self::from(CustomObject::empty(kind)),
            Kind::CustomResourceDefinition => Self::CustomResourceDefinition(Arc::default()),
            Kind::Deployment => Self::Deployment(Arc::default()),
            Kind::Event => Self::Event(Arc::default()),
            Kind::Lease => Self::Lease(Arc::default()),
            Kind::Namespace => Self::Namespace(Arc::default()),
            Kind::Node => Self::Node(Arc::default()),
            Kind::Pod => Self::Pod(Arc::default()),
            Kind::PodDisruptionBudget => Self::PodDisruptionBudget(Arc::default()),
            Kind::ReplicaSet => Self::ReplicaSet(Arc::default()),
            Kind::Role => Self::Role(Arc::default()),
            Kind::RoleBinding => Self::RoleBinding(Arc::default()),
            Kind::Secret => Self::Secret(Arc::default()),
            Kind::Service => Self::Service(Arc::default()),
            Kind::ServiceAccount => Self::ServiceAccount(Arc::default()),
        }
    }

    /// Returns this object with the status of `other` (an object of the same kind).
    pub fn with_status_of(&self, other: &Self) -> Self {
        // An object that has that status already stays shared.
        macro_rules! take_status {
            ($new:expr, $old:expr) => {
                if $new.status != $old.status {
                    Arc::make_mut($new).status = $old.status.clone();
                }
            };
        }
        let mut merged = self.clone();
        match (&mut merged, other) {
            (Self::Custom(new), Self::Custom(old)) => take_status!(new, old),
            (Self::CustomResourceDefinition(new), Self::CustomResourceDefinition(old)) => {
                take_status!(new, old)
            }
            (Self::Deployment(new), Self::Deployment(old)) => take_status!(new, old),
            (Self::Namespace(new), Self::Namespace(old)) => take_status!(new, old),
            (Self::Node(new), Self::Node(old)) => take_status!(new, old),
            (Self::Pod(new), Self::Pod(old)) => take_status!(new, old),
            (Self::PodDisruptionBudget(new), Self::PodDisruptionBudget(old)) => {
                take_status!(new, old)
            }
            (Self::ReplicaSet(new), Self::ReplicaSet(old)) => take_status!(new, old),
            (Self::Service(new), Self::Service(old)) => take_status!(new, old),
            _ => {}
        }
        merged
    }

    /// Returns this object with an empty status.
    pub fn without_status(&self) -> Self {
        self.with_status_of(&Self::empty(self.kind()))
    }

    /// Whether `other` has the same spec (or data): everything but metadata and status.
    pub fn has_spec_of(&self, other: &Self) -> bool {
        let bare = |object: &Self| {
            let mut bare = object.without_status();
            *bare.meta_mut() = ObjectMeta::default();
            bare
        };
        bare(self) == bare(other)
    }
}

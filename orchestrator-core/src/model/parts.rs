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

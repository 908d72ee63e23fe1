//! Whose status says how others stand.

use crate::model::{Condition, Object};

/// The conditions of an object whose status is a roll-up of others'.
pub(super) fn rolled_up(object: &Object) -> Option<&[Condition]> {
    match object {
        Object::Deployment(object) => Some(&object.status.conditions),
        Object::ReplicaSet(object) => Some(&object.status.conditions),
        Object::ClusterRole(_)
        | Object::ClusterRoleBinding(_)
        | Object::ConfigMap(_)
        | Object::Custom(_)
        | Object::CustomResourceDefinition(_)
        | Object::Event(_)
        | Object::Namespace(_)
        | Object::Node(_)
        | Object::Pod(_)
        | Object::PodDisruptionBudget(_)
        | Object::Role(_)
        | Object::RoleBinding(_)
        | Object::Secret(_)
        | Object::Service(_)
        | Object::ServiceAccount(_) => None,
    }
}

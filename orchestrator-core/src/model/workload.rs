//! `Workload`: what objects that keep pods of a template have in common.

use super::Object;
use std::sync::Arc;

use super::meta::Condition;
use super::pod::PodTemplate;
use super::selector::LabelSelector;

/// An object that keeps a number of pods of a template, as others look at it.
#[derive(Clone, Copy, Debug)]
pub struct Workload<'o> {
    /// Its conditions, which sum up how its pods stand.
    pub conditions: &'o [Condition],
    /// How many pods it wants; 1 when it does not say.
    pub replicas: i32,
    /// How many there are, as its status says.
    pub replicas_there: i32,
    /// Which pods count.
    pub selector: &'o LabelSelector,
    /// How its pods are made.
    pub template: &'o PodTemplate,
}

impl Object {
    /// Sets how many pods a workload of a built-in kind wants; returns whether it is one.
    pub fn set_replicas(&mut self, replicas: i32) -> bool {
        if let Self::Deployment(object) = self {
            Arc::make_mut(object).spec.replicas = Some(replicas);
            return true;
        }
        if let Self::ReplicaSet(object) = self {
            Arc::make_mut(object).spec.replicas = Some(replicas);
            return true;
        }
        false
    }

    /// The object as a workload, if it is one of a built-in kind.
    pub fn workload(&self) -> Option<Workload<'_>> {
        match self {
            Self::Deployment(object) => Some(Workload {
                conditions: &object.status.conditions,
                replicas: object.spec.replicas.unwrap_or(1),
                replicas_there: object.status.replicas,
                selector: &object.spec.selector,
                template: &object.spec.template,
            }),
            Self::ReplicaSet(object) => Some(Workload {
                conditions: &object.status.conditions,
                replicas: object.spec.replicas.unwrap_or(1),
                replicas_there: object.status.replicas,
                selector: &object.spec.selector,
                template: &object.spec.template,
            }),
            Self::ClusterRole(_)
            | Self::ClusterRoleBinding(_)
            | Self::ConfigMap(_)
            | Self::Custom(_)
            | Self::CustomResourceDefinition(_)
            | Self::Event(_)
            | Self::Lease(_)
            | Self::Namespace(_)
            | Self::Node(_)
            | Self::Pod(_)
            | Self::PodDisruptionBudget(_)
            | Self::Role(_)
            | Self::RoleBinding(_)
            | Self::Secret(_)
            | Self::Service(_)
            | Self::ServiceAccount(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Kind;

    #[test]
    fn what_is_a_workload_has_replicas_to_set_and_nothing_else_has() {
        for kind in Kind::ALL {
            let mut object = Object::empty(kind);
            let was = object.workload().map(|workload| workload.replicas);
            assert_eq!(object.set_replicas(7), was.is_some(), "{kind}");
            assert_eq!(object.workload().map(|it| it.replicas), was.map(|_| 7), "{kind}");
        }
    }
}

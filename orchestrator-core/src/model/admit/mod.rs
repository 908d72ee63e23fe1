//! Admission: from (old, new) to an object that may be recorded, or what is wrong with it, field by field.
//!
//! In this order: what a client leaves out is filled in (from the old object, then with Kubernetes' defaults); the
//! result is validated; what must not change is compared. Pure; depends on the rest of `model` alone. What must hold:
//! admitting an admitted object changes nothing.

mod budget;
mod container;
mod data;
mod defaults;
mod definition;
mod errors;
mod immutable;
mod inherit;
mod lease;
mod meta;
mod node;
mod pod;
mod probe;
mod rights;
mod service;
mod workload;

use std::sync::Arc;

use super::{FieldError, Object};

pub use container::{COMMAND_MAX, ENV_MAX, PORTS_MAX};
pub use data::DATA_BYTES_MAX;
pub use defaults::complete_new_pod;
pub(crate) use defaults::complete_pod_spec;
pub use definition::VERSIONS_MAX;
pub use errors::ERRORS_MAX;
pub use meta::{ANNOTATIONS_BYTES_MAX, FINALIZERS_MAX, LABELS_MAX, OWNERS_MAX};
pub use node::TAINTS_MAX;
pub use pod::{CONTAINERS_MAX, NODE_SELECTOR_MAX, TOLERATIONS_MAX};
pub use rights::{RULES_MAX, SUBJECTS_MAX};
pub use service::SERVICE_PORTS_MAX;
pub use workload::{REPLICAS_MAX, SELECTOR_TERMS_MAX};

use errors::{Errors, Path};

/// Completes and checks the main part of an object that is to be recorded in the place of `old`.
///
/// The status is left as it is. Identity and times that `new` leaves out are taken from `old`.
///
/// # Errors
/// Everything that is wrong, at most [`ERRORS_MAX`] entries, in the order of the fields.
pub fn admit(old: Option<&Object>, mut new: Object) -> Result<Object, Vec<FieldError>> {
    match (old, &mut new) {
        (Some(old), new) => inherit::inherit(old, new),
        (None, Object::CustomResourceDefinition(new)) => {
            definition::complete_new(Arc::make_mut(new));
        }
        (None, Object::Pod(pod)) => complete_new_pod(Arc::make_mut(pod)),
        (None, _) => {}
    }
    defaults::complete(&mut new);
    let mut errors = Errors::default();
    validate(&new, &mut errors);
    if let Some(old) = old {
        immutable::compare(old, &new, &mut errors);
    }
    errors.none_or(new)
}

/// Completes and checks the status of an object that is to be recorded in the place of `old`.
///
/// # Errors
/// Everything that is wrong, at most [`ERRORS_MAX`] entries.
pub fn admit_status(old: &Object, mut new: Object) -> Result<Object, Vec<FieldError>> {
    defaults::complete_status(&mut new);
    let mut errors = Errors::default();
    immutable::compare_status(old, &new, &mut errors);
    if let Object::Node(node) = &new {
        node::validate_status(&node.status, &mut errors);
    }
    errors.none_or(new)
}

fn validate(object: &Object, errors: &mut Errors) {
    meta::validate(object, errors);
    let spec = Path::root("spec");
    match object {
        Object::ClusterRole(role) => rights::validate_cluster_role(role, errors),
        Object::ClusterRoleBinding(binding) => {
            rights::validate_cluster_role_binding(binding, errors);
        }
        Object::ConfigMap(map) => data::validate_config_map(map, errors),
        Object::CustomResourceDefinition(new) => definition::validate(new, errors),
        Object::Deployment(deployment) => {
            workload::validate_deployment(&deployment.spec, &spec, errors);
        }
        Object::Event(event) => data::validate_event(event, errors),
        Object::Lease(new) => lease::validate(&new.spec, &spec, errors),
        // What a definition says of its objects is checked where the definition is known.
        Object::Custom(_) | Object::Namespace(_) | Object::ServiceAccount(_) => {}
        Object::Node(node) => {
            node::validate(&node.spec, &spec, errors);
            node::validate_status(&node.status, errors);
        }
        Object::Pod(pod) => {
            pod::validate(&pod.spec, &spec, errors);
            pod::validate_node_name(pod, &spec, errors);
        }
        Object::PodDisruptionBudget(budget) => budget::validate(&budget.spec, &spec, errors),
        Object::ReplicaSet(set) => workload::validate_replica_set(&set.spec, &spec, errors),
        Object::Role(role) => rights::validate_role(role, errors),
        Object::RoleBinding(binding) => rights::validate_role_binding(binding, errors),
        Object::Secret(secret) => data::validate_secret(secret, errors),
        Object::Service(service) => service::validate(&service.spec, &spec, errors),
    }
}

//! What must not change once an object is recorded.

use std::sync::Arc;

use serde_json::Value;

use super::defaults::complete_pod_spec;
use super::definition;
use super::errors::{Errors, Path};
use crate::model::{
    ConfigMap, FieldError, LabelSelector, NodeSpec, Object, ObjectMeta, Pod, RoleRef, Secret,
    Service,
};

pub(super) const IMMUTABLE: &str = "field is immutable";

/// Notes what `new` changes and must not. `new` has inherited what it did not say.
pub(super) fn compare(old: &Object, new: &Object, errors: &mut Errors) {
    compare_meta(old.meta(), new.meta(), errors);
    match (old, new) {
        (Object::ConfigMap(old), Object::ConfigMap(new)) => compare_config_map(old, new, errors),
        (Object::CustomResourceDefinition(old), Object::CustomResourceDefinition(new)) => {
            definition::compare(old, new, errors);
        }
        (Object::Custom(old), Object::Custom(new)) if old.kind == new.kind => {}
        (Object::Deployment(old), Object::Deployment(new)) => {
            compare_selector(&old.spec.selector, &new.spec.selector, errors);
        }
        (Object::Node(old), Object::Node(new)) => compare_node(&old.spec, &new.spec, errors),
        (Object::Pod(old), Object::Pod(new)) => compare_pod(old, new, errors),
        (Object::ReplicaSet(old), Object::ReplicaSet(new)) => {
            compare_selector(&old.spec.selector, &new.spec.selector, errors);
        }
        (Object::Secret(old), Object::Secret(new)) => compare_secret(old, new, errors),
        (Object::Service(old), Object::Service(new)) => compare_service(old, new, errors),
        (Object::ClusterRoleBinding(old), Object::ClusterRoleBinding(new)) => {
            compare_role(&old.role_ref, &new.role_ref, errors);
        }
        (Object::RoleBinding(old), Object::RoleBinding(new)) => {
            compare_role(&old.role_ref, &new.role_ref, errors);
        }
        (Object::ClusterRole(_), Object::ClusterRole(_))
        | (Object::Event(_), Object::Event(_))
        | (Object::Lease(_), Object::Lease(_))
        | (Object::Namespace(_), Object::Namespace(_))
        | (Object::PodDisruptionBudget(_), Object::PodDisruptionBudget(_))
        | (Object::Role(_), Object::Role(_))
        | (Object::ServiceAccount(_), Object::ServiceAccount(_)) => {}
        (old, new) => {
            let right = format!("must be {:?}: {IMMUTABLE}", old.kind().name());
            errors.push(FieldError::invalid("kind", new.kind().name(), &right));
        }
    }
}

/// Notes what the status of `new` changes and must not.
pub(super) fn compare_status(old: &Object, new: &Object, errors: &mut Errors) {
    if let (Object::Pod(old), Object::Pod(new)) = (old, new) {
        let (before, after) = (old.status.phase, new.status.phase);
        if before.is_final() && after != before {
            let right = format!("must stay {before:?}, which is final");
            errors.push(FieldError::invalid("status.phase", format!("{after:?}"), &right));
        }
    }
}

/// A node's slice is given once.
fn compare_node(old: &NodeSpec, new: &NodeSpec, errors: &mut Errors) {
    let at = Path::root("spec");
    if !old.pod_cidr.is_empty() && old.pod_cidr != new.pod_cidr {
        errors.push(FieldError::invalid(at.field("podCIDR"), &*new.pod_cidr, IMMUTABLE));
    }
    if !old.pod_cidrs.is_empty() && old.pod_cidrs != new.pod_cidrs {
        errors.push(FieldError::invalid(at.field("podCIDRs"), new.pod_cidrs.join(","), IMMUTABLE));
    }
}

fn compare_meta(old: &ObjectMeta, new: &ObjectMeta, errors: &mut Errors) {
    let at = Path::root("metadata");
    for (field, old, new) in
        [("name", &old.name, &new.name), ("namespace", &old.namespace, &new.namespace)]
    {
        if old != new {
            errors.push(FieldError::invalid(at.field(field), &**new, IMMUTABLE));
        }
    }
    if old.uid != new.uid {
        errors.push(FieldError::invalid(at.field("uid"), new.uid.to_string(), IMMUTABLE));
    }
    if old.creation_timestamp != new.creation_timestamp {
        let new = new.creation_timestamp.map(|time| time.to_string());
        errors.push(FieldError::invalid(at.field("creationTimestamp"), new, IMMUTABLE));
    }
    if old.is_deleting() {
        for name in new.finalizers.iter().filter(|name| !old.has_finalizer(name)) {
            let why = format!(
                "no new finalizers can be added while the object is being deleted, found {name:?}"
            );
            errors.push(FieldError::forbidden(at.field("finalizers"), &why));
        }
    }
}

fn compare_selector(old: &LabelSelector, new: &LabelSelector, errors: &mut Errors) {
    if old != new {
        let new = serde_json::to_value(new).unwrap_or(Value::Null);
        errors.push(FieldError::invalid("spec.selector", new, IMMUTABLE));
    }
}

fn compare_role(old: &RoleRef, new: &RoleRef, errors: &mut Errors) {
    if old != new {
        let new = serde_json::to_value(new).unwrap_or(Value::Null);
        let right = "cannot change roleRef; delete the binding and make another";
        errors.push(FieldError::invalid("roleRef", new, right));
    }
}

fn compare_config_map(old: &ConfigMap, new: &ConfigMap, errors: &mut Errors) {
    if !old.immutable {
        return;
    }
    flag(new.immutable, errors);
    if old.data != new.data {
        errors.push(FieldError::forbidden("data", FROZEN));
    }
    if old.binary_data != new.binary_data {
        errors.push(FieldError::forbidden("binaryData", FROZEN));
    }
}

fn compare_secret(old: &Secret, new: &Secret, errors: &mut Errors) {
    if old.kind != new.kind {
        errors.push(FieldError::invalid("type", &*new.kind, IMMUTABLE));
    }
    if !old.immutable {
        return;
    }
    flag(new.immutable, errors);
    if old.data != new.data {
        errors.push(FieldError::forbidden("data", FROZEN));
    }
}

const FROZEN: &str = "field is immutable when `immutable` is set";

fn flag(immutable: bool, errors: &mut Errors) {
    if !immutable {
        errors.push(FieldError::forbidden("immutable", FROZEN));
    }
}

fn compare_service(old: &Service, new: &Service, errors: &mut Errors) {
    let (before, after) = (&old.spec, &new.spec);
    if !before.cluster_ip.is_empty()
        && before.cluster_ip != after.cluster_ip
        && after.kind != "ExternalName"
    {
        errors.push(FieldError::invalid("spec.clusterIP", &*after.cluster_ip, IMMUTABLE));
    }
}

/// A pod's spec is fixed, but for images, and tolerations that are added.
fn compare_pod(old: &Pod, new: &Pod, errors: &mut Errors) {
    if old.node_name != new.node_name {
        // A node is given by binding alone, once (S13).
        let why = "a pod gets its node by being bound, and keeps it";
        errors.push(FieldError::forbidden("spec.nodeName", why));
    }
    if Arc::ptr_eq(&old.spec, &new.spec) {
        return;
    }
    let mut allowed = (*old.spec).clone();
    // The old one may be from before a default there is now.
    complete_pod_spec(&mut allowed);
    for (allowed, new) in allowed.containers.iter_mut().zip(&new.spec.containers) {
        allowed.image.clone_from(&new.image);
    }
    let kept = old.spec.tolerations.iter().all(|one| new.spec.tolerations.contains(one));
    if kept {
        allowed.tolerations.clone_from(&new.spec.tolerations);
    }
    if allowed != *new.spec {
        let why =
            "updates of a pod may change nothing but images of containers, and add tolerations";
        errors.push(FieldError::forbidden("spec", why));
    }
}

//! What a new object takes over from the one it replaces when it does not say.

use std::sync::Arc;

use super::defaults::{covers, is_default_toleration};
use crate::model::{Object, Pod};

/// Fills in identity and times, and what only the control plane sets. A deletion mark is never taken back (S25).
pub(super) fn inherit(old: &Object, new: &mut Object) {
    let (kind, from, meta) = (new.kind(), old.meta().clone(), new.meta_mut());
    if meta.name.is_empty() {
        meta.name = from.name;
    }
    if meta.namespace.is_empty() && kind.is_namespaced() {
        meta.namespace = from.namespace;
    }
    if meta.uid.is_nil() {
        meta.uid = from.uid;
    }
    meta.creation_timestamp = meta.creation_timestamp.or(from.creation_timestamp);
    meta.generation = from.generation;
    meta.resource_version = from.resource_version;
    meta.deletion_timestamp = from.deletion_timestamp;
    meta.deletion_grace_period_seconds = from.deletion_grace_period_seconds;
    if meta.generate_name.is_empty() {
        meta.generate_name = from.generate_name;
    }
    match (old, new) {
        (Object::Namespace(old), Object::Namespace(new)) => {
            // Only the namespace controller ends this duty.
            Arc::make_mut(new).spec.finalizers.clone_from(&old.spec.finalizers);
        }
        (Object::Pod(old), Object::Pod(new)) => inherit_pod(old, Arc::make_mut(new)),
        (Object::Secret(old), Object::Secret(new)) if new.kind.is_empty() => {
            Arc::make_mut(new).kind.clone_from(&old.kind);
        }
        (Object::Service(old), Object::Service(new)) if new.spec.cluster_ip.is_empty() => {
            Arc::make_mut(new).spec.cluster_ip.clone_from(&old.spec.cluster_ip);
        }
        _ => {}
    }
}

/// What was filled in when the pod was created is not filled in anew: a pod's spec is fixed, and pods made by
/// controllers are like their templates.
fn inherit_pod(old: &Pod, new: &mut Pod) {
    if new.node_name.is_empty() {
        new.node_name.clone_from(&old.node_name);
    }
    if new.spec == old.spec {
        return;
    }
    let spec = Arc::make_mut(&mut new.spec);
    for container in &mut spec.containers {
        let Some(old) = old.spec.containers.iter().find(|old| old.name == container.name) else {
            continue;
        };
        let resources = &mut container.resources;
        for name in resources.limits.keys() {
            if let Some(request) = old.resources.requests.get(name) {
                resources.requests.entry(name.clone()).or_insert(*request);
            }
        }
    }
    for toleration in old.spec.tolerations.iter().filter(|one| is_default_toleration(one)) {
        let is_covered = spec.tolerations.iter().any(|one| covers(one, &toleration.key));
        if !is_covered {
            spec.tolerations.push(toleration.clone());
        }
    }
}

//! What a new object takes over from the one it replaces when it does not say.

use std::sync::Arc;

use crate::model::Object;

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
        (Object::Pod(old), Object::Pod(new)) if new.node_name.is_empty() => {
            Arc::make_mut(new).node_name.clone_from(&old.node_name);
        }
        (Object::Secret(old), Object::Secret(new)) if new.kind.is_empty() => {
            Arc::make_mut(new).kind.clone_from(&old.kind);
        }
        (Object::Service(old), Object::Service(new)) if new.spec.cluster_ip.is_empty() => {
            Arc::make_mut(new).spec.cluster_ip.clone_from(&old.spec.cluster_ip);
        }
        _ => {}
    }
}

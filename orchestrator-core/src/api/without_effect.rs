//! Values of implemented fields that Kubernetes acts on and we do not. (Whole fields that we lack are in the field table.)

use crate::model::Object;

/// The values an object has that Kubernetes acts on and we do not, each with its whole path.
pub(super) fn values_without_effect(object: &Object) -> Vec<String> {
    let (at, spec) = match object {
        Object::Deployment(object) => ("spec.template.spec", &object.spec.template.spec),
        Object::Pod(object) => ("spec", &object.spec),
        Object::ReplicaSet(object) => ("spec.template.spec", &object.spec.template.spec),
        Object::ConfigMap(_)
        | Object::Event(_)
        | Object::Namespace(_)
        | Object::Node(_)
        | Object::Secret(_)
        | Object::Service(_) => return Vec::new(),
    };
    let mut found = Vec::new();
    for (index, container) in spec.containers.iter().enumerate() {
        let probes = [
            ("livenessProbe", &container.liveness_probe),
            ("readinessProbe", &container.readiness_probe),
        ];
        for (name, probe) in probes {
            let get = probe.as_ref().and_then(|probe| probe.http_get.as_ref());
            if get.is_some_and(|get| get.scheme == "HTTPS") {
                found.push(format!("{at}.containers[{index}].{name}.httpGet.scheme HTTPS"));
            }
        }
    }
    found
}

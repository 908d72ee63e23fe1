//! What an author is told has no effect here, and what is not worth telling.

use serde_json::Value;

use crate::model::Object;

/// Values of fields we lack that say what is so anyway: Kubernetes' defaults, which many clients write out. By the last
/// name of their path.
const SO_ANYWAY: [(&str, &str); 6] = [
    ("dnsPolicy", r#""ClusterFirst""#),
    ("enableServiceLinks", "true"),
    ("securityContext", "{}"),
    ("serviceAccountName", r#""default""#),
    ("terminationMessagePath", r#""/dev/termination-log""#),
    ("terminationMessagePolicy", r#""File""#),
];

/// Whether a field that we lack has a value of which nobody need be told.
pub(super) fn is_so_anyway(path: &str, value: &Value) -> bool {
    let name = path.rsplit('.').next().unwrap_or(path);
    let text = value.to_string();
    SO_ANYWAY.iter().any(|(field, default)| *field == name && *default == text)
}

/// The types of service that would be reached from outside the cluster, or stand for what lies there.
const OUTSIDE_TYPES: [&str; 3] = ["ExternalName", "LoadBalancer", "NodePort"];

/// The values an object has that Kubernetes acts on and we do not, each with its whole path, and what comes of that.
pub(super) fn values_without_effect(object: &Object) -> Vec<(String, &'static str)> {
    let (at, spec) = match (object, object.workload()) {
        (Object::Pod(pod), _) => ("spec", &pod.spec),
        (Object::Service(service), _) if OUTSIDE_TYPES.contains(&service.spec.kind.as_str()) => {
            let value = format!("spec.type {}", service.spec.kind);
            return vec![(value, "kept, without effect")];
        }
        (_, Some(workload)) => ("spec.template.spec", &workload.template.spec),
        (_, None) => return Vec::new(),
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
                let value = format!("{at}.containers[{index}].{name}.httpGet.scheme HTTPS");
                found.push((value, "such a probe fails"));
            }
        }
    }
    found
}

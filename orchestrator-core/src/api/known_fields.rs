//! The fields that Kubernetes 1.32 has and our model lacks, for the kinds we serve.
//!
//! Paths are relative to a part; `[]` stands for any element of a list. What lies below a field in the table is
//! kept whole and not looked into.

use crate::model::{Kind, Object, Step};

/// Of a pod's spec, in pods and templates.
const POD_SPEC: &[&str] = &[
    "activeDeadlineSeconds",
    "affinity",
    "automountServiceAccountToken",
    "dnsConfig",
    "dnsPolicy",
    "enableServiceLinks",
    "ephemeralContainers",
    "hostAliases",
    "hostIPC",
    "hostNetwork",
    "hostPID",
    "hostUsers",
    "hostname",
    "imagePullSecrets",
    "initContainers",
    "nodeName",
    "os",
    "overhead",
    "preemptionPolicy",
    "priority",
    "priorityClassName",
    "readinessGates",
    "resourceClaims",
    "resources",
    "runtimeClassName",
    "schedulingGates",
    "securityContext",
    "serviceAccount",
    "serviceAccountName",
    "setHostnameAsFQDN",
    "shareProcessNamespace",
    "subdomain",
    "topologySpreadConstraints",
    "volumes",
];

/// Of a container.
const CONTAINER: &[&str] = &[
    "env[].valueFrom",
    "envFrom",
    "lifecycle",
    "livenessProbe.grpc",
    "livenessProbe.terminationGracePeriodSeconds",
    "readinessProbe.grpc",
    "readinessProbe.terminationGracePeriodSeconds",
    "resizePolicy",
    "resources.claims",
    "restartPolicy",
    "securityContext",
    "startupProbe",
    "stdin",
    "stdinOnce",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "tty",
    "volumeDevices",
    "volumeMounts",
];

const POD_STATUS: &[&str] = &[
    "conditions[].lastProbeTime",
    "containerStatuses[].allocatedResources",
    "containerStatuses[].allocatedResourcesStatus",
    "containerStatuses[].lastState.terminated.signal",
    "containerStatuses[].resources",
    "containerStatuses[].state.terminated.signal",
    "containerStatuses[].user",
    "containerStatuses[].volumeMounts",
    "ephemeralContainerStatuses",
    "hostIPs",
    "initContainerStatuses",
    "nominatedNodeName",
    "resize",
    "resourceClaimStatuses",
];

const SERVICE_SPEC: &[&str] = &[
    "allocateLoadBalancerNodePorts",
    "clusterIPs",
    "externalIPs",
    "externalName",
    "externalTrafficPolicy",
    "healthCheckNodePort",
    "internalTrafficPolicy",
    "ipFamilies",
    "ipFamilyPolicy",
    "loadBalancerClass",
    "loadBalancerIP",
    "loadBalancerSourceRanges",
    "ports[].appProtocol",
    "ports[].nodePort",
    "publishNotReadyAddresses",
    "sessionAffinityConfig",
    "trafficDistribution",
];

const NODE_SPEC: &[&str] = &["configSource", "externalID", "podCIDR", "podCIDRs", "providerID"];

const NODE_STATUS: &[&str] = &[
    "config",
    "daemonEndpoints",
    "features",
    "images",
    "phase",
    "runtimeHandlers",
    "volumesAttached",
    "volumesInUse",
];

const EVENT: &[&str] = &["action", "eventTime", "related", "series"];

/// Whether Kubernetes has a field at `path` in the part of an object of `kind`.
pub(super) fn is_known(kind: Kind, part: &str, path: &[Step]) -> bool {
    let pattern = pattern(path);
    let pod_spec = || {
        let in_container = pattern.strip_prefix("containers[].");
        POD_SPEC.contains(&&*pattern) || in_container.is_some_and(|path| CONTAINER.contains(&path))
    };
    match (kind, part) {
        (Kind::Deployment | Kind::ReplicaSet, "spec.template.spec") => pod_spec(),
        (Kind::Deployment, "status") => pattern == "collisionCount",
        (Kind::Event, "") => EVENT.contains(&&*pattern),
        (Kind::Node, "spec") => NODE_SPEC.contains(&&*pattern),
        (Kind::Node, "status") => NODE_STATUS.contains(&&*pattern),
        (Kind::Pod, "spec") => pod_spec(),
        (Kind::Pod, "status") => POD_STATUS.contains(&&*pattern),
        (Kind::Service, "spec") => SERVICE_SPEC.contains(&&*pattern),
        _ => false,
    }
}

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

/// Prints a path with `[]` for every index.
fn pattern(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Index(_) => text.push_str("[]"),
            Step::Field(name) => {
                if !text.is_empty() {
                    text.push('.');
                }
                text.push_str(name);
            }
        }
    }
    text
}

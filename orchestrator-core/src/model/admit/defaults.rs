//! Kubernetes' defaults, written into the object so that everyone reads the same.

use std::sync::Arc;

use base64::Engine as _;

use super::definition;
use super::rights::complete_binding;
use crate::model::{
    Container, CountOrPercent, DEFAULT_SCHEDULER, Deployment, ImagePullPolicy,
    LABEL_NAMESPACE_NAME, NAMESPACE_FINALIZER, Namespace, Object, Pod, PodSpec, PortOrName, Probe,
    Protocol, RestartPolicy, RollingUpdate, Secret, Sensitive, Service, StrategyType,
    TAINT_NOT_READY, TAINT_UNREACHABLE, TaintEffect, Toleration, TolerationOperator,
};

/// How long a pod stays on a node that does not answer or is not ready, unless it says otherwise.
const NOT_READY_SECONDS: i64 = 300;

/// Fills in what the main part leaves out.
pub(super) fn complete(object: &mut Object) {
    match object {
        Object::ClusterRole(_)
        | Object::ConfigMap(_)
        | Object::Custom(_)
        | Object::Event(_)
        | Object::Lease(_)
        | Object::Node(_)
        | Object::PodDisruptionBudget(_)
        | Object::Role(_)
        | Object::ServiceAccount(_) => {}
        Object::ClusterRoleBinding(binding) => {
            let binding = Arc::make_mut(binding);
            complete_binding(&mut binding.role_ref, &mut binding.subjects);
        }
        Object::CustomResourceDefinition(new) => definition::complete(Arc::make_mut(new)),
        Object::Deployment(deployment) => complete_deployment(Arc::make_mut(deployment)),
        Object::Namespace(namespace) => complete_namespace(Arc::make_mut(namespace)),
        Object::Pod(pod) => complete_pod_spec(Arc::make_mut(&mut Arc::make_mut(pod).spec)),
        Object::ReplicaSet(set) => {
            let spec = &mut Arc::make_mut(set).spec;
            spec.replicas.get_or_insert(1);
            complete_pod_spec(Arc::make_mut(&mut spec.template.spec));
        }
        Object::RoleBinding(binding) => {
            let binding = Arc::make_mut(binding);
            complete_binding(&mut binding.role_ref, &mut binding.subjects);
        }
        Object::Secret(secret) => complete_secret(Arc::make_mut(secret)),
        Object::Service(service) => complete_service(Arc::make_mut(service)),
    }
}

/// Fills in what the status leaves out.
pub(super) fn complete_status(object: &mut Object) {
    if let Object::Node(node) = object
        && node.status.allocatable.is_empty()
        && !node.status.capacity.is_empty()
    {
        let status = &mut Arc::make_mut(node).status;
        status.allocatable.clone_from(&status.capacity);
    }
}

fn complete_deployment(deployment: &mut Deployment) {
    let spec = &mut deployment.spec;
    spec.replicas.get_or_insert(1);
    spec.revision_history_limit.get_or_insert(10);
    spec.progress_deadline_seconds.get_or_insert(600);
    if *spec.strategy.kind.get_or_insert(StrategyType::RollingUpdate) == StrategyType::RollingUpdate
    {
        let bounds = spec.strategy.rolling_update.get_or_insert_with(RollingUpdate::default);
        bounds.max_surge.get_or_insert(CountOrPercent::Percent(25));
        bounds.max_unavailable.get_or_insert(CountOrPercent::Percent(25));
    }
    complete_pod_spec(Arc::make_mut(&mut spec.template.spec));
}

fn complete_namespace(namespace: &mut Namespace) {
    let meta = &mut namespace.metadata;
    meta.labels.insert(LABEL_NAMESPACE_NAME.to_owned(), meta.name.clone());
    if !meta.is_deleting() && namespace.spec.finalizers.is_empty() {
        namespace.spec.finalizers.push(NAMESPACE_FINALIZER.to_owned());
    }
}

/// Fills in what a pod has beyond its template when it is created: requests for its limits, and how long it stays on a
/// node that is lost or not ready.
pub fn complete_new_pod(pod: &mut Pod) {
    let spec = Arc::make_mut(&mut pod.spec);
    for container in &mut spec.containers {
        let resources = &mut container.resources;
        for (name, limit) in &resources.limits {
            resources.requests.entry(name.clone()).or_insert(*limit);
        }
    }
    for key in [TAINT_NOT_READY, TAINT_UNREACHABLE] {
        if !spec.tolerations.iter().any(|toleration| covers(toleration, key)) {
            spec.tolerations.push(default_toleration(key));
        }
    }
}

fn default_toleration(key: &str) -> Toleration {
    Toleration {
        effect: Some(TaintEffect::NoExecute),
        key: key.to_owned(),
        operator: Some(TolerationOperator::Exists),
        toleration_seconds: Some(NOT_READY_SECONDS),
        value: String::new(),
    }
}

pub(super) fn is_default_toleration(toleration: &Toleration) -> bool {
    [TAINT_NOT_READY, TAINT_UNREACHABLE].iter().any(|key| *toleration == default_toleration(key))
}

/// Whether a toleration has its say about the eviction by this taint.
pub(super) fn covers(toleration: &Toleration, key: &str) -> bool {
    (toleration.key == key || toleration.key.is_empty())
        && toleration.effect.is_none_or(|effect| effect == TaintEffect::NoExecute)
}

/// What pods and templates have in common. Requests are not among it: a template whose limits are lowered later
/// would be left with requests above them that nobody wrote.
pub(crate) fn complete_pod_spec(spec: &mut PodSpec) {
    spec.restart_policy.get_or_insert(RestartPolicy::Always);
    spec.termination_grace_period_seconds.get_or_insert(30);
    if spec.scheduler_name.is_empty() {
        DEFAULT_SCHEDULER.clone_into(&mut spec.scheduler_name);
    }
    spec.containers.iter_mut().for_each(complete_container);
}

fn complete_container(container: &mut Container) {
    let policy = default_pull_policy(&container.image);
    container.image_pull_policy.get_or_insert(policy);
    for port in &mut container.ports {
        port.protocol.get_or_insert(Protocol::Tcp);
        // Clients send 0 for "none".
        port.host_port = port.host_port.filter(|port| *port != 0);
    }
    let probes = [&mut container.liveness_probe, &mut container.readiness_probe];
    probes.into_iter().flatten().for_each(complete_probe);
}

/// Without a tag, or with `latest`, an image may have changed since it was pulled.
fn default_pull_policy(image: &str) -> ImagePullPolicy {
    let name = image.rsplit('/').next().unwrap_or(image);
    let is_moving = match name.rsplit_once(':') {
        Some((_, tag)) => tag == "latest" && !name.contains('@'),
        None => !name.is_empty() && !name.contains('@'),
    };
    if is_moving { ImagePullPolicy::Always } else { ImagePullPolicy::IfNotPresent }
}

fn complete_probe(probe: &mut Probe) {
    // As in Kubernetes, 0 stands for the default.
    for (number, default) in [
        (&mut probe.timeout_seconds, 1),
        (&mut probe.period_seconds, 10),
        (&mut probe.success_threshold, 1),
        (&mut probe.failure_threshold, 3),
    ] {
        if number.unwrap_or(0) == 0 {
            *number = Some(default);
        }
    }
    if let Some(get) = &mut probe.http_get {
        if get.path.is_empty() {
            "/".clone_into(&mut get.path);
        }
        if get.scheme.is_empty() {
            "HTTP".clone_into(&mut get.scheme);
        }
    }
}

fn complete_secret(secret: &mut Secret) {
    if secret.kind.is_empty() {
        "Opaque".clone_into(&mut secret.kind);
    }
    let Sensitive(plain) = std::mem::take(&mut secret.string_data);
    for (name, text) in plain {
        let encoded = base64::engine::general_purpose::STANDARD.encode(text);
        secret.data.0.insert(name, encoded);
    }
}

fn complete_service(service: &mut Service) {
    let spec = &mut service.spec;
    if spec.kind.is_empty() {
        "ClusterIP".clone_into(&mut spec.kind);
    }
    if spec.session_affinity.is_empty() {
        "None".clone_into(&mut spec.session_affinity);
    }
    for port in &mut spec.ports {
        if port.protocol.is_empty() {
            "TCP".clone_into(&mut port.protocol);
        }
        let same = PortOrName::Port(port.port);
        let target = port.target_port.get_or_insert_with(|| same.clone());
        if matches!(target, PortOrName::Port(0)) || *target == PortOrName::Name(String::new()) {
            *target = same;
        }
    }
}

//! Tables: the columns that `kubectl get` shows, made on the server.

mod explanation;
mod scale;
mod service;

use orchestrator_core::model::{
    Container, CountOrPercent, Event, EventType, Kind, Node, NodeSpec, Object, ObjectReference,
    Pod, PodTemplate, PrinterColumn, RoleRef, Subject, Time,
};
use serde_json::{Value, json};

use crate::age::brief;
use crate::custom;
use crate::fields::phase;

pub(crate) use explanation::explanation;
pub(crate) use scale::scale;

/// How much of the object each row carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IncludeObject {
    Metadata,
    None,
    Object,
}

/// A column: name, type, format, whether only wide output shows it.
type Column = (&'static str, &'static str, &'static str, bool);

const NAME: Column = ("Name", "string", "name", false);
const AGE: Column = ("Age", "string", "", false);

const ANY: &[Column] = &[NAME, AGE];

const fn text(name: &'static str) -> Column {
    (name, "string", "", false)
}

const fn number(name: &'static str) -> Column {
    (name, "integer", "", false)
}

const fn wide(name: &'static str) -> Column {
    (name, "string", "", true)
}

/// Returns the table's columns for a kind; those of a custom kind are its own.
pub(crate) fn columns(kind: Kind, own: Option<&[PrinterColumn]>) -> Value {
    if let Some(own) = own {
        return custom::columns(own);
    }
    let columns: &[Column] = match kind {
        Kind::ClusterRole | Kind::Role => &[NAME, ("Created At", "date", "", false)],
        Kind::ClusterRoleBinding | Kind::RoleBinding => {
            &[NAME, text("Role"), AGE, wide("Users"), wide("Groups"), wide("ServiceAccounts")]
        }
        Kind::ConfigMap => &[NAME, number("Data"), AGE],
        Kind::CustomResourceDefinition => &[NAME, ("Created At", "date", "", false)],
        Kind::Deployment => &[
            NAME,
            text("Ready"),
            number("Up-to-date"),
            number("Available"),
            AGE,
            wide("Containers"),
            wide("Images"),
            wide("Selector"),
        ],
        Kind::Event => &[
            text("Last Seen"),
            text("Type"),
            text("Reason"),
            text("Object"),
            wide("Subobject"),
            wide("Source"),
            text("Message"),
            wide("First Seen"),
            ("Count", "integer", "", true),
            ("Name", "string", "name", true),
        ],
        Kind::Lease => &[NAME, text("Holder"), AGE],
        Kind::Namespace => &[NAME, text("Status"), AGE],
        Kind::Node => &[
            NAME,
            text("Status"),
            text("Roles"),
            AGE,
            text("Version"),
            wide("Internal-IP"),
            wide("External-IP"),
            wide("OS-Image"),
            wide("Kernel-Version"),
            wide("Container-Runtime"),
        ],
        Kind::Pod => &[
            NAME,
            text("Ready"),
            text("Status"),
            text("Restarts"),
            AGE,
            wide("IP"),
            wide("Node"),
            wide("Nominated Node"),
            wide("Readiness Gates"),
        ],
        Kind::PodDisruptionBudget => &[
            NAME,
            text("Min Available"),
            text("Max Unavailable"),
            number("Allowed Disruptions"),
            AGE,
        ],
        Kind::ReplicaSet => &[
            NAME,
            number("Desired"),
            number("Current"),
            number("Ready"),
            AGE,
            wide("Containers"),
            wide("Images"),
            wide("Selector"),
        ],
        Kind::Secret => &[NAME, text("Type"), number("Data"), AGE],
        Kind::ServiceAccount => &[NAME, number("Secrets"), AGE],
        Kind::Service => &[
            NAME,
            text("Type"),
            text("Cluster-IP"),
            text("External-IP"),
            text("Port(s)"),
            AGE,
            wide("Selector"),
        ],
        _ => ANY,
    };
    described(columns)
}

/// Returns the columns of a kind of which nothing is known.
pub(crate) fn columns_of_any() -> Value {
    described(ANY)
}

fn described(columns: &[Column]) -> Value {
    columns
        .iter()
        .map(|(name, kind, format, is_wide)| {
            json!({
                "name": name, "type": kind, "format": format, "description": name,
                "priority": i32::from(*is_wide),
            })
        })
        .collect()
}

/// Returns the table's row of an object.
pub(crate) fn row(
    object: &Object,
    include: IncludeObject,
    own: Option<&[PrinterColumn]>,
    now: Time,
) -> Value {
    let included = match include {
        IncludeObject::None => Value::Null,
        IncludeObject::Metadata => partial(object),
        IncludeObject::Object => object.to_value(),
    };
    let cells = match (object, own) {
        (object @ Object::Custom(_), Some(own)) => custom::cells(object, own, now),
        _ => cells(object, now),
    };
    json!({ "cells": cells, "object": included })
}

/// Returns an object's metadata as an object of its own.
pub(crate) fn partial(object: &Object) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": object.meta(),
    })
}

fn cells(object: &Object, now: Time) -> Value {
    let meta = object.meta();
    let name = &meta.name;
    let age = age(meta.creation_timestamp, now);
    match object {
        Object::ClusterRole(_) | Object::CustomResourceDefinition(_) | Object::Role(_) => {
            json!([name, meta.creation_timestamp])
        }
        Object::ClusterRoleBinding(binding) => {
            binding_cells(name, &binding.role_ref, &binding.subjects, &age)
        }
        Object::ConfigMap(map) => {
            let value = serde_json::to_value(&**map).unwrap_or_default();
            json!([name, size(&value, "data") + size(&value, "binaryData"), age])
        }
        Object::Deployment(deployment) => {
            let status = &deployment.status;
            let wanted = deployment.spec.replicas.unwrap_or(1);
            let (containers, images) = programs(&deployment.spec.template);
            json!([
                name,
                format!("{}/{wanted}", status.ready_replicas),
                status.updated_replicas,
                status.available_replicas,
                age,
                containers,
                images,
                or_none(&deployment.spec.selector.to_string()),
            ])
        }
        Object::Event(event) => event_cells(event, now),
        Object::Lease(lease) => json!([name, lease.spec.holder_identity, age]),
        Object::Namespace(namespace) => {
            let terminating = namespace.status.phase
                == Some(orchestrator_core::model::NamespacePhase::Terminating);
            json!([name, if terminating { "Terminating" } else { "Active" }, age])
        }
        Object::Node(node) => node_cells(node, &age),
        Object::Pod(pod) => pod_cells(pod, &age, now),
        Object::PodDisruptionBudget(budget) => {
            let bound = |bound: Option<CountOrPercent>| {
                bound.map_or_else(|| "N/A".to_owned(), |bound| bound.to_string())
            };
            let (spec, status) = (&budget.spec, &budget.status);
            let (min, max) = (bound(spec.min_available), bound(spec.max_unavailable));
            json!([name, min, max, status.disruptions_allowed, age])
        }
        Object::RoleBinding(binding) => {
            binding_cells(name, &binding.role_ref, &binding.subjects, &age)
        }
        Object::ReplicaSet(set) => {
            let (containers, images) = programs(&set.spec.template);
            json!([
                name,
                set.spec.replicas.unwrap_or(1),
                set.status.replicas,
                set.status.ready_replicas,
                age,
                containers,
                images,
                or_none(&set.spec.selector.to_string()),
            ])
        }
        Object::Secret(secret) => json!([name, secret.kind, secret.data.0.len(), age]),
        // Kubernetes makes none any more, either.
        Object::ServiceAccount(_) => json!([name, 0, age]),
        Object::Service(service) => service::cells(service, &age),
        _ => json!([name, age]),
    }
}

fn size(value: &Value, field: &str) -> usize {
    value.get(field).and_then(Value::as_object).map_or(0, serde_json::Map::len)
}

fn age(since: Option<Time>, now: Time) -> String {
    match since {
        Some(since) => brief(now.as_seconds() - since.as_seconds()),
        None => "<unknown>".to_owned(),
    }
}

fn or_none(text: &str) -> String {
    if text.is_empty() { "<none>".to_owned() } else { text.to_owned() }
}

fn programs(template: &PodTemplate) -> (String, String) {
    let join = |each: fn(&Container) -> &str| {
        template.spec.containers.iter().map(each).collect::<Vec<_>>().join(",")
    };
    (join(|container| &container.name), join(|container| &container.image))
}

fn binding_cells(name: &str, role: &RoleRef, subjects: &[Subject], age: &str) -> Value {
    let of = |kind: &str| {
        let found = subjects.iter().filter(|subject| subject.kind == kind);
        let names = found.map(|subject| match &*subject.namespace {
            "" => subject.name.clone(),
            namespace => format!("{namespace}/{}", subject.name),
        });
        names.collect::<Vec<_>>().join(", ")
    };
    let role = format!("{}/{}", role.kind, role.name);
    json!([name, role, age, of("User"), of("Group"), of("ServiceAccount")])
}

fn event_cells(event: &Event, now: Time) -> Value {
    let ObjectReference { kind, name, field_path, .. } = &event.involved_object;
    let last = event.last_timestamp.or(event.metadata.creation_timestamp);
    let first = event.first_timestamp.or(event.metadata.creation_timestamp);
    let source = match event.source.component.as_str() {
        "" => event.reporting_component.clone(),
        component if event.source.host.is_empty() => component.to_owned(),
        component => format!("{component}, {}", event.source.host),
    };
    let level = match event.kind {
        EventType::Normal => "Normal",
        EventType::Warning => "Warning",
    };
    json!([
        age(last, now),
        level,
        event.reason,
        format!("{}/{name}", kind.to_lowercase()),
        field_path,
        source,
        event.message.trim(),
        age(first, now),
        event.count.max(1),
        event.metadata.name,
    ])
}

fn node_cells(node: &Node, age: &str) -> Value {
    let NodeSpec { unschedulable, .. } = node.spec;
    let mut status = if node.is_ready() { "Ready" } else { "NotReady" }.to_owned();
    if unschedulable {
        status.push_str(",SchedulingDisabled");
    }
    const ROLE: &str = "node-role.kubernetes.io/";
    let roles: Vec<_> =
        node.metadata.labels.keys().filter_map(|label| label.strip_prefix(ROLE)).collect();
    let address = |kind: &str| {
        let found = node.status.addresses.iter().find(|address| address.kind == kind);
        or_none(found.map_or("", |address| &address.address))
    };
    let info = &node.status.node_info;
    json!([
        node.metadata.name,
        status,
        or_none(&roles.join(",")),
        age,
        info.kubelet_version,
        address("InternalIP"),
        address("ExternalIP"),
        info.os_image,
        info.kernel_version,
        info.container_runtime_version,
    ])
}

fn pod_cells(pod: &Pod, age: &str, now: Time) -> Value {
    let statuses = &pod.status.container_statuses;
    let ready = statuses.iter().filter(|status| status.ready).count();
    let restarts: i64 = statuses.iter().map(|status| i64::from(status.restart_count)).sum();
    let last_restart = statuses
        .iter()
        .filter_map(|status| status.last_state.terminated.as_ref()?.finished_at)
        .max();
    let restarts = match last_restart {
        Some(at) if restarts > 0 => {
            format!("{restarts} ({} ago)", brief(now.as_seconds() - at.as_seconds()))
        }
        Some(_) | None => restarts.to_string(),
    };
    json!([
        pod.metadata.name,
        format!("{ready}/{}", pod.spec.containers.len()),
        pod_status(pod),
        restarts,
        age,
        or_none(&pod.status.pod_ip),
        or_none(&pod.node_name),
        "<none>",
        "<none>",
    ])
}

/// The word in a pod's status column: the most telling of its phase and its containers' reasons.
pub(crate) fn pod_status(pod: &Pod) -> String {
    if pod.metadata.is_deleting() {
        return "Terminating".to_owned();
    }
    let mut word = match pod.status.reason.as_str() {
        "" => phase(pod.status.phase),
        reason => reason,
    }
    .to_owned();
    let mut has_running = false;
    for status in pod.status.container_statuses.iter().rev() {
        let state = &status.state;
        if let Some(waiting) = state.waiting.as_ref().filter(|waiting| !waiting.reason.is_empty()) {
            word.clone_from(&waiting.reason);
        } else if let Some(ended) = &state.terminated {
            word = match (ended.reason.as_str(), ended.exit_code) {
                ("", code) => format!("ExitCode:{code}"),
                (reason, _) => reason.to_owned(),
            };
        } else if status.ready && state.running.is_some() {
            has_running = true;
        }
    }
    if word == "Completed" && has_running {
        word = if pod.is_ready() { "Running" } else { "NotReady" }.to_owned();
    }
    word
}

/// Returns a table of rows.
pub(crate) fn table(metadata: &Value, columns: &Value, rows: Vec<Value>) -> Value {
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": columns,
        "rows": rows,
    })
}

#[cfg(test)]
mod tests {
    use orchestrator_core::model::{ContainerState, ContainerStatus, Key, StateWaiting};

    use super::*;

    #[test]
    fn every_kind_has_a_cell_per_column() {
        for object in Kind::ALL.map(Object::empty) {
            let row = row(&object, IncludeObject::Metadata, None, Time::from_seconds(0));
            let columns = columns(object.kind(), None);
            let count = |value: &Value| value.as_array().map(Vec::len);
            assert_eq!(count(&row["cells"]), count(&columns), "{}", object.kind());
            assert_eq!(row["object"]["kind"], "PartialObjectMetadata");
        }
    }

    #[test]
    fn a_pod_that_cannot_start_says_why_in_its_status() {
        let mut pod = Pod::new("a", "x");
        assert_eq!(pod_status(&pod), "Pending");
        let waiting =
            StateWaiting { reason: "ImagePullBackOff".to_owned(), ..StateWaiting::default() };
        pod.status.container_statuses = vec![ContainerStatus {
            state: ContainerState { waiting: Some(waiting), ..ContainerState::default() },
            ..ContainerStatus::default()
        }];
        assert_eq!(pod_status(&pod), "ImagePullBackOff");
    }

    #[test]
    fn a_key_is_enough_to_point_at_an_object() {
        let involved_object = ObjectReference::to(
            &Key::pod("default", "a"),
            orchestrator_core::model::Uid::default(),
        );
        let event = Object::from(Event { involved_object, ..Event::default() });
        let row = row(&event, IncludeObject::None, None, Time::from_seconds(0));
        assert_eq!(row["cells"][3], "pod/a");
        assert!(row["object"].is_null());
    }
}

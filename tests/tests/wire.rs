//! The JSON of every kind is Kubernetes' own: its types read it and write the same, and no field that clients expect is missing.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Event, Namespace, Node, Pod, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use orchestrator_core::model::{Kind, Object};
use orchestrator_core::schema::{Message, Shape as FieldShape, schema, take_unknown};
use orchestrator_core::testkit::objects::{Shape, clusters};
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Reads JSON with Kubernetes' type and writes it again.
fn again<T: DeserializeOwned + Serialize>(value: &Value) -> Result<Value, String> {
    let read: T = serde_json::from_value(value.clone()).map_err(|error| error.to_string())?;
    serde_json::to_value(&read).map_err(|error| error.to_string())
}

fn read_and_written(kind: Kind, value: &Value) -> Result<Value, String> {
    match kind {
        Kind::ClusterRole => again::<ClusterRole>(value),
        Kind::ClusterRoleBinding => again::<ClusterRoleBinding>(value),
        Kind::ConfigMap => again::<ConfigMap>(value),
        Kind::CustomResourceDefinition => again::<CustomResourceDefinition>(value),
        Kind::Deployment => again::<Deployment>(value),
        Kind::Event => again::<Event>(value),
        Kind::Lease => again::<Lease>(value),
        Kind::Namespace => again::<Namespace>(value),
        Kind::Node => again::<Node>(value),
        Kind::Pod => again::<Pod>(value),
        Kind::PodDisruptionBudget => again::<PodDisruptionBudget>(value),
        Kind::ReplicaSet => again::<ReplicaSet>(value),
        Kind::Role => again::<Role>(value),
        Kind::RoleBinding => again::<RoleBinding>(value),
        Kind::Secret => again::<Secret>(value),
        Kind::Service => again::<Service>(value),
        Kind::ServiceAccount => again::<ServiceAccount>(value),
        other => Err(format!("no type for {other}")),
    }
}

/// Adds the paths of required fields that are not there.
fn missing(message: &Message, value: &Value, path: &str, found: &mut Vec<String>) {
    let Value::Object(map) = value else { return };
    for field in message.fields() {
        let here = format!("{path}.{}", field.name);
        match (map.get(field.name), field.message()) {
            (None, _) if field.is_required => found.push(here),
            (Some(value), Some(message)) => match (field.shape, value) {
                (FieldShape::List, Value::Array(list)) => {
                    list.iter().for_each(|one| missing(message, one, &here, found));
                }
                (FieldShape::Map, Value::Object(map)) => {
                    map.values().for_each(|one| missing(message, one, &here, found));
                }
                _ => missing(message, value, &here, found),
            },
            _ => {}
        }
    }
}

fn check(object: &Object) -> Result<(), String> {
    let kind = object.kind();
    if let Kind::Custom(_) = kind {
        // What its author defines, no type of Kubernetes' reads.
        return Ok(());
    }
    let value = object.to_value();
    let back = read_and_written(kind, &value)?;
    if back != value {
        return Err(format!("{value}\nbecame\n{back}"));
    }
    if kind == Kind::CustomResourceDefinition {
        // It is not in the field table, and is sent as JSON alone.
        return Ok(());
    }
    let message = schema().of_kind(kind.api_version(), kind.name()).ok_or("no message")?;
    let mut bare = value.clone();
    bare.as_object_mut().map(|map| (map.remove("apiVersion"), map.remove("kind")));
    let unknown = take_unknown(message, &mut bare);
    if !unknown.is_empty() {
        return Err(format!("Kubernetes has no {unknown:?}: {value}"));
    }
    let mut lacking = Vec::new();
    missing(message, &value, "", &mut lacking);
    if lacking.is_empty() { Ok(()) } else { Err(format!("{lacking:?} lacks in {value}")) }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn kubernetes_types_read_what_we_write_and_write_the_same(cluster in clusters(Shape::Sound)) {
        for object in &cluster.objects {
            check(object).map_err(TestCaseError::fail)?;
        }
    }
}

#[test]
fn kinds_that_are_not_generated_are_read_and_written_the_same() {
    let secret = json!({ "metadata": { "name": "s", "namespace": "default" }, "type": "Opaque", "data": { "k": "dg==" } });
    let service = json!({
        "metadata": { "name": "w", "namespace": "default" },
        "spec": { "type": "ClusterIP", "selector": { "a": "b" }, "ports": [{ "port": 80, "protocol": "TCP", "targetPort": "http" }] },
    });
    let rule = json!({ "apiGroups": [""], "resources": ["pods"], "verbs": ["get"] });
    let role = json!({ "metadata": { "name": "r", "namespace": "default" }, "rules": [rule] });
    let group = "rbac.authorization.k8s.io";
    let binding = json!({
        "metadata": { "name": "b", "namespace": "default" },
        "roleRef": { "apiGroup": group, "kind": "Role", "name": "r" },
        "subjects": [{ "apiGroup": group, "kind": "User", "name": "jane" }],
    });
    let account = json!({ "metadata": { "name": "a", "namespace": "default" } });
    for (kind, value) in [
        (Kind::Secret, secret),
        (Kind::Service, service),
        (Kind::Role, role),
        (Kind::RoleBinding, binding.clone()),
        (Kind::ClusterRoleBinding, binding),
        (Kind::ServiceAccount, account),
    ] {
        let object = Object::from_value(kind, value).expect("well-formed");
        check(&object).unwrap_or_else(|error| panic!("{error}"));
    }
}

//! Fields that Kubernetes knows and we do not: kept, with a warning that names them, wherever they are.

use super::*;

#[track_caller]
fn check(kind: Kind, pointer: &str, field: &str, value: Value) {
    let mut bench = Bench::new();
    let mut sent = match kind {
        Kind::Deployment => deployment("web"),
        Kind::Event => {
            json!({ "metadata": { "name": "web" }, "involvedObject": { "namespace": "default" } })
        }
        Kind::Node => node("web"),
        Kind::Service => {
            json!({ "metadata": { "name": "web" }, "spec": { "ports": [{ "port": 80 }] } })
        }
        Kind::ClusterRole
        | Kind::ClusterRoleBinding
        | Kind::ConfigMap
        | Kind::Custom(_)
        | Kind::CustomResourceDefinition
        | Kind::Lease
        | Kind::Namespace
        | Kind::Pod
        | Kind::PodDisruptionBudget
        | Kind::ReplicaSet
        | Kind::Role
        | Kind::RoleBinding
        | Kind::Secret
        | Kind::ServiceAccount => pod("web"),
    };
    let parent = sent.pointer_mut(pointer).expect("a parent").as_object_mut().expect("a map");
    parent.insert(field.to_owned(), value.clone());
    let namespace = if kind.is_namespaced() { "default" } else { "" };
    let effect = bench.submit(&create(kind, namespace, sent)).expect("accepted");
    let path = format!("{pointer}/{field}").replace("/0", "[0]").replace('/', ".");
    let path = path.trim_start_matches('.');
    assert_eq!(
        effect.warnings,
        [format!("{path}: known to Kubernetes but not implemented here; kept, without effect")]
    );
    let stored = bench.json(&Key::new(kind, "default", "web"));
    assert_eq!(stored.pointer(&format!("{pointer}/{field}")), Some(&value), "{path}");
    // What was there before is no news.
    let change = json!({ "metadata": { "labels": { "a": "b" } } });
    let key = Key::new(kind, "default", "web");
    let effect = bench.submit(&merge(&key, change)).expect("accepted");
    assert_eq!(effect.warnings, [] as [&str; 0]);
    assert_eq!(bench.json(&key).pointer(&format!("{pointer}/{field}")), Some(&value), "{path}");
}

#[test]
fn kept_fields_are_named_in_a_warning_and_come_back() {
    let template = "/spec/template/spec";
    check(Kind::Deployment, template, "initContainers", json!([{ "name": "i", "image": "x" }]));
    check(Kind::Deployment, template, "affinity", json!({ "nodeAffinity": {} }));
    check(Kind::Deployment, template, "nodeName", json!("n1"));
    let container = "/spec/template/spec/containers/0";
    check(Kind::Deployment, container, "lifecycle", json!({ "preStop": {} }));
    check(Kind::Deployment, container, "startupProbe", json!({ "exec": {} }));
    let env = "/spec/template/spec/containers/0/env/0";
    check(
        Kind::Deployment,
        env,
        "valueFrom",
        json!({ "secretKeyRef": { "name": "s", "key": "k" } }),
    );
    check(Kind::Pod, "/spec", "securityContext", json!({ "fsGroup": 7 }));
    check(
        Kind::Pod,
        "/spec/containers/0",
        "volumeMounts",
        json!([{ "name": "v", "mountPath": "/v" }]),
    );
    check(Kind::Pod, "/spec/containers/0", "terminationMessagePath", json!("/said"));
    check(Kind::Service, "/spec", "externalTrafficPolicy", json!("Local"));
    check(Kind::Service, "/spec/ports/0", "nodePort", json!(30080));
    check(Kind::Node, "/status", "images", json!([{ "names": ["a"] }]));
    check(Kind::Event, "", "eventTime", json!("2026-01-31T08:00:00.000001Z"));
}

#[test]
fn a_handler_that_is_kept_is_a_handler() {
    let mut bench = Bench::new();
    let mut sent = pod("web");
    sent["spec"]["containers"][0]["livenessProbe"] = json!({ "grpc": { "port": 9000 } });
    let effect = bench.submit(&create(Kind::Pod, "default", sent.clone())).expect("accepted");
    assert_eq!(effect.warnings.len(), 1);
    sent["metadata"]["name"] = json!("twice");
    sent["spec"]["containers"][0]["livenessProbe"]["exec"] = json!({ "command": ["true"] });
    let text = bench.refuse(&create(Kind::Pod, "default", sent));
    assert!(text.contains("may not specify more than 1 handler type"), "{text}");
}

#[test]
fn what_is_known_elsewhere_is_not_known_here() {
    let mut bench = Bench::new();
    for (pointer, field) in [
        ("/spec", "hostNetwork"),
        ("/spec/template", "volumes"),
        ("/spec/template/spec/containers/0", "affinity"),
        ("/metadata", "replicas"),
    ] {
        let mut sent = deployment("web");
        sent.pointer_mut(pointer).expect("a parent")[field] = json!({});
        let text = bench.refuse(&create(Kind::Deployment, "default", sent));
        assert!(text.contains("strict decoding error: unknown field"), "{text}");
    }
}

#[test]
fn a_probe_by_https_is_kept_with_a_warning_once() {
    let mut bench = Bench::new();
    let mut sent = deployment("web");
    sent["spec"]["template"]["spec"]["containers"][0]["livenessProbe"] =
        json!({ "httpGet": { "port": 8443, "scheme": "HTTPS" } });
    let effect = bench.submit(&create(Kind::Deployment, "default", sent)).expect("accepted");
    let warning = "spec.template.spec.containers[0].livenessProbe.httpGet.scheme HTTPS: known to Kubernetes but not \
                   implemented here; such a probe fails";
    assert_eq!(effect.warnings, [warning]);
    let key = Key::new(Kind::Deployment, "default", "web");
    let change = json!({ "metadata": { "labels": { "a": "b" } } });
    assert_eq!(bench.submit(&merge(&key, change)).expect("accepted").warnings, [""; 0]);
}

#[test]
fn a_service_that_would_be_reached_from_outside_is_kept_with_a_warning_once() {
    let mut bench = Bench::new();
    let service = |kind: &str| {
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": kind.to_lowercase() },
            "spec": { "type": kind, "ports": [{ "port": 80 }], "externalName": "example.com" },
        })
    };
    for kind in ["NodePort", "LoadBalancer"] {
        let mut sent = service(kind);
        sent["spec"].as_object_mut().expect("a map").remove("externalName");
        let effect = bench.submit(&create(Kind::Service, "default", sent)).expect("accepted");
        let warning = format!(
            "spec.type {kind}: known to Kubernetes but not implemented here; kept, without effect"
        );
        assert_eq!(effect.warnings, [warning]);
    }
    let effect = bench.submit(&create(Kind::Service, "default", service("ExternalName")));
    let warnings = effect.expect("accepted").warnings;
    assert!(warnings.iter().any(|it| it.starts_with("spec.type ExternalName: ")), "{warnings:?}");
    let key = Key::new(Kind::Service, "default", "nodeport");
    let change = json!({ "metadata": { "labels": { "a": "b" } } });
    assert_eq!(bench.submit(&merge(&key, change)).expect("accepted").warnings, [""; 0]);
}

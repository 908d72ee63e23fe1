//! Kubernetes objects as clients and clusters write them go in and come out unchanged.

use serde_json::{Value, json};

use super::{DecodeError, Kind, Object};

/// Reads an object, and checks that what comes out is what went in, and again the same after another round.
#[track_caller]
fn check(kind: Kind, sent: Value) -> Object {
    let object = Object::from_value(kind, sent.clone()).unwrap_or_else(|error| panic!("{error}"));
    let out = object.to_value();
    assert_contains(&out, &sent, "");
    let again = Object::from_value(kind, out.clone()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(again, object);
    assert_eq!(again.to_value(), out);
    object
}

/// Everything that was sent is there; fields that clients require may have been added.
#[track_caller]
fn assert_contains(out: &Value, sent: &Value, at: &str) {
    match (out, sent) {
        (Value::Object(out), Value::Object(sent)) => {
            for (name, value) in sent {
                let at = format!("{at}.{name}");
                let found = out.get(name).unwrap_or_else(|| panic!("{at} is lost"));
                assert_contains(found, value, &at);
            }
        }
        (Value::Array(out), Value::Array(sent)) => {
            assert_eq!(out.len(), sent.len(), "{at}");
            for (index, (out, sent)) in out.iter().zip(sent).enumerate() {
                assert_contains(out, sent, &format!("{at}[{index}]"));
            }
        }
        (out, sent) => assert_eq!(out, sent, "{at}"),
    }
}

#[test]
fn a_pod_as_a_cluster_reports_it() {
    let object = check(
        Kind::Pod,
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": "web-7d9f-abcde",
                "generateName": "web-7d9f-",
                "namespace": "shop",
                "uid": "0192f0c1-1111-7222-8333-444455556666",
                "resourceVersion": "4711",
                "creationTimestamp": "2026-01-31T08:00:00Z",
                "labels": { "app": "web", "pod-template-hash": "7d9f" },
                "annotations": { "example.com/note": "line one\nline two" },
                "ownerReferences": [{
                    "apiVersion": "apps/v1",
                    "kind": "ReplicaSet",
                    "name": "web-7d9f",
                    "uid": "0192f0c1-1111-7222-8333-777788889999",
                    "controller": true,
                    "blockOwnerDeletion": true,
                }],
                "finalizers": ["example.com/drain"],
                "deletionTimestamp": "2026-01-31T09:00:00Z",
                "deletionGracePeriodSeconds": 30,
            },
            "spec": {
                "nodeName": "n1",
                "serviceAccountName": "default",
                "restartPolicy": "OnFailure",
                "terminationGracePeriodSeconds": 5,
                "dnsPolicy": "ClusterFirst",
                "securityContext": { "runAsNonRoot": true },
                "nodeSelector": { "disk": "ssd" },
                "tolerations": [
                    { "key": "a", "operator": "Equal", "value": "b", "effect": "NoSchedule" },
                    { "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60 },
                ],
                "initContainers": [{ "name": "init", "image": "busybox", "command": ["true"] }],
                "volumes": [{ "name": "data", "emptyDir": { "sizeLimit": "1Gi" } }],
                "containers": [
                    {
                        "name": "main",
                        "image": "nginx:1.27",
                        "command": ["nginx"],
                        "args": ["-g", "daemon off;"],
                        "workingDir": "/srv",
                        "ports": [{ "name": "http", "containerPort": 80, "hostPort": 8080, "protocol": "TCP" }],
                        "env": [
                            { "name": "A", "value": "1" },
                            { "name": "IP", "valueFrom": { "fieldRef": { "fieldPath": "status.podIP" } } },
                        ],
                        "envFrom": [{ "configMapRef": { "name": "settings" } }],
                        "resources": {
                            "requests": { "cpu": "250m", "memory": "64Mi" },
                            "limits": { "cpu": "1", "memory": "128Mi", "example.com/gpu": "2" },
                        },
                        "livenessProbe": {
                            "httpGet": {
                                "path": "/healthz",
                                "port": "http",
                                "scheme": "HTTP",
                                "httpHeaders": [{ "name": "X-Probe", "value": "1" }],
                            },
                            "initialDelaySeconds": 3,
                            "periodSeconds": 10,
                        },
                        "readinessProbe": { "exec": { "command": ["test", "-f", "/ready"] } },
                        "startupProbe": { "tcpSocket": { "port": 80 } },
                        "lifecycle": { "preStop": { "exec": { "command": ["sleep", "1"] } } },
                        "volumeMounts": [{ "name": "data", "mountPath": "/data" }],
                        "securityContext": { "capabilities": { "drop": ["ALL"] } },
                    },
                    { "name": "side", "image": "side@sha256:0123", "tty": true },
                ],
            },
            "status": {
                "phase": "Running",
                "podIP": "10.1.2.3",
                "podIPs": [{ "ip": "10.1.2.3" }],
                "hostIP": "192.168.0.1",
                "hostIPs": [{ "ip": "192.168.0.1" }],
                "qosClass": "Burstable",
                "startTime": "2026-01-31T08:00:01Z",
                "conditions": [{
                    "type": "Ready",
                    "status": "True",
                    "lastProbeTime": "2026-01-31T08:00:09Z",
                    "lastTransitionTime": "2026-01-31T08:00:09Z",
                }],
                "containerStatuses": [{
                    "name": "main",
                    "image": "nginx:1.27",
                    "imageID": "sha256:4567",
                    "containerID": "docker://89ab",
                    "ready": true,
                    "started": true,
                    "restartCount": 1,
                    "state": { "running": { "startedAt": "2026-01-31T08:00:08Z" } },
                    "lastState": { "terminated": { "exitCode": 137, "reason": "OOMKilled", "signal": 9 } },
                    "allocatedResources": { "cpu": "250m" },
                }],
            },
        }),
    );
    let Object::Pod(pod) = &object else { panic!("a pod") };
    assert_eq!(pod.node_name, "n1");
    assert_eq!(pod.spec.containers[0].env[1].value, "");
    let kept: Vec<_> = object.residuals().into_iter().map(|(path, _)| path).collect();
    assert!(kept.contains(&"spec.containers[0].env[1].valueFrom".to_owned()), "{kept:?}");
    assert!(kept.contains(&"status.conditions[0].lastProbeTime".to_owned()), "{kept:?}");
}

#[test]
fn workloads() {
    let template = json!({
        "metadata": { "labels": { "app": "web" }, "annotations": { "a": "b" } },
        "spec": {
            "containers": [{ "name": "main", "image": "nginx", "stdin": true }],
            "affinity": { "podAntiAffinity": {} },
            "nodeName": "n1",
        },
    });
    check(
        Kind::Deployment,
        json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": { "name": "web", "namespace": "default", "generation": 4 },
            "spec": {
                "replicas": 0,
                "paused": true,
                "minReadySeconds": 5,
                "revisionHistoryLimit": 0,
                "progressDeadlineSeconds": 60,
                "selector": {
                    "matchLabels": { "app": "web" },
                    "matchExpressions": [
                        { "key": "tier", "operator": "NotIn", "values": ["db", "cache"] },
                        { "key": "old", "operator": "DoesNotExist" },
                    ],
                },
                "strategy": { "type": "RollingUpdate", "rollingUpdate": { "maxSurge": 2, "maxUnavailable": "10%" } },
                "template": template,
            },
            "status": {
                "observedGeneration": 4,
                "replicas": 3,
                "collisionCount": 1,
                "conditions": [{
                    "type": "Progressing",
                    "status": "Unknown",
                    "reason": "DeploymentPaused",
                    "message": "paused",
                    "lastUpdateTime": "2026-01-31T08:00:09Z",
                    "lastTransitionTime": "2026-01-31T08:00:09Z",
                }],
            },
        }),
    );
    check(
        Kind::ReplicaSet,
        json!({
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": { "name": "web-7d9f", "namespace": "default" },
            "spec": { "replicas": 3, "selector": { "matchLabels": { "app": "web" } }, "template": template },
            "status": { "replicas": 3, "readyReplicas": 2, "availableReplicas": 1, "fullyLabeledReplicas": 3 },
        }),
    );
}

#[test]
fn everything_else() {
    check(
        Kind::Service,
        json!({
            "metadata": { "name": "web" },
            "spec": {
                "type": "NodePort",
                "clusterIP": "10.0.0.1",
                "clusterIPs": ["10.0.0.1"],
                "externalTrafficPolicy": "Local",
                "selector": { "app": "web" },
                "ports": [{ "name": "http", "port": 80, "targetPort": "http", "protocol": "TCP", "nodePort": 30080 }],
            },
            "status": { "loadBalancer": { "ingress": [{ "ip": "1.2.3.4" }] } },
        }),
    );
    check(
        Kind::Node,
        json!({
            "metadata": { "name": "n1", "labels": { "kubernetes.io/hostname": "n1" } },
            "spec": {
                "podCIDR": "10.1.0.0/24",
                "unschedulable": true,
                "taints": [{ "key": "a", "effect": "NoExecute", "timeAdded": "2026-01-31T08:00:00Z" }],
            },
            "status": {
                "capacity": { "cpu": "8", "memory": "16Gi", "pods": "110" },
                "allocatable": { "cpu": "7500m" },
                "addresses": [{ "type": "InternalIP", "address": "192.168.0.1" }],
                "nodeInfo": { "kernelVersion": "6.1", "bootID": "x", "machineID": "y", "systemUUID": "z" },
                "conditions": [{ "type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-31T08:00:00Z" }],
                "images": [{ "names": ["nginx:1.27"], "sizeBytes": 7 }],
            },
        }),
    );
    check(
        Kind::Namespace,
        json!({
            "metadata": { "name": "shop" },
            "spec": { "finalizers": ["kubernetes"] },
            "status": { "phase": "Terminating" },
        }),
    );
    check(
        Kind::ConfigMap,
        json!({ "metadata": { "name": "m" }, "data": { "a": "1" }, "binaryData": { "b": "AA==" }, "immutable": true }),
    );
    check(
        Kind::Secret,
        json!({ "metadata": { "name": "s" }, "type": "kubernetes.io/tls", "data": { "tls.key": "AA==" } }),
    );
    check(
        Kind::Event,
        json!({
            "metadata": { "name": "web.17a", "namespace": "default" },
            "involvedObject": { "kind": "Pod", "name": "web", "namespace": "default", "fieldPath": "spec.containers{main}" },
            "reason": "Started",
            "message": "started",
            "type": "Warning",
            "count": 3,
            "firstTimestamp": "2026-01-31T08:00:00Z",
            "lastTimestamp": "2026-01-31T08:00:01Z",
            "source": { "component": "agent", "host": "n1" },
            "eventTime": "2026-01-31T08:00:00.000001Z",
        }),
    );
}

#[test]
fn nulls_and_what_is_not_tracked_are_left_out() {
    let sent = json!({
        "metadata": {
            "name": "web",
            "creationTimestamp": null,
            "selfLink": "/x",
        },
        "spec": { "containers": [{ "name": "main", "image": "nginx", "env": null }], "nodeName": null },
        "status": null,
    });
    let object = Object::from_value(Kind::Pod, sent).expect("a pod");
    assert_eq!(object.residuals(), []);
    assert_eq!(object.to_value()["metadata"], json!({ "name": "web" }));
}

#[test]
fn quantities_keep_their_value_and_print_canonically() {
    for (sent, out) in [
        (json!("1000m"), "1"),
        (json!(2), "2"),
        (json!("0.5"), "500m"),
        (json!("1024Mi"), "1Gi"),
        (json!("1e3"), "1k"),
    ] {
        let pod = json!({
            "metadata": { "name": "web" },
            "spec": { "containers": [{ "name": "main", "resources": { "requests": { "cpu": sent } } }] },
        });
        let object = Object::from_value(Kind::Pod, pod).expect("a pod");
        assert_eq!(object.to_value()["spec"]["containers"][0]["resources"]["requests"]["cpu"], out);
    }
}

#[test]
fn the_kind_is_found_by_name_and_version() {
    let kind = |api_version: &str, kind: &str| {
        Object::kind_of(&json!({ "apiVersion": api_version, "kind": kind }))
    };
    assert_eq!(kind("apps/v1", "Deployment").ok(), Some(Kind::Deployment));
    for (version, name) in [("v1", "Deployment"), ("v1", "Gadget"), ("", "Pod"), ("v1", "")] {
        let error = kind(version, name).expect_err("no such kind");
        assert!(matches!(error, DecodeError::UnknownKind { .. } | DecodeError::NotAnObject { .. }));
    }
}

//! Properties: no request panics, what is decided commits, admission comes to rest, apply converges.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::model::admit::admit;

/// JSON of any shape, with names that mean something to our kinds more often than not.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-3..70_000i64).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop_oneof![
            Just("web"),
            Just("1"),
            Just("25%"),
            Just("-1Gi"),
            Just("../x"),
            Just("Never"),
            Just("TCP"),
            Just("")
        ]
        .prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 48, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(field_name(), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn field_name() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "metadata",
        "name",
        "namespace",
        "labels",
        "annotations",
        "finalizers",
        "ownerReferences",
        "uid",
        "resourceVersion",
        "deletionTimestamp",
        "generateName",
        "spec",
        "status",
        "replicas",
        "selector",
        "matchLabels",
        "template",
        "containers",
        "env",
        "ports",
        "containerPort",
        "resources",
        "limits",
        "cpu",
        "livenessProbe",
        "httpGet",
        "strategy",
        "rollingUpdate",
        "maxSurge",
        "tolerations",
        "data",
        "stringData",
        "type",
        "taints",
        "conditions",
        "phase",
        "hostNetwork",
        "volumes",
        "nodeName",
        "kind",
        "apiVersion",
    ]);
    prop_oneof![9 => known.prop_map(str::to_owned), 1 => "[a-z./]{0,6}"]
}

fn any_kind() -> impl Strategy<Value = Kind> {
    prop::sample::select(Kind::ALL.to_vec())
}

fn any_caller() -> impl Strategy<Value = Caller> {
    prop_oneof![Just(admin()), Just(Caller::Node { name: "n1".to_owned() })]
}

/// Valid objects, changed a little: with values of the right types, and now and then with anything at all.
fn near_object() -> impl Strategy<Value = (Kind, Value)> {
    let noise = prop_oneof![9 => Just(json!({})), 1 => any_json()];
    let changes = prop::collection::vec(change(), 0..5);
    (any_kind(), changes, noise).prop_map(|(kind, changes, noise)| {
        let mut object = valid(kind);
        for (pointer, value) in changes {
            set(&mut object, &pointer, value);
        }
        blend(&mut object, noise);
        (kind, object)
    })
}

/// Sets a field whose parent there is.
fn set(object: &mut Value, pointer: &str, value: Value) {
    let Some((parent, name)) = pointer.rsplit_once('/') else { return };
    if let Some(Value::Object(parent)) = object.pointer_mut(parent) {
        parent.insert(name.to_owned(), value);
    }
}

fn change() -> impl Strategy<Value = (String, Value)> {
    let container =
        prop::sample::select(vec!["/spec/template/spec/containers/0", "/spec/containers/0"]);
    let number = prop_oneof![Just(0), -1..5, any::<i32>()].prop_map(Value::from);
    let numbers = prop::sample::select(vec![
        "/spec/replicas",
        "/spec/minReadySeconds",
        "/spec/progressDeadlineSeconds",
        "/spec/terminationGracePeriodSeconds",
        "/spec/ports/0/targetPort",
        "/status/replicas",
    ]);
    let texts = prop::collection::btree_map("[a-c]", "[a-zA-Z0-9._-]{0,4}", 0..3)
        .prop_map(|map| json!(map));
    let maps = prop::sample::select(vec![
        "/metadata/labels",
        "/metadata/annotations",
        "/data",
        "/stringData",
        "/spec/template/metadata/annotations",
        "/spec/template/spec/nodeSelector",
        "/spec/nodeSelector",
        "/spec/selector",
    ]);
    let in_container = prop::sample::select(vec![
        ("image", json!("nginx")),
        ("image", json!("nginx:1.28")),
        ("command", json!(["sh", "-c", "true"])),
        ("env", json!([{ "name": "B", "value": "2" }, { "name": "A" }])),
        (
            "env",
            json!([{ "name": "A", "valueFrom": { "fieldRef": { "fieldPath": "spec.nodeName" } } }]),
        ),
        (
            "ports",
            json!([{ "containerPort": 53 }, { "containerPort": 53, "protocol": "UDP", "name": "dns" }]),
        ),
        ("ports", json!([{ "containerPort": 80, "hostPort": 0 }])),
        ("resources", json!({ "limits": { "cpu": "1500m", "memory": "1Gi" } })),
        ("resources", json!({ "requests": { "cpu": 2 }, "limits": { "cpu": "1" } })),
        ("livenessProbe", json!({ "httpGet": { "port": "dns" }, "periodSeconds": 0 })),
        ("readinessProbe", json!({ "grpc": { "port": 1 } })),
        ("securityContext", json!({ "runAsUser": 7 })),
        ("bogus", json!(1)),
    ]);
    let others = prop::sample::select(vec![
        ("/metadata/finalizers", json!(["example.com/x"])),
        ("/metadata/deletionTimestamp", json!("2020-01-01T00:00:00Z")),
        ("/metadata/resourceVersion", json!("3")),
        ("/spec/strategy", json!({ "type": "Recreate" })),
        ("/spec/strategy", json!({ "rollingUpdate": { "maxSurge": 1, "maxUnavailable": "10%" } })),
        ("/spec/paused", json!(true)),
        ("/spec/taints", json!([{ "key": "a", "effect": "NoExecute" }])),
        ("/spec/unschedulable", json!(true)),
        ("/spec/tolerations", json!([{ "operator": "Exists" }])),
        ("/spec/template/spec/tolerations", json!([{ "key": "a", "operator": "Exists" }])),
        ("/spec/template/spec/hostNetwork", json!(true)),
        ("/spec/template/spec/volumes", json!([{ "name": "v", "emptyDir": {} }])),
        ("/spec/restartPolicy", json!("OnFailure")),
        ("/spec/nodeName", json!("n1")),
        ("/spec/clusterIP", json!("None")),
        ("/status/conditions", json!([{ "type": "Ready", "status": "True" }])),
        ("/immutable", json!(true)),
    ]);
    let in_container =
        (container, in_container).prop_map(|(at, (name, value))| (format!("{at}/{name}"), value));
    let elsewhere = prop_oneof![(numbers, number), (maps, texts), others];
    prop_oneof![in_container, elsewhere.prop_map(|(at, value)| (at.to_owned(), value))]
}

fn valid(kind: Kind) -> Value {
    match kind {
        Kind::ClusterRole
        | Kind::ConfigMap
        | Kind::Custom(_)
        | Kind::Namespace
        | Kind::Role
        | Kind::Secret
        | Kind::ServiceAccount => {
            json!({ "metadata": { "name": "web" } })
        }
        Kind::ClusterRoleBinding | Kind::RoleBinding => json!({
            "metadata": { "name": "web" },
            "roleRef": { "kind": "ClusterRole", "name": "view" },
            "subjects": [{ "kind": "User", "name": "jane" }],
        }),
        Kind::CustomResourceDefinition => json!({
            "metadata": { "name": "webs.example.com" },
            "spec": {
                "group": "example.com", "scope": "Namespaced",
                "names": { "kind": "Web", "plural": "webs" },
                "versions": [{
                    "name": "v1", "served": true, "storage": true,
                    "schema": { "openAPIV3Schema": { "type": "object" } },
                }],
            },
        }),
        Kind::Deployment => deployment("web"),
        Kind::Event => {
            json!({ "metadata": { "name": "web" }, "involvedObject": { "namespace": "default" } })
        }
        Kind::Lease => json!({
            "metadata": { "name": "web" },
            "spec": { "holderIdentity": "a", "leaseDurationSeconds": 15 },
        }),
        Kind::Node => node("n1"),
        Kind::Pod => pod("web"),
        Kind::PodDisruptionBudget => json!({
            "metadata": { "name": "web" },
            "spec": { "minAvailable": 1, "selector": { "matchLabels": { "app": "web" } } },
        }),
        Kind::ReplicaSet => {
            json!({ "metadata": { "name": "web" }, "spec": deployment("web")["spec"].clone() })
        }
        Kind::Service => {
            json!({ "metadata": { "name": "web" }, "spec": { "ports": [{ "port": 80 }] } })
        }
    }
}

fn blend(target: &mut Value, noise: Value) {
    match (target, noise) {
        (Value::Object(target), Value::Object(noise)) => {
            for (name, value) in noise {
                blend(target.entry(name).or_insert(Value::Null), value);
            }
        }
        (Value::Array(target), Value::Array(noise)) => target.extend(noise),
        (target, noise) => *target = noise,
    }
}

fn any_options() -> impl Strategy<Value = WriteOptions> {
    let validation = prop::sample::select(vec![
        FieldValidation::Ignore,
        FieldValidation::Strict,
        FieldValidation::Warn,
    ]);
    (any::<bool>(), validation).prop_map(|(dry_run, validation)| {
        let manager = String::new();
        WriteOptions { dry_run, manager, validation }
    })
}

/// A world with one valid object of each kind; the pod is bound to `n1`.
fn furnished() -> Bench {
    static FURNISHED: LazyLock<Bench> = LazyLock::new(furnish);
    FURNISHED.clone()
}

fn furnish() -> Bench {
    let mut bench = Bench::new();
    for kind in Kind::ALL {
        let mut object = valid(kind);
        if kind == Kind::Pod {
            object["spec"]["nodeName"] = json!("n1");
        }
        bench.create(kind, if kind.is_namespaced() { "default" } else { "" }, object);
    }
    bench
}

fn key_of(kind: Kind) -> Key {
    Key::new(kind, "default", if kind == Kind::Node { "n1" } else { "web" })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn no_json_makes_a_verb_panic_and_what_is_decided_commits(
        caller in any_caller(),
        kind in any_kind(),
        noise in any_json(),
        (near_kind, near) in near_object(),
        options in any_options(),
        force in any::<bool>(),
        status in any::<bool>(),
        grace in prop::option::of(any::<i64>()),
        replicas in any::<i32>(),
    ) {
        let part = if status { Part::Status } else { Part::Main };
        let (near_key, preconditions) = (key_of(near_kind), Preconditions::default());
        let patch = |key: &Key, patch| Request::Patch { key: key.clone(), part, patch, preconditions, options: options.clone() };
        let delete_options = DeleteOptions { grace_seconds: grace, ..DeleteOptions::default() };
        let create = |kind, object| Request::Create { kind, namespace: String::new(), object, options: options.clone() };
        let requests = [
            create(kind, noise.clone()),
            create(near_kind, near.clone()),
            Request::Update { key: near_key.clone(), part, object: near.clone(), options: options.clone() },
            patch(&key_of(kind), Patch::Merge(noise.clone())),
            patch(&key_of(kind), Patch::Strategic(noise.clone())),
            patch(&key_of(kind), Patch::Json(noise.clone())),
            patch(&key_of(kind), Patch::ApplyServerSide { manifest: noise.clone(), force }),
            patch(&key_of(kind), Patch::Apply(noise)),
            patch(&near_key, Patch::Strategic(near.clone())),
            patch(&near_key, Patch::Json(json!([{ "op": "replace", "path": "", "value": near }]))),
            patch(&near_key, Patch::ApplyServerSide { manifest: near.clone(), force }),
            patch(&near_key, Patch::Apply(near)),
            Request::Scale { key: near_key.clone(), replicas, preconditions, options: options.clone() },
            Request::Delete { key: near_key, options: delete_options },
        ];
        let mut bench = furnished();
        bench.caller = caller;
        for request in &requests {
            if let Ok(effect) = bench.submit(request) {
                let may_write = !options.dry_run || matches!(request, Request::Delete { .. });
                prop_assert!(effect.proposal.is_none() || may_write);
            }
        }
        prop_assert_eq!(bench.world.quarantined().count(), 0, "everything written can be read");
    }

    #[test]
    fn admitting_what_was_admitted_changes_nothing((kind, mut object) in near_object()) {
        if kind.is_namespaced() {
            set(&mut object, "/metadata/namespace", json!("default"));
        }
        let Ok(object) = Object::from_value(kind, object) else { return Ok(()) };
        if let Ok(once) = admit(None, object) {
            prop_assert_eq!(&admit(None, once.clone()), &Ok(once.clone()));
            prop_assert_eq!(&admit(Some(&once), once.clone()), &Ok(once.clone()));
            let back = Object::from_value(kind, once.to_value());
            prop_assert_eq!(back.ok(), Some(once));
        }
    }

    #[test]
    fn applying_twice_changes_nothing_the_second_time((kind, first) in near_object(), (_, second) in near_object()) {
        let mut bench = furnished();
        let key = key_of(kind);
        for manifest in [first, second] {
            let request = apply(&key, manifest);
            if bench.submit(&request).is_ok() {
                match bench.decide(&request) {
                    Ok(again) => prop_assert_eq!(again.proposal, None),
                    // A manifest with a version in it is good once.
                    Err(rejection) => prop_assert!(matches!(rejection, Rejection::Conflict { .. }), "{}", rejection),
                }
            }
        }
    }

    #[test]
    fn an_update_with_the_live_object_changes_nothing(kind in any_kind(), change in any_json()) {
        let mut bench = furnished();
        let key = key_of(kind);
        let _ = bench.submit(&merge(&key, change));
        let Some(stored) = bench.world.get(&key) else { return Ok(()) };
        let live = stored.object.to_value();
        let effect = bench.decide(&update(&key, Part::Main, live));
        prop_assert_eq!(effect.map(|effect| effect.proposal), Ok(None));
    }
}

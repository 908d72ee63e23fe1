//! Bad input gets a precise answer, and nothing is written.

use super::*;

#[track_caller]
fn check(kind: Kind, object: Value, expected: &str) {
    let mut bench = Bench::new();
    assert_eq!(bench.refuse(&create(kind, "default", object)), expected);
}

/// A deployment with one change, given by JSON pointer.
fn with(pointer: &str, value: Value) -> Value {
    let mut object = deployment("web");
    set(&mut object, pointer, value);
    object
}

fn set(object: &mut Value, pointer: &str, value: Value) {
    let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
    let parent = object.pointer_mut(parent).expect("a parent");
    parent.as_object_mut().expect("a map").insert(name.to_owned(), value);
}

#[test]
fn unknown_fields_are_all_named() {
    let mut object = with("/spec/bogus", json!(1));
    set(&mut object, "/spec/template/spec/containers/0/imagee", json!("x"));
    set(&mut object, "/metadata/labelz", json!({}));
    set(&mut object, "/spec/template/bogus", json!({}));
    set(&mut object, "/extra", json!(true));
    check(
        Kind::Deployment,
        object.clone(),
        "Deployment in version \"v1\" cannot be handled as a Deployment: strict decoding error: unknown field \"extra\", \
         unknown field \"metadata.labelz\", unknown field \"spec.bogus\", unknown field \"spec.template.bogus\", unknown \
         field \"spec.template.spec.containers[0].imagee\"",
    );
    for (validation, warnings) in [(FieldValidation::Warn, 5), (FieldValidation::Ignore, 0)] {
        let mut bench = Bench::new();
        let options = WriteOptions { validation, ..WriteOptions::default() };
        let namespace = "default".to_owned();
        let object = object.clone();
        let request = Request::Create { kind: Kind::Deployment, namespace, object, options };
        let effect = bench.submit(&request).expect("accepted");
        assert_eq!(effect.warnings.len(), warnings);
        assert_eq!(effect.reply.residuals(), [], "dropped");
    }
}

#[test]
fn a_wrong_type_is_named_by_its_path() {
    let object = with("/spec/replicas", json!("three"));
    let mut bench = Bench::new();
    let text = bench.refuse(&create(Kind::Deployment, "default", object));
    assert!(text.contains("cannot be handled as a Deployment: spec.replicas: "), "{text}");
    let object =
        with("/spec/template/spec/containers/0/resources", json!({ "limits": { "cpu": "lots" } }));
    let text = bench.refuse(&create(Kind::Deployment, "default", object));
    assert!(text.contains("spec.template.spec.containers[0].resources.limits.cpu: "), "{text}");
    assert!(text.contains("\"lots\" is not a quantity"), "{text}");
}

#[test]
fn another_kind_or_version_than_asked_for_is_refused() {
    check(
        Kind::Pod,
        deployment("web"),
        "apiVersion in the data is \"apps/v1\", where \"v1\" is expected",
    );
    check(
        Kind::Deployment,
        with("/kind", json!("Gadget")),
        "kind in the data is \"Gadget\", where \"Deployment\" is expected",
    );
    let mut bench = Bench::new();
    for object in [json!(null), json!(1), json!([]), json!("x")] {
        let text = bench.refuse(&create(Kind::Pod, "default", object));
        assert!(text.contains("expected a JSON object"), "{text}");
    }
}

#[test]
fn invalid_values_are_named_by_path_value_and_what_would_be_right() {
    let table = [
        (
            "/spec/replicas",
            json!(-1),
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            "/spec/template/metadata/labels",
            json!({ "app": "other" }),
            "spec.template.metadata.labels: Invalid value: {\"app\":\"other\"}: `selector` does not match template `labels`",
        ),
        (
            "/spec/selector",
            json!({}),
            "spec.selector: Required value: an empty selector would take every pod into the deployment",
        ),
        (
            "/spec/template/spec/containers",
            json!([]),
            "spec.template.spec.containers: Required value",
        ),
        (
            "/spec/template/spec/restartPolicy",
            json!("Never"),
            "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
        ),
        (
            "/spec/template/spec/containers/0/ports",
            json!([{ "containerPort": 70000 }]),
            "spec.template.spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, \
             inclusive",
        ),
        (
            "/spec/template/spec/containers/0/resources",
            json!({ "requests": { "cpu": "2" }, "limits": { "cpu": "1" } }),
            "spec.template.spec.containers[0].resources.requests[cpu]: Invalid value: \"2\": must be less than or equal to \
             cpu limit of 1",
        ),
        (
            "/spec/template/spec/containers/0/resources",
            json!({ "limits": { "memory": "-1Gi" } }),
            "spec.template.spec.containers[0].resources.limits[memory]: Invalid value: \"-1Gi\": must be greater than or \
             equal to 0",
        ),
        (
            "/spec/template/spec/containers/0/livenessProbe",
            json!({}),
            "spec.template.spec.containers[0].livenessProbe: Required value: must specify a handler type",
        ),
        (
            "/spec/template/spec/containers/0/readinessProbe",
            json!({ "exec": { "command": ["x"] }, "tcpSocket": { "port": 1 } }),
            "spec.template.spec.containers[0].readinessProbe: Forbidden: may not specify more than 1 handler type",
        ),
        (
            "/spec/template/spec/containers/0/env",
            json!([{ "name": "A=B" }]),
            "spec.template.spec.containers[0].env[0].name: Invalid value: \"A=B\": must consist of printable ASCII \
             characters other than '='",
        ),
        (
            "/spec/template/spec/tolerations",
            json!([{ "key": "a", "operator": "Exists", "value": "b" }]),
            "spec.template.spec.tolerations[0].value: Invalid value: \"b\": must be empty when `operator` is 'Exists'",
        ),
        (
            "/spec/strategy",
            json!({ "rollingUpdate": { "maxSurge": 0, "maxUnavailable": 0 } }),
            "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0",
        ),
        (
            "/spec/strategy",
            json!({ "type": "Recreate", "rollingUpdate": {} }),
            "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'",
        ),
        (
            "/spec/progressDeadlineSeconds",
            json!(0),
            "spec.progressDeadlineSeconds: Invalid value: 0: must be greater than minReadySeconds",
        ),
    ];
    for (pointer, value, expected) in table {
        let expected = format!("Deployment.apps \"web\" is invalid: {expected}");
        check(Kind::Deployment, with(pointer, value), &expected);
    }
}

#[test]
fn several_errors_are_told_at_once() {
    let mut object = with("/spec/replicas", json!(-1));
    set(&mut object, "/spec/minReadySeconds", json!(-2));
    check(
        Kind::Deployment,
        object,
        "Deployment.apps \"web\" is invalid: [spec.replicas: Invalid value: -1: must be greater than or equal to 0, \
         spec.minReadySeconds: Invalid value: -2: must be greater than or equal to 0]",
    );
}

#[test]
fn names_that_are_paths_are_refused() {
    for name in ["../x", "..", "a/b", "A", "", "-a", "a..b", "x\u{0}", "ünder"] {
        let mut bench = Bench::new();
        let request = create(Kind::Pod, "default", pod(name));
        match bench.decide(&request) {
            Err(Rejection::Invalid { errors, .. }) => assert_eq!(errors[0].field, "metadata.name"),
            other => panic!("{name:?}: {other:?}"),
        }
    }
    for kind in Kind::ALL {
        let mut bench = Bench::new();
        let object = json!({ "metadata": { "name": "../x" } });
        let refused = bench.decide(&create(kind, "default", object));
        let is_about_the_name = matches!(&refused, Err(Rejection::Invalid { errors, .. })
            if errors.iter().any(|error| error.field == "metadata.name"));
        assert!(is_about_the_name, "{kind}: {refused:?}");
    }
    let mut bench = Bench::new();
    assert!(bench.decide(&create(Kind::Pod, "../x", pod("web"))).is_err());
}

#[test]
fn metadata_is_checked_for_every_kind() {
    let uid = "00000000-0000-0000-0000-0000000000ff";
    let owner = |controller: bool, uid: &str| {
        json!({
            "apiVersion": "v1", "kind": "X", "name": "x", "uid": uid, "controller": controller,
        })
    };
    let table = [
        ("labels", json!({ "a b": "c" }), "metadata.labels"),
        ("labels", json!({ "a": "-" }), "metadata.labels"),
        ("annotations", json!({ "": "c" }), "metadata.annotations"),
        ("annotations", json!({ "a": "x".repeat(256 * 1024) }), "metadata.annotations"),
        ("finalizers", json!(["plain"]), "metadata.finalizers[0]"),
        ("finalizers", json!(["foregroundDeletion", "orphan"]), "metadata.finalizers"),
        ("ownerReferences", json!([{ "kind": "X" }]), "metadata.ownerReferences[0].apiVersion"),
        (
            "ownerReferences",
            json!([owner(true, uid), owner(true, "00000000-0000-0000-0000-0000000000fe")]),
            "metadata.ownerReferences[1].controller",
        ),
    ];
    for (field, value, expected) in table {
        let mut bench = Bench::new();
        let mut object = json!({ "metadata": { "name": "m" } });
        object["metadata"][field] = value;
        match bench.decide(&create(Kind::ConfigMap, "default", object)) {
            Err(Rejection::Invalid { errors, .. }) => assert_eq!(errors[0].field, expected),
            other => panic!("{expected}: {other:?}"),
        }
    }
}

#[test]
fn what_is_too_large_is_refused() {
    let mut bench = Bench::new();
    let object = json!({ "metadata": { "name": "m" }, "data": { "a": "x".repeat(1 << 20) + "x" } });
    let text = bench.refuse(&create(Kind::ConfigMap, "default", object));
    assert!(text.contains("Too long: may not be more than 1048576 bytes"), "{text}");
    // Within the limit of the data, but over that of a record.
    let object = json!({ "metadata": { "name": "m" }, "data": { "a": "\u{1}".repeat(500_000) } });
    let text = bench.refuse(&create(Kind::ConfigMap, "default", object));
    assert!(text.contains(&format!("may not be more than {OBJECT_BYTES_MAX} bytes")), "{text}");
}

#[test]
fn no_answer_repeats_the_value_of_a_secret() {
    let mut bench = Bench::new();
    let object = json!({ "metadata": { "name": "s" }, "data": { "a": "canary!" } });
    let request = create(Kind::Secret, "default", object);
    let refused = bench.decide(&request);
    assert!(!format!("{refused:?}").contains("canary"), "{refused:?}");
    assert!(bench.refuse(&request).contains("data[a]: Invalid value: \"…\": must be base64"));
    // Manifests often have a number where a text is meant.
    for value in [json!(27_182_818), json!(["canary"]), json!({ "canary": true })] {
        let object = json!({ "metadata": { "name": "s" }, "stringData": { "pin": value } });
        let refused = bench.refuse(&create(Kind::Secret, "default", object));
        assert!(refused.contains("stringData.pin: invalid type"), "{refused}");
        assert!(!refused.contains("27182818") && !refused.contains("canary"), "{refused}");
    }
}

#[test]
fn a_json_patch_that_cannot_be_done_says_which_operation_and_what_it_finds() {
    let mut bench = Bench::new();
    let data = json!({ "a": "1" });
    for kind in [Kind::ConfigMap, Kind::Secret] {
        let data = if kind == Kind::Secret { json!({ "a": "Y2FuYXJ5" }) } else { data.clone() };
        bench.create(kind, "default", json!({ "metadata": { "name": "m" }, "data": data }));
    }
    let test = json!({ "op": "test", "path": "/data/a", "value": "2" });
    for (kind, operations, expected) in [
        (
            Kind::ConfigMap,
            json!([{ "op": "test", "path": "/data/a", "value": "1" }, test]),
            "/data/a: Invalid value: \"1\": operation 1 tests for another value",
        ),
        (
            Kind::Secret,
            json!([test]),
            "/data/a: Invalid value: \"…\": operation 0 tests for another value",
        ),
        (
            Kind::ConfigMap,
            json!([{ "op": "replace", "path": "/nope/a", "value": "2" }]),
            "/nope/a: Required value: operation 0 finds nothing here",
        ),
        (
            Kind::ConfigMap,
            json!([{ "op": "move", "path": "/data/b", "from": "/data/c" }]),
            "/data/c: Required value: operation 0 finds nothing here",
        ),
        (
            Kind::ConfigMap,
            json!([{ "op": "move", "path": "/data/a/b", "from": "/data" }]),
            "/data/a/b: Forbidden: operation 0: cannot move the value inside itself",
        ),
    ] {
        let refused = bench.refuse(&patch(&key(kind, "m"), Part::Main, Patch::Json(operations)));
        assert!(refused.contains(expected), "{refused}");
    }
}

#[test]
fn immutable_data_stays() {
    let mut bench = Bench::new();
    let object = json!({ "metadata": { "name": "m" }, "data": { "a": "1" }, "immutable": true });
    bench.create(Kind::ConfigMap, "default", object);
    let m = key(Kind::ConfigMap, "m");
    for change in [json!({ "data": { "a": "2" } }), json!({ "immutable": null })] {
        let text = bench.refuse(&merge(&m, change));
        assert!(text.contains("field is immutable when `immutable` is set"), "{text}");
    }
    bench
        .submit(&merge(&m, json!({ "metadata": { "labels": { "a": "b" } } })))
        .expect("metadata may change");
}

#[test]
fn a_document_of_too_many_values_is_refused_before_it_is_typed() {
    let containers = vec![json!({}); crate::model::DOCUMENT_VALUES_MAX];
    check(
        Kind::Deployment,
        with("/spec/template/spec/containers", containers.into()),
        "Deployment in version \"v1\" cannot be handled as a Deployment: it holds more than 100000 values, the most that a \
         document may",
    );
}

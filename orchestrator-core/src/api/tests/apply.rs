//! Apply: what goes, what comes, what stays.

use super::*;
use crate::model::LAST_APPLIED_ANNOTATION;

#[track_caller]
fn applied(bench: &mut Bench, kind: Kind, manifest: &Value) -> Effect {
    let name = manifest["metadata"]["name"].as_str().expect("a name");
    let request = apply(&key(kind, name), manifest.clone());
    bench.submit(&request).unwrap_or_else(|rejection| panic!("{rejection}"))
}

#[test]
fn applying_creates_and_applying_again_changes_nothing() {
    let mut bench = Bench::new();
    let effect = applied(&mut bench, Kind::Deployment, &deployment("web"));
    assert!(effect.created);
    let again = applied(&mut bench, Kind::Deployment, &deployment("web"));
    assert!(!again.created);
    assert_eq!(again.proposal, None);
    let stored = bench.get(&key(Kind::Deployment, "web"));
    let annotation = &stored.meta().annotations[LAST_APPLIED_ANNOTATION];
    assert!(annotation.starts_with(
        r#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"annotations":{},"name":"web","namespace":"default"},"spec":"#
    ));
    assert!(annotation.ends_with("}\n"));
}

#[test]
fn a_field_dropped_from_the_manifest_goes() {
    let mut bench = Bench::new();
    let mut manifest = deployment("web");
    manifest["metadata"]["labels"] = json!({ "a": "1", "b": "2" });
    manifest["spec"]["minReadySeconds"] = json!(5);
    let container = &mut manifest["spec"]["template"]["spec"]["containers"][0];
    container["env"] = json!([{ "name": "A", "value": "1" }, { "name": "B", "value": "2" }]);
    container["livenessProbe"] = json!({ "exec": { "command": ["true"] } });
    applied(&mut bench, Kind::Deployment, &manifest);
    applied(&mut bench, Kind::Deployment, &deployment("web"));
    let stored = bench.json(&key(Kind::Deployment, "web"));
    assert_eq!(stored["metadata"]["labels"], json!(null));
    assert_eq!(stored["spec"]["minReadySeconds"], json!(null));
    let container = &stored["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["env"], json!([{ "name": "A", "value": "1" }]));
    assert_eq!(container["livenessProbe"], json!(null));
}

#[test]
fn what_others_added_stays() {
    let mut bench = Bench::new();
    applied(&mut bench, Kind::Deployment, &deployment("web"));
    let web = key(Kind::Deployment, "web");
    let mut live = bench.json(&web);
    live["metadata"]["labels"] = json!({ "team": "x" });
    live["spec"]["replicas"] = json!(7);
    let container = &mut live["spec"]["template"]["spec"]["containers"][0];
    container["env"] = json!([{ "name": "A", "value": "1" }, { "name": "OTHER", "value": "2" }]);
    bench.submit(&update(&web, Part::Main, live)).expect("valid");
    let mut manifest = deployment("web");
    manifest["spec"].as_object_mut().expect("a map").remove("replicas");
    manifest["spec"]["template"]["spec"]["containers"][0]["image"] = json!("nginx:1.28");
    applied(&mut bench, Kind::Deployment, &manifest);
    let stored = bench.json(&web);
    assert_eq!(stored["metadata"]["labels"], json!({ "team": "x" }));
    assert_eq!(stored["spec"]["replicas"], 1, "dropped from the manifest, hence the default");
    let container = &stored["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["image"], "nginx:1.28");
    assert_eq!(container["env"].as_array().map(Vec::len), Some(2));
    // What the manifest never spoke of is left alone.
    bench.submit(&merge(&web, json!({ "spec": { "replicas": 6 } }))).expect("valid");
    applied(&mut bench, Kind::Deployment, &manifest);
    assert_eq!(bench.json(&web)["spec"]["replicas"], 6);
}

#[test]
fn lists_are_merged_by_their_keys() {
    let mut bench = Bench::new();
    let mut manifest = deployment("web");
    let spec = &mut manifest["spec"]["template"]["spec"];
    spec["containers"] = json!([
        { "name": "a", "image": "a:1", "ports": [{ "containerPort": 53 }, { "containerPort": 53, "protocol": "UDP" }] },
        { "name": "b", "image": "b:1", "args": ["x", "y"] },
    ]);
    spec["tolerations"] = json!([{ "key": "disk", "operator": "Exists" }]);
    applied(&mut bench, Kind::Deployment, &manifest);
    let spec = &mut manifest["spec"]["template"]["spec"];
    spec["containers"] = json!([
        { "name": "c", "image": "c:1" },
        { "name": "a", "image": "a:2", "ports": [{ "containerPort": 53, "protocol": "UDP" }] },
    ]);
    spec["tolerations"] = json!([]);
    applied(&mut bench, Kind::Deployment, &manifest);
    let stored = bench.json(&key(Kind::Deployment, "web"));
    let spec = &stored["spec"]["template"]["spec"];
    let names: Vec<_> =
        spec["containers"].as_array().expect("a list").iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["c", "a"]);
    assert_eq!(spec["containers"][1]["ports"], json!([{ "containerPort": 53, "protocol": "UDP" }]));
    assert_eq!(spec["tolerations"], json!(null));
    assert_eq!(applied(&mut bench, Kind::Deployment, &manifest).proposal, None);
}

#[test]
fn another_strategy_drops_the_defaults_of_the_old_one() {
    let mut bench = Bench::new();
    let mut manifest = deployment("web");
    applied(&mut bench, Kind::Deployment, &manifest);
    manifest["spec"]["strategy"] = json!({ "type": "Recreate" });
    applied(&mut bench, Kind::Deployment, &manifest);
    let stored = bench.json(&key(Kind::Deployment, "web"));
    assert_eq!(stored["spec"]["strategy"], json!({ "type": "Recreate" }));
    manifest["spec"]["strategy"] = json!({ "type": "RollingUpdate" });
    applied(&mut bench, Kind::Deployment, &manifest);
    assert_eq!(applied(&mut bench, Kind::Deployment, &manifest).proposal, None);
}

#[test]
fn what_kubectl_applied_before_is_understood() {
    let mut bench = Bench::new();
    let mut sent = deployment("web");
    let mut last = deployment("web");
    last["spec"]["minReadySeconds"] = json!(3);
    sent["spec"]["minReadySeconds"] = json!(3);
    sent["metadata"]["annotations"] = json!({ LAST_APPLIED_ANNOTATION: format!("{last}\n") });
    bench.create(Kind::Deployment, "default", sent);
    applied(&mut bench, Kind::Deployment, &deployment("web"));
    assert_eq!(bench.json(&key(Kind::Deployment, "web"))["spec"]["minReadySeconds"], json!(null));
}

#[test]
fn an_exported_object_can_be_applied() {
    let mut bench = Bench::new();
    applied(&mut bench, Kind::Deployment, &deployment("web"));
    let mut exported = bench.json(&key(Kind::Deployment, "web"));
    exported["metadata"]["managedFields"] = json!([{ "manager": "x" }]);
    exported["spec"]["replicas"] = json!(3);
    applied(&mut bench, Kind::Deployment, &exported);
    assert_eq!(bench.json(&key(Kind::Deployment, "web"))["spec"]["replicas"], 3);
    let request = apply(&key(Kind::Deployment, "web"), exported);
    assert!(bench.refuse(&request).contains("has been modified"), "its version is a precondition");
}

#[test]
fn plain_values_dropped_from_a_secret_go() {
    let mut bench = Bench::new();
    let mut manifest = json!({ "metadata": { "name": "s" }, "stringData": { "a": "1", "b": "2" } });
    applied(&mut bench, Kind::Secret, &manifest);
    assert_eq!(applied(&mut bench, Kind::Secret, &manifest).proposal, None);
    manifest["stringData"] = json!({ "a": "3" });
    applied(&mut bench, Kind::Secret, &manifest);
    assert_eq!(bench.json(&key(Kind::Secret, "s"))["data"], json!({ "a": "Mw==" }));
}

#[test]
fn a_kept_field_warns_and_does_not_make_every_apply_a_change() {
    let mut bench = Bench::new();
    let mut manifest = deployment("web");
    let spec = &mut manifest["spec"]["template"]["spec"];
    spec["hostNetwork"] = json!(true);
    spec["volumes"] = json!([{ "name": "v", "emptyDir": {} }]);
    spec["containers"][0]["volumeMounts"] = json!([{ "name": "v", "mountPath": "/v" }]);
    let effect = applied(&mut bench, Kind::Deployment, &manifest);
    assert_eq!(
        effect.warnings,
        [
            "spec.template.spec.containers[0].volumeMounts: known to Kubernetes but not implemented here; kept, without \
             effect",
            "spec.template.spec.hostNetwork: known to Kubernetes but not implemented here; kept, without effect",
            "spec.template.spec.volumes: known to Kubernetes but not implemented here; kept, without effect",
        ]
    );
    let again = applied(&mut bench, Kind::Deployment, &manifest);
    assert_eq!((again.proposal, again.warnings.len()), (None, 3));
    let spec = &mut manifest["spec"]["template"]["spec"];
    spec["volumes"] = json!([{ "name": "w", "emptyDir": {} }]);
    spec["containers"][0]["volumeMounts"] = json!([{ "name": "w", "mountPath": "/w" }]);
    spec.as_object_mut().expect("a map").remove("hostNetwork");
    applied(&mut bench, Kind::Deployment, &manifest);
    let stored = bench.json(&key(Kind::Deployment, "web"));
    let spec = &stored["spec"]["template"]["spec"];
    assert_eq!(spec["volumes"], json!([{ "name": "w", "emptyDir": {} }]));
    assert_eq!(spec["containers"][0]["volumeMounts"], json!([{ "name": "w", "mountPath": "/w" }]));
    assert_eq!(spec["hostNetwork"], json!(null));
}

#[test]
fn going_over_to_server_side_apply_takes_nothing_from_others() {
    let mut bench = Bench::new();
    let mut manifest = deployment("web");
    manifest["spec"].as_object_mut().expect("a map").remove("replicas");
    applied(&mut bench, Kind::Deployment, &manifest);
    let web = key(Kind::Deployment, "web");
    bench.submit(&merge(&web, json!({ "spec": { "replicas": 6 } }))).expect("valid");
    let request = |manifest: &Value| {
        let patch_of = Patch::ApplyServerSide { manifest: manifest.clone(), force: false };
        patch(&web, Part::Main, patch_of)
    };
    bench.submit(&request(&manifest)).expect("the same");
    // What kubectl does then: it gives what the client owned to who applies from now on.
    let mut entries = bench.json(&web)["metadata"]["managedFields"].clone();
    let entry = |entries: &Value, name: &str| {
        let mut all = entries.as_array().expect("a list").iter();
        all.position(|entry| entry["manager"] == name).unwrap_or_else(|| panic!("no {name}"))
    };
    let (client, rest) =
        (entry(&entries, "kubectl-client-side-apply"), entry(&entries, "before-first-apply"));
    assert_eq!(entries[rest]["fieldsV1"], json!({ "f:spec": { "f:replicas": {} } }));
    let manager = entries.as_array().expect("a list").len() - 1;
    let manager = (0..=manager).find(|index| ![client, rest].contains(index)).expect("who applies");
    entries[manager]["fieldsV1"] = entries[client]["fieldsV1"].clone();
    entries.as_array_mut().expect("a list").remove(client);
    bench.submit(&merge(&web, json!({ "metadata": { "managedFields": entries } }))).expect("valid");
    bench.submit(&request(&manifest)).expect("its own");
    assert_eq!(bench.json(&web)["spec"]["replicas"], 6, "the manifest has never spoken of it");
}

#[test]
fn what_was_deleted_is_not_made_anew_by_who_means_it() {
    let mut bench = Bench::new();
    let mut manifest = deployment("web");
    manifest["metadata"]["uid"] = json!("11111111-1111-4111-8111-111111111111");
    let web = key(Kind::Deployment, "web");
    let server_side = Patch::ApplyServerSide { manifest: manifest.clone(), force: true };
    for request in [apply(&web, manifest), patch(&web, Part::Main, server_side)] {
        let refused = bench.refuse(&request);
        assert!(
            refused.contains("11111111") && refused.contains("not there any more"),
            "{refused}"
        );
    }
}

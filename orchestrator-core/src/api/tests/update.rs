//! Update, merge patch, status, scale, bind.

use super::*;

fn with_deployment() -> (Bench, Key) {
    let mut bench = Bench::new();
    bench.create(Kind::Deployment, "default", deployment("web"));
    (bench, key(Kind::Deployment, "web"))
}

#[test]
fn a_write_that_changes_nothing_writes_nothing() {
    let (mut bench, web) = with_deployment();
    let live = bench.json(&web);
    for request in [
        update(&web, Part::Main, live.clone()),
        update(&web, Part::Main, deployment("web")),
        update(&web, Part::Status, live),
        merge(&web, json!({})),
        merge(&web, json!({ "spec": { "replicas": 2 } })),
        merge(&web, json!({ "metadata": { "labels": null } })),
    ] {
        let effect = bench.decide(&request).expect("valid");
        assert_eq!(effect.proposal, None, "{request:?}");
    }
}

#[test]
fn a_change_of_the_spec_bumps_the_generation_and_one_of_metadata_does_not() {
    let (mut bench, web) = with_deployment();
    bench.submit(&merge(&web, json!({ "metadata": { "labels": { "a": "b" } } }))).expect("valid");
    assert_eq!(bench.get(&web).meta().generation, 1);
    bench.submit(&merge(&web, json!({ "spec": { "paused": true } }))).expect("valid");
    assert_eq!(bench.get(&web).meta().generation, 2);
    let mut stale = deployment("web");
    stale["metadata"]["generation"] = json!(77);
    bench.submit(&update(&web, Part::Main, stale)).expect("valid");
    assert_eq!(bench.get(&web).meta().generation, 3);
}

#[test]
fn a_write_to_one_part_leaves_the_other() {
    let (mut bench, web) = with_deployment();
    let mut sent = bench.json(&web);
    sent["spec"]["replicas"] = json!(9);
    sent["status"] = json!({ "replicas": 5, "observedGeneration": 1 });
    bench.submit(&update(&web, Part::Status, sent.clone())).expect("valid");
    let stored = bench.json(&web);
    assert_eq!(
        (&stored["spec"]["replicas"], &stored["status"]["replicas"]),
        (&json!(2), &json!(5))
    );
    sent["status"]["replicas"] = json!(1);
    sent["metadata"]["resourceVersion"] = json!(null);
    bench.submit(&update(&web, Part::Main, sent)).expect("valid");
    let stored = bench.json(&web);
    assert_eq!(
        (&stored["spec"]["replicas"], &stored["status"]["replicas"]),
        (&json!(9), &json!(5))
    );
}

#[test]
fn a_stale_resource_version_conflicts() {
    let (mut bench, web) = with_deployment();
    let stale = bench.json(&web);
    bench.submit(&merge(&web, json!({ "spec": { "replicas": 3 } }))).expect("valid");
    let expected = "Operation cannot be fulfilled on deployments.apps \"web\": the object has been modified; please apply \
                    your changes to the latest version and try again";
    assert_eq!(bench.refuse(&update(&web, Part::Main, stale.clone())), expected);
    assert_eq!(bench.refuse(&update(&web, Part::Status, stale.clone())), expected);
    let version = &stale["metadata"]["resourceVersion"];
    let change = json!({ "metadata": { "resourceVersion": version }, "spec": { "replicas": 4 } });
    assert_eq!(bench.refuse(&merge(&web, change)), expected);
}

#[test]
fn a_resource_version_speaks_of_both_parts_also_at_the_commit() {
    let (mut bench, web) = with_deployment();
    let mut sent = bench.json(&web);
    sent["spec"]["replicas"] = json!(3);
    let pinned = bench.decide(&update(&web, Part::Main, sent.clone())).expect("valid");
    sent["metadata"]["resourceVersion"] = json!(null);
    let free = bench.decide(&update(&web, Part::Main, sent)).expect("valid");
    let status = json!({ "status": { "replicas": 1 } });
    bench.submit(&patch(&web, Part::Status, Patch::Merge(status))).expect("valid");
    let pinned = pinned.proposal.expect("a write");
    assert_eq!(bench.commit(&pinned), Err(RecordKey::status(web)));
    assert_eq!(bench.commit(&free.proposal.expect("a write")), Ok(()));
}

#[test]
fn another_life_of_the_object_conflicts() {
    let (mut bench, web) = with_deployment();
    let mut sent = deployment("web");
    sent["metadata"]["uid"] = json!("00000000-0000-0000-0000-0000000000ff");
    assert!(bench.refuse(&update(&web, Part::Main, sent)).contains("uid is"));
}

#[test]
fn identity_does_not_change() {
    let (mut bench, web) = with_deployment();
    let mut sent = deployment("web");
    sent["metadata"]["creationTimestamp"] = json!("2020-01-01T00:00:00Z");
    assert_eq!(
        bench.refuse(&update(&web, Part::Main, sent)),
        "Deployment.apps \"web\" is invalid: metadata.creationTimestamp: Invalid value: \"2020-01-01T00:00:00Z\": field is \
         immutable"
    );
    assert_eq!(
        bench.refuse(&update(&web, Part::Main, deployment("other"))),
        "the name of the object (other) does not match that of the request (web)"
    );
    let selector = json!({ "spec": {
        "selector": { "matchLabels": { "app": "x" } },
        "template": { "metadata": { "labels": { "app": "x" } } },
    } });
    assert!(bench.refuse(&merge(&web, selector)).ends_with(
        "spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"x\"}}: field is immutable"
    ));
}

#[test]
fn a_deletion_is_never_taken_back() {
    let mut bench = Bench::new();
    let sent = json!({ "metadata": { "name": "m", "finalizers": ["example.com/backup"] } });
    bench.create(Kind::ConfigMap, "default", sent);
    let m = key(Kind::ConfigMap, "m");
    bench.submit(&delete(&m, DeleteOptions::default())).expect("marked");
    let change = json!({ "metadata": { "deletionTimestamp": null }, "data": { "a": "b" } });
    bench.submit(&merge(&m, change)).expect("valid");
    assert!(bench.get(&m).meta().is_deleting());
    let more = json!({ "metadata": { "finalizers": ["example.com/backup", "example.com/more"] } });
    assert!(bench.refuse(&merge(&m, more)).contains("no new finalizers can be added"));
    let effect =
        bench.submit(&merge(&m, json!({ "metadata": { "finalizers": [] } }))).expect("valid");
    assert!(effect.deleted);
    assert!(bench.world.get(&m).is_none(), "the last finalizer is gone, and so is the object");
}

#[test]
fn scaling_sets_replicas_and_nothing_else() {
    let (mut bench, web) = with_deployment();
    let scale = |key: &Key, replicas| Request::Scale {
        key: key.clone(),
        replicas,
        preconditions: Preconditions::default(),
        options: WriteOptions::default(),
    };
    bench.submit(&scale(&web, 5)).expect("valid");
    assert_eq!(bench.json(&web)["spec"]["replicas"], 5);
    assert_eq!(bench.get(&web).meta().generation, 2);
    assert_eq!(
        bench.refuse(&scale(&web, -1)),
        "Deployment.apps \"web\" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0"
    );
    bench.create(Kind::Pod, "default", pod("p"));
    assert_eq!(bench.refuse(&scale(&key(Kind::Pod, "p"), 1)), "pods cannot be scaled: no replicas");
}

#[test]
fn binding_gives_a_pod_its_node_once() {
    let mut bench = Bench::new();
    bench.create(Kind::Pod, "default", pod("web"));
    let web = key(Kind::Pod, "web");
    let bind = |node: &str| Request::Bind { pod: web.clone(), node: node.to_owned() };
    assert_eq!(bench.refuse(&bind("n1")), "nodes \"n1\" not found");
    bench.create(Kind::Node, "", node("n1"));
    let late = bench.decide(&bind("n1")).expect("valid").proposal.expect("a write");
    bench.submit(&bind("n1")).expect("valid");
    let stored = bench.json(&web);
    assert_eq!(stored["spec"]["nodeName"], "n1");
    assert_eq!(stored["status"]["conditions"][0]["type"], "PodScheduled");
    assert!(bench.commit(&late).is_err(), "a bind in flight loses");
    assert!(bench.refuse(&bind("n1")).ends_with("already assigned to node \"n1\""));
    assert!(
        bench
            .refuse(&merge(&web, json!({ "spec": { "nodeName": "n2" } })))
            .contains("spec.nodeName: Forbidden")
    );
}

#[test]
fn a_bind_is_guarded_by_the_whole_node() {
    for part in [Part::Main, Part::Status] {
        let mut bench = Bench::new();
        bench.create(Kind::Pod, "default", pod("web"));
        bench.create(Kind::Node, "", node("n1"));
        let late = bind_proposal(&bench.world, &key(Kind::Pod, "web"), "n1", NOW).expect("valid");
        let change = match part {
            Part::Main => json!({ "spec": { "unschedulable": true } }),
            Part::Status => json!({ "status": { "capacity": { "cpu": "1" } } }),
        };
        let node = Key::node("n1");
        bench.submit(&patch(&node, part, Patch::Merge(change))).expect("valid");
        assert_eq!(bench.commit(&late), Err(RecordKey { object: node, part }));
    }
}

#[test]
fn a_pod_changes_its_images_and_adds_tolerations_and_nothing_else() {
    let mut bench = Bench::new();
    bench.create(Kind::Pod, "default", pod("web"));
    let web = key(Kind::Pod, "web");
    let mut live = bench.json(&web);
    live["spec"]["containers"][0]["image"] = json!("nginx:1.28");
    let tolerations = live["spec"]["tolerations"].as_array_mut().expect("a list");
    tolerations.push(json!({ "key": "disk", "operator": "Exists" }));
    bench.submit(&update(&web, Part::Main, live)).expect("allowed");
    for change in [
        json!({ "spec": { "restartPolicy": "Never" } }),
        json!({ "spec": { "nodeSelector": { "disk": "ssd" } } }),
        json!({ "spec": { "tolerations": [] } }),
        json!({ "spec": { "hostNetwork": true } }),
    ] {
        assert!(bench.refuse(&merge(&web, change.clone())).contains("spec: Forbidden"), "{change}");
    }
}

#[test]
fn a_final_phase_stays() {
    let mut bench = Bench::new();
    bench.create(Kind::Pod, "default", pod("web"));
    let web = key(Kind::Pod, "web");
    let phase = |phase: &str| {
        patch(&web, Part::Status, Patch::Merge(json!({ "status": { "phase": phase } })))
    };
    bench.submit(&phase("Failed")).expect("valid");
    assert!(bench.refuse(&phase("Running")).contains("must stay Failed, which is final"));
}

#[test]
fn what_is_absent_is_not_found() {
    let mut bench = Bench::new();
    let web = key(Kind::Deployment, "web");
    for request in [
        update(&web, Part::Main, deployment("web")),
        merge(&web, json!({})),
        delete(&web, DeleteOptions::default()),
    ] {
        assert_eq!(bench.refuse(&request), "deployments.apps \"web\" not found");
    }
}

#[test]
fn a_pod_made_by_a_controller_can_be_labelled() {
    let mut bench = Bench::new();
    let mut sent = pod("web");
    sent["metadata"]["namespace"] = json!("default");
    sent["spec"]["containers"][0]["resources"] = json!({ "limits": { "cpu": "1" } });
    let made = Object::from_value(Kind::Pod, sent.clone()).expect("a pod");
    bench.commit(&Proposal::create(made)).expect("new");
    let web = key(Kind::Pod, "web");
    bench.submit(&merge(&web, json!({ "metadata": { "labels": { "a": "b" } } }))).expect("allowed");
    assert_eq!(bench.json(&web)["spec"]["tolerations"], json!(null), "as its template has it");
}

#[test]
fn a_pod_can_be_replaced_by_the_manifest_it_came_from() {
    let mut bench = Bench::new();
    let mut sent = pod("web");
    sent["spec"]["containers"][0]["resources"] = json!({ "limits": { "cpu": "1" } });
    bench.create(Kind::Pod, "default", sent.clone());
    let effect = bench.decide(&update(&key(Kind::Pod, "web"), Part::Main, sent)).expect("allowed");
    assert_eq!(effect.proposal, None);
}

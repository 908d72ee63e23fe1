//! The oracle of the fault tests itself: it finds what it is there for.

use std::collections::{BTreeMap, BTreeSet};

use orchestrator_core::model::{ObjectMeta, Pod};
use orchestrator_tests::cluster::{
    ClusterRig, Happened, Run, judge, lost, overwritten, strays, unseen, unsettled,
};
use serde_json::{Value, json};

fn run(node: &str, id: &str, uid: &str) -> Run {
    let pod = ("default".to_owned(), "db-0".to_owned());
    let [node, id, uid, container] = [node, id, uid, "main"].map(str::to_owned);
    Run { node, id, uid, pod, container }
}

#[test]
fn two_runs_of_a_container_at_a_time_are_found() {
    let (first, second) = (run("a", "1", "u"), run("a", "2", "u"));
    let [began, ended, again] =
        [Happened::Started(first.clone()), Happened::Ended(first), Happened::Started(second)];
    let none = BTreeSet::new();
    assert!(judge(&[began.clone(), again.clone()], &none)[0].starts_with("S17"));
    assert_eq!(judge(&[began.clone(), ended, again.clone()], &none), [""; 0]);
    let lost = Happened::MachineLost { node: "a".to_owned() };
    assert_eq!(judge(&[began, lost, again], &none), [""; 0]);
}

#[test]
fn two_pods_of_a_name_at_a_time_are_found() {
    let happened = [Happened::Started(run("a", "1", "u")), Happened::Started(run("b", "2", "v"))];
    assert!(judge(&happened, &BTreeSet::new())[0].starts_with("S15"));
}

#[test]
fn a_container_that_ended_for_nothing_is_found() {
    let run = run("a", "1", "u");
    let wanted = BTreeSet::from(["u".to_owned()]);
    let happened = [Happened::Started(run.clone()), Happened::Ended(run)];
    assert!(judge(&happened, &wanted)[0].starts_with("S19, S20"));
    assert_eq!(judge(&happened, &BTreeSet::new()), [""; 0]);
    let meant = Happened::Meant { id: "1".to_owned() };
    assert_eq!(judge(&[meant, happened[0].clone(), happened[1].clone()], &wanted), [""; 0]);
}

#[test]
fn a_write_that_was_acknowledged_and_is_not_there_is_found() {
    let line = |verb: &str, code: u16, user: &str| {
        format!(
            r#"{{"verb":"{verb}","code":{code},"user":"{user}","resource":"configmaps","namespace":"default","name":"x","uid":"u"}}"#
        )
    };
    let there = |uid: &str| BTreeMap::from([("configmaps/default/x".to_owned(), uid.to_owned())]);
    let none = BTreeMap::new();
    let created = line("create", 201, "admin");
    assert!(lost(&created, &none)[0].starts_with("S2"));
    assert_eq!(lost(&created, &there("u")), [""; 0]);
    assert!(lost(&created, &there("another"))[0].starts_with("S5"));
    assert_eq!(lost(&line("create", 201, "system:node:a"), &none), [""; 0]);
    assert_eq!(lost(&line("create", 409, "admin"), &none), [""; 0]);
    let deleted = format!("{created}\n{}", line("delete", 200, "admin"));
    assert_eq!(lost(&deleted, &none), [""; 0]);
}

#[test]
fn an_update_that_was_acknowledged_and_is_undone_is_found() {
    let of = |number| BTreeMap::from([("x".to_owned(), number)]);
    assert!(overwritten(&of(1), &of(0))[0].starts_with("S2"));
    assert!(overwritten(&of(0), &BTreeMap::new())[0].starts_with("S2"));
    assert_eq!(overwritten(&of(1), &of(1)), [""; 0]);
    assert_eq!(overwritten(&of(0), &of(1)), [""; 0], "of the later one the answer was lost");
}

/// The pod `db-0` of `a`, that is ready and says of its container which id it has.
fn pod(id: &str) -> Pod {
    let mut pod: Pod = serde_json::from_value(json!({
        "metadata": { "name": "db-0", "namespace": "default" },
        "spec": { "containers": [{ "name": "main", "image": "i" }] },
        "status": {
            "phase": "Running",
            "conditions": [{ "type": "Ready", "status": "True" }],
            "containerStatuses": [{ "name": "main", "containerID": id }],
        },
    }))
    .expect("a pod");
    pod.node_name = "a".to_owned();
    pod
}

/// A container, as an engine lists it.
fn listed(id: &str, uid: &str, state: &str) -> Value {
    let labels = json!({ "orchestrator.dev/pod-uid": uid });
    json!({ "Id": id, "Names": [id], "State": state, "Labels": labels })
}

fn on(node: &str, list: &[Value]) -> BTreeMap<String, Vec<Value>> {
    BTreeMap::from([(node.to_owned(), list.to_vec())])
}

#[test]
fn a_pod_without_its_container_is_found() {
    let pods = [pod("docker://1")];
    let uid = pods[0].metadata.uid.to_string();
    let none = [""; 0];
    assert_eq!(unsettled(&pods, &on("a", &[listed("1", &uid, "running")])), none);
    let missing = ["main of db-0 on \"a\": \"1\" does not run"];
    assert_eq!(unsettled(&pods, &on("a", &[])), missing);
    assert_eq!(unsettled(&pods, &on("a", &[listed("1", &uid, "exited")])), missing);
    assert_eq!(unsettled(&pods, &on("b", &[])), missing, "its node has no engine");
    let another = unsettled(&pods, &on("a", &[listed("2", &uid, "running")]));
    assert_eq!(another, missing, "another container of the pod is not the one it speaks of");
}

#[test]
fn a_pod_that_says_nothing_of_a_container_is_found() {
    let mut pods = [pod("")];
    let uid = pods[0].metadata.uid.to_string();
    let engines = on("a", &[listed("1", &uid, "running")]);
    let missing = ["main of db-0 on \"a\": \"\" does not run"];
    assert_eq!(unsettled(&pods, &engines), missing);
    pods[0].status.container_statuses.clear();
    assert_eq!(unsettled(&pods, &engines), missing);
}

#[test]
fn a_pod_that_nobody_runs_is_found() {
    let mut pods = [pod("docker://1")];
    pods[0].node_name.clear();
    pods[0].status.conditions.clear();
    let found = unsettled(&pods, &on("a", &[]));
    assert!(found[0].starts_with("db-0 on \"\""), "it is not ready: {found:?}");
    assert!(found[1].contains("does not run"), "{found:?}");
}

#[test]
fn a_container_that_no_pod_of_its_node_wants_is_found() {
    let mut pods = [pod("docker://1")];
    let uid = pods[0].metadata.uid.to_string();
    let main = listed("1", &uid, "running");
    let stray = |state: &str| format!(r#"on a: ["2"] "{state}" is not wanted"#);
    for state in ["running", "created", "exited"] {
        let engines = on("a", &[main.clone(), listed("2", "another", state)]);
        assert_eq!(unsettled(&pods, &engines), [stray(state)]);
    }
    let theirs = json!({ "Id": "2", "Names": ["2"], "State": "running", "Labels": {} });
    assert_eq!(unsettled(&pods, &on("a", &[main.clone(), theirs])), [""; 0], "it is not ours");
    let mut engines = on("a", &[main]);
    engines.extend(on("b", &[listed("2", &uid, "running")]));
    let found = unsettled(&pods, &engines);
    assert_eq!(found, [r#"on b: ["2"] "running" is not wanted"#], "the pod is another node's");
    engines.remove("b");
    pods[0].metadata =
        ObjectMeta { deletion_timestamp: Some(Default::default()), ..pods[0].metadata.clone() };
    let found = unsettled(&pods, &engines);
    assert_eq!(found, [r#"on a: ["1"] "running" is not wanted"#], "the pod is to go");
}

#[test]
fn a_record_that_misses_what_happened_is_no_witness() {
    let running = BTreeSet::from(["1".to_owned(), "2".to_owned()]);
    let happened = [Happened::Started(run("a", "1", "u"))];
    let found = unseen(&happened, &running);
    assert_eq!(found, ["the record has missed the start of 2"]);
}

#[test]
fn an_orphan_and_a_double_on_a_real_engine_are_found() {
    ClusterRig::share(async |rig| {
        let pods = rig.deployed("web", 3).await;
        let (name, pod) = pods.first_key_value().expect("a pod");
        let node = rig.node(&pod.node.clone());
        // Who would put it right does not get to it.
        node.pause_agent();
        let double = node.copy_container(&pod.container, name).await;
        let none = BTreeSet::new();
        let found = rig.until_recorded(|happened| judge(happened, &none)).await;
        assert!(found[0].starts_with("S17"), "{found:?}");
        let node = rig.node(&pod.node.clone());
        let wanted = pods.values().map(|pod| pod.uid.clone()).collect();
        assert_eq!(strays(node.name(), &node.containers().await, &wanted), [""; 0]);
        let found = strays(node.name(), &node.containers().await, &none);
        assert!(!found.is_empty(), "containers of a pod that is not wanted");
        node.engine().remove_container(&double).await;
        node.resume_agent();
        rig.remove("web").await;
        rig.record.forget();
    });
}

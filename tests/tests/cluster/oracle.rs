//! The oracle of the fault tests itself: it finds what it is there for.

use std::collections::{BTreeMap, BTreeSet};

use orchestrator_tests::cluster::{ClusterRig, Happened, Run, judge, lost, unseen};

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
        assert_eq!(node.strays(&wanted).await, [""; 0]);
        assert!(!node.strays(&none).await.is_empty(), "containers of a pod that is not wanted");
        node.engine().remove_container(&double).await;
        node.resume_agent();
        rig.remove("web").await;
        rig.record.forget();
    });
}
